# An engine on NVMe where there is no IOMMU: under uio_pci_generic, as root. Values survive the engine's death.
# vm: --timeout 600 --memory 3072 --no-iommu
SITE_USER=0
. "$VM_SOURCE/tests/vm/guest/site.sh"
hugepages 160
bind uio_pci_generic "$NVME_512"
site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  scm_mount: $SITE/scm
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
  bdev_list: ["$NVME_512"]
YAML
server
await maintenance
shell storage format --force >/dev/null || { words; fail "format"; }
await ready
mark "engine ready"
pool 0
load 0 >/dev/null &
writer=$!
acknowledged 0 20
first=$(engine 0)
kill -9 "$first"
wait $writer || { words; fail "writing over the death of the engine"; }
[ "$(engine 0)" != "$first" ] || fail "it is the same engine"
proof 0 "after kill -9"
mark "engine killed under load"
