# I/O per second of bdev-nvme-spdk, of SPDK's own perf and of fio on the kernel's driver, taken in turns; what tests/vm/bench
# runs and reads. Arguments: rounds, seconds of each measurement.
# vm: --timeout 3600
rounds=${1:-5} seconds=${2:-2}
hugepages 128
modprobe nvme
# In the guest's memory: programs come through an emulated device otherwise.
cp "$VM_BUILD/nvme-check" "$VM_BUILD/libdaos_bdev_nvme_spdk.so" "$SPDK_DIR/bin/spdk_nvme_perf" /mnt
works="randread:4096:1 randread:4096:32 randwrite:4096:1 randwrite:4096:32 read:131072:8 write:131072:8"

ours() { /mnt/nvme-check /mnt/libdaos_bdev_nvme_spdk.so speed "$NVME_512" "$1" "$2" "$3" "$seconds" | sed -n 's/^IOPS //p'; }
perf() { LD_LIBRARY_PATH=$SPDK_DIR/lib /mnt/spdk_nvme_perf -q "$3" -o "$2" -w "$1" -t "$seconds" -c 0x1 -r "trtype:PCIe traddr:$NVME_512" 2>&1 | awk '$1 == "Total" { print $3 }'; }
kernel() {
	fio --name=x --filename="$disk" --ioengine=io_uring --direct=1 --rw="$1" --bs="$2" --iodepth="$3" --runtime="$seconds" \
		--time_based --output-format=json | python3 -c 'import json, sys; j = json.load(sys.stdin)["jobs"][0]; print(j["read"]["iops"] + j["write"]["iops"])'
}

until disk=$(ls -d "/sys/bus/pci/devices/$NVME_512/nvme/"nvme*/nvme*n1 2>/dev/null); do sleep 0.1; done
disk=/dev/${disk##*/}
for work in $works; do
	IFS=: read -r pattern bytes depth <<<"$work"
	for ((round = 0; round < rounds; round++)); do echo "BENCH $work fio $(kernel "$pattern" "$bytes" "$depth")"; done
done
bind vfio-pci "$NVME_512"
for work in $works; do
	IFS=: read -r pattern bytes depth <<<"$work"
	for ((round = 0; round < rounds; round++)); do
		echo "BENCH $work ours $(ours "$pattern" "$bytes" "$depth")"
		echo "BENCH $work perf $(perf "$pattern" "$bytes" "$depth")"
	done
done
