"""One process at a time writes a model, or what it finds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplesion_miner.errors import LedgerInUse


@contextmanager
def held(folder: Path, command: str) -> Iterator[None]:
    """Holds a folder's lock, which the kernel lets go when the process ends; the folder is made where it lacks.

    LedgerInUse where another `mine COMMAND` holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise LedgerInUse(
            f"{folder}: another `mine {command}` works here; wait until it ends or name another --out"
        ) from None
    try:
        yield
    finally:
        os.close(lock)
