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
import uuid

MIB = 1 << 20
GIB = 1 << 30
SOCKETS = 2
MODULE = 2 * GIB
"""Capacity of a module: ipmctl makes goals in whole GiB."""

LOW = 0x60000000
"""First address of node 1's memory: of the 2 GiB below the hole it is the last quarter."""
LOW_END = 0x80000000
HIGH = 4 * GIB
META = 0x70000000
"""Below 4 GiB, since integers of ACPI code are of 32 bits under QEMU's tables."""
CONFIG, CONFIG_BYTES = 0, 0x10000
ANSWERS = 0x10000
LABELS, LABELS_BYTES = 0x20000, 0x20000
META_BYTES = 0x40000
"""Of one module: its config data, its answers, its labels."""

SLOT = 128
"""Of an answer: the longest that fits into a command without a mailbox."""

# Health of a module as its firmware tells it, and state of its security.
HEALTH = {"healthy": 0, "noncritical": 1, "critical": 2, "fatal": 4}
SECURITY = {"unlocked": 0x2, "locked": 0x6}
STATES = (*HEALTH, *SECURITY, "absent")

PERSISTENT = uuid.UUID("66F0D379-B4F3-4074-AC43-0D3318B78CDB").bytes_le
VENDOR, DEVICE, FORMAT = 0x8980, 0x097A, 0x0301
SUBSYSTEM = 0x5141
PLACE, DATE = 0xA2, 0x1934
PART = "NMA1XBD128GQS"
FIRMWARE = bytes([0x35, 0x54, 0x00, 0x02, 0x01])

SIZE_CHANGE, INTERLEAVE_SET = 4, 5
"""Types of the tables within a module's config data."""
SET_HEADER, SET_MEMBER = 24, 48
APPLIED, MISSING, NO_REQUEST = 1, 3, 9
"""What has become of a request for a set."""
CONFIGURED, SET_BROKEN, UNCONFIGURED, NOT_MAPPED = 1, 3, 5, 11
"""What a module's present configuration is worth."""


class Module:
    """One module: who it is, where it lies."""

    def __init__(self, socket: int, index: int, per_socket: int):
        # Controllers in turn, as interleave sets want them filled.
        controller, channel = index % 2, index // 2
        self.socket = socket
        self.number = socket * per_socket + index
        self.handle = socket << 12 | controller << 8 | channel << 4 | 1
        self.physical_id = 0x1100 + self.number
        self.serial = 0x11111111 + self.number
        self.slot = f"CPU{socket + 1}_DIMM_{chr(ord('A') + index)}2"
        self.address = HIGH + self.number * MODULE
        self.meta = META + self.number * META_BYTES
        self.health = "healthy"
        self.security = 0
        self.absent = False
        self.volatile = 0
        self.sets: list[bytes] = []
        """Interleave sets that it is configured for, as in the config data."""
        self.mapped = 0
        """Bytes of it that are in mapped sets."""

    @property
    def identity(self) -> bytes:
        """By which sets name their members."""
        return struct.pack("<HBHI", VENDOR, PLACE, DATE, self.serial)

    @property
    def well(self) -> bool:
        return not self.absent and self.health != "fatal"


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A table in the form of ACPI's, with its checksum."""
    header = struct.pack(
        "<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, b"INTEL ", b"IPMCTL  ", 2, b"INTL", 0
    )
    made = bytearray(header + body)
    made[9] = -sum(made) & 0xFF
    return bytes(made)


def tables_of(configuration: bytes, start: int):
    """The tables within a configuration, each with its type."""
    while start + 4 <= len(configuration):
        kind, length = struct.unpack_from("<HH", configuration, start)
        if length < 4:
            return
        yield kind, configuration[start : start + length]
        start += length


def members(interleave_set: bytes) -> list[tuple[bytes, int, int]]:
    """Of each member of a set: its identity, where its part begins in it, and how long that is."""
    count = interleave_set[6]
    found = []
    for at in range(SET_HEADER, SET_HEADER + count * SET_MEMBER, SET_MEMBER):
        offset, size = struct.unpack_from("<QQ", interleave_set, at + 32)
        found.append((interleave_set[at : at + 9], offset, size))
    return found


def padded(answer: bytes) -> bytes:
    return answer.ljust(SLOT, b"\0")


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
        (self._work / "NFIT").write_bytes(self._nfit())
        (self._work / "PCAT").write_bytes(self._pcat())
        for module in self._all:
            self._slots(module)
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

    # Tables of the platform.

    def _nfit(self) -> bytes:
        made = bytes(4)
        ranges = list(self._ranges())
        parts_of: dict[Module, list] = {}
        for index, (address, size, parts) in enumerate(ranges, start=1):
            node = parts[0][0].socket
            made += struct.pack("<HHHHII", 0, 56, index, 2, 0, node) + PERSISTENT
            made += struct.pack("<QQQ", address, size, 0x8008)
            for module, position, part, offset in parts:
                parts_of.setdefault(module, []).append((index, part, position, offset, len(parts)))
        ways = sorted({len(parts) for _, _, parts in ranges if len(parts) > 1})
        for module in self._present():
            control = module.number + 1
            for region, (index, size, position, offset, way) in enumerate(parts_of.get(module, [(0, 0, 0, 0, 0)])):
                # It is ill, and for that it is not mapped.
                flags = 0 if module.well else 1 << 4 | 1 << 6
                interleave = ways.index(way) + 1 if way > 1 else 0
                made += struct.pack(
                    "<HHIHHHHQQQHHHH", 1, 48, module.handle, module.physical_id, region, index, control,
                    size, position * 4096, offset, interleave, way, flags, 0,
                )
            made += struct.pack(
                "<HHHHHHHHHBBHHIHH", 4, 80, control, VENDOR, SUBSYSTEM, 0, VENDOR, DEVICE, 0x18, 1, PLACE, DATE, 0,
                module.serial, FORMAT, 0,
            ) + bytes(48)
        for index, way in enumerate(ways, start=1):
            # Every way-th page is the same module's.
            made += struct.pack("<HHHHII", 2, 20, index, 0, 1, 4096) + struct.pack("<I", 0)
        return made + struct.pack("<HHBBHII", 7, 16, 1, 0, 0, 3, 0)

    def _pcat(self) -> bytes:
        volatile = any(module.volatile for module in self._present())
        # Memory and App Direct modes are supported and allowed; the one in use shows.
        made = bytes(4) + struct.pack("<HHBBBB8x", 0, 16, 1, 0x7, 0x14 | volatile, 0)
        formats = [1 << 31 | ways << 16 | 0x4040 for ways in (0x1, 0x2, 0x4, 0x8, 0x10)]
        body = struct.pack("<B3xHH", 3, 26, len(formats)) + struct.pack(f"<{len(formats)}I", *formats)
        made += struct.pack("<HH", 1, 4 + len(body)) + body
        for socket in range(SOCKETS):
            mapped = sum(m.mapped + m.volatile for m in self._present() if m.socket == socket)
            made += struct.pack("<HHHHQQQ", 6, 32, socket, 0, 1 << 42, GIB + mapped, GIB if volatile else 0)
        return made

    def _slots(self, module: Module) -> None:
        """The module's slot and that of the DRAM beside it. An empty slot is told as one: ipmctl crashes on a module
        without a slot."""
        for name, place, kind in (("pm", module.slot, "pm"), ("dram", module.slot[:-1] + "1", "dram")):
            file = self._work / f"slot-{module.number}-{name}"
            handle = module.physical_id if kind == "pm" else 0x1200 + module.number
            if kind == "pm":
                size, detail, maker, serial, part = MODULE // MIB, 0x1080, "Intel", f"{module.serial:#010x}", PART
            else:
                size, detail, maker, serial, part = 1024, 0x80, "QEMU", f"DDR{module.number}", "DDR4"
            size = 0 if kind == "pm" and module.absent else size
            record = struct.pack(
                "<BBHHHHHHBBBBBHHBBBBBIHHHH", 17, 0x28, handle, 0x1000, 0xFFFE, 72, 64, size, 9, 0, 1, 2, 0x1A, detail, 2666,
                3, 4, 5, 6, 1, 0, 2666, 1200, 1200, 1200,
            )
            words = (place, f"NODE {module.socket + 1}", maker, serial, "AT", part)
            file.write_bytes(record + b"".join(word.encode() + b"\0" for word in words) + b"\0")


def temperature(celsius: int) -> bytes:
    return struct.pack("<H", celsius * 16)


def answers(module: Module) -> dict[object, bytes]:
    """What a module's firmware answers: by the number of a command (its code, and above it that of the part), and for
    functions of the _DSM that are no such command, by their name."""
    state = HEALTH[module.health]
    remaining = {"healthy": 100, "noncritical": 40, "critical": 10, "fatal": 0}[module.health]
    identity = struct.pack("<HHHH", VENDOR, SUBSYSTEM, 0, FORMAT) + FIRMWARE + bytes(19)
    identity += struct.pack("<IHI", MODULE >> 12, VENDOR, module.serial) + PART.encode().ljust(20, b"\0")
    identity += struct.pack("<IHH", 0x5, 0, 0x0115) + module.identity + struct.pack("<H", 0x0115)
    smart = struct.pack("<IIBBBB", 0x0EFB, 0, state, remaining, 0, 0) + temperature(30) + temperature(35)
    smart += struct.pack("<IBH", 7, 3, 0) + bytes(8) + struct.pack("<BI", 0, 87)
    smart += struct.pack("<QQQIB", 12, 360000, 1000, 3, 0x84)
    volatile = module.volatile >> 12
    persistent = (MODULE - module.volatile) >> 12
    critical = b"".join(temperature(c) for c in (102, 85, 83, 82, 98, 97))
    kernel = struct.pack("<IIBBBB", 0x0EFB, 0, state, remaining, 5, 0) + temperature(30) + temperature(35)
    kernel += struct.pack("<IBHQBI", 7, 3, 0, 0, 0, 0)
    return {
        0x0001: identity,
        0x0101: critical + struct.pack("<H", 15000),
        0x0002: struct.pack("<I", module.security),
        0x0104: struct.pack("<HB", 7, 10) + temperature(82) + temperature(95),
        0x0204: struct.pack("<BHH", 0, 20000, 15000),
        0x0304: b"\1\0\1",
        0x0206: struct.pack("<IIQIIQI", volatile, 0, 0, persistent, 0, volatile << 12, MODULE >> 12),
        0x0008: smart,
        0x0108: FIRMWARE + b"\0" + struct.pack("<H", 0x100),
        0x0706: struct.pack("<I", 5),
        "smart": kernel,
        # Labels of a locked module are not to be read; by that the kernel knows it.
        "labels": struct.pack("<III", (module.security == SECURITY["locked"]) << 16, LABELS_BYTES, 1024),
        "security": struct.pack("<IB3xB3x", 0, 0, module.security),
    }


# Shared by all modules: 128 and 64 bytes from and to an address.
HELPERS = """
Method(R128,1,Serialized){ OperationRegion(A,SystemMemory,Arg0,128) Field(A,DWordAcc,NoLock,Preserve){F,1024} Return(F) }
Method(R64,1,Serialized){ OperationRegion(A,SystemMemory,Arg0,64) Field(A,DWordAcc,NoLock,Preserve){F,512} Return(F) }
Method(W64,2,Serialized){ OperationRegion(A,SystemMemory,Arg0,64) Field(A,DWordAcc,NoLock,Preserve){F,512} Store(Arg1,F) }
"""

# Functions of Intel's _DSM for NVDIMMs: 1 and 2 health, 4 to 6 labels, 9 a command of the module's firmware, 19 security.
METHOD = """
Device({name}){{ Name(_ADR,{handle:#x}) Method(_STA){{Return(0xF)}}
Method(_DSM,4,Serialized){{
 If(LNotEqual(Arg0,ToUUID("4309AC30-0D11-11E4-9191-0800200C9A66"))){{Return(Buffer(1){{0}})}}
 If(LEqual(Arg2,0)){{Return(Buffer(4){{0x77,0x02,0x08,0}})}}
 If(LEqual(Arg2,1)){{Return(Concatenate(Buffer(4){{}},R128({smart:#x})))}}
 If(LEqual(Arg2,2)){{Return({thresholds})}}
 If(LEqual(Arg2,4)){{Return(Mid(R128({label_size:#x}),0,12))}}
 If(LEqual(Arg2,19)){{Return(Mid(R128({security:#x}),0,12))}}
 Store(DerefOf(Index(Arg3,0)),Local3)
 CreateDWordField(Local3,0,W0) CreateDWordField(Local3,4,W1)
 If(LEqual(Arg2,5)){{
  And(W0,0xFFFFFFC0,Local1) Store(Buffer(0){{}},Local2) Store(Local1,Local4)
  While(LLess(Local4,Add(W0,W1))){{ Concatenate(Local2,R64(Add({labels:#x},Local4)),Local2) Add(Local4,64,Local4) }}
  Return(Concatenate(Buffer(4){{}},Mid(Local2,Subtract(W0,Local1),W1))) }}
 If(LEqual(Arg2,6)){{
  And(W0,0xFFFFFFC0,Local4) Store(0,Local5)
  While(LLess(Local4,Add(W0,W1))){{
   Store(R64(Add({labels:#x},Local4)),Local6) Store(0,Local7)
   While(LLess(Local7,64)){{ Add(Local4,Local7,Local1)
    If(LAnd(LGreaterEqual(Local1,W0),LLess(Local1,Add(W0,W1)))){{ Store(DerefOf(Index(Local3,Add(8,Local5))),Index(Local6,Local7)) Increment(Local5) }}
    Increment(Local7) }}
   W64(Add({labels:#x},Local4),Local6) Add(Local4,64,Local4) }}
  Return(Buffer(4){{}}) }}
 If(LEqual(Arg2,9)){{
  If(LEqual(W0,0x00FD)){{Return({mailbox})}}
  If(LEqual(W0,0x03FD)){{Return({boot_status})}}
  If(LEqual(W0,0x0106)){{ CreateByteField(Local3,8,PART) CreateByteField(Local3,9,OPTS) CreateDWordField(Local3,10,OFFS)
    If(And(OPTS,2)){{ Return({partition_size}) }}
    If(LAnd(LEqual(PART,1),LLess(OFFS,{config_bytes:#x}))){{ Return(Concatenate({header},R128(Add({config:#x},OFFS)))) }}
    If(LAnd(LEqual(PART,2),LLess(OFFS,{label_bytes:#x}))){{ Return(Concatenate({header},R128(Add({labels:#x},OFFS)))) }} }}
  If(LEqual(W0,0x0107)){{ CreateByteField(Local3,8,PAR2) CreateDWordField(Local3,10,OFF2)
    If(LAnd(LEqual(PAR2,1),LLess(OFF2,{config_bytes:#x}))){{ W64(Add({config:#x},OFF2),Mid(Local3,72,64)) }}
    If(LAnd(LEqual(PAR2,2),LLess(OFF2,{label_bytes:#x}))){{ W64(Add({labels:#x},OFF2),Mid(Local3,72,64)) }} }}
{commands}  Return({nothing})
 }}
 Return(Buffer(4){{1,0,0,0}})
}} }}
"""


def buffer(data: bytes) -> str:
    return f"Buffer({len(data)}){{{','.join(f'{byte:#04x}' for byte in data)}}}"


def command_answer(data: bytes) -> str:
    return buffer(struct.pack("<II", 0, len(data)) + data)


def aml(modules: list[Module]) -> str:
    """The device that stands for all modules, in ACPI's source language."""
    methods = ""
    header = buffer(struct.pack("<II", 0, SLOT))
    for module in modules:
        places = {name: module.meta + ANSWERS + number * SLOT for number, name in enumerate(answers(module))}
        commands = "".join(
            f"  If(LEqual(W0,{name:#06x})){{Return(Concatenate({header},R128({place:#x})))}}\n"
            for name, place in places.items()
            if isinstance(name, int)
        )
        methods += METHOD.format(
            name=f"M{module.number:03}",
            handle=module.handle,
            smart=places["smart"],
            security=places["security"],
            thresholds=buffer(struct.pack("<IHB", 0, 7, 10) + temperature(82) + temperature(95) + b"\0"),
            label_size=places["labels"],
            labels=module.meta + LABELS,
            label_bytes=LABELS_BYTES,
            config=module.meta + CONFIG,
            config_bytes=CONFIG_BYTES,
            mailbox=command_answer(struct.pack("<III", 0x100000, 0x100000, SLOT)),
            # The media and the interfaces to it are ready.
            boot_status=command_answer(struct.pack("<Q", 0xF0 | 1 << 16 | 1 << 18 | 1 << 20 | 3 << 27)),
            partition_size=command_answer(padded(struct.pack("<I", 0x20000))),
            header=header,
            commands=commands,
            nothing=command_answer(bytes(SLOT)),
        )
    return (
        'DefinitionBlock("","SSDT",2,"INTEL","MODULES",1){ Scope(\\_SB){ Device(NVDR){ Name(_HID,"ACPI0012") '
        f"Method(_STA){{Return(0xF)}}\n{HELPERS}{methods}}}}}}}\n"
    )
