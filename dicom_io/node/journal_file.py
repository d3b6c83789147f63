"""The journal as a SQLite file: private, held by one process, of one version."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplesion_miner.errors import LedgerInUse, MinerError
from dicom_io.database import DatabaseFile, Kind

FILE_NAME = "node.sqlite"
KIND = Kind("a journal", "node", 2, "--work")
_KEY_BYTES = 32


class JournalError(MinerError):
    """The journal cannot be read or written: full or broken disk, or it was closed."""


class JournalFile(DatabaseFile):
    """A SQLite file of `schemas/node.sql`."""

    def __init__(self, folder: Path) -> None:
        """Opens the journal of `folder`, making both where they do not exist (0700 and 0600).

        Raises LedgerInUse where another process has it, ConfigError where it is no journal.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held = _hold(folder / FILE_NAME)
        try:
            super().__init__(folder / FILE_NAME, KIND, JournalError)
            self.began_s = float(self._bound("began", repr(time.time()).encode()))
            """Unix seconds: what was received before, it knows nothing of."""
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Closes the file and lets another process have it."""
        super().close()
        self._let_go()

    def in_words(self, error: sqlite3.DatabaseError) -> str:
        """Every error: a node goes on with what it can do without its journal, and tells."""
        return f"{self.path}: {error}; nothing that was recorded before is lost"

    def log_key(self) -> bytes:
        """The key of the log's short names, made at the first call."""
        return self._bound("log key", secrets.token_bytes(_KEY_BYTES))

    def _bound(self, name: str, first: bytes) -> bytes:
        """What stays the same for the life of the journal: `first`, if nothing was there."""
        with self.transaction() as database:
            database.execute("INSERT OR IGNORE INTO bound VALUES (?, ?)", (name, first))
            return bytes(database.execute("SELECT value FROM bound WHERE name = ?", (name,)).fetchone()[0])

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No other thread reads or changes the journal within the block: what it says of a file stays true."""
        with self._lock:
            yield

    def _let_go(self) -> None:
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)


def _hold(path: Path) -> int:
    """Takes the lock beside the journal; the kernel lets go when the process ends."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise LedgerInUse(f"{path.parent}: another `mine serve` works here; stop it or name another --work") from None
    return lock
