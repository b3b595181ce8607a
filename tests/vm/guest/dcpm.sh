# Persistent memory in a guest: `storage prepare`, looks at what it made, and tools that stop where a scenario says, so that what uses
# them can be killed there. Sourced by scenarios.
#
#   TOOLS  folder of the real programs, where stand-ins have taken their places

TOOLS=/mnt/tools
SCM_PLUGINS=/mnt/plugins

# scm_programs: puts the plugin where only root can write, and the programs of a preparation into the guest's memory: they are started
# again and again, and the host's files come through an emulated device.
scm_programs() {
	mkdir -p $SCM_PLUGINS
	chmod 755 /mnt
	install -m 644 "$VM_BUILD/libdaos_scm_dcpm.so" $SCM_PLUGINS/
	cp "$VM_BUILD"/daos_server{,_helper} /mnt
}

scm() { /mnt/daos_server --plugins-dir $SCM_PLUGINS --state-dir /mnt/state "$@"; }
prepare() { scm storage prepare --scm-only "$@"; }

# expect STATUS [TEXT]... -- COMMAND...: the command ends so and says all of that.
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
is() { [ "$1" = "$2" ] || fail "$3: '$1', not '$2'"; }
# once TEXT: the command that `expect` ran last said that once.
once() { is "$(grep -cF -- "$1" /run/said)" 1 "lines with '$1'"; }

namespaces() { ndctl list -N | grep -c '"mode":"fsdax"' || true; }
# of_node N: block devices of the namespaces of a node.
of_node() { ndctl list -N -U "$1" | sed -n 's|.*"blockdev":"\([^"]*\)".*|/dev/\1|p'; }
# ranges: regions of the kernel, with commas between them: GiB, modules, whether it is enabled.
ranges() { ndctl list -Riv -R -D | python3 -c 'import json, sys
found = json.load(sys.stdin)
for r in sorted(found.get("regions", []) if isinstance(found, dict) else [], key=lambda r: (-r["size"], len(r["mappings"]), str(r.get("state")))): print(r["size"] >> 30, len(r["mappings"]), r.get("state", "enabled"))' | paste -sd,; }
# states: modules, with commas between them: handle, lock and health.
states() { ipmctl show -dimm | awk -F'|' '/0x/ { gsub(/ /, "", $1); gsub(/^ | *$/, "", $3); gsub(/^ | *$/, "", $4); print $1, $3, $4 }' | paste -sd,; }

# goals: what becomes of modules at the next boot, with commas between them: module, GiB of Memory Mode and of App Direct.
goals() { ipmctl show -goal | awk -F'|' '/0x.*GiB/ { gsub(/ /, ""); print $2, $3 + 0, $4 + 0 }' | paste -sd,; }

# stand_in PROGRAM...: from now on whatever runs one of these programs runs a stand-in for it, which stops where `stop_at` says. It is
# where the plugin looks first, and the real one is in the guest's memory.
stand_in() {
	local name
	mkdir -p $TOOLS
	cp "$VM_BUILD/kill-at.so" $TOOLS/
	for name in "$@"; do
		cp -L "$(command -v "$name")" $TOOLS/"$name"
		rm -f "/usr/sbin/$name"
		install -m 755 "$VM_SOURCE/tests/vm/guest/stand-in" "/usr/sbin/$name"
	done
	hash -r
}
# stop_at before|after N [TEXT]: the Nth change from now on that a stand-in is to make (with TEXT in its command line) is not made, or
# is made, and then it stops. stop_at within N [TEXT]: the next change is killed in place of its Nth call that writes to a file or to a
# module's config data (kill-at.c).
stop_at() {
	rm -f /run/stopped
	printf '%s\n%s\n%s\n' "$1" "$2" "${3:-}" >/run/stop
}
# stopped COMMAND...: starts a command, and returns when the tool that it runs has stopped.
stopped() {
	"$@" >/run/started 2>&1 &
	victim=$!
	until [ -e /run/stopped ]; do
		kill -0 $victim 2>/dev/null || { cat /run/started; fail "$*: ended before anything stopped"; }
		sleep 0.02
	done
}
# killed daemon|helper|both COMMAND...: as stopped; then kills the daemon, its helper, or both at once. The tool ends with either, but
# outlives both.
killed() {
	local who=$1 tool
	shift
	stopped "$@"
	tool=$(cut -d' ' -f1 /run/stopped)
	case $who in
	daemon) killall -9 daos_server ;;
	helper) killall -9 daos_server_helper ;;
	# A helper that sees its daemon end takes the tool with it: it is stopped before.
	both)
		freeze $(pidof daos_server_helper)
		kill -9 $(pidof daos_server) $(pidof daos_server_helper)
		;;
	esac
	! wait $victim || { cat /run/started; fail "$*: a killed run says it went well"; }
	while pidof daos_server daos_server_helper >/dev/null; do sleep 0.05; done
	echo "killed ($who): $(cat /run/stopped)"
	[ "$who" != both ] || return 0
	while kill -0 "$tool" 2>/dev/null; do sleep 0.05; done
}
# end_tool: ends the tool that stopped, and has outlived who ran it.
end_tool() {
	local tool
	tool=$(cut -d' ' -f1 /run/stopped)
	kill -9 "$tool" || fail "the tool did not outlive who ran it"
	while kill -0 "$tool" 2>/dev/null; do sleep 0.02; done
}
