# Devices that nobody has listed: `bdev_class: nvme` without bdev_list takes what is usable at the format, and nothing that
# comes later; with two engines the NUMA nodes decide. Then NVMe Format of a namespace that other controllers may have.
# vm: --timeout 600 --memory 3072 --shared
. "$VM_SOURCE/tests/vm/guest/site.sh"
modprobe -a nvme vfio-pci crc32c_generic ext4
# config [LINE...]: one engine, with these lines more at the top of the file.
config() {
	site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  scm_mount: $SITE/scm0
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
YAML
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$SITE/server.yml"
}
# stop: ends the server, with its engines.
stop() {
	killall -TERM daos_server
	await_end
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
config
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
stop
config "bdev_exclude: ['${NVME_4096//:/.}']"
server
await maintenance
shell storage format --reformat --force --dry-run >$SITE/plan || { cat $SITE/plan; fail "dry run with bdev_exclude"; }
! grep -q "$NVME_4096" $SITE/plan || { cat $SITE/plan; fail "what is excluded is planned"; }
mark "a new format takes what there is, less what is excluded"

# Other controllers may have the namespace of this one: its NVMe Format is refused before anything else is touched.
stop
config "bdev_include: ['$NVME_4096', '$NVME_MIXED']"
server
await maintenance
! shell storage format --reformat --nvme-format --force >$SITE/format 2>&1 || fail "a shared namespace is erased"
grep -q "other controllers may have this namespace" $SITE/format || { cat $SITE/format; words; fail "it is not said why"; }
[ -e $SITE/scm0/superblock ] || fail "the old format is gone"
mark "NVMe Format of a shared namespace is refused in the plan"
stop

# two FIRST-CORE FIRST-CORE: two engines that take what is usable.
two() {
	local engine
	for engine in 0 1; do
		cat <<YAML
- targets: 1
  nr_xs_helpers: 0
  ${*:engine+1:1}
  scm_mount: $SITE/scm$engine
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
YAML
	done | site_config
}
rm -rf "$SITE"
two "rank: 0" "rank: 1"
server
await maintenance
! shell storage format --force >$SITE/format 2>&1 || fail "somebody guesses"
grep -q "write a bdev_list for each of the servers servers\[0\], servers\[1\]" $SITE/format || { cat $SITE/format; fail "it is not said what to write"; }
stop
two "first_core: 0" "first_core: 1"
server
await maintenance
await_said "SCM format required on instance 1"
shell storage format --reformat --force >$SITE/format 2>&1 || { cat $SITE/format; words; fail "format of two engines"; }
await ready
[ "$(told 0)" = "$NVME_MIXED/1 $NVME_MIXED/2 " ] && [ "$(told 1)" = "$NVME_4096 " ] || fail "the engines have $(told 0)and $(told 1)"
mark "two engines, each with what is on its node"
