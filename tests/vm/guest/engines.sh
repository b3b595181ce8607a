# Puts and gets per second of two engines in turns: one on bdev-nvme-spdk, one on bdev-file on a file system of the kernel's NVMe driver;
# what tests/vm/bench runs and reads. Arguments: rounds, seconds of each measurement.
#
# Lines: ENGINE operation:bytes:depth nvme|file operations-per-second
# vm: --timeout 3600 --memory 3072
rounds=${1:-5} seconds=${2:-2}
. "$VM_SOURCE/tests/vm/guest/site.sh"
site_programs
modprobe -a nvme vfio-pci crc32c_generic ext4
disk=$(disk "$NVME_512" 1)
mkfs.ext4 -q -b 4096 "$disk"
mkdir /mnt/disk
mount "$disk" /mnt/disk
chown "$SITE_USER:$SITE_USER" /mnt/disk
prepare_site -p 240 -w "$NVME_4096"
# These controllers do not heed the bit that makes a write durable.
SITE_NVME="fua: flush"
SITE_ALLOWED="bdev-nvme-spdk: {settings: {$SITE_NVME}}
  bdev-file: {}"
site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  pinned_numa_node: 1
  scm_mount: $SITE/scm0
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
  bdev_list: ["$NVME_4096"]
- targets: 1
  nr_xs_helpers: 0
  pinned_numa_node: 0
  scm_mount: $SITE/scm1
  scm_class: ram
  scm_size: 1
  bdev_class: file
  bdev_list: [/mnt/disk/device]
  bdev_size_mib: 192
YAML
server
for instance in 0 1; do await_said "SCM format required on instance $instance"; done
shell storage format --force >$SITE/format || { words; fail "format"; }
await ready
for rank in 0 1; do pool $rank; done
mark "engines ready"
# measure RANK NAME BYTES DEPTH KEYS
measure() {
	daos --json bench --rank "$1" --pool "pool$1" --size "$3" --depth "$4" --keys "$5" --seconds "$seconds" --seed 1 >$SITE/bench ||
		{ cat $SITE/bench; words; fail "bench of rank $1"; }
	python3 - "$2" "$3" "$4" $SITE/bench <<-'PYTHON'
		import json, sys
		name, size, depth, file = sys.argv[1:]
		for phase in json.load(open(file))["response"]["phases"]:
		    print("ENGINE", f"{phase['name']}:{size}:{depth}", name, phase["ops_per_second"])
	PYTHON
}
for work in 16384:1:256 16384:16:256 1048576:4:16; do
	IFS=: read -r bytes depth keys <<<"$work"
	for ((round = 0; round < rounds; round++)); do
		measure 0 nvme "$bytes" "$depth" "$keys"
		measure 1 file "$bytes" "$depth" "$keys"
	done
	mark "$bytes bytes, $depth at once"
done
