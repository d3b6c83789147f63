"""Which process works on what: a locked file a process, since a lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Owner:
    """A living process (or one of several users of an outbox within it), by a locked file in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        while True:
            self.name = secrets.token_hex(8)
            self._file = folder / self.name
            self._descriptor = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if self._file.exists():
                return
            os.close(self._descriptor)  # taken for a dead one's between our creating and our locking

    def close(self) -> None:
        """Ends the owner; its work must have been given back."""
        self._file.unlink(missing_ok=True)
        os.close(self._descriptor)


@contextmanager
def ended(folder: Path, name: str) -> Iterator[bool]:
    """Whether the owner's process has ended; if so its name is gone for good at the end of the block.

    The name is held within the block, so that of several that find a dead owner one at a time gives back its work.
    """
    try:
        descriptor = os.open(folder / name, os.O_RDWR)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
        (folder / name).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def alone(folder: Path, name: str) -> Iterator[bool]:
    """Whether nobody else is within such a block of this name, in this process or another one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_alone = True
    except BlockingIOError:
        is_alone = False
    try:
        yield is_alone
    finally:
        os.close(descriptor)


def known(folder: Path) -> set[str]:
    """Names of all owners, living or dead, that left a file."""
    return {path.name for path in folder.iterdir()}
