# `storage prepare --scm-only` on NVDIMMs with label areas, on two nodes: nothing without consent, one namespace per region, killed
# and finished, idempotent; a reset spares what is mounted or foreign.
# vm: --nvdimm --timeout 300
mkdir -p /mnt/plugins
install -m 644 "$VM_BUILD/libdaos_scm_dcpm.so" /mnt/plugins/
chmod 755 /mnt
server="$VM_BUILD/daos_server --plugins-dir /mnt/plugins --state-dir /mnt/state"

# expect STATUS TEXT COMMAND...: the command ends so and says that.
expect() {
	local status=0 wanted=$1 text=$2
	shift 2
	"$@" >/run/said 2>&1 || status=$?
	cat /run/said
	[ $status -eq "$wanted" ] || fail "$*: status $status, not $wanted"
	grep -qF -- "$text" /run/said || fail "$*: nothing of '$text'"
}
says() { printf '%s\n' "$1" | $server storage prepare "${@:2}"; }
namespaces() { ndctl list -N | grep -c '"mode":"fsdax"' || true; }

expect 0 "nothing to prepare" $server storage prepare --scm-only
nvdimms
expect 1 "must be run as root" setpriv --reuid 65534 --clear-groups $server storage prepare -s
expect 0 "would make namespace0.0, which is raw and empty, an fsdax namespace" $server storage prepare --scm-only --dry-run
expect 4 "consent not given" says no --scm-only
expect 4 "nobody can be asked" $server --json storage prepare --scm-only
[ "$(namespaces)" = 0 ] || fail "something was changed without consent"
mark "asked"

# One of the two regions holds something; it is not ours to destroy.
echo "somebody's" >/dev/pmem1
expect 0 "creating SCM namespace, may take a few minutes..." says yes --scm-only
grep -qF "Are you sure you want to continue? (yes/no)" /run/said || fail "no question"
grep -qF "this will be a destructive operation" /run/said || fail "no warning"
grep -qF "holds unknown content" /run/said || fail "contents of a raw namespace are not respected"
grep -qE "Persistent memory kernel devices:" /run/said || fail "no list of devices"
grep -qE "^\[\{UUID:[0-9a-f-]{36} Blockdev:pmem0 Dev:namespace0.0 NumaNode:[01]\}\]$" /run/said || fail "the list of devices"
[ "$(namespaces)" = 1 ] || fail "not one namespace"
dd if=/dev/zero of=/dev/pmem1 bs=4k count=1 oflag=direct status=none
expect 0 "Blockdev:pmem1 Dev:namespace1.0" $server storage prepare --scm-only -f
[ "$(namespaces)" = 2 ] || fail "not two namespaces"
expect 0 "ready" $server storage prepare --scm-only
! grep -q "Are you sure" /run/said || fail "asked with nothing to do"
mark "prepared"

expect 0 "/dev/pmem1" $server storage scan
$server --json storage scan >/run/scan
python3 - <<'PYTHON' || fail "the scan"
import json
devices = {d["address"]: d for d in json.load(open("/run/scan"))["response"]["devices"] if d["class"] == "dcpm"}
assert {"/dev/pmem0", "/dev/pmem1", "nmem0", "nmem1"} <= set(devices), devices
assert {devices["/dev/pmem0"]["numa_node"], devices["/dev/pmem1"]["numa_node"]} == {0, 1}, devices
for name in ("/dev/pmem0", "/dev/pmem1"):
    assert devices[name]["details"]["dax"] == "true" and devices[name]["use_state"] == "free", devices[name]
    assert devices[name]["details"]["align"] == "2097152", devices[name]
assert devices["nmem0"]["use_state"] == "busy", devices
PYTHON
mark "scanned"

# Disabled, a namespace keeps what it holds.
uuid=$(blkid -p -o value -s UUID /dev/pmem0 || true)
mkfs.ext4 -q -b 4096 -L daos-scm-dcpm /dev/pmem0
uuid=$(blkid -p -o value -s UUID /dev/pmem0)
ndctl disable-namespace namespace0.0
expect 0 "enable namespace0.0" $server storage prepare --scm-only -f
[ "$(blkid -p -o value -s UUID /dev/pmem0)" = "$uuid" ] || fail "a disabled namespace was made anew"
mark "enabled again"

mkdir -p /run/mounted
mount -o dax /dev/pmem0 /run/mounted
mkfs.ext4 -q -b 4096 -L theirs /dev/pmem1
expect 4 "/dev/pmem0 is mounted at /run/mounted" $server storage prepare --scm-only --reset -f
[ "$(namespaces)" = 2 ] || fail "a reset destroyed what is used or foreign"
grep -q "holds ext" /run/said || fail "foreign contents are not told"
umount /run/mounted
wipefs --quiet --all /dev/pmem1
expect 0 "destroy namespace1.0" says yes --scm-only --reset
[ "$(namespaces)" = 0 ] || fail "a reset left namespaces"
expect 0 "SCM:" $server storage prepare --scm-only --reset
mark "reset"

# Killed while ndctl works: whatever it leaves, the next run ends at the same place.
for pause in 0.2 0.5 0.8 1.1 1.4; do
	$server storage prepare --scm-only -f >/run/said 2>&1 &
	victim=$!
	sleep $pause
	kill -9 $victim 2>/dev/null || true
	wait $victim || true
	# The helper ends with its server, and ndctl with it or by itself.
	while pgrep 'daos_server|ndctl' >/dev/null; do sleep 0.1; done
	ndctl list -RNi | tr -d ' \n' | cut -c1-600
	echo
	expect 0 "Blockdev:pmem0 Dev:namespace0.0" $server storage prepare --scm-only -f
	grep -q "Blockdev:pmem1 Dev:namespace1.0" /run/said || fail "the second region"
	expect 0 "SCM:" $server storage prepare --scm-only --reset -f
	[ "$(namespaces)" = 0 ] || fail "a reset left namespaces"
done
mark "killed and finished"
