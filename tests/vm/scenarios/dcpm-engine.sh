# The programs on persistent memory, two engines with a namespace each on two nodes: the wrong devices; somebody's file system; killed
# under load, and the power lost under load; memory that goes bad under an engine - a block, a page that the kernel takes out of use -
# and is bad at a start; a reset.
# vm: --one-thread --nvdimm --boots 2 --timeout 600 --memory 3072
SITE_USER=0
SITE_FILE=libdaos_scm_dcpm.so
SITE_ALLOWED=$'scm-dcpm: {}\n  bdev-kdev: {}'
. "$VM_SOURCE/tests/vm/guest/site.sh"
. "$VM_SOURCE/tests/vm/guest/dcpm.sh"
nvdimms
modprobe -a nvme

# What a boot has to remember is on a disk that is written at once.
memory=$(disk "$NVME_512" 1)
mkdir -p /mnt/kept
[ "$VM_BOOT" -gt 1 ] || mkfs.ext4 -q "$memory"
mount -o sync "$memory" /mnt/kept
scm_programs
# config [DEVICE DEVICE]: two engines on these devices; without them each on one that is chosen for it.
config() {
	site_config <<YAML
- targets: 2
  nr_xs_helpers: 0
  pinned_numa_node: 0
  scm_class: dcpm
  bdev_class: kdev
  bdev_list: [$(disk "$NVME_MIXED" 1)]
  ${1:+scm_list: [$1]}
- targets: 1
  nr_xs_helpers: 0
  pinned_numa_node: 1
  scm_class: dcpm
  bdev_class: kdev
  bdev_list: [$(disk "$NVME_4096" 1)]
  ${2:+scm_list: [$2]}
scm_mount_path: /mnt/daosa
YAML
}

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
		[ $waited -lt 240 ] && pidof daos_server >/dev/null || { shell system query || true; words; fail "wrong devices are not told"; }
		sleep 0.5
	done
	killall -9 daos_server
	while pidof daos_server daos_server_helper >/dev/null; do sleep 0.1; done
	mark "wrong devices refused"
fi
read -r first second </mnt/kept/devices
config
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
	# Each has the namespace of its node.
	for place in "$first /mnt/daosa/0" "$second /mnt/daosa/1"; do grep -q "^$place ext4" /proc/mounts || { cat /proc/mounts; fail "not $place"; }; done
	for rank in 0 1; do
		grep -q " /mnt/daosa/$rank ext4 .*nosuid,nodev,noexec.*dax" /proc/mounts || { cat /proc/mounts; fail "engine $rank has nothing mounted as it should be"; }
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
	expect 4 "mounted at /mnt/daosa/0" -- prepare --reset -f
	# Acknowledgements go to the disk that keeps them.
	before=$(wc -l </mnt/kept/acked0)
	daos workload write --rank 0 --pool pool0 --cont work --acked /mnt/kept/acked0 --depth 8 --count 100000 --size 1..64KiB --seed 11 >/dev/null 2>&1 &
	waited=0
	until [ "$(wc -l </mnt/kept/acked0)" -ge $((before + 60)) ]; do
		waited=$((waited + 1))
		[ $waited -lt 600 ] || { words; fail "nothing is acknowledged"; }
		sleep 0.1
	done
	mark "power lost under load"
	lose_power
fi
await ready
cp /mnt/kept/acked0 $SITE/
proof 0 "after a loss of power"
mark "everything acknowledged is there"

# state N: state, reason and process of an engine.
state() {
	shell --json system query | python3 -c 'import json, sys
engine = next(iter(json.load(sys.stdin)["response"]["hosts"].values()))["engines"][int(sys.argv[1])]
print(engine["state"], engine.get("pid"), engine.get("reason"))' "$1"
}
# died N DEVICE: waits until an engine has ended by memory that cannot be accessed, and says where that is.
died() {
	local waited=0
	# The server is not asked before that: each question would take the time that the engine could have.
	until [ -e "/mnt/daosa/$1/regions/target-0.log.failed" ] || [ $waited -ge 600 ]; do
		waited=$((waited + 1))
		sleep 0.1
	done
	waited=0
	until state "$1" >/run/state && grep -q "^errored .*SIGBUS at 0x.* of the region /mnt/daosa/$1/regions/target-0.log cannot be accessed (sector [0-9]* of $2)" /run/state; do
		waited=$((waited + 1))
		[ $waited -lt 120 ] || { cat /run/state; words; fail "engine $1 did not end with its place"; }
		sleep 0.5
	done
	cat /run/state
	grep -q "SIGBUS at 0x.* of the region" /mnt/daosa/$1/regions/target-0.log.failed || fail "the region of engine $1 is not marked"
}
# lies DEVICE SECTOR: physical address of a sector of a namespace.
lies() { echo $(($(<"/sys/block/${1#/dev/}/device/resource") + $2 * 512)); }
# first_sector FILE: where it begins on its device.
first_sector() { filefrag -b512 -v "$1" | awk '$1 == "0:" { gsub(/[.:]/, " "); print $4; exit }'; }
# stored N: stores in an engine until that ends, values that go to its memory.
stored() { daos workload write --rank $1 --pool pool$1 --cont work --acked /run/acked$1 --depth 8 --count 100000 --size 2KiB..4KiB --seed 40 >/dev/null 2>&1 & }

# Blocks go bad under a running engine: the kernel refuses access to what is not mapped yet, which is a signal to whoever stores.
region=/mnt/daosa/0/regions/target-0.log
filefrag -b512 -v $region | awk '$1 ~ /^[0-9]+:$/ { gsub(/[.:]/, " "); print $2, $4, $6 }' >/run/extents
cat /run/extents
# All but the first 2 MiB, which may be one page. The kernel keeps 512 ranges of 512 sectors.
awk -v left=65536 '{ skip = $1 < 4096 ? 4096 - $1 : 0; n = $3 - skip; if (n > left) n = left; if (n > 0) { print $2 + skip, n; left -= n } }' /run/extents >/run/bad
[ -s /run/bad ] || fail "no blocks of the region are known"
while read -r sector count; do
	for ((done = 0; done < count; done += 512)); do echo "$((sector + done)) $((count - done < 512 ? count - done : 512))"; done
done </run/bad | while read -r line; do echo "$line" >"/sys/block/${first#/dev/}/badblocks"; done
mark "blocks made bad"
status=0
dd if=$region of=/dev/null bs=1M 2>/run/said || status=$?
[ $status -ne 0 ] && grep -q "Input/output error" /run/said || { cat /run/said; fail "pread of a bad block succeeds"; }
mark "read"
stored 0
died 0 "$first"
sector=$(sed -n 's/.*(sector \([0-9]*\) of .*/\1/p' /run/state)
awk -v at="$sector" '$1 <= at && at < $1 + $2 { found = 1 } END { exit !found }' /run/bad || fail "sector $sector is none of the bad ones"
end_load
mark "a bad block ends the engine with its place"

# The kernel takes a page out of use that an engine has mapped, as it does when a machine check tells of it: that engine ends at once, with the
# place, and is not started again by itself.
region=/mnt/daosa/1/regions/target-0.log
sector=$(first_sector $region)
survivor=$(engine 1)
lies "$second" "$sector" >/sys/devices/system/memory/hard_offline_page
died 1 "$second"
grep -q "(sector $sector of $second)" /run/state || { cat /run/state; fail "another place than sector $sector"; }
sleep 3
state 1 >/run/state
grep -q "^errored" /run/state || { cat /run/state; fail "engine 1 is started again"; }
! kill -0 "$survivor" 2>/dev/null || fail "engine 1 lives on"
! engines || fail "an engine runs on memory that has failed"
mark "a page out of use ends the engine with its place"
# It is not started again by itself; a start by hand reads the region through its file, and is told of the block in words.
shell system start >/run/said 2>&1 || true
waited=0
until state 0 >/run/state && grep -q "^storage-mismatch .*region target-0.log cannot be read at byte .*bad blocks" /run/state; do
	waited=$((waited + 1))
	[ $waited -lt 120 ] || { cat /run/said /run/state; words; fail "engine 0 is started on a region that failed"; }
	sleep 0.5
done
killall daos_server
await_end
mark "bad block told"
for rank in 0 1; do umount /mnt/daosa/$rank; done
expect 0 "SCM:" -- prepare --reset -f
is "$(ndctl list -N)" "" "namespaces after a reset"
mark "reset"
