# `storage prepare` on vfio-pci: a mounted controller is left alone, the others are usable by an unprivileged user; a reset
# spares what a process holds, and then puts everything back.
# vm: --timeout 300
mkdir -p /mnt/plugins
install -m 644 "$VM_BUILD/libdaos_bdev_nvme_spdk.so" /mnt/plugins/
chmod 755 /mnt
server="$VM_BUILD/daos_server --plugins-dir /mnt/plugins --state-dir /mnt/state"
state=/var/lib/daos_prepare/nvme-prepare.json

driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver")"; }
group() { echo "/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")")"; }
pages() { cat "/sys/devices/system/node/node$1/hugepages/hugepages-2048kB/nr_hugepages"; }
block() { find "/sys/bus/pci/devices/$1/" -maxdepth 3 -name 'nvme*n1' -printf %f; }

# expect STATUS TEXT COMMAND...: the command ends so and says that.
expect() {
	local status=0 wanted=$1 text=$2
	shift 2
	"$@" >/run/said 2>&1 || status=$?
	cat /run/said
	[ $status -eq "$wanted" ] || fail "$*: status $status, not $wanted"
	grep -qF -- "$text" /run/said || fail "$*: nothing of '$text'"
}

# Loaded here: the kernel would look for modules in its first root.
modprobe -a crc32c_generic ext4 nvme
for address in "$NVME_512" "$NVME_MIXED" "$NVME_4096"; do
	waited=0
	until [ -n "$(block "$address")" ]; do
		waited=$((waited + 1))
		[ $waited -lt 120 ] || fail "no namespace of $address"
		sleep 0.25
	done
done
hugetlbfs=$(stat -c '%u %a' /dev/hugepages)
disk=/dev/$(block "$NVME_512")
mkfs.ext4 -q "$disk"
mkdir /run/mounted
mount "$disk" /run/mounted
echo kept >/run/mounted/file
touch /dev/hugepages/spdk_pid99999999map_0
mark "ready to begin"

expect 0 "is mounted at /run/mounted" $server storage prepare --status -n
expect 1 "must be run as root" setpriv --reuid 65534 --clear-groups $server storage prepare -n
expect 0 "would bind $NVME_4096 to vfio-pci (now nvme)" $server storage prepare --nvme-only -p 160 -u nobody --dry-run
[ "$(driver "$NVME_4096")" = nvme ] || fail "a dry run changed something"
expect 3 "is mounted at /run/mounted" $server storage prepare -n -w "$NVME_512"
mark "refusals"

expect 0 "is mounted at /run/mounted" $server storage prepare --nvme-only -p 160 -u nobody
[ "$(driver "$NVME_512")" = nvme ] || fail "a mounted controller was unbound"
for address in "$NVME_MIXED" "$NVME_4096"; do
	[ "$(driver "$address")" = vfio-pci ] || fail "$address has $(driver "$address")"
	[ "$(stat -c %U "$(group "$address")")" = nobody ] || fail "the group of $address is not nobody's"
done
[ "$(pages 0) $(pages 1)" = "80 80" ] || fail "huge pages: $(pages 0) $(pages 1)"
[ ! -e /dev/hugepages/spdk_pid99999999map_0 ] || fail "a dead process's huge page is kept"
mark "prepared"

# The user's own session: permissions and the limit of locked memory are those of a login.
cat >/run/as-nobody <<USER
set -e
ulimit -l
export HOME=/mnt/nobody XDG_RUNTIME_DIR=/mnt/nobody
$VM_BUILD/daos_server --plugins-dir /mnt/plugins --state-dir /mnt/nobody/state storage scan --verbose --health
USER
install -d -o nobody /mnt/nobody
expect 0 "Serial:EMUMIXED" su -s /bin/bash nobody -c "bash /run/as-nobody"
grep -qx unlimited /run/said || fail "nobody's locked memory is limited"
grep -q "PCI Addr:$NVME_4096 " /run/said || fail "$NVME_4096 is not found"
grep -q "format:4096+0" /run/said || fail "the format of a namespace is not told"
grep -q "ok, 50 C, spare" /run/said || fail "the health of the devices is not told"
mark "scanned by an unprivileged user"

sleep 600 9<>"$(group "$NVME_4096")" &
holder=$!
expect 3 "held through vfio by pid $holder (sleep)" $server storage prepare -n --reset
[ "$(driver "$NVME_4096") $(driver "$NVME_MIXED")" = "vfio-pci nvme" ] || fail "reset with a held device"
[ "$(pages 0)" = 80 ] || fail "huge pages were taken from a device in use"
kill $holder
wait $holder || true
expect 0 "give $NVME_4096 back to nvme" $server storage prepare -n --reset
[ "$(driver "$NVME_4096")" = nvme ] || fail "the kernel's driver has not got its device back"
[ "$(pages 0) $(pages 1)" = "0 0" ] || fail "huge pages after the reset: $(pages 0) $(pages 1)"
[ "$(stat -c '%u %a' /dev/hugepages)" = "$hugetlbfs" ] || fail "/dev/hugepages is not as it was"
[ ! -e $state ] || fail "something is still remembered: $(cat $state)"
[ ! -e /etc/security/limits.d/90-daos-nobody.conf ] || fail "the limits are still there"
[ "$(cat /run/mounted/file)" = kept ] || fail "the mounted file system was disturbed"
umount /run/mounted
expect 0 "holds data: ext" $server storage prepare -n --dry-run
mark "reset"
