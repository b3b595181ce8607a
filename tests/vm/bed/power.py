"""Takes the power away from a disk: what it was told to keep stays, the rest is lost or not, block by block.

QEMU's blklogwrites node logs each write and flush in the form of the kernel's dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst): a sector with a superblock, then a sector for each entry,
followed by its data. The disk as it was before the log is kept beside it, so that the log can be replayed onto that.
"""

import errno
import os
import pathlib
import random
import shutil
import struct

SECTOR = 512
BLOCK = 4096
"""Smallest piece that is lost or kept as a whole: a block of the disk."""
MAGIC = 0x6A736677736872
SUPERBLOCK = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
"""First sector, sectors, flags, length of what follows entries that are no writes."""
FLUSH, FUA, DISCARD = 1, 2, 4


def blockdev(image: pathlib.Path) -> str:
    """Options of a logged disk, as the child of a raw node."""
    parts = {
        "driver": "blklogwrites", "node-name": f"{image.name}-log-0", "log-super-update-interval": 1,
        "file.driver": "file", "file.filename": image, "log.driver": "file", "log.filename": f"{image}.log",
    }
    return ",".join(f"file.{name}={value}" for name, value in parts.items())


def prepare(image: pathlib.Path) -> None:
    """Keeps the disk as it is now, and makes an empty log."""
    _copy(image, _before(image))
    pathlib.Path(f"{image}.log").touch()


def _before(image: pathlib.Path) -> pathlib.Path:
    return image.with_name(f"{image.name}.before")


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Keeps holes, and does not read them."""
    with open(source, "rb") as old, open(target, "wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no data from there on
                    return
                raise
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            os.lseek(old.fileno(), at, os.SEEK_SET)
            os.lseek(new.fileno(), at, os.SEEK_SET)
            while at < end:
                at += os.sendfile(new.fileno(), old.fileno(), None, end - at)


def entries(log: bytes):
    """The entries of a log: first sector, flags, data."""
    magic, version, count, sector = SUPERBLOCK.unpack_from(log)
    if magic != MAGIC or version != 1:
        raise ValueError("no log of writes")
    at = sector
    for _ in range(count):
        start, sectors, flags, _ = ENTRY.unpack_from(log, at)
        at += sector
        length = sectors * sector
        if flags & DISCARD:
            yield start * sector, flags, bytes(length)
        else:
            yield start * sector, flags, log[at : at + length]
            at += length


def replay(log: bytes, image, seed: int) -> dict:
    """Applies a log to a disk as a loss of power would leave it. What was written before the last flush, or with
    forced unit access, is there; of the rest each block is there or not, by chance that `seed` decides."""
    chance = random.Random(seed)
    all_entries = list(entries(log))
    flushes = [number for number, (_, flags, _) in enumerate(all_entries) if flags & FLUSH]
    durable = flushes[-1] if flushes else -1
    counts = {"writes": 0, "forced": 0, "flushes": len(flushes), "at_risk": 0, "lost_blocks": 0}
    for number, (start, flags, data) in enumerate(all_entries):
        if not data:
            continue
        counts["writes"] += 1
        counts["forced"] += bool(flags & FUA)
        safe = number <= durable or flags & FUA
        counts["at_risk"] += not safe
        for at in range(0, len(data), BLOCK):
            if safe or chance.random() < 0.5:
                image.seek(start + at)
                image.write(data[at : at + BLOCK])
            else:
                counts["lost_blocks"] += 1
    return counts


class Cutter:
    """Cuts the power of disks of a running guest, again and again."""

    def __init__(self, work: pathlib.Path):
        self._work = work
        self._cuts = 0

    def cut(self, execute, disk: str, seed: int) -> dict:
        """`execute` runs a QMP command. Nobody may use the disk meanwhile. Returns what was counted."""
        old = self._work / (disk if self._cuts == 0 else f"{disk}-{self._cuts}")
        image = self._work / f"{disk}-{self._cuts + 1}"
        with open(f"{old}.log", "rb") as file:
            log = file.read()
        shutil.move(_before(old), image)
        with open(image, "r+b") as disk_file:
            counts = replay(log, disk_file, seed)
        prepare(image)
        node = f"{disk}-log-{self._cuts + 1}"
        commands = [
            (
                "blockdev-add",
                {
                    "driver": "blklogwrites",
                    "node-name": node,
                    "log-super-update-interval": 1,
                    "file": {"driver": "file", "filename": str(image)},
                    "log": {"driver": "file", "filename": f"{image}.log"},
                },
            ),
            ("blockdev-reopen", {"options": [{"driver": "raw", "node-name": disk, "file": node}]}),
        ]
        if self._cuts > 0:
            # The first one, of the command line, goes with its parent's other child.
            commands.append(("blockdev-del", {"node-name": f"{disk}-log-{self._cuts}"}))
        for command, arguments in commands:
            answer = execute({"execute": command, "arguments": arguments})
            if "error" in answer:
                return answer
        self._cuts += 1
        for file in (old, f"{old}.log"):
            pathlib.Path(file).unlink()
        return {"return": counts}
