# Instructions per I/O of bdev-nvme-spdk and of SPDK's own perf, by stepping through both; what tests/vm/bench runs and reads.
# Argument: the program made of steps.c.
# vm: --timeout 1800
hugepages 128
bind vfio-pci "$NVME_512"
cp "$VM_BUILD/nvme-check" "$VM_BUILD/libdaos_bdev_nvme_spdk.so" "$SPDK_DIR/bin/spdk_nvme_perf" /mnt
cp "$1" /mnt/steps
plugin=/mnt/libdaos_bdev_nvme_spdk.so
# count NAME PROCESS FILE SYMBOL: prints the instructions from one call of a function of a file to the next.
count() {
	local offset base found
	offset=$(nm "$3" | awk -v symbol="$4" '$3 ~ symbol && !found++ { print $1 }')
	[ -n "$offset" ] || fail "$3 has no symbol $4"
	# By then it is in its loop.
	until base=$(awk -v file="$3" '$6 == file && $3 == "00000000" { sub("-.*", "", $1); print $1; exit }' "/proc/$2/maps") && [ -n "$base" ]; do
		kill -0 "$2" || fail "$1 ended"
		sleep 0.1
	done
	sleep 4
	found=$(/mnt/steps "$2" "$(printf '%x' $((16#$base + 16#$offset)))" "$passes") || fail "$1 cannot be counted"
	echo "STEPS $work $1 $found"
	# Killed by then, and the controller is free when it is gone.
	wait "$2" 2>/dev/null || true
}
for work in randread:4096:1 randread:4096:32 randwrite:4096:1 randwrite:4096:32 read:131072:8 write:131072:8; do
	IFS=: read -r pattern bytes depth <<<"$work"
	# Whole rounds: what is outstanding ends together.
	passes=$((depth * 2 < 16 ? 16 : depth * 2))
	/mnt/nvme-check $plugin speed "$NVME_512" "$pattern" "$bytes" "$depth" 600 >/dev/null &
	count ours $! $plugin 'flight.*completed'
	LD_LIBRARY_PATH=$SPDK_DIR/lib /mnt/spdk_nvme_perf -q "$depth" -o "$bytes" -w "$pattern" -t 600 -c 0x1 -r "trtype:PCIe traddr:$NVME_512" >/dev/null 2>&1 &
	count perf $! /mnt/spdk_nvme_perf '^io_complete$'
done
