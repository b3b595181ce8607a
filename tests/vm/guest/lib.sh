# What scenarios share. Sourced inside the guest; the job file has set the variables:
#   VM_SOURCE  the project's tree    VM_BUILD  folder with the programs under test    SPDK_DIR  SPDK's prefix
#   VM_BOOT    number of the boot, from 1

# The fixed places of the emulated controllers (bed/hardware.py).
NVME_512=0000:41:00.0  # node 0, one namespace of 512-byte blocks, behind a throttle
NVME_MIXED=0000:42:00.0 # node 0, namespace 1 of 4096-byte blocks, namespace 2 of 512
NVME_4096=0000:81:00.0 # node 1, one namespace of 4096-byte blocks

# The small tools of scenarios, linked statically and in the guest's memory. Starting one of Debian's takes an emulated processor 40
# to 120 ms, most of it for its libraries; these take 8 to 15. What the programs under test call (mount, mkfs, ndctl, ...) stays Debian's.
/bin/busybox mkdir /run/applets
/bin/busybox cp /bin/busybox /run/applets/
/bin/busybox sh -c 'for applet in basename cat chmod chown cmp cp cut dirname env grep head killall ln ls mkdir mkfifo mv paste pidof \
	readlink rm rmdir sed seq sleep sort stat tail tee touch tr true uniq wc; do ln -s busybox "/run/applets/$applet"; done'
PATH=/run/applets:$PATH

# fail MESSAGE...: ends the scenario as failed.
fail() {
	echo "FAILED: $*"
	exit 1
}

# mark MESSAGE...: one line with the guest's uptime, to see where time goes.
mark() {
	local uptime
	read -r uptime _ </proc/uptime
	printf '[guest %s s] %s\n' "$uptime" "$*"
}

# freeze PROCESS...: stops processes, and returns when they are stopped or gone: the signal alone lets one run on for a moment.
freeze() {
	local process
	kill -STOP "$@"
	for process in "$@"; do
		# Each of its threads. Gone meanwhile is as good.
		while grep -qs '^State:.[RSD]' "/proc/$process/task/"*/status; do sleep 0.01; done
	done
}

# bind DRIVER ADDRESS...: gives PCI devices to a driver, whatever holds them now.
bind() {
	local driver=$1 address device bound
	shift
	modprobe "$driver"
	for address in "$@"; do
		device=/sys/bus/pci/devices/$address
		[ -e "$device" ] || fail "no PCI device $address"
		echo "$driver" >"$device/driver_override"
		[ ! -e "$device/driver" ] || echo "$address" >"$device/driver/unbind"
		echo "$address" >/sys/bus/pci/drivers_probe
		bound=$(basename "$(readlink "$device/driver")")
		[ "$bound" = "$driver" ] || fail "$address is bound to ${bound:-nothing}, not to $driver"
	done
}

# hugepages COUNT: reserves COUNT pages of 2 MiB on each NUMA node.
hugepages() {
	local node got
	for node in /sys/devices/system/node/node[0-9]*; do
		echo "$1" >"$node/hugepages/hugepages-2048kB/nr_hugepages"
		got=$(cat "$node/hugepages/hugepages-2048kB/nr_hugepages")
		[ "$got" -eq "$1" ] || fail "${node##*/} has $got huge pages of the $1 asked for"
	done
}

# qmp COMMAND: sends one QMP command (JSON) to the QEMU that runs this guest and prints the reply.
qmp() {
	local reply
	exec 9<>/dev/ttyS1
	printf '%s\n' "$1" >&9
	IFS= read -r -t 30 -u 9 reply || fail "no reply to QMP command $1"
	exec 9>&-
	case $reply in
	*'"error"'*) fail "QMP command $1: $reply" ;;
	esac
	printf '%s\n' "$reply"
}

# limit GROUP WHAT IOPS: sets a limit of a throttle group; 0 lifts it.
limit() {
	qmp "{\"execute\":\"qom-set\",\"arguments\":{\"path\":\"/objects/$1\",\"property\":\"limits\",\"value\":{\"$2\":$3}}}" >/dev/null
}

# throttle IOPS: limits $NVME_512 to that many requests a second. throttle_writes IOPS: $NVME_4096 to that many writes; needs
# "# vm: --power".
throttle() { limit throttle-512 iops-total "$1"; }
throttle_writes() { limit throttle-4096 iops-write "$1"; }

# cut_power DISK SEED: what the disk was not told to keep is lost, or not, by chance. Nobody may use it meanwhile; needs
# "# vm: --power". Prints what was written, forced and at risk.
cut_power() {
	qmp "{\"execute\":\"cut-power\",\"arguments\":{\"disk\":\"$1\",\"seed\":$2}}"
}

# lose_power: the machine ends at once; with "# vm: --boots N" the scenario runs again on what its disks and NVDIMMs hold.
lose_power() {
	exec 9<>/dev/ttyS1
	printf '{"execute":"lose-power"}\n' >&9
	sleep 60
	fail "the power is still there"
}

# nvdimms: loads the kernel's modules for NVDIMMs and waits for their regions.
nvdimms() {
	local waited=0
	# The keys of locked modules are looked for on the way, and there are none.
	modprobe -a crc32c_generic ext4 nfit nd_pmem dax_pmem 2>/dev/null
	until [ -e /sys/bus/nd/devices/namespace0.0 ] && [ -e /sys/bus/nd/devices/namespace1.0 ]; do
		sleep 0.25
		waited=$((waited + 1))
		[ $waited -lt 120 ] || fail "no region of the second NVDIMM"
	done
}

# module HANDLE STATE: a persistent memory module (0x0001, 0x0101, 0x1001, ...; with "# vm: --modules N") becomes healthy,
# noncritical, critical, fatal, locked, unlocked or absent. Its firmware says so at once; what is mapped changes at the next boot.
module() {
	qmp "{\"execute\":\"module\",\"arguments\":{\"handle\":\"$1\",\"state\":\"$2\"}}" >/dev/null
}

# pmem_modules [MODULE...]: loads the kernel's modules for persistent memory modules, and others; after this none can be loaded.
pmem_modules() {
	local folder
	modprobe -a crc32c_generic ext4 nfit nd_pmem dax_pmem "$@" 2>/dev/null
	udevadm settle 2>/dev/null || true
	ndctl wait-scrub >/dev/null 2>&1 || true
	# For each command that ipmctl sends to a module libndctl looks up which of the kernel's modules drive what, anew:
	# where there are none, that takes no time.
	for folder in /lib/modules /etc/modprobe.d /usr/lib/modprobe.d; do mount -t tmpfs none $folder; done
}

# fail_io DISK read|write: from now on each read or write of a disk (nvme-mixed-1, nvme-mixed-2) fails as on a medium that
# is worn out. mend_io DISK: no more.
fail_io() {
	qmp "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"blkdebug\",\"node-name\":\"$1-errors\",\"image\":\"$1-file\",\"inject-error\":[{\"event\":\"none\",\"iotype\":\"$2\",\"errno\":5,\"once\":false}]}}" >/dev/null
	qmp "{\"execute\":\"blockdev-reopen\",\"arguments\":{\"options\":[{\"driver\":\"raw\",\"node-name\":\"$1\",\"file\":\"$1-errors\"}]}}" >/dev/null
}
mend_io() {
	qmp "{\"execute\":\"blockdev-reopen\",\"arguments\":{\"options\":[{\"driver\":\"raw\",\"node-name\":\"$1\",\"file\":\"$1-file\"}]}}" >/dev/null
	qmp "{\"execute\":\"blockdev-del\",\"arguments\":{\"node-name\":\"$1-errors\"}}" >/dev/null
}

# unplug NAME / plug NAME ADDRESS: removes a controller (nvme-512, nvme-mixed, nvme-4096) as an operator's
# button press would; returns when the kernel has let it go.
unplug() {
	local name=$1 address=$2 waited=0
	qmp "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"$name\"}}" >/dev/null
	while [ -e "/sys/bus/pci/devices/$address" ]; do
		sleep 0.25
		waited=$((waited + 1))
		[ $waited -lt 120 ] || fail "$address is still there 30 s after its removal was asked for"
	done
}

# rdma_interface NAME ADDRESS/BITS: makes a network interface with an RDMA device (the kernel's own, RoCE over UDP).
rdma_interface() {
	# The checksum that rdma_rxe asks for would be loaded by the kernel from the first root, which has no modules.
	modprobe -a crc32_generic dummy rdma_rxe rdma_ucm
	ip link add "$1" type dummy
	ip address add "$2" dev "$1"
	ip link set "$1" up
	rdma link add "rxe-$1" type rxe netdev "$1"
	[ -e /dev/infiniband/uverbs0 ] && [ -e /dev/infiniband/rdma_cm ] || fail "no RDMA device on $1"
}

# ofi_test PROGRAM TEST: runs a test of fabric-ofi on the interface rdma0; one that was not run has failed.
ofi_test() {
	# From the guest's memory: it is started again and again, and the host's files come through an emulated device.
	cp "$VM_BUILD/guest-tests/$1" /mnt
	OFI_TEST_INTERFACE=rdma0 IPATH_NO_BACKTRACE=1 "/mnt/$1" "$2" --nocapture --test-threads 1 | tee /run/ofi-test
	! grep "NOT RUN" /run/ofi-test || fail "the RDMA device was not used"
}
