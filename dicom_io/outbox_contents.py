"""The outbox's objects as files named by their content: durable before anything refers to them.

Layout: ``FOLDER/3f/3f9a...dcm``, the name being the sha256 of the file. Folders are 0700 and files 0600.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


class Contents:
    """A folder of files by hash; `owner` names the temporary files of this process."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        folder.mkdir(mode=0o700, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the file of this hash lies, if it is kept."""
        return self._folder / sha256[:2] / f"{sha256}.dcm"

    def put(self, contents: Iterable[tuple[str, bytes]]) -> None:
        """Keeps files by their hashes; all are durable when this returns, and so are their names."""
        folders: set[Path] = set()
        for sha256, content in contents:
            target = self.path(sha256)
            if self.read(sha256) is not None:
                # Another process may have renamed it just now, and not yet made the name durable.
                folders.add(target.parent)
                continue
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                folders.add(self._folder)
            part = target.with_name(f"{sha256}.{self._owner}.part")
            with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
            folders.add(target.parent)
        for folder in sorted(folders):
            _sync_folder(folder)

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

    def remove_left_overs(self, owner: str) -> None:
        """Deletes the temporary files of an owner that has ended."""
        for part in self._folder.glob(f"??/*.{owner}.part"):
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
