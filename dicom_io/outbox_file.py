"""The outbox as a SQLite file: private, shared by processes, of one version, changed in whole transactions."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import schemas
from deeplesion_miner.errors import ConfigError, MinerError

SCHEMA_VERSION = 2
"""Version of `schemas/outbox.sql`; an older outbox is brought to it, a newer one is refused."""
FILE_NAME = "outbox.sqlite"

_BROKEN_WORLD = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "look at the disk",
    sqlite3.SQLITE_CANTOPEN: "make file and folder readable and writable",
    sqlite3.SQLITE_READONLY: "make file and folder writable",
    sqlite3.SQLITE_BUSY: "end the other program that has it open",
}
"""Primary result codes of SQLite that a person can do something about, and what; the others are errors of ours."""


class OutboxNotWorking(MinerError):
    """The disk or another program kept the outbox from being read or written; what was recorded stays."""


class OutboxFile:
    """A SQLite file of `schemas/outbox.sql`; the threads of a process use its connection in turns."""

    def __init__(self, folder: Path) -> None:
        """Opens the outbox of `folder`, making both where they do not exist (0700 and 0600).

        Raises ConfigError where the folder is open to others or the file is no outbox of this version.
        """
        self.path = folder / FILE_NAME
        self._lock = RLock()
        _private_folder(folder, self.path)
        with _alone(folder / f"{FILE_NAME}.lock"), _in_words(self.path):
            # SQLite gives its -wal and -shm files the mode of the database.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=60.0,
            )
            try:
                _prepare(self._database, self.path)
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        """Closes the database; further calls raise sqlite3.ProgrammingError."""
        with self._lock:
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction at a time, among threads and processes; durable at its end, undone where the block raises."""
        with self._lock, _in_words(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself where the disk is full.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a query, as tuples."""
        with self._lock, _in_words(self.path):
            return self._database.execute(sql, values).fetchall()


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Raises OutboxNotWorking for what disks and other programs do to SQLite."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # The low byte is the primary result code, whatever the extended one says.
        advice = _BROKEN_WORLD.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if advice is None:
            raise
        text = f"{path}: {error}: {advice} and run the same command again; what was recorded before is kept"
        raise OutboxNotWorking(text) from error


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


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Sets durability, and makes the tables of a new outbox in one transaction."""
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        is_new = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if is_new:
            tables = schemas.text("outbox.sql")
            database.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        for newer in range(version + 1, SCHEMA_VERSION + 1) if version else ():
            step = schemas.text(f"outbox_{newer}.sql")
            database.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {newer}; COMMIT;")
            version = newer
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"{path}: not an outbox ({error}); name another --outbox") from error
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: an outbox of version {version}, this program knows version {SCHEMA_VERSION};"
            " use the program that made it or name another --outbox"
        )
