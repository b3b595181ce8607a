# Persistent memory from raw modules to raw modules, two on each of two sockets, with Debian's ipmctl and ndctl: prepare, boot, prepare, scan,
# format, start, data in two engines on a namespace each, stop, boot, start, reset, boot. Every step is killed on the way, or loses the power,
# and is done again. Then modules of both modes, such that are not interleaved, and sets that are not all there.
# vm: --one-thread --modules 2 --boots 7 --timeout 600
SITE_USER=0
SITE_FILE=libdaos_scm_dcpm.so
SITE_ALLOWED=$'scm-dcpm: {}\n  bdev-kdev: {}'
. "$VM_SOURCE/tests/vm/guest/site.sh"
. "$VM_SOURCE/tests/vm/guest/dcpm.sh"
pmem_modules nvme
scm_programs
stand_in ipmctl ndctl mkfs.ext4
# What a boot has to remember is on a disk that is written at once.
memory=$(disk "$NVME_512" 1)
mkdir -p /mnt/kept
[ "$VM_BOOT" -gt 1 ] || mkfs.ext4 -q "$memory"
mount -o sync "$memory" /mnt/kept
reboot_text="A reboot is required to process new memory allocation goals."
reset() { prepare --reset "$@"; }
# site DEVICE DEVICE: a server with an engine on each.
site() {
	site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  scm_class: dcpm
  scm_list: [$1]
  scm_mount: /mnt/daos/0
  bdev_class: kdev
  bdev_list: [$(disk "$NVME_MIXED" 1)]
- targets: 1
  nr_xs_helpers: 0
  scm_class: dcpm
  scm_list: [$2]
  scm_mount: /mnt/daos/1
  bdev_class: kdev
  bdev_list: [$(disk "$NVME_4096" 1)]
YAML
}

case $VM_BOOT in
1)
	is "$(states)" "0x0001 Disabled Healthy,0x0101 Disabled Healthy,0x1001 Disabled Healthy,0x1101 Disabled Healthy" modules
	# A module that is ill or locked leaves its socket as it is, and no other.
	module 0x1001 critical
	module 0x1101 locked
	expect 4 "have the modules of socket 0 made one interleaved App Direct region" "the modules of socket 1 are left as they are" \
		"module 0x1001 at CPU2_DIMM_A2" "Critical" "module 0x1101 at CPU2_DIMM_B2" "locked" -- prepare --dry-run
	module 0x1001 healthy
	module 0x1101 open
	mark "ill and locked modules"
	stop_at after 1 create
	killed daemon prepare -f
	is "$(goals)" "0x0001 0 2,0x0101 0 2" "goals of one socket"
	mark "killed between goals"
	# Of the other's modules one gets its goal, and then the power goes.
	stop_at within 12 create
	expect 4 "ipmctl ended with signal: 9" "$reboot_text" -- prepare -f
	is "$(goals)" "0x0001 0 2,0x0101 0 2,0x1001 0 2" "half of a socket's goals"
	mark "killed in a goal"
	lose_power
	;;
2)
	is "$(ranges)" "4 2 enabled" "regions of the socket whose goals were whole"
	stop_at after 1 "ndctl create-namespace"
	killed helper prepare -f
	mark "killed when a namespace was made"
	expect 0 "Blockdev:pmem0 Dev:namespace0.0 NumaNode:0" "$reboot_text" -- prepare -f
	is "$(namespaces)" 1 "namespaces"
	is "$(goals)" "0x1001 0 2,0x1101 0 2" "goals of the other socket"
	;;
3)
	is "$(ranges)" "4 2 enabled,4 2 enabled" "interleaved regions"
	expect 0 "Blockdev:pmem0 Dev:namespace0.0 NumaNode:0" "Blockdev:pmem1 Dev:namespace1.0 NumaNode:1" -- prepare -f
	is "$(namespaces)" 2 "namespaces"
	mark "prepared"
	scm --json storage scan --health >/run/scan
	python3 - <<'PYTHON' || fail "the scan"
import json
devices = {d["address"]: d for d in json.load(open("/run/scan"))["response"]["devices"] if d["class"] == "dcpm"}
for number, (handle, place) in enumerate([(1, "CPU1_DIMM_A2"), (0x101, "CPU1_DIMM_B2"), (0x1001, "CPU2_DIMM_A2"), (0x1101, "CPU2_DIMM_B2")]):
    module = next(d for d in devices.values() if d["details"].get("location") == place)
    told = {name: int(module["details"][name]) for name in ("physical_id", "socket", "memory_controller", "capacity", "app_direct", "memory_mode")}
    assert told == {"physical_id": 0x1100 + number, "socket": handle >> 12, "memory_controller": handle >> 8 & 1, "capacity": 2 << 30, "app_direct": 2 << 30, "memory_mode": 0}, module
    assert module["firmware"] == "01.02.00.5435" and module["details"]["health"] == "Healthy", module
    health = module["health"]
    assert (health["status"], health["temperature_kelvin"], health["spare_percent"], health["power_cycles"]) == ("ok", 303, 100, 12), module
for number in (0, 1):
    namespace = devices[f"/dev/pmem{number}"]
    assert namespace["numa_node"] == number and namespace["details"]["dax"] == "true" and len(namespace["details"]["uuid"]) == 36, namespace
PYTHON
	mark "scanned"
	site /dev/pmem0 /dev/pmem1
	server
	await maintenance
	# mkfs is killed in the middle; then all that runs dies when the first file system is there.
	stop_at within 9 mkfs.ext4
	! shell storage format --force >/run/said 2>&1 || fail "a format whose mkfs was killed succeeds"
	grep -q "mkfs.ext4 ended with signal: 9" /run/said || { cat /run/said; fail "another failure of the format"; }
	stop_at after 1 mkfs.ext4
	killed both shell storage format --force
	end_tool
	server
	await maintenance
	shell storage format --force >/run/said || { cat /run/said; words; fail "format"; }
	cat /run/said
	await ready
	for rank in 0 1; do grep -q "^/dev/pmem$rank /mnt/daos/$rank ext4 .*nosuid,nodev,noexec.*dax" /proc/mounts || { cat /proc/mounts; fail "no memory of engine $rank"; }; done
	mark "formatted"
	for rank in 0 1; do
		pool $rank
		load $rank >/dev/null
		proof $rank "at once"
	done
	cp $SITE/acked? /mnt/kept
	shell system stop >/dev/null
	mark "stored"
	;;
4)
	# Started anew, and killed while the engines start.
	site /dev/pmem0 /dev/pmem1
	cp /mnt/kept/acked? $SITE
	server
	until engines >/dev/null; do sleep 0.1; done
	kill_all
	server
	await ready
	for rank in 0 1; do proof $rank "after a boot"; done
	mark "read back"
	expect 4 "namespace0.0 is not destroyed" "mounted at /mnt/daos/0" "namespace1.0 is not destroyed" "mounted at /mnt/daos/1" -- reset -f
	is "$(namespaces)" 2 "namespaces of engines that run"
	killall daos_server
	await_end
	umount /mnt/daos/0 /mnt/daos/1
	mark "reset refused"
	stop_at within 1 destroy
	expect 4 "ndctl ended with signal: 9" -- reset -f
	stop_at after 1 MemoryMode
	killed helper reset -f
	mark "killed in a reset"
	expect 0 "$reboot_text" -- reset -f
	is "$(namespaces)" 0 "namespaces"
	is "$(goals)" "0x0001 2 0,0x0101 2 0,0x1001 2 0,0x1101 2 0" "goals of a reset"
	;;
5)
	is "$(ranges)" "" "regions"
	ipmctl show -memoryresources | grep "Volatile .* 8.000 GiB" || fail "the memory is not volatile"
	expect 0 "SCM is already reset" -- reset -f
	mark "reset"
	# What others make of modules.
	ipmctl create -f -goal -socket 0 PersistentMemoryType=AppDirect MemoryMode=50 >/dev/null
	ipmctl create -f -goal -socket 1 PersistentMemoryType=AppDirectNotInterleaved >/dev/null
	is "$(goals)" "0x0001 1 1,0x0101 1 1,0x1001 0 2,0x1101 0 2" "goals of others"
	;;
6)
	is "$(ranges)" "2 1 enabled,2 1 enabled,2 2 enabled" "regions"
	expect 4 "socket 0 is used in both modes: module 0x0001 has 1024 MiB of Memory Mode beside App Direct" \
		"the 2 modules of socket 1 are not interleaved" "storage prepare --scm-only --reset" -- prepare -f
	is "$(namespaces)" 0 "namespaces on modules that are not used as they should be"
	# What somebody has made there stays.
	ndctl create-namespace -m fsdax -r region0 -s 256M >/dev/null
	expect 4 "namespace0.0" "socket 0 is used in both modes" -- prepare -f
	is "$(namespaces)" 1 "namespaces"
	module 0x0101 absent
	module 0x1001 fatal
	module 0x1101 locked
	;;
7)
	# A set of which a module is gone is no region, nor that of one that has failed; what is locked is none that can be used.
	is "$(states)" "0x0001 Disabled Healthy,0x1001 Disabled Fatal failure,0x1101 Locked Healthy" "modules that are there"
	is "$(ranges)" "2 1 disabled" "regions"
	expect 4 "module 0x0001 belongs to an interleaved set that is not all there: the set is broken" \
		"module 0x1001 at CPU2_DIMM_A2 is in no region: it says that its health is Fatal" "region0 is left as it is: module nmem" "is locked" -- prepare --dry-run
	;;
esac
mark "boot $VM_BOOT"
