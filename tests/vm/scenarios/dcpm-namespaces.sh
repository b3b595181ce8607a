# `storage prepare --scm-only` on NVDIMMs with label areas, on two nodes: several namespaces per region, killed between two of them
# and finished; label areas that somebody has wiped; health of namespaces.
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
namespaces() { ndctl list -N | grep -c '"mode":"fsdax"' || true; }

nvdimms
ndctl disable-region all
ndctl init-labels -f all
ndctl enable-region all
# Several namespaces per region, also when the first run is killed between two of them.
expect 0 "create an fsdax namespace of" $server storage prepare --scm-only --scm-ns-per-socket 2 --dry-run
[ "$(grep -c "create an fsdax namespace" /run/said)" = 4 ] || fail "not four namespaces are planned"
$server storage prepare --scm-only --scm-ns-per-socket 2 -f >/run/killed 2>&1 &
asked=$!
waited=0
until [ "$(namespaces)" -ge 1 ]; do
	waited=$((waited + 1))
	[ $waited -lt 600 ] || fail "no namespace is made"
	sleep 0.1
done
kill -9 $asked
wait $asked || true
while pgrep 'daos_server|ndctl' >/dev/null; do sleep 0.1; done
expect 0 "Persistent memory kernel devices:" $server storage prepare --scm-only --scm-ns-per-socket 2 -f
[ "$(namespaces)" = 4 ] || fail "not four namespaces"
expect 0 "ready" $server storage prepare --scm-only --scm-ns-per-socket 2
expect 4 "has 2 of 3 namespaces" $server storage prepare --scm-only --scm-ns-per-socket 3 -f
$server --json storage scan --health >/run/scan
python3 - <<'PYTHON' || fail "the health of namespaces"
import json
devices = {d["address"]: d for d in json.load(open("/run/scan"))["response"]["devices"] if d["class"] == "dcpm"}
spaces = [d for name, d in devices.items() if name.startswith("/dev/pmem")]
assert len(spaces) == 4, devices
assert all(d["health"]["status"] == "ok" and d["health"]["media_errors"] == 0 for d in spaces), spaces
PYTHON
expect 0 "SCM:" $server storage prepare --scm-only --reset -f
mark "several namespaces"

# Label areas that somebody wiped are as those of new modules.
ndctl disable-region all
ndctl zero-labels all
ndctl enable-region all
expect 0 "Persistent memory kernel devices:" $server storage prepare --scm-only -f
[ "$(namespaces)" = 2 ] || fail "not two namespaces on modules whose labels were wiped"
expect 0 "SCM:" $server storage prepare --scm-only --reset -f
mark "labels wiped"
