# The programs on persistent memory: prepared, scanned, formatted, started; values in and out; killed under load; the power
# lost under load, twice; the wrong devices; a bad block; a reset. Two engines, a namespace each, on two nodes.
# vm: --nvdimm --boots 3 --timeout 900 --memory 3072
SITE_USER=0
SITE_FILE=libdaos_scm_dcpm.so
SITE_ALLOWED=$'scm-dcpm: {}\n  bdev-kdev: {}'
. "$VM_SOURCE/tests/vm/guest/site.sh"
nvdimms
modprobe -a nvme
disk() { local found; until found=$(ls -d "/sys/bus/pci/devices/$1/nvme/"nvme*/nvme*n"$2" 2>/dev/null) && [ -b "/dev/${found##*/}" ]; do sleep 0.1; done; echo "/dev/${found##*/}"; }

# What a boot has to remember is on a disk that is written at once.
memory=$(disk "$NVME_512" 1)
mkdir -p /mnt/kept
[ "$VM_BOOT" -gt 1 ] || mkfs.ext4 -q "$memory"
mount -o sync "$memory" /mnt/kept
plugins
prepare() { "$VM_BUILD/daos_server" --plugins-dir "$SITE_PLUGINS" storage prepare --scm-only "$@"; }
config() {
	site_config <<YAML
- targets: 2
  nr_xs_helpers: 0
  pinned_numa_node: 0
  scm_mount: /mnt/scm0
  scm_class: dcpm
  scm_list: [$1]
  bdev_class: kdev
  bdev_list: [$(disk "$NVME_MIXED" 1)]
- targets: 1
  nr_xs_helpers: 0
  pinned_numa_node: 1
  scm_mount: /mnt/scm1
  scm_class: dcpm
  scm_list: [$2]
  bdev_class: kdev
  bdev_list: [$(disk "$NVME_4096" 1)]
YAML
}
of_node() { ndctl list -N -U "$1" | sed -n 's|.*"blockdev":"\([^"]*\)".*|/dev/\1|p'; }

if [ "$VM_BOOT" = 1 ]; then
	prepare -f
	mark "prepared"
	first=$(of_node 0) second=$(of_node 1)
	[ -n "$first" ] && [ -n "$second" ] || fail "namespaces by node: '$first' '$second'"
	echo "$first $second" >/mnt/kept/devices

	# A disk is no persistent memory, and what is not there is told.
	config "$(disk "$NVME_MIXED" 2)" /dev/pmem9
	server
	waited=0
	until grep -q "cannot be used as persistent memory" $SITE/server.log && grep -q "storage prepare --scm-only" $SITE/server.log; do
		waited=$((waited + 1))
		[ $waited -lt 240 ] && pgrep -x daos_server >/dev/null || { shell system query || true; words; fail "wrong devices are not told"; }
		sleep 0.5
	done
	pkill -9 -x daos_server
	while pgrep daos_server >/dev/null; do sleep 0.1; done
	mark "wrong devices refused"
fi
read -r first second </mnt/kept/devices
config "$first" "$second"
server

if [ "$VM_BOOT" = 1 ]; then
	await maintenance
	shell storage scan >$SITE/scan
	grep -q "$first" $SITE/scan || { cat $SITE/scan; fail "no $first in the scan"; }
	# Somebody's file system is not overwritten.
	mkfs.ext4 -q -b 4096 "$second"
	! shell storage format --force >$SITE/format 2>&1 || fail "a foreign file system was overwritten"
	grep -q "content that is not ours" $SITE/format || { cat $SITE/format; fail "the refusal"; }
	wipefs --quiet --all "$second"
	dd if=/dev/zero of="$second" bs=1M count=4 oflag=direct status=none
	shell storage format --force >$SITE/format || { cat $SITE/format; words; fail "format"; }
	cat $SITE/format
	await ready
	for rank in 0 1; do
		grep -q " /mnt/scm$rank ext4 .*nosuid,nodev,noexec.*dax" /proc/mounts || { cat /proc/mounts; fail "scm$rank is not mounted as it should be"; }
	done
	grep -rq "direct access, durable by clwb" $SITE/server.log /tmp/daos*.log || { words; ls /tmp; fail "the engine does not say how it persists"; }
	mark "formatted"
	for rank in 0 1; do pool $rank; done
	head -c 900000 /dev/urandom >$SITE/value
	for rank in 0 1; do
		daos object put --rank $rank --pool pool$rank --cont work 0.1 key value --file $SITE/value >/dev/null
		daos object get --rank $rank --pool pool$rank --cont work 0.1 key value | cmp - $SITE/value || fail "rank $rank gives another value back"
	done
	mark "put and get"
	load 0 >/dev/null &
	writer=$!
	acknowledged 0 20
	kill -9 "$(engine 0)"
	wait $writer || { words; fail "writing over the death of the engine"; }
	proof 0 "after kill -9"
	cp $SITE/acked0 /mnt/kept/
	mark "engine killed under load"
	# In use by an engine, nothing is taken away.
	status=0
	prepare --reset -f >/run/said 2>&1 || status=$?
	[ $status = 4 ] && grep -q "mounted at /mnt/scm0" /run/said || { cat /run/said; fail "a reset under an engine"; }
else
	await ready
	for rank in 0 1; do [ ! -e /mnt/kept/acked$rank ] || cp /mnt/kept/acked$rank $SITE/; done
	proof 0 "after a loss of power"
	[ "$VM_BOOT" = 2 ] || proof 1 "after a second loss of power"
	mark "everything acknowledged is there"
fi

if [ "$VM_BOOT" -lt 3 ]; then
	# Acknowledgements go to the disk that keeps them.
	rank=$((VM_BOOT - 1))
	touch /mnt/kept/acked$rank
	mv -f /mnt/kept/acked$rank /mnt/kept/before 2>/dev/null || true
	cat /mnt/kept/before >/mnt/kept/acked$rank
	daos workload write --rank $rank --pool pool$rank --cont work --acked /mnt/kept/acked$rank --depth 8 --count 100000 --size 1..64KiB --seed $((VM_BOOT + 10)) >/dev/null 2>&1 &
	waited=0
	before=$(wc -l </mnt/kept/before)
	until [ "$(wc -l </mnt/kept/acked$rank)" -ge $((before + 60)) ]; do
		waited=$((waited + 1))
		[ $waited -lt 600 ] || { words; fail "nothing is acknowledged"; }
		sleep 0.1
	done
	mark "power lost under load"
	lose_power
fi

pkill -x daos_server
while pgrep daos_server >/dev/null || engines >/dev/null; do sleep 0.1; done
# A bad block in a region is told by the engine that does not start, rather than by a signal.
region=$(find /mnt/scm0/regions -type f | sort | head -n 1)
sector=$(filefrag -b512 -v "$region" | awk '$1 == "0:" { sub(/[.].*/, "", $4); print $4 }')
echo "$sector 8" >"/sys/block/${first#/dev/}/badblocks"
server
waited=0
until grep -rqs "cannot be read at byte 0" $SITE/server.log /tmp/daos*.log; do
	waited=$((waited + 1))
	[ $waited -lt 240 ] || { words; fail "a bad block is not told"; }
	sleep 0.5
done
pkill -x daos_server
while pgrep daos_server >/dev/null || engines >/dev/null; do sleep 0.1; done
mark "bad block told"
for rank in 0 1; do umount /mnt/scm$rank; done
prepare --reset -f
[ -z "$(ndctl list -N)" ] || fail "a reset left namespaces"
mark "reset"
