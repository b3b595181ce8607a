"""A persistent memory module: what it is, where it lies, and the form of the tables in its config data."""

import struct
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
SECURITY = {"unlocked": 0x2, "locked": 0x6, "open": 0}
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
