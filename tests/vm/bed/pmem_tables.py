"""Tables that the platform has of its persistent memory modules: NFIT and PCAT of ACPI, and SMBIOS type 17."""

import pathlib
import struct

from pmem_module import (
    DATE,
    DEVICE,
    FORMAT,
    GIB,
    MIB,
    MODULE,
    PART,
    PERSISTENT,
    PLACE,
    SOCKETS,
    SUBSYSTEM,
    VENDOR,
    Module,
)


def nfit(present: list[Module], ranges: list[tuple]) -> bytes:
    """Which modules there are, and which ranges (as Modules has them) are mapped of them."""
    made = bytes(4)
    parts_of: dict[Module, list] = {}
    for index, (address, size, parts) in enumerate(ranges, start=1):
        node = parts[0][0].socket
        made += struct.pack("<HHHHII", 0, 56, index, 2, 0, node) + PERSISTENT
        made += struct.pack("<QQQ", address, size, 0x8008)
        for module, position, part, offset in parts:
            parts_of.setdefault(module, []).append((index, part, position, offset, len(parts)))
    ways = sorted({len(parts) for _, _, parts in ranges if len(parts) > 1})
    for module in present:
        control = module.number + 1
        for region, (index, size, position, offset, way) in enumerate(parts_of.get(module, [(0, 0, 0, 0, 0)])):
            # It is ill, and for that it is not mapped.
            flags = 0 if module.well else 1 << 4 | 1 << 6
            interleave = ways.index(way) + 1 if way > 1 else 0
            # Parts of sets are counted from where a module's persistent memory begins, which is behind what is volatile.
            start = module.volatile + offset if index else 0
            made += struct.pack(
                "<HHIHHHHQQQHHHH", 1, 48, module.handle, module.physical_id, region, index, control,
                size, position * 4096, start, interleave, way, flags, 0,
            )
        made += struct.pack(
            "<HHHHHHHHHBBHHIHH", 4, 80, control, VENDOR, SUBSYSTEM, 0, VENDOR, DEVICE, 0x18, 1, PLACE, DATE, 0,
            module.serial, FORMAT, 0,
        ) + bytes(48)
    for index, way in enumerate(ways, start=1):
        # Every way-th page is the same module's.
        made += struct.pack("<HHHHII", 2, 20, index, 0, 1, 4096) + struct.pack("<I", 0)
    return made + struct.pack("<HHBBHII", 7, 16, 1, 0, 0, 3, 0)


def pcat(present: list[Module]) -> bytes:
    """What modes the platform knows, and how much of each socket is mapped."""
    volatile = any(module.volatile for module in present)
    # Memory and App Direct modes are supported and allowed; the one in use shows.
    made = bytes(4) + struct.pack("<HHBBBB8x", 0, 16, 1, 0x7, 0x14 | volatile, 0)
    formats = [1 << 31 | ways << 16 | 0x4040 for ways in (0x1, 0x2, 0x4, 0x8, 0x10)]
    body = struct.pack("<B3xHH", 3, 26, len(formats)) + struct.pack(f"<{len(formats)}I", *formats)
    made += struct.pack("<HH", 1, 4 + len(body)) + body
    for socket in range(SOCKETS):
        mapped = sum(m.mapped + m.volatile for m in present if m.socket == socket)
        made += struct.pack("<HHHHQQQ", 6, 32, socket, 0, 1 << 42, GIB + mapped, GIB if volatile else 0)
    return made


def slots(work: pathlib.Path, module: Module) -> None:
    """The module's slot and that of the DRAM beside it. An empty slot is told as one: ipmctl crashes on a module
    without a slot."""
    for name, place, kind in (("pm", module.slot, "pm"), ("dram", module.slot[:-1] + "1", "dram")):
        file = work / f"slot-{module.number}-{name}"
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
