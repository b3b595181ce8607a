# `storage prepare` without an IOMMU: uio_pci_generic, for root only, and back.
# vm: --timeout 240 --no-iommu
mkdir -p /mnt/plugins
install -m 644 "$VM_BUILD/libdaos_bdev_nvme_spdk.so" /mnt/plugins/
chmod 755 /mnt
server="$VM_BUILD/daos_server --plugins-dir /mnt/plugins --state-dir /mnt/state"
driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver")"; }

modprobe nvme
$server storage prepare -n -p 160 -w "$NVME_4096" -u nobody | tee /run/said
[ "$(driver "$NVME_4096")" = uio_pci_generic ] || fail "$NVME_4096 has $(driver "$NVME_4096")"
grep -q "only root can use these devices, not nobody" /run/said || fail "the user is not told"
mark "prepared"
$server storage scan | tee /run/said
grep -q "PCI Addr:$NVME_4096 Serial:EMU4096" /run/said || fail "$NVME_4096 is not found"
mark "scanned"
sleep 600 9<>/dev/uio0 &
holder=$!
! $server storage prepare -n --reset >/run/said 2>&1 || fail "a held device was given back"
grep -q "held through uio by pid $holder (sleep)" /run/said || fail "$(cat /run/said)"
kill $holder
wait $holder || true
$server storage prepare -n --reset
[ "$(driver "$NVME_4096")" = nvme ] || fail "the kernel's driver has not got its device back"
mark "reset"
