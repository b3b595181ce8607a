# Firmware of controllers that have the commands for it, which QEMU's have not: SPDK's NVMe-oF target with firmware slots
# (tests/vm/nvmf-firmware) over TCP. Query, updates, refusals, an update that is killed and run again; and data of such a
# controller.
# vm: --timeout 300
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
pkill -9 -x nvme-check
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
