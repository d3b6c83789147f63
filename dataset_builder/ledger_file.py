"""The ledger as a file: private, held by one process, of one version, changed in whole transactions."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Self

import schemas
from deeplesion_miner.errors import ConfigError, LedgerInUse, MinerError

SCHEMA_VERSION = 1
"""Version of `schemas/ledger.sql`; a ledger of another version is refused."""

_BROKEN_WORLD = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "look at the disk",
    sqlite3.SQLITE_CANTOPEN: "make file and folder readable and writable",
    sqlite3.SQLITE_BUSY: "end the other program that has it open",
}
"""Primary result codes of SQLite that a person can do something about, and what; the others are errors of ours."""


class LedgerNotWorking(MinerError):
    """The disk or another program kept the ledger from being read or written; what was recorded stays."""


class LedgerFile:
    """A SQLite file of `schemas/ledger.sql`; the threads of a process use its connection in turns."""

    def __init__(self, path: Path) -> None:
        """Opens the ledger at `path` for writing, making it and its folder (0700) where they do not exist.

        Raises LedgerInUse where another process holds it, ConfigError where the folder is open to others
        or the file is not a ledger of this version.
        """
        self.path = path
        self._lock = RLock()
        _private_folder(path.parent, path)
        self._held = _hold(path)
        try:
            # SQLite gives its -wal and -shm files the mode of the database.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            path.chmod(0o600)
            with _in_words(path):
                self._database = _connect(path)
            try:
                with _in_words(path):
                    _prepare(self._database, path)
            except BaseException:
                self._database.close()
                raise
        except BaseException:
            os.close(self._held)
            raise

    @classmethod
    def reader(cls, path: Path) -> Self:
        """Opens an existing ledger for reading, also while a run holds it; ConfigError if there is none."""
        if not path.is_file():
            raise ConfigError(f"{path.parent}: no ledger here; mine something first (`mine run`) or name --work")
        ledger = cls.__new__(cls)
        ledger.path = path
        ledger._lock = RLock()
        ledger._held = -1
        with _in_words(path):
            ledger._database = _connect(path)
        try:
            with _in_words(path):
                ledger._database.execute("PRAGMA query_only = ON")
                _check_version(ledger._database, path)
        except BaseException:
            ledger._database.close()
            raise
        return ledger

    def close(self) -> None:
        """Closes the database and lets go of the lock; further calls raise sqlite3.ProgrammingError."""
        with self._lock:
            self._database.close()
            if self._held >= 0:
                os.close(self._held)
                self._held = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction at a time, whatever the thread; rolled back where the block raises."""
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

    def _rows(self, sql: str, *values: str) -> list[Any]:
        """All rows of a query, as tuples."""
        with self._lock, _in_words(self.path):
            return self._database.execute(sql, values).fetchall()


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Raises LedgerNotWorking for what disks and other programs do to SQLite."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # The low byte is the primary result code, whatever the extended one says.
        advice = _BROKEN_WORLD.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if advice is None:
            raise
        raise LedgerNotWorking(
            f"{path}: {error}: {advice} and run the same command again; what was recorded before is kept"
        ) from error


def _private_folder(folder: Path, ledger: Path) -> None:
    """Makes the folder with mode 0700; an existing one must be private, empty or the ledger's own."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
    if folder.stat().st_mode & 0o077:
        if any(folder.iterdir()) and not ledger.exists():
            raise ConfigError(
                f"{folder}: other users can read this folder, and the working folder holds identified data;"
                f" name another --work, or: chmod 700 {folder}"
            )
        folder.chmod(0o700)


def _hold(path: Path) -> int:
    """Takes the lock beside the ledger, returns its descriptor; the kernel lets go when the process ends."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise LedgerInUse(
            f"{path.parent}: another `mine` works here; wait until it ends or name another --work"
        ) from None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing file, with explicit transactions, used by one thread at a time."""
    address = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0)


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Sets durability, and makes the tables of a new ledger in one transaction."""
    try:
        database.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"{path}: not a ledger ({error}); name another --work") from error
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    is_new = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if is_new:
        tables = schemas.text("ledger.sql")
        database.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    _check_version(database, path)


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigError where the file is no ledger, or one of another version."""
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"{path}: not a ledger ({error}); name another --work") from error
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: a ledger of version {version}, this program knows version {SCHEMA_VERSION};"
            " use the program that made it or start a new --work"
        )
