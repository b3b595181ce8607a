# `storage prepare --scm-only` on NVDIMMs with label areas, on two nodes: nothing without consent, one namespace per region or several,
# idempotent; what is mounted, held or foreign is spared; label areas that somebody has wiped; ndctl killed at each of its writes.
# vm: --one-thread --nvdimm --timeout 300
. "$VM_SOURCE/tests/vm/guest/dcpm.sh"
scm_programs
mark "programs"
says() { printf '%s\n' "$1" | prepare "${@:2}"; }
reset() { prepare --reset "$@"; }

expect 0 "nothing to prepare" -- prepare
nvdimms
stand_in ndctl
mark "NVDIMMs"
expect 1 "must be run as root" -- setpriv --reuid 65534 --clear-groups /mnt/daos_server --plugins-dir $SCM_PLUGINS storage prepare -s
expect 0 "would make namespace0.0, which is raw and empty, an fsdax namespace" -- prepare --dry-run
expect 4 "consent not given" -- says no
expect 4 "nobody can be asked" -- scm --json storage prepare --scm-only
is "$(namespaces)" 0 "namespaces without consent"
mark "asked"

# One of the two regions holds something; it is not ours to destroy.
echo "somebody's" >/dev/pmem1
expect 0 "creating SCM namespace, may take a few minutes..." "Are you sure you want to continue? (yes/no)" \
	"this will be a destructive operation" "holds unknown content" "Persistent memory kernel devices:" -- says yes
grep -qE "^\[\{UUID:[0-9a-f-]{36} Blockdev:pmem0 Dev:namespace0.0 NumaNode:[01]\}\]$" /run/said || fail "the list of devices"
is "$(namespaces)" 1 "namespaces beside what is somebody's"
dd if=/dev/zero of=/dev/pmem1 bs=4k count=1 oflag=direct status=none
expect 0 "Blockdev:pmem1 Dev:namespace1.0" -- prepare -f
is "$(namespaces)" 2 "namespaces"
expect 0 "ready" -- prepare
! grep -q "Are you sure" /run/said || fail "asked with nothing to do"
mark "prepared"

expect 0 "/dev/pmem1" -- scm storage scan
scm --json storage scan --health >/run/scan
python3 - <<'PYTHON' || fail "the scan"
import json
devices = {d["address"]: d for d in json.load(open("/run/scan"))["response"]["devices"] if d["class"] == "dcpm"}
assert {"/dev/pmem0", "/dev/pmem1", "nmem0", "nmem1"} <= set(devices), devices
assert {devices["/dev/pmem0"]["numa_node"], devices["/dev/pmem1"]["numa_node"]} == {0, 1}, devices
for name in ("/dev/pmem0", "/dev/pmem1"):
    assert devices[name]["details"]["dax"] == "true" and devices[name]["use_state"] == "free", devices[name]
    assert devices[name]["details"]["align"] == "2097152", devices[name]
    assert devices[name]["health"]["status"] == "ok" and devices[name]["health"]["media_errors"] == 0, devices[name]
assert devices["nmem0"]["use_state"] == "busy", devices
PYTHON
mark "scanned"

# Disabled, a namespace keeps what it holds.
mkfs.ext4 -q -b 4096 -L daos-scm-dcpm /dev/pmem0
uuid=$(blkid -p -o value -s UUID /dev/pmem0)
ndctl disable-namespace namespace0.0
expect 0 "enable namespace0.0" -- prepare -f
is "$(blkid -p -o value -s UUID /dev/pmem0)" "$uuid" "a disabled namespace"
mark "enabled again"

# Mounted here, mounted where only another mount namespace sees it, and held by a process: none is taken away.
mkdir -p /run/mounted
mount -o dax /dev/pmem0 /run/mounted
mkfs.ext4 -q -b 4096 -L theirs /dev/pmem1
expect 4 "/dev/pmem0 is mounted at /run/mounted" "holds ext" -- reset -f
is "$(namespaces)" 2 "namespaces after a reset of what is used or foreign"
umount /run/mounted
wipefs --quiet --all /dev/pmem1
unshare --mount bash -c 'mount -o dax /dev/pmem0 /run/mounted && touch /run/holds && exec sleep 600' &
holder=$!
python3 -c 'import os, time
os.open("/dev/pmem1", os.O_RDWR | os.O_EXCL)
open("/run/holds-too", "w")
time.sleep(600)' &
other=$!
until [ -e /run/holds ] && [ -e /run/holds-too ]; do sleep 0.05; done
expect 4 "namespace0.0 is not destroyed" "namespace1.0 is not destroyed" "held by something: a mount in another mount namespace" -- reset -f
is "$(namespaces)" 2 "namespaces after a reset of what is held"
kill $holder $other
wait $holder $other || true
expect 0 "destroy namespace1.0" -- says yes --reset
is "$(namespaces)" 0 "namespaces after a reset"
expect 0 "SCM:" -- reset
mark "spared, and reset"

# Several namespaces per region, also when the first run is killed between two of them.
expect 0 "create an fsdax namespace of" -- prepare --scm-ns-per-socket 2 --dry-run
is "$(grep -c "create an fsdax namespace" /run/said)" 4 "namespaces in the plan"
stop_at after 3 "create-namespace"
killed both prepare --scm-ns-per-socket 2 -f
# Their ndctl may go on: nobody else changes anything meanwhile.
expect 4 "being prepared by another process" "wait for it to end" -- prepare -f
end_tool
expect 0 "Persistent memory kernel devices:" -- prepare --scm-ns-per-socket 2 -f
is "$(namespaces)" 4 "namespaces, two per region"
expect 0 "ready" -- prepare --scm-ns-per-socket 2
expect 4 "has 2 of 3 namespaces" -- prepare --scm-ns-per-socket 3 -f
expect 0 "SCM:" -- reset -f
is "$(namespaces)" 0 "namespaces after a reset"
mark "several namespaces"

# ndctl killed in place of each of its calls that change something: whatever it leaves, the next run ends at the same place.
for ((call = 1; ; call += 2)); do
	rm -f /run/killed
	for region in 0 1; do
		stop_at within $((call + region))
		ndctl create-namespace -m fsdax -M dev -n daos -r region$region >/run/made 2>&1 || true
	done
	[ -e /run/killed ] || break
	expect 0 "Blockdev:pmem0 Dev:namespace0.0" "Blockdev:pmem1 Dev:namespace1.0" -- prepare -f
	is "$(namespaces)" 2 "namespaces after ndctl was killed at call $call"
	ndctl destroy-namespace -f all >/dev/null 2>&1
done
[ $call -gt 5 ] || { cat /run/made; fail "ndctl made a namespace with $call calls"; }
rm -f /run/stop
ndctl destroy-namespace -f all >/dev/null 2>&1
mark "killed in each of $((call - 1)) calls, and finished"

# Label areas that somebody has wiped are as those of new modules; killed there, too.
for call in 3 7; do
	ndctl disable-region all
	ndctl zero-labels all
	ndctl enable-region all
	stop_at within $call create-namespace
	expect 4 "ndctl ended with signal: 9" -- prepare -f
	expect 0 "Blockdev:pmem0 Dev:namespace0.0" "Blockdev:pmem1 Dev:namespace1.0" -- prepare -f
	is "$(namespaces)" 2 "namespaces on modules whose labels were wiped"
	ndctl destroy-namespace -f all >/dev/null 2>&1
done
mark "labels wiped"
