"""`mine` that ends itself by SIGKILL at a named instant; the product knows nothing of it.

    python -m tests.experiments.killed_child LOG [INSTANT NUMBER [torn]] -- run ADDRESS --out ...

What the product does to files and to the ledger is watched from outside: `os.fsync`, `os.replace`, `os.rename`,
`os.link`, `os.unlink`, the statements of the ledger's connection, and the archive's calls. Each is written to LOG as
a line, so that an undisturbed run says which instants there are. `torn` cuts the file in half before the kill, as if
the process had died in the middle of writing it.
"""

from __future__ import annotations

import os
import shutil  # noqa: F401 - it must see the functions of `os` as they are
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LEDGER_TABLES = {
    "study": "ledger, a study",
    "crosswalk": "ledger, crosswalk",
    "patient_index": "ledger, indices",
    "study_index": "ledger, indices",
    "series_index": "ledger, indices",
    "bound": "ledger, its key",
    "run": "ledger, the run",
    "unreadable": "ledger, set aside",
}
"""Which step a transaction is, by the table that it changes first."""


class Watch:
    """Notes instants and ends the process at one of them."""

    def __init__(self, log: Path, instant: str = "", number: int = 0, torn: bool = False) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._instant, self._number, self._torn = instant, number, torn
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, instant: str, descriptor: int | None = None) -> None:
        with self._lock:
            self._seen[instant] += 1
            os.write(self._log, f"{instant}\n".encode())
            if instant == self._instant and self._seen[instant] == self._number:
                if self._torn and descriptor is not None:
                    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)


def step_of(path: str) -> str:
    """The step of the work that writes this file."""
    parts = Path(path).parts
    name = parts[-1]
    if "objects" in parts:
        return "receiving an object"
    if "stage" in parts:
        return "staging a PNG"
    if any(part.endswith(".building") for part in parts[:-1]):
        if name == "manifest.json":
            return "writing the manifest"
        return "writing Parquet" if name.endswith(".parquet") else "writing a document"
    if "pseudonym.key" in name:
        return "making the key"
    swapped = {".old": "swap, old one aside", ".trash": "swap, old one to trash", ".building": "building"}
    return next((step for end, step in swapped.items() if name.endswith(end)), "swap, new one in place")


def watch_files(watch: Watch) -> None:
    """Puts the watch around the functions by which files become durable and get their names."""
    import dataset_builder.writer as writer

    writing = threading.local()
    fsync, replace, rename, link, unlink = os.fsync, os.replace, os.rename, os.link, os.unlink
    write_file = writer.write_file

    def watched_write_file(path: Path, data: bytes) -> None:
        writing.path = str(path)
        write_file(path, data)
        writing.path = ""

    def watched_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not path.is_dir():
            watch(f"{step_of(getattr(writing, 'path', '') or str(path))}: before flush", descriptor)
        fsync(descriptor)

    def around(call: Callable[..., None]) -> Callable[..., None]:
        def watched(source: Any, target: Any, **rest: Any) -> None:
            step = step_of(os.fspath(target))
            watch(f"{step}: before rename")
            call(source, target, **rest)
            watch(f"{step}: after rename")

        return watched

    def watched_link(source: Any, target: Any, **rest: Any) -> None:
        link(source, target, **rest)
        watch("linking a PNG into the dataset: after")

    def watched_unlink(path: Any, *rest: Any, dir_fd: int | None = None) -> None:
        unlink(path, *rest, dir_fd=dir_fd)
        if dir_fd is not None:
            watch("swap, deleting the old one: after a file")

    writer.write_file = watched_write_file
    os.fsync, os.replace, os.rename = watched_fsync, around(replace), around(rename)
    os.link, os.unlink = watched_link, watched_unlink


def watch_ledger(watch: Watch) -> None:
    """Puts the watch around the ledger's transactions."""
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        step = ""

        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if sql == "COMMIT" and self.step:
                watch(f"{self.step}: before commit")
            found = super().execute(sql, *rest)
            words = sql.split()
            if sql == "BEGIN IMMEDIATE":
                self.step = ""
            elif not self.step and words[0] in ("INSERT", "DELETE", "UPDATE"):
                self.step = LEDGER_TABLES[words[1] if words[0] == "UPDATE" else words[2]]
                watch(f"{self.step}: in the transaction")
            elif sql == "COMMIT" and self.step:
                watch(f"{self.step}: after commit")
            return found

    def watched_connect(*arguments: Any, **rest: Any) -> sqlite3.Connection:
        return connect(*arguments, **{"factory": Watched, **rest})

    sqlite3.connect = watched_connect  # type: ignore[assignment]


def watch_archive(watch: Watch) -> None:
    """Puts the watch around what is asked of the archive."""
    from dicom_io.archive import TransportArchive
    from dicom_io.dimse import DimseTransport
    from dicom_io.store import ObjectStore

    def before(owner: type, name: str, instant: str) -> None:
        call = getattr(owner, name)

        def watched(self: Any, *arguments: Any, **rest: Any) -> Any:
            watch(instant)
            return call(self, *arguments, **rest)

        setattr(owner, name, watched)

    before(TransportArchive, "studies", "finding: before the studies")
    before(TransportArchive, "listing", "finding: before a study's series")
    before(DimseTransport, "retrieve", "retrieving: before asking")
    before(ObjectStore, "put_encoded", "receiving an object: on arrival")


def main(arguments: Sequence[str]) -> int:
    """Runs `mine` under the watch; its exit code."""
    split = list(arguments).index("--")
    log, *rest = arguments[:split]
    watch = Watch(Path(log), rest[0], int(rest[1]), "torn" in rest[2:]) if rest else Watch(Path(log))
    watch_ledger(watch)
    watch_files(watch)
    watch_archive(watch)
    from cli.main import run

    return run(list(arguments[split + 1 :]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
