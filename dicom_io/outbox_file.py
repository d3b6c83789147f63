"""The outbox as a SQLite file: private, shared by processes, of one version."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplesion_miner.errors import ConfigError, MinerError
from dicom_io.database import DatabaseFile, Kind

FILE_NAME = "outbox.sqlite"
KIND = Kind("an outbox", "outbox", 3, "--outbox")

_BROKEN_WORLD = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "look at the disk",
    sqlite3.SQLITE_CANTOPEN: "make file and folder readable and writable",
    sqlite3.SQLITE_READONLY: "make file and folder writable",
    sqlite3.SQLITE_BUSY: "end the other program that has it open",
}
"""Primary result codes of SQLite that a person can do something about, and what; the others are errors of ours."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Nothing is doubled by queueing anew: the same result is the same object, of which an archive has one."""


class OutboxNotWorking(MinerError):
    """The disk or another program kept the outbox from its work, or it is closed; what was recorded stays."""


class OutboxFile(DatabaseFile):
    """A SQLite file of `schemas/outbox.sql`."""

    def __init__(self, folder: Path) -> None:
        """Opens the outbox of `folder`, making both where they do not exist (0700 and 0600).

        Raises ConfigError where the folder is open to others or the file is no outbox of this version.
        """
        _private_folder(folder, folder / FILE_NAME)
        with _alone(folder / f"{FILE_NAME}.lock"):
            super().__init__(folder / FILE_NAME, KIND, OutboxNotWorking)

    def in_words(self, error: sqlite3.DatabaseError) -> str | None:
        """What disks and other programs do to SQLite."""
        # The low byte is the primary result code, whatever the extended one says.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            return f"{self.path}: {error}: put a copy back, or name another --outbox and queue the results anew"
        advice = _BROKEN_WORLD.get(code) if isinstance(error, sqlite3.OperationalError) else None
        if advice is None:
            return None
        return f"{self.path}: {error}: {advice} and run the same command again; what was recorded before is kept"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Only one process at a time prepares the file; the kernel lets go when a process ends."""
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _private_folder(folder: Path, outbox: Path) -> None:
    """Makes the folder with mode 0700; an existing one must be private, empty or the outbox's own."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        if any(folder.iterdir()) and not outbox.exists():
            raise ConfigError(
                f"{folder}: other users can read this folder, and an outbox identifies patients;"
                f" name another --outbox, or: chmod 700 {folder}"
            )
        folder.chmod(0o700)
