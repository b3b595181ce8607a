"""Runs one guest from boot to its exit status."""

import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

from hardware import Machine
from monitor import Monitor, Requests

TIMED_OUT = 124
"""Status of a guest that did not end in time."""
NO_STATUS = 125
"""Status when QEMU ended without one from the guest: a kernel panic, or QEMU's own failure."""

PR_SET_PDEATHSIG = 1


@dataclasses.dataclass
class Outcome:
    status: int
    reason: str
    """One sentence, empty on success."""
    seconds: float
    power_lost: bool = False
    """The guest asked for that (`lose_power`), and ended without a status."""


def _die_with_parent() -> None:
    # So that no emulator stays behind even when this program is killed outright.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(machine: Machine, timeout_s: float, output=sys.stdout) -> Outcome:
    """Boots `machine`, copies its console to `output`, and returns how its job ended.

    QEMU's exit status carries the job's: isa-debug-exit makes it an odd number.
    """
    started = time.monotonic()
    machine.power_on()
    timed_out = threading.Event()
    process = subprocess.Popen(
        machine.command(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=_die_with_parent,
        env=os.environ | ({"LD_PRELOAD": machine.awake} if machine.awake else {}),
    )

    def stop() -> None:
        timed_out.set()
        process.kill()

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    timer.start()
    monitor = None
    try:
        try:
            monitor = Monitor(machine.monitor_socket)
            requests = Requests(machine.request_socket, monitor, machine.pmem)
        except OSError as error:
            process.kill()
            code = process.wait()
            return Outcome(NO_STATUS, f"QEMU did not start (exit status {code}): {error}", time.monotonic() - started)
        for line in process.stdout:
            output.write(line.decode(errors="replace").rstrip("\r\n") + "\n")
            output.flush()
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if monitor is not None:
            monitor.close()
    seconds = time.monotonic() - started
    if timed_out.is_set():
        return Outcome(TIMED_OUT, f"no end after {timeout_s:.0f} s: guest stopped", seconds)
    if requests.power_lost:
        return Outcome(NO_STATUS, "the power was taken away", seconds, power_lost=True)
    if code < 0 or code % 2 == 0:
        return Outcome(NO_STATUS, f"QEMU ended (status {code}) before the guest reported one", seconds)
    status = code >> 1
    return Outcome(status, f"scenario ended with status {status}" if status else "", seconds)
