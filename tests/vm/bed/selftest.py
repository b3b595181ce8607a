"""Checks of the test bed itself: a scenario that fails in any way must not come out as passed."""

import concurrent.futures
import dataclasses
import io
import pathlib
import tempfile

import guest

SOUND = """
[ "$1" = "a b" ] || fail "the argument is $1"
touch "$VM_SOURCE/written-in-guest"
for d in "$NVME_512" "$NVME_MIXED" "$NVME_4096"; do
  [ "$(cat "/sys/bus/pci/devices/$d/class")" = 0x010802 ] || fail "$d is no NVMe controller"
done
[ "$(cat "/sys/bus/pci/devices/$NVME_4096/numa_node")" = 1 ]
hugepages 8
bind vfio-pci "$NVME_512"
[ -e "/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$NVME_512/iommu_group")")" ]
qmp '{"execute":"query-status"}'
throttle 5
throttle 0

# Of a disk that loses its power stays what was flushed; of the rest some is lost.
modprobe nvme
disk() { local found; until found=$(ls -d "/sys/bus/pci/devices/$1/nvme/"nvme*/nvme*n"$2" 2>/dev/null) && [ -b "/dev/${found##*/}" ]; do sleep 0.1; done; echo "/dev/${found##*/}"; }
one=$(disk "$NVME_4096" 1)
head -c 4096 /dev/zero | tr '\\0' A >/run/a
head -c 262144 /dev/zero | tr '\\0' B >/run/b
dd if=/run/a of="$one" bs=4096 seek=1 oflag=direct conv=fsync status=none
dd if=/run/b of="$one" bs=4096 seek=100 oflag=direct status=none
cut_power nvme-4096 1
dd if="$one" bs=4096 skip=1 count=1 iflag=direct status=none | cmp - /run/a
kept=$(dd if="$one" bs=4096 skip=100 count=64 iflag=direct status=none | tr -d '\\0' | wc -c)
[ "$kept" -gt 0 ] && [ "$kept" -lt 262144 ] || fail "$kept bytes of 262144 are there that were not flushed"
two=$(disk "$NVME_MIXED" 1)
fail_io nvme-mixed-1 read
! dd if="$two" of=/dev/null bs=4096 count=1 iflag=direct status=none 2>/dev/null || fail "a read succeeds"
mend_io nvme-mixed-1
dd if="$two" of=/dev/null bs=4096 count=1 iflag=direct status=none
"""


@dataclasses.dataclass
class Case:
    name: str
    scenario: str
    status: int
    shows: str = ""
    """What the console must show: without it a bed that fails for another reason would look right."""
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


CASES = [
    Case(
        "a sound scenario with the hardware", SOUND, 0, '"status": "running"', options=("--power",), arguments=("a b",)
    ),
    Case("an explicit status", "exit 3", 3),
    Case("a failing command in a pipe", "cat /no-such-file | cat", 1, "/no-such-file': No such file"),
    Case("an unset variable", 'echo "$no_such_variable"', 1, "no_such_variable: unbound variable"),
    Case("the library's fail", "fail with these words", 1, "FAILED: with these words"),
    Case("a wrong QMP command", "qmp '{\"execute\":\"no-such-command\"}'", 1, "CommandNotFound"),
    Case("a status above 127", "kill -SEGV $BASHPID", 127),
    Case("a scenario that never ends", "sleep 1000", guest.TIMED_OUT, options=("--timeout", "25")),
    Case("a kernel panic", "echo c >/proc/sysrq-trigger", guest.NO_STATUS),
]


def check(run, source: pathlib.Path) -> int:
    """Runs every case through `run(words, output)`, two at a time, and prints one line for each.

    Returns an exit status. `source` is the project's tree, which no guest may change.
    """
    with tempfile.TemporaryDirectory(prefix="vm-selftest-") as folder:

        def one(number: int) -> str:
            """Returns what is wrong, "" if nothing is."""
            case = CASES[number]
            scenario = pathlib.Path(folder) / f"case{number}.sh"
            # The first line proves that the scenario was reached, the last one that nothing ran past a failure.
            scenario.write_text(f"echo scenario begins\n{case.scenario}\necho scenario goes on\n")
            console = io.StringIO()
            outcome = run([*case.options, str(scenario), *case.arguments], console)
            text = console.getvalue()
            wrong = []
            if outcome.status != case.status:
                wrong.append(f"status {outcome.status}, expected {case.status}: {outcome.reason}")
            # On a busy host the time limit may come before the scenario does.
            if "scenario begins" not in text and case.status != guest.TIMED_OUT:
                wrong.append("the scenario was not reached")
            if case.shows not in text:
                wrong.append(f"console does not show {case.shows!r}")
            if ("scenario goes on" in text) != (case.status == 0):
                wrong.append("the scenario went on after its failure, or did not reach its end")
            if (source / "written-in-guest").exists():
                wrong.append("a guest wrote to the host's files")
            if not wrong:
                return ""
            return "\n".join(["  " + w for w in wrong] + ["  | " + line for line in text.splitlines()])

        failed = 0
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            for case, wrong in zip(CASES, pool.map(one, range(len(CASES)))):
                print(f"{'FAILED' if wrong else 'ok    '} self-test: {case.name}", flush=True)
                if wrong:
                    failed += 1
                    print(wrong, flush=True)
    print(f"self-test: {len(CASES) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0
