# Firmware of controllers that have the commands for it, which QEMU's have not: SPDK's NVMe-oF target with firmware slots
# (tests/vm/nvmf-firmware) over TCP. Query, updates, refusals, an update that is killed and run again; and data of such a
# controller. First through the plugin, then from the shell through server and helper.
# vm: --timeout 600 --memory 3072
port=4420
target=$VM_BUILD/nvmf-firmware
check() {
	"$VM_BUILD/nvme-check" "$VM_BUILD/libdaos_bdev_nvme_spdk.so" "$1" \
		"{\"fabrics\": {\"far0\": \"trtype:TCP traddr:127.0.0.1 trsvcid:$port subnqn:nqn.2020-07.test:firmware\"}}"
}
# target STATE [COMMIT-STATUS]: starts it; its words are in /run/fw/words.
start_target() {
	"$target" /run/fw/config "$@" >/run/fw/words 2>&1 &
	target_process=$!
	until grep -q '^ready' /run/fw/words; do
		kill -0 $target_process || { cat /run/fw/words; fail "the target does not start"; }
		sleep 0.1
	done
}
stop_target() {
	kill -9 $target_process
	wait $target_process 2>/dev/null || true
}
mkdir -p /run/fw
cat >/run/fw/config <<JSON
{"subsystems": [
  {"subsystem": "bdev", "config": [
    {"method": "bdev_malloc_create", "params": {"name": "disk", "num_blocks": 16384, "block_size": 4096}}]},
  {"subsystem": "nvmf", "config": [
    {"method": "nvmf_create_transport", "params": {"trtype": "TCP", "num_shared_buffers": 64, "buf_cache_size": 8}},
    {"method": "nvmf_create_subsystem", "params": {"nqn": "nqn.2020-07.test:firmware", "allow_any_host": true,
      "serial_number": "FIRMWARE1", "model_number": "Test Controller"}},
    {"method": "nvmf_subsystem_add_ns", "params": {"nqn": "nqn.2020-07.test:firmware", "namespace": {"nsid": 1, "bdev_name": "disk"}}},
    {"method": "nvmf_subsystem_add_listener", "params": {"nqn": "nqn.2020-07.test:firmware",
      "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "$port"}}}]}]}
JSON
for revision in 1.1 1.2 1.3; do "$target" --image /run/fw/$revision $revision 1000004; done
# Takes long enough for something to happen meanwhile.
"$target" --image /run/fw/long 1.1 16000004
{ head -c 500000 /run/fw/1.1; head -c 500004 /dev/urandom; } >/run/fw/bad
head -c 10001 /run/fw/1.1 >/run/fw/odd
: >/run/fw/empty
ip link set lo up
hugepages 160
bind vfio-pci "$NVME_512"
start_target /run/fw/state
mark "target ready"
check firmware || { cat /run/fw/words; exit 1; }
mark "updated"

check firmware-hold >/run/fw/held &
holder=$!
until grep -q '^holding' /run/fw/held; do
	kill -0 $holder || { cat /run/fw/held; fail "nothing is held"; }
	sleep 0.1
done
NVME_CHECK_BUSY="far0 $NVME_512" check firmware-busy
# The job is a shell, the program its child.
killall -9 nvme-check
wait $holder 2>/dev/null || true
mark "held by another process"

status=0
check firmware-die || status=$?
[ $status -eq $((128 + 9)) ] || fail "the update ended with $status, not killed"
check firmware-again || { cat /run/fw/words; exit 1; }
grep -Eq 'association [0-9]+, [1-9][0-9]* bytes of an image discarded' /run/fw/words || { cat /run/fw/words; fail "nothing was loaded before the kill"; }
stop_target
mark "killed and run again"

start_target /run/fw/other 110
check firmware-pending
stop_target

# From the shell: the device is an engine's, so it is refused as long as that runs.
. "$VM_SOURCE/tests/vm/guest/site.sh"
SITE_NVME="fabrics: {far0: \"trtype:TCP traddr:127.0.0.1 trsvcid:$port subnqn:nqn.2020-07.test:firmware\"}"
# No cores to spare for polling on both sides: SPDK's target has the first one.
start_target /run/fw/shell
site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  first_core: 1
  scm_mount: $SITE/scm0
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
  bdev_list: ["far0"]
YAML
chmod 755 /run/fw
chmod 644 /run/fw/1.? /run/fw/long
server
await maintenance
shell storage format --force >$SITE/format || { words; fail "format"; }
await ready
mark "an engine runs on the device"
# fwupdate MODEL REVISION IMAGE
fwupdate() { shell storage fwupdate -m "$1" -r "$2" -p "/run/fw/$3" -s 2 --force >$SITE/update 2>&1; }
# refused TEXT COMMAND...: it fails, says that, and nothing has come to the device.
refused() {
	local text=$1
	shift
	! "$@" || fail "not refused: $*"
	grep -qF "$text" $SITE/update || { cat $SITE/update; fail "it does not say: $text"; }
	! grep -Eq 'committed|[1-9][0-9]* bytes of an image' /run/fw/words || { cat /run/fw/words; fail "something was sent: $*"; }
}
# steps TEXT...: what an update has shown.
steps() {
	local step
	for step in "$@"; do
		grep -qF "$step" $SITE/update || { cat $SITE/update; fail "it does not say: $step"; }
	done
}
# running REVISION: what the device says it runs.
running() {
	shell --json firmware query -d far0 >$SITE/query || { cat $SITE/query; words; fail "query"; }
	grep -q "\"revision\": \"$1\"" $SITE/query || { cat $SITE/query; fail "it does not run $1"; }
}
refused "in use: engine 0" fwupdate "Test Controller" 1.0 1.1
# What an engine has is told by that engine.
running 1.0
shell system stop >/dev/null
refused "controller model unexpected" fwupdate "Other Controller" 1.0 1.1
refused "controller firmware revision unexpected" fwupdate "Test Controller" 0.9 1.1
refused "No such file" fwupdate "Test Controller" 1.0 1.9
running 1.0
mark "refused: an engine's device, another model, another revision, no image"

# Killed in the middle: the server, and with it the helper that sends.
fwupdate "Test Controller" 1.0 long &
client=$!
waited=0
until grep -Eq 'downloading firmware: (25|50) %' $SITE/update; do
	waited=$((waited + 1))
	[ $waited -lt 3000 ] && kill -0 $client 2>/dev/null || { cat $SITE/update; words; fail "no progress is shown"; }
	sleep 0.05
done
killall -9 daos_server
while pidof daos_server daos_server_helper >/dev/null; do sleep 0.1; done
! wait $client || { cat $SITE/update; fail "the shell says that all is well"; }
! grep -q committed /run/fw/words || fail "it was killed too late"
tail -n 3 $SITE/update
# A server starts its engines.
server
await ready
grep -Eq 'association [0-9]+, [1-9][0-9]* bytes of an image discarded' /run/fw/words || { cat /run/fw/words; fail "nothing was sent before the kill"; }
shell system stop >/dev/null
running 1.0
mark "killed in the middle"

fwupdate "Test Controller" 1.0 1.1 || { cat $SITE/update; words; fail "the update after a killed one"; }
steps "downloading firmware: 50 %" "committing firmware" "resetting" "firmware 1.0 -> 1.1"
running 1.1
! fwupdate "Test Controller" 1.0 1.2 || fail "another start revision is no obstacle"
running 1.1
shell firmware update --type nvme -d far0 -p /run/fw/1.2 -f 1.1 -s 3 --force >$SITE/update 2>&1 || { cat $SITE/update; words; fail "firmware update"; }
steps "firmware 1.1 -> 1.2"
running 1.2
shell system start >/dev/null
await ready
pool 0
load 0 >/dev/null
proof 0 "on a device with new firmware"
mark "updated from the shell, and the engine is back on its device"
