"""Talks to a running QEMU: QMP for us, and a serial port through which the guest asks for QMP commands."""

import contextlib
import json
import pathlib
import socket
import struct
import threading
import time

import modules
import power


def connect(path: pathlib.Path, deadline_s: float = 10.0) -> socket.socket:
    """Connects to a socket that QEMU is about to create; OSError after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
            return client
        except OSError:
            client.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


class Monitor:
    """A QMP connection. One command at a time; events are dropped."""

    def __init__(self, path: pathlib.Path):
        self._socket = connect(path)
        self._stream = self._socket.makefile("rwb", buffering=0)
        self._stream.readline()  # QEMU's greeting
        self.execute({"execute": "qmp_capabilities"})

    def execute(self, command: object) -> dict:
        """Runs one command and returns QEMU's answer, with a member `return` or `error`."""
        self._stream.write(json.dumps(command).encode() + b"\n")
        while True:
            line = self._stream.readline()
            if not line:
                return {"error": {"desc": "QEMU closed the connection"}}
            answer = json.loads(line)
            if "event" not in answer:
                return answer

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


class Requests:
    """Runs every line that the guest writes to its second serial port as a QMP command and answers there.

    Commands of ours among them: `cut-power` with the arguments `disk` and `seed`, see power.py; `lose-power`, which
    ends the machine at once, as a loss of power would; `module` with `handle` and `state`, see modules.py."""

    def __init__(self, path: pathlib.Path, monitor: Monitor, pmem: modules.Modules | None):
        self.power_lost = False
        self._pmem = pmem
        self._monitor = monitor
        self._port = connect(path)
        self._cutter = power.Cutter(path.parent)
        threading.Thread(target=self._loop, daemon=True).start()

    def _run(self, command: dict) -> dict:
        if command.get("execute") == "cut-power":
            return self._cutter.cut(self._monitor.execute, command["arguments"]["disk"], command["arguments"]["seed"])
        if command.get("execute") == "module" and self._pmem:
            return self._pmem.set_state(command["arguments"]["handle"], command["arguments"]["state"])
        if command.get("execute") == "lose-power":
            self.power_lost = True
            # QEMU may be gone before it has answered.
            with contextlib.suppress(OSError):
                self._monitor.execute({"execute": "quit"})
            return {"return": {}}
        return self._monitor.execute(command)

    def _loop(self) -> None:
        # The port ends with QEMU, in the one way or the other.
        with contextlib.suppress(ConnectionError), self._port, self._port.makefile("rb") as lines:
            for line in lines:
                try:
                    answer = self._run(json.loads(line))
                except ValueError as error:
                    answer = {"error": {"desc": f"not JSON: {error}"}}
                except ConnectionError:
                    return  # QEMU has ended
                except (OSError, KeyError, struct.error) as error:
                    answer = {"error": {"desc": f"{type(error).__name__}: {error}"}}
                try:
                    self._port.sendall(json.dumps(answer).encode() + b"\n")
                except OSError:
                    return
