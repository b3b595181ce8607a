"""Emulates DC persistent memory modules, so that Debian's own ipmctl and the kernel's nfit driver find them.

There is no such device in QEMU. What software sees of one are tables and methods of the platform's firmware, and all of
those can be given to QEMU: NFIT and PCAT (which modules there are, what is mapped where), SMBIOS type 17 (slots), and a
device of ACPI whose method _DSM carries commands to a module's own firmware. The method answers from guest memory, from
one place per module that this program fills in; the modules' contents are guest memory, too, marked as persistent. All of
it is one file, which outlives a boot.

`boot` plays the platform's firmware before each boot: it reads what ipmctl has left in the modules' platform config
data, carries out goals that are pending, and maps what is configured. Layout of the file, by guest physical address:

    0x60000000 ... 0x80000000  usual memory of node 1; at 0x70000000 each module's config data, answers and labels
    4 GiB ...                  the modules: first all of socket 0, then all of socket 1

The formats are those of the ACPI specification (NFIT), of Intel's _DSM interface for NVDIMMs, of the firmware interface
of these modules and of ipmctl, whose package is what they are tried with.
"""
import json
import mmap
import pathlib
import struct
import subprocess

from pmem_firmware import aml, answers, padded
from pmem_module import (
    ANSWERS,
    APPLIED,
    CONFIG,
    CONFIGURED,
    CONFIG_BYTES,
    GIB,
    HEALTH,
    INTERLEAVE_SET,
    LOW,
    LOW_END,
    META,
    META_BYTES,
    MIB,
    MISSING,
    MODULE,
    NOT_MAPPED,
    NO_REQUEST,
    SECURITY,
    SET_BROKEN,
    SIZE_CHANGE,
    SLOT,
    SOCKETS,
    STATES,
    UNCONFIGURED,
    Module,
    members,
    table,
    tables_of,
)
from pmem_tables import nfit, pcat, slots


class Modules:
    """All modules of a machine, in its folder."""

    def __init__(self, work: pathlib.Path, per_socket: int):
        if not 1 <= per_socket <= 6:
            raise ValueError("a socket has place for 1 to 6 modules")
        self._work = work
        self._per_socket = per_socket
        self._states = work / "modules.json"
        self._all = [Module(s, i, per_socket) for s in range(SOCKETS) for i in range(per_socket)]

    @property
    def memory(self) -> pathlib.Path:
        """The file behind node 1's memory."""
        return self._work / "modules"

    @property
    def bytes(self) -> int:
        return LOW_END - LOW + len(self._all) * MODULE

    def create(self) -> None:
        with open(self.memory, "xb") as file:
            file.truncate(self.bytes)
        self._states.write_text("{}")

    def parameters(self) -> str:
        """For the kernel's command line: what is no usual memory."""
        meta = -(-len(self._all) * META_BYTES // MIB)
        return f"memmap={len(self._all) * MODULE // GIB}G%4G-1+7 memmap={meta}M%{META:#x}-1+2"

    def arguments(self) -> list[str]:
        """For QEMU."""
        arguments = []
        for name, revision in (("NFIT", 1), ("PCAT", 2)):
            arguments += ["-acpitable", f"sig={name},rev={revision},oem_id=INTEL,oem_table_id=MODULES,data={self._work / name}"]
        arguments += ["-acpitable", f"file={self._work / 'modules.aml'}"]
        for file in sorted(self._work.glob("slot-*")):
            arguments += ["-smbios", f"file={file}"]
        return arguments

    def set_state(self, handle: str, state: str) -> dict:
        """Lets a module be in another state: its firmware tells it from now on, the mapping follows at the next boot.
        Answers as QEMU would."""
        known = {f"{module.handle:#06x}": module for module in self._all}
        if handle not in known or state not in STATES:
            return {"error": {"desc": f"module {handle}: known are {', '.join(known)}, with states {', '.join(STATES)}"}}
        states = json.loads(self._states.read_text())
        states.setdefault(handle, []).append(state)
        self._states.write_text(json.dumps(states))
        with open(self.memory, "r+b") as file, mmap.mmap(file.fileno(), LOW_END - LOW) as memory:
            self._take_states()
            self._answer(memory, known[handle])
        return {"return": {}}

    def boot(self) -> None:
        """What the platform does before it starts the system."""
        self._take_states()
        with open(self.memory, "r+b") as file, mmap.mmap(file.fileno(), LOW_END - LOW) as memory:
            self._configure(memory)
            for module in self._all:
                self._answer(memory, module)
        (self._work / "NFIT").write_bytes(nfit(self._present(), list(self._ranges())))
        (self._work / "PCAT").write_bytes(pcat(self._present()))
        for module in self._all:
            slots(self._work, module)
        code = self._work / "modules.asl"
        code.write_text(aml(self._present()))
        made = subprocess.run(["iasl", "-tc", "-p", str(self._work / "modules"), str(code)], capture_output=True, text=True)
        if made.returncode != 0:
            raise RuntimeError(f"iasl: {made.stdout}{made.stderr}")

    def _present(self) -> list[Module]:
        return [module for module in self._all if not module.absent]

    def _take_states(self) -> None:
        states = json.loads(self._states.read_text())
        for module in self._all:
            module.health, module.security, module.absent = "healthy", 0, False
            for state in states.get(f"{module.handle:#06x}", []):
                if state in HEALTH:
                    module.health, module.absent = state, False
                module.security = SECURITY.get(state, module.security)
                module.absent = state == "absent" or module.absent

    # What ipmctl asked for, and what becomes of it.

    def _configure(self, memory: mmap.mmap) -> None:
        """Carries out pending goals and notes in each module what it is configured for now."""
        old = {module: self._read_config(memory, module) for module in self._present()}
        pending = {}
        for module, (_, request, result) in old.items():
            number = request[36:40]
            if request and not (result and result[36:40] == number):
                pending[module] = request
        wanted = {module: [t for kind, t in tables_of(request, 48) if kind == INTERLEAVE_SET] for module, request in pending.items()}
        for module, (current, request, result) in old.items():
            if module in pending:
                current, result = self._apply(module, request, wanted, current)
            module.sets = [t for kind, t in tables_of(current, 56) if kind == INTERLEAVE_SET]
            module.volatile = struct.unpack_from("<Q", current, 40)[0] if current else 0
            old[module] = (current, request, result)
        self._map()
        for module, (current, request, result) in old.items():
            self._write_config(memory, module, current, request, result)

    def _read_config(self, memory: mmap.mmap, module: Module) -> tuple[bytes, bytes, bytes]:
        """Present configuration, request and result; empty is what is not there."""
        start = module.meta + CONFIG - LOW
        data = memory[start : start + CONFIG_BYTES]
        if data[:4] != b"DMHD":
            return b"", b"", b""
        places = struct.unpack_from("<6I", data, 36)
        found = []
        for size, place, name in zip(places[::2], places[1::2], (b"CCUR", b"CIN_", b"COUT")):
            there = size and place and data[place : place + 4] == name
            length = struct.unpack_from("<I", data, place + 4)[0] if there else 0
            found.append(data[place : place + length])
        return tuple(found)

    def _apply(self, module: Module, request: bytes, wanted: dict, current: bytes) -> tuple[bytes, bytes]:
        """Configuration and result of a module's request. A set is made only if each member asks for it."""
        present = {other.identity: other for other in self._present()}
        answer, sets, persistent, good = b"", [], MODULE, True
        for kind, part in tables_of(request, 48):
            part = bytearray(part)
            if kind == SIZE_CHANGE:
                persistent = min(struct.unpack_from("<Q", part, 8)[0], MODULE)
                struct.pack_into("<I", part, 4, APPLIED)
            elif kind == INTERLEAVE_SET:
                others = [present.get(identity) for identity, _, _ in members(bytes(part))]
                agreed = all(any(t[4:6] == part[4:6] for t in wanted.get(other, ())) for other in others)
                status = APPLIED if agreed else MISSING if None in others else NO_REQUEST
                good &= status == APPLIED
                part[13] = status
                sets.append(bytes(part))
            answer += bytes(part)
        revision = request[8]
        result = table(b"COUT", revision, request[36:40] + struct.pack("<B7x", 1 if good else 2) + answer)
        if not good:
            return current, result
        # The memory that is left is volatile.
        volatile = MODULE - persistent
        body = struct.pack("<HHQQ", CONFIGURED, 0, volatile, 0) + b"".join(sets)
        return table(b"CCUR", revision, body), result

    def _map(self) -> None:
        """Which sets are mapped: those with all members there, well and configured alike."""
        for module in self._all:
            module.mapped = 0
        end = 0
        for address, size, parts in sorted(self._ranges(), key=lambda found: found[0]):
            if address < end:
                raise RuntimeError(f"two sets want address {address:#x}: sets that share modules are not emulated")
            end = address + size
            for module, _, part, _ in parts:
                module.mapped += part

    def _ranges(self):
        """Mapped ranges: first address, size, and of each member in order: module, its position, its size, where the
        part begins in the module."""
        by_identity = {module.identity: module for module in self._present()}
        seen = set()
        for module in self._present():
            for made in module.sets:
                key = (module.socket, made[4:6])
                if key in seen:
                    continue
                parts = [(by_identity.get(identity), size, offset) for identity, offset, size in members(made)]
                alike = all(m is not None and m.well and any(t[4:6] == made[4:6] for t in m.sets) for m, _, _ in parts)
                if not alike:
                    continue
                seen.add(key)
                # A set begins where its first member would lie: what lies there belongs to nobody else.
                first = min((m for m, _, _ in parts), key=lambda m: m.number)
                yield (
                    first.address + parts[0][2] * len(parts),
                    sum(size for _, size, _ in parts),
                    [(m, position, size, offset) for position, (m, size, offset) in enumerate(parts)],
                )

    def _write_config(self, memory: mmap.mmap, module: Module, current: bytes, request: bytes, result: bytes) -> None:
        if not current:
            current = table(b"CCUR", 2, struct.pack("<HHQQ", UNCONFIGURED, 0, 0, 0))
        wanted = sum(size for s in module.sets for identity, _, size in members(s) if identity == module.identity)
        if module.sets or module.volatile:
            status = CONFIGURED if module.mapped == wanted else SET_BROKEN
            if not module.well:
                status = NOT_MAPPED
            body = struct.pack("<HHQQ", status, 0, module.volatile, module.mapped)
            current = table(b"CCUR", current[8], body + current[56:])
        places, contents = [], b""
        for part in (current, request, result):
            places += [len(part), 64 + len(contents) if part else 0]
            contents += part + bytes(-len(part) % 64)
        data = table(b"DMHD", 1, struct.pack("<6I", *places)).ljust(64, b"\0") + contents
        start = module.meta + CONFIG - LOW
        memory[start : start + CONFIG_BYTES] = data.ljust(CONFIG_BYTES, b"\0")

    # What the modules' firmware answers.

    def _answer(self, memory: mmap.mmap, module: Module) -> None:
        start = module.meta + ANSWERS - LOW
        for number, answer in enumerate(answers(module).values()):
            memory[start + number * SLOT : start + (number + 1) * SLOT] = padded(answer)
