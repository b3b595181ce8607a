# Devices that nobody has listed: `bdev_class: nvme` without bdev_list takes what is usable at the format, and nothing that
# comes later, until it is formatted anew.
# vm: --timeout 600 --memory 3072
. "$VM_SOURCE/tests/vm/guest/site.sh"
modprobe -a nvme vfio-pci crc32c_generic ext4
site_engine() {
	site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  scm_mount: $SITE/scm0
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
YAML
}
# stop: ends the server, with its engines.
stop() {
	pkill -TERM -x daos_server
	while pgrep daos_server || engines; do sleep 0.1; done >/dev/null
}
# told RANK: the controllers and namespaces in an engine's list of devices.
told() { sed -n 's/^ *"address": "\(.*\)",$/\1/p' "$SITE/scm$1/daos_nvme.conf" | tr '\n' ' '; }
# These controllers do not heed the bit that makes a write durable.
SITE_NVME="fua: flush"
# Of the others one is mounted, and one is not handed over.
namespaces=("/sys/bus/pci/devices/$NVME_512/nvme/"nvme*/nvme*n1)
disk=/dev/${namespaces[0]##*/}
mkfs.ext4 -q -b 4096 "$disk"
mkdir -p /mnt/disk
mount "$disk" /mnt/disk
prepare_site -p 240 -w "$NVME_MIXED"
site_engine
server
await maintenance
shell storage format --dry-run >$SITE/plan || { cat $SITE/plan; words; fail "dry run"; }
grep -q "$NVME_MIXED/1" $SITE/plan && grep -q "$NVME_MIXED/2" $SITE/plan || { cat $SITE/plan; fail "the namespaces are not planned"; }
! grep -Eq "$NVME_512|$NVME_4096" $SITE/plan || { cat $SITE/plan; fail "what is mounted or not handed over is planned"; }
shell storage format --force >$SITE/format || { words; fail "format"; }
await ready
[ "$(told 0)" = "$NVME_MIXED/1 $NVME_MIXED/2 " ] || fail "the engine has $(told 0)"
pool 0
load 0 >/dev/null
mark "all that is usable, and nothing that is mounted"

stop
prepare_site -p 240 -w "$NVME_4096"
server
await ready
[ "$(told 0)" = "$NVME_MIXED/1 $NVME_MIXED/2 " ] || fail "the engine has $(told 0)"
proof 0 "after another device came"
mark "what comes later is nobody's"

shell system stop >/dev/null
shell storage format --reformat --force --dry-run >$SITE/plan || { cat $SITE/plan; fail "dry run of a new format"; }
grep -q "$NVME_4096" $SITE/plan || { cat $SITE/plan; fail "a new format does not take what is there"; }
mark "a new format takes what there is"
