# `storage prepare --scm-only` on persistent memory modules, two on each of two sockets, with Debian's ipmctl: goals, a boot, namespaces.
# Each step is killed, or loses the power, and is done again. Modules that are ill, locked or gone are told apart.
# vm: --modules 2 --boots 4 --timeout 500
pmem_modules
mkdir -p /mnt/plugins
chmod 755 /mnt
install -m 644 "$VM_BUILD/libdaos_scm_dcpm.so" /mnt/plugins/
# In the guest's memory: they are started again and again, and the host's files come through an emulated device.
cp "$VM_BUILD"/daos_server{,_helper} /mnt
prepare() { /mnt/daos_server --plugins-dir /mnt/plugins storage prepare --scm-only "$@"; }
# expect STATUS TEXT... -- COMMAND...: the command ends so and says all of that.
expect() {
	local status=0 wanted=$1 texts=() text
	shift
	while [ "$1" != -- ]; do texts+=("$1") && shift; done
	shift
	"$@" >/run/said 2>&1 || status=$?
	cat /run/said
	[ $status -eq "$wanted" ] || fail "$*: status $status, not $wanted"
	for text in "${texts[@]}"; do grep -qF -- "$text" /run/said || fail "$*: nothing of '$text'"; done
}
tools='daos_server|ipmctl|ndctl|mkfs'
# started PATTERN COMMAND...: starts a command, and returns when a process runs whose command line has that pattern.
started() {
	local pattern=$1
	shift
	"$@" >/run/started 2>&1 &
	victim=$!
	until pgrep -f -- "$pattern" >/dev/null; do
		kill -0 $victim 2>/dev/null || { cat /run/started; fail "$*: nothing of '$pattern' ran"; }
		sleep 0.02
	done
}
# killed WHO PATTERN COMMAND...: as started; then kills the processes of the names WHO, and waits for what they leave running.
killed() {
	local who=$1
	shift
	started "$@"
	pkill -9 "$who" || true
	wait $victim || true
	while pgrep "$tools" >/dev/null 2>&1; do sleep 0.05; done
}
reboot_text="A reboot is required to process new memory allocation goals."
states() { ipmctl show -dimm | awk -F'|' '/0x/ { gsub(/ /, "", $1); gsub(/^ | *$/, "", $3); gsub(/^ | *$/, "", $4); print $1, $3, $4 }' | paste -sd,; }
# ranges: regions of the kernel: GiB, modules, whether it is enabled.
ranges() { ndctl list -Riv -R -D | python3 -c 'import json, sys
found = json.load(sys.stdin)
for r in sorted(found.get("regions", []) if isinstance(found, dict) else [], key=lambda r: (-r["size"], str(r.get("state")))): print(r["size"] >> 30, len(r["mappings"]), r.get("state", "enabled"))' | paste -sd,; }
namespaces() { ndctl list -N | grep -c '"mode":"fsdax"' || true; }
is() { [ "$1" = "$2" ] || fail "$3: '$1', not '$2'"; }
case $VM_BOOT in
1)
	is "$(states)" "0x0001 Disabled Healthy,0x0101 Disabled Healthy,0x1001 Disabled Healthy,0x1101 Disabled Healthy" modules
	# A module that is ill leaves its socket as it is, and no other.
	module 0x1001 critical
	killed "daos_server|ipmctl" "ipmctl create .*-goal" prepare -f
	mark "killed while a goal was made"
	expect 4 "$reboot_text" "the modules of socket 1 are left as they are" "module 0x1001 at CPU2_DIMM_A2" "Critical" -- prepare -f
	module 0x1001 healthy
	module 0x1101 locked
	expect 4 "the modules of socket 1 are left as they are" "module 0x1101 at CPU2_DIMM_B2" "locked" -- prepare --dry-run
	module 0x1101 open
	mark "ill and locked modules"
	started "ipmctl create .*-socket 1" prepare -f
	sleep 0.5
	lose_power
	;;
2)
	# What the other socket was to become depends on when the power went.
	ranges
	ipmctl show -goal
	killed daos_server_hel "ndctl create-namespace" prepare -f
	mark "helper killed while a namespace was made"
	expect 0 "Blockdev:pmem0 Dev:namespace0.0 NumaNode:0" -- prepare -f
	expect 0 "ready" -- prepare
	! grep -q "Are you sure" /run/said || fail "asked with nothing to do"
	ndctl destroy-namespace -f all
	started "ndctl create-namespace" prepare -f
	module 0x0101 absent
	module 0x1001 fatal
	lose_power
	;;
3)
	# The set of a module that is gone is no region, nor that of one that has failed.
	is "$(states)" "0x0001 Disabled Healthy,0x1001 Disabled Fatal failure,0x1101 Disabled Healthy" "modules that are there"
	is "$(ranges)" "" "regions"
	expect 4 "belongs to an interleaved set that is not all there: the set is broken" "module 0x1001 at CPU2_DIMM_A2" "Fatal" -- prepare --dry-run
	module 0x0101 healthy
	module 0x1001 healthy
	mark "broken sets"
	;;
4)
	is "$(ranges)" "4 2 enabled,4 2 enabled" "interleaved regions"
	killed daos_server "ndctl create-namespace" prepare -f
	mark "killed while a namespace was made"
	expect 0 "Blockdev:pmem0 Dev:namespace0.0 NumaNode:0" "Blockdev:pmem1 Dev:namespace1.0 NumaNode:1" -- prepare -f
	is "$(namespaces)" 2 "namespaces"
	mark "prepared"
	;;
esac
mark "boot $VM_BOOT"
