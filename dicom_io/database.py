"""SQLite files of this room: private, of one version, changed in whole transactions that are durable at their end."""

from __future__ import annotations

import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import schemas
from deeplesion_miner.errors import ConfigError, MinerError


@dataclass(frozen=True)
class Kind:
    """What a file holds, and what messages call it."""

    name: str
    """With its article, e.g. 'an outbox'."""
    tables: str
    """Its tables are ``schemas/TABLES.sql``; ``TABLES_N.sql`` brings a file of version N - 1 to version N."""
    version: int
    option: str
    """What names another one on the command line."""


class DatabaseFile(ABC):
    """A SQLite file, made where there is none; the threads of a process use its one connection in turns."""

    def __init__(self, path: Path, kind: Kind, broken: type[MinerError]) -> None:
        """Opens the file (0600) in an existing folder. `broken` is raised for what disks and other programs do to it.

        Raises ConfigError where the file is none of this kind, or of a newer version.
        """
        self.path = path
        self._kind, self._broken = kind, broken
        self._lock = RLock()
        self._is_closed = False
        with self._in_words():
            # SQLite gives its -wal and -shm files the mode of the database.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=60.0,
            )
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        """Closes the file; who uses it after that gets the error of a broken one. A second call does nothing."""
        with self._lock:
            self._is_closed = True
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction at a time, among threads and processes; durable at its end, undone where the block raises."""
        with self._lock, self._in_words():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself where the disk is full.
                if not self._is_closed and self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a query, as tuples."""
        with self._lock, self._in_words():
            return self._database.execute(sql, values).fetchall()

    @abstractmethod
    def in_words(self, error: sqlite3.DatabaseError) -> str | None:
        """What an error is told as; None for one of ours, which is raised as it is."""

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = f"{self.path}: it is closed" if self._is_closed else self.in_words(error)
            if text is None:
                raise
            raise self._broken(text) from error

    def _prepare(self) -> None:
        """Sets durability, makes the tables of a new file in one transaction, and brings an older one up."""
        kind, database = self._kind, self._database
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                self._run(f"{kind.tables}.sql", kind.version)
            version = database.execute("PRAGMA user_version").fetchone()[0]
            for newer in range(version + 1, kind.version + 1) if version else ():
                self._run(f"{kind.tables}_{newer}.sql", newer)
                version = newer
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{self.path}: not {kind.name} ({error}); name another {kind.option}") from error
        if version != kind.version:
            raise ConfigError(
                f"{self.path}: {kind.name} of version {version}, this program knows version {kind.version};"
                f" use the program that made it or name another {kind.option}"
            )

    def _run(self, script: str, version: int) -> None:
        sql = schemas.text(script)
        self._database.executescript(f"BEGIN IMMEDIATE; {sql} PRAGMA user_version = {version}; COMMIT;")
