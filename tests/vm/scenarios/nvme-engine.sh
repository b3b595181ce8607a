# The programs on NVMe under vfio-pci: prepared by root, then run by an unprivileged user: scan, format, start, put and get;
# an engine that is killed under load; two engines on two nodes, one of them on namespaces of 4096 and of 512 bytes of two
# controllers; a medium that fails; a device that is pulled out under load.
# vm: --timeout 600 --memory 3072
. "$VM_SOURCE/tests/vm/guest/site.sh"
modprobe -a nvme vfio-pci
prepare_site -p 320 -w "$NVME_512 $NVME_MIXED $NVME_4096"
mark "prepared"
# These controllers do not heed the bit that makes a write durable.
SITE_NVME="fua: flush"
site_config <<YAML
- targets: 2
  nr_xs_helpers: 0
  pinned_numa_node: 0
  scm_mount: $SITE/scm0
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
  bdev_list: ["$NVME_MIXED/1", "${NVME_MIXED//:/.}/2", "$NVME_512"]
- targets: 1
  nr_xs_helpers: 0
  pinned_numa_node: 1
  scm_mount: $SITE/scm1
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
  bdev_list: ["$NVME_4096"]
YAML
server
for instance in 0 1; do await_said "SCM format required on instance $instance"; done
mark "server started"
shell --json storage scan >$SITE/scan
for serial in EMU0512 EMUMIXED EMU4096; do grep -q "$serial" $SITE/scan || { cat $SITE/scan; fail "no $serial in the scan"; }; done
shell storage format --force >$SITE/format || { words; fail "format"; }
await ready
mark "engines ready"
for rank in 0 1; do pool $rank; done
mark "pools and containers"

head -c 900000 /dev/urandom >$SITE/value
for rank in 0 1; do
	daos object put --rank $rank --pool pool$rank --cont work 0.1 key value --file $SITE/value >/dev/null
	daos object get --rank $rank --pool pool$rank --cont work 0.1 key value >$SITE/back
	cmp $SITE/value $SITE/back || fail "rank $rank gives another value back"
done
mark "put and get"

# Root could take a controller from a running engine; it must not.
mkdir -p /run/fw
head -c 8192 /dev/zero >/run/fw/1.1
NVME_CHECK_BUSY="$NVME_MIXED $NVME_4096" "$VM_BUILD/nvme-check" "$SITE_PLUGINS/libdaos_bdev_nvme_spdk.so" firmware-busy
mark "firmware refused while engines run"

load 0 >/dev/null &
writer=$!
acknowledged 0 20
first=$(engine 0)
kill -9 "$first"
# The client waits for the engine's return.
wait $writer || { words; fail "writing over the death of the engine"; }
[ "$(engine 0)" != "$first" ] || fail "it is the same engine"
proof 0 "after kill -9"
mark "engine killed under load"

fail_io nvme-mixed-1 write
fail_io nvme-mixed-2 write
! daos object put --rank 0 --pool pool0 --cont work --deadline 5 0.2 key value --file $SITE/value >$SITE/put 2>&1 || fail "a value is stored on a medium that fails"
cat $SITE/put
mend_io nvme-mixed-1
mend_io nvme-mixed-2
fail_io nvme-mixed-1 read
fail_io nvme-mixed-2 read
! daos object get --rank 0 --pool pool0 --cont work 0.1 key value >/dev/null 2>$SITE/get || fail "a value is read from a medium that fails"
cat $SITE/get
mend_io nvme-mixed-1
mend_io nvme-mixed-2
daos object get --rank 0 --pool pool0 --cont work 0.1 key value | cmp - $SITE/value || fail "the value is gone after errors of the medium"
mark "medium failed and mended"

before=$(records 1)
load 1 100000 77 >$SITE/load1 2>&1 &
writer=$!
acknowledged 1 $((before + 10))
unplug nvme-4096 "$NVME_4096"
mark "device pulled out"
await_said "device $NVME_4096 was removed"
! wait $writer || fail "writes to a device that is gone succeed"
cat $SITE/load1
grep -q "device gone" $SITE/load1 || fail "the client is not told that the device is gone"
! grep -qi "I/O error" $SITE/load1 || fail "the client is told of another error than a device that is gone"
engine 1 >/dev/null
proof 0 "on the other engine"
mark "the other engine serves"
