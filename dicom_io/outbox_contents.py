"""The outbox's objects as files named by their content: durable before anything refers to them.

Layout: ``FOLDER/3f/3f9a...dcm``, the name being the sha256 of the file. Folders are 0700 and files 0600.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from dicom_io.store import sync_folder

_TOGETHER = 100
"""Files that are open at one time."""


class Contents:
    """A folder of files by hash; `owner` names the temporary files of this process."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)

    def path(self, sha256: str) -> Path:
        """Where the file of this hash lies, if it is kept."""
        return self._folder / sha256[:2] / f"{sha256}.dcm"

    def put(self, contents: Iterable[tuple[str, bytes]]) -> None:
        """Keeps files by their hashes; all are durable when this returns, and so are their names."""
        folders: set[Path] = set()
        waiting = iter(contents)
        while some := list(islice(waiting, _TOGETHER)):
            folders |= self._put_some(some)
        for folder in sorted(folders):
            sync_folder(folder)

    def _put_some(self, contents: Sequence[tuple[str, bytes]]) -> set[Path]:
        """Writes files and has them durable, but for their names; the folders that are still to be synced.

        Where the disk is full it leaves nothing that takes space.
        """
        folders: set[Path] = set()
        parts: list[tuple[int, Path, Path]] = []
        with ExitStack() as opened:
            opened.callback(_remove_parts, parts)
            for sha256, content in dict(contents).items():
                target = self.path(sha256)
                folders.add(target.parent)  # of a known file, too: its name may not be durable yet
                if self.read(sha256) is not None:
                    continue
                if not target.parent.is_dir():
                    target.parent.mkdir(mode=0o700, exist_ok=True)
                    folders.add(self._folder)
                part = target.with_name(f"{sha256}.{self._owner}.part")
                descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
                parts.append((descriptor, part, target))
                file = opened.enter_context(os.fdopen(descriptor, "wb", buffering=0))
                unwritten = memoryview(content)
                while unwritten:
                    unwritten = unwritten[file.write(unwritten) :]
            # Many written first and synced then cost a disk an eighth of one after the other.
            for descriptor, _, _ in parts:
                os.fsync(descriptor)
            for _, part, target in parts:
                part.replace(target)
            parts.clear()
        return folders

    def read(self, sha256: str) -> bytes | None:
        """The file's content; None where it is gone or no longer what was kept."""
        try:
            content = self.path(sha256).read_bytes()
        except FileNotFoundError:
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    def remove(self, sha256: str) -> int:
        """Deletes the file; how many bytes that freed."""
        target = self.path(sha256)
        try:
            size_bytes = target.stat().st_size
        except FileNotFoundError:
            return 0
        target.unlink(missing_ok=True)
        return size_bytes

    def digests(self) -> set[str]:
        """Of all files."""
        return {path.stem for path in self._folder.glob("??/*.dcm")}

    def remove_left_overs(self, owner: str) -> None:
        """Deletes the temporary files of an owner that has ended."""
        for part in self._folder.glob(f"??/*.{owner}.part"):
            part.unlink(missing_ok=True)


def _remove_parts(parts: Iterable[tuple[int, Path, Path]]) -> None:
    for _, part, _ in parts:
        part.unlink(missing_ok=True)
