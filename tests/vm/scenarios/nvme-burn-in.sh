# Burn-in of NVMe devices through the plugin, by an unprivileged server: a blank device is written, verified, and blank
# afterwards; a medium that fails is told, with an exit status of its own; a formatted device is only read, and makes way for
# its engine.
# vm: --timeout 600 --memory 3072
. "$VM_SOURCE/tests/vm/guest/site.sh"
modprobe -a nvme vfio-pci
prepare_site -p 240 -w "$NVME_MIXED $NVME_4096"
# These controllers do not heed the bit that makes a write durable.
SITE_NVME="fua: flush"
site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  scm_mount: $SITE/scm0
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
  bdev_list: ["$NVME_4096"]
YAML
burn_in() { shell storage burn-in "$@"; }
# newest EXPRESSION: something of the newest burn-in, a Python expression on `run` and its first device, `one`.
newest() {
	shell --json storage burn-in report >$SITE/report || true
	python3 -c 'import json, sys
run = list(json.load(open(sys.argv[1]))["response"]["hosts"].values())[0][0]
one = run["devices"][0]
print(eval(sys.argv[2]))' $SITE/report "$1"
}
# is EXPRESSION: it is true of the newest burn-in.
is() { [ "$(newest "$1")" = True ] || { cat $SITE/report; words; fail "not so: $1"; }; }
server
await maintenance
burn_in start "nvme:$NVME_4096" --duration 8s --rate-iops 40 --follow >$SITE/burn-in 2>&1 || { cat $SITE/burn-in; words; fail "burn-in of a blank device"; }
is 'run["state"] == "passed"'
is 'one["reads"]["count"] > 20 and one["writes"]["count"] > 20'
burn_in report --html $SITE/report.html >$SITE/text
grep -q "<svg" $SITE/report.html || fail "no plot in the page"
mark "a blank device: $(newest 'f"""{one["reads"]["count"]} reads, {one["writes"]["count"]} writes"""')"

fail_io nvme-mixed-2 write
status=0
burn_in start "nvme:$NVME_MIXED/2" --duration 4s --rate-iops 20 --follow >$SITE/burn-in 2>&1 || status=$?
mend_io nvme-mixed-2
[ $status -eq 3 ] || { cat $SITE/burn-in; words; fail "status $status of a burn-in on a medium that fails"; }
is 'run["state"] == "failed"'
mark "a medium that fails"

# Blank as it is, nothing has to be allowed.
shell storage format --force >$SITE/format || { words; fail "format after a burn-in"; }
await ready
pool 0
load 0 >/dev/null
! burn_in start "nvme:$NVME_4096" >$SITE/burn-in 2>&1 || fail "a burn-in of a device that an engine has"
shell system stop >/dev/null
! burn_in start "nvme:$NVME_4096" --rw randrw >$SITE/burn-in 2>&1 || fail "a burn-in writes over an engine's data"
grep -q -- "--destroy-data" $SITE/burn-in || { cat $SITE/burn-in; fail "it is not said what would allow it"; }
burn_in start "nvme:$NVME_4096" --duration 1h >$SITE/burn-in 2>&1 || { cat $SITE/burn-in; fail "a burn-in that reads"; }
shell system start >/dev/null
await ready
is 'run["state"] == "stopped" and one["mode"] == "read-only" and one["writes"]["count"] == 0'
proof 0 "after a burn-in"
mark "only read, and out of the way for its engine"
