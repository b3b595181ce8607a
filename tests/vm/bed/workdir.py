"""Folders that live as long as one run, and no longer.

Each holds a locked file. A run that was killed leaves its folder behind unlocked, and the next run removes it.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from typing import Iterator


def _remove_abandoned(parent: pathlib.Path) -> None:
    for folder in parent.iterdir():
        try:
            lock = open(folder / "lock")
        except OSError:
            continue  # being created or being removed by another run
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def workdir(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder under `parent` and removes it at the end, whatever happens."""
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    try:
        # Locked under another name first: the lock file must never be seen unlocked.
        lock = open(folder / "lock.new", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(folder / "lock.new", folder / "lock")
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
