"""Received objects on disk: durable, under a name made of a hash, independent of how they came.

Layout: ``FOLDER/3f/9a/3f9a...dcm``, the name being the sha256 of the SOP Instance UID, so that a hostile UID
never becomes a path. Folders are 0700 and files 0600: the store is the trusted side's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import struct
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from deeplesion_miner.types import Unreadable

IMPLEMENTATION_CLASS_UID = "2.25.66569925681412511285930987085190711723"
"""Ours (PS3.5 B.2, UUID derived): written into each stored file and told to each peer."""
IMPLEMENTATION_VERSION_NAME = "DEEPLESION_MINER"

_EXPLICIT_LONG = (b"OB",)
_SUFFIX = ".dcm"
_OURS = f"{'[0-9a-f]' * 64}{_SUFFIX}"
"""Names of objects, as `glob` takes them; others put files beside ours."""


class Outcome(StrEnum):
    """What became of an object that was handed to the store."""

    NEW = "new"
    SAME = "same"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"


class ObjectStore:
    """A folder of received objects, safe to use from many threads; a file in it is always whole.

    `max_object_bytes` None keeps objects of any size. Left-overs of a killed writer are removed at opening.
    """

    def __init__(self, folder: Path, max_object_bytes: int | None = None) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._max_object_bytes = max_object_bytes
        self._lock = threading.Lock()
        self._kept_out: dict[str, Unreadable] = {}
        self._conflicts: dict[str, Unreadable] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        _remove_left_overs(self._incoming)

    def put_encoded(
        self, sop_instance_uid: str, sop_class_uid: str, transfer_syntax_uid: str, dataset: bytes | memoryview
    ) -> Outcome:
        """Keeps an encoded data set (without meta header) as a PS3.10 file; durable when this returns.

        The first copy is kept. A second one of the same transfer syntax that differs is noted as
        ``conflicting_copies``; of another transfer syntax it is the same object, encoded otherwise.
        """
        uid = normal_uid(sop_instance_uid)
        if self._max_object_bytes is not None and len(dataset) > self._max_object_bytes:
            detail = f"{len(dataset)} bytes, the limit is {self._max_object_bytes}"
            with self._lock:
                self._kept_out[uid] = Unreadable(uid, "too_large", detail=detail)
            return Outcome.TOO_LARGE
        header = file_header(uid, normal_uid(sop_class_uid), normal_uid(transfer_syntax_uid))
        target = self._target(uid)
        if not target.exists():
            _make_folders(self._folder, target.parent)
            part = self._write(header, dataset)
            if self._adopt(part, target):
                return Outcome.NEW
            part.unlink()
        return self._compare(uid, target, header, dataset)

    def incoming(self, sop_instance_uid: str, sop_class_uid: str, transfer_syntax_uid: str) -> Incoming:
        """An object whose encoded data set will come in pieces."""
        return Incoming(self, sop_instance_uid, sop_class_uid, transfer_syntax_uid)

    def remove(self, sop_instance_uid: str) -> bool:
        """Forgets an object and frees its disk space; False where it is not here."""
        try:
            self._target(normal_uid(sop_instance_uid)).unlink()
        except FileNotFoundError:
            return False
        return True

    def path(self, sop_instance_uid: str) -> Path | None:
        """The file of an object, None where it did not arrive."""
        target = self._target(normal_uid(sop_instance_uid))
        return target if target.exists() else None

    def has(self, sop_instance_uid: str) -> bool:
        """True where the object has arrived."""
        return self.path(sop_instance_uid) is not None

    def size_bytes(self, sop_instance_uid: str) -> int:
        """Size of an object's file in bytes; KeyError where it did not arrive."""
        try:
            return self._target(normal_uid(sop_instance_uid)).stat().st_size
        except FileNotFoundError as error:
            raise KeyError(sop_instance_uid) from error

    def uids(self) -> Iterator[str]:
        """SOP Instance UIDs of all objects, in no order."""
        for file in self._folder.glob(f"??/??/*{_SUFFIX}"):
            yield _stored_uid(file)

    def others(self, known: Iterable[str], since_s: float, before_s: float) -> Iterator[list[str]]:
        """UIDs of objects that are none of the `known` ones and were written in a span of time, a list for each folder.

        A known one costs eight bytes of memory, and its file is not opened.
        """
        digests = array("Q", sorted(_number(self._target(normal_uid(uid))) for uid in known))
        for folder in self._folder.glob("??"):
            files = [file for file in folder.glob(f"??/{_OURS}") if not _is_among(digests, _number(file))]
            uids = []
            for file in files:
                with suppress(FileNotFoundError, struct.error):  # it was removed just now, or it is no file of ours
                    if since_s <= file.stat().st_mtime < before_s:
                        uids.append(_stored_uid(file))
            yield uids

    def kept_out(self, sop_instance_uid: str) -> Unreadable | None:
        """Why an object that arrived was not kept since opening; None where that did not happen."""
        with self._lock:
            return self._kept_out.get(normal_uid(sop_instance_uid))

    def set_aside(self) -> tuple[Unreadable, ...]:
        """Second copies that differ from the kept one, since opening; sorted by SOP Instance UID."""
        with self._lock:
            return tuple(self._conflicts[uid] for uid in sorted(self._conflicts))

    def _target(self, uid: str) -> Path:
        digest = hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / digest[:2] / digest[2:4] / f"{digest}{_SUFFIX}"

    def _adopt(self, part: Path, target: Path) -> bool:
        """Gives a whole, synced temporary file its name, durably; False where another one has it."""
        with self._lock:
            if target.exists():
                return False
            part.rename(target)
            sync_folder(target.parent)
            return True

    def _write(self, header: bytes, dataset: bytes | memoryview) -> Path:
        """A whole, synced temporary file."""
        part, descriptor = _new_part(self._incoming)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in (header, dataset):
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            os.fsync(file.fileno())
        return part

    def _compare(self, uid: str, target: Path, header: bytes, dataset: bytes | memoryview) -> Outcome:
        stored = target.read_bytes()
        if not stored.startswith(header) or stored[len(header) :] == dataset:
            return Outcome.SAME
        first, second = hashlib.sha256(stored[len(header) :]).hexdigest(), hashlib.sha256(dataset).hexdigest()
        self._note_conflict(uid, first, second)
        return Outcome.CONFLICT

    def _note_conflict(self, uid: str, first: str, second: str) -> None:
        detail = f"data sets with sha256 {first} (kept) and {second}"
        with self._lock:
            self._conflicts[uid] = Unreadable(uid, "conflicting_copies", detail=detail)


class Incoming:
    """One object on its way in, used by one thread at a time: its bytes go to disk as they come, never to memory.

    A full disk and the size limit are remembered, not raised, so that a receiver can hear the peer out and answer
    it: `failure` holds the OSError, `is_too_large` tells of the limit; what comes after that is counted only.
    """

    def __init__(self, store: ObjectStore, sop_instance_uid: str, sop_class_uid: str, transfer_syntax_uid: str) -> None:
        self._store = store
        self.uid = normal_uid(sop_instance_uid)
        self._header = file_header(self.uid, normal_uid(sop_class_uid), normal_uid(transfer_syntax_uid))
        self.size_bytes = 0
        """Of the data set as it was sent, without the file meta information."""
        self.failure: OSError | None = None
        self._file: BinaryIO | None = None
        try:
            self.path, descriptor = _new_part(store._incoming)
            self._file = os.fdopen(descriptor, "wb")
            self._file.write(self._header)
        except OSError as error:
            self._fail(error)

    @property
    def is_done(self) -> bool:
        """True where it was kept or discarded."""
        return self._file is None

    @property
    def is_too_large(self) -> bool:
        """True where more came than the store takes."""
        limit = self._store._max_object_bytes
        return limit is not None and self.size_bytes > limit

    def write(self, piece: bytes | memoryview) -> None:
        """Adds to the data set."""
        self.size_bytes += len(piece)
        if self._file is None:
            return
        if self.is_too_large:
            self.discard()
            return
        try:
            self._file.write(piece)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Hands what came to the operating system, so that `path` can be read."""
        if self._file is None:
            return
        try:
            self._file.flush()
        except OSError as error:
            self._fail(error)

    def keep(self) -> Outcome:
        """Puts the object into the store, as `ObjectStore.put_encoded` does; durable when this returns.

        Raises the OSError that kept it from the disk.
        """
        if self.is_too_large:
            return Outcome.TOO_LARGE
        target = self._store._target(self.uid)
        try:
            self.flush()
            if self.failure is not None or self._file is None:
                raise self.failure or ValueError(f"{self.uid} was discarded")
            if target.exists():
                return self._compare(target)
            os.fsync(self._file.fileno())
            _make_folders(self._store._folder, target.parent)
            if not self._store._adopt(self.path, target):
                return self._compare(target)
            return Outcome.NEW
        finally:
            self.discard()

    def discard(self) -> None:
        """Closes and removes what was not kept; harmless when done twice."""
        if self._file is None:
            return
        file, self._file = self._file, None
        with suppress(FileNotFoundError):  # it has its own name by now
            self.path.unlink()
        with suppress(OSError):  # a full disk may tell of it once more
            file.close()

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.discard()

    def _compare(self, target: Path) -> Outcome:
        """Of two copies, piece by piece; another transfer syntax is the same object, encoded otherwise."""
        with target.open("rb") as kept, self.path.open("rb") as came:
            if kept.read(len(self._header)) != came.read(len(self._header)):
                return Outcome.SAME
            first, second = hashlib.file_digest(kept, "sha256"), hashlib.file_digest(came, "sha256")
        if first.digest() == second.digest():
            return Outcome.SAME
        self._store._note_conflict(self.uid, first.hexdigest(), second.hexdigest())
        return Outcome.CONFLICT


def normal_uid(uid: str) -> str:
    """A UID without the padding that some peers leave on it (PS3.5 6.2: one trailing NUL, never spaces)."""
    return uid.strip(" \0")


def file_header(sop_instance_uid: str, sop_class_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1), the same bytes for the same three UIDs."""
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _element(0x0002, b"UI", _padded(sop_class_uid, b"\0")),
            _element(0x0003, b"UI", _padded(sop_instance_uid, b"\0")),
            _element(0x0010, b"UI", _padded(transfer_syntax_uid, b"\0")),
            _element(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID, b"\0")),
            _element(0x0013, b"SH", _padded(IMPLEMENTATION_VERSION_NAME, b" ")),
        )
    )
    length = _element(0x0000, b"UL", struct.pack("<L", len(elements)))
    return bytes(128) + b"DICM" + length + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """A group 0002 element in explicit VR little endian (PS3.5 7.1.2)."""
    tag = struct.pack("<HH", 0x0002, number)
    if vr in _EXPLICIT_LONG:
        return tag + vr + bytes(2) + struct.pack("<L", len(value)) + value
    return tag + vr + struct.pack("<H", len(value)) + value


def _padded(text: str, pad: bytes) -> bytes:
    value = text.encode("utf-8", "surrogateescape")
    return value + pad * (len(value) % 2)


def _number(file: Path) -> int:
    """The first 64 bits of the hash that names a file."""
    return int(file.name[:16], 16)


def _is_among(numbers: array[int], number: int) -> bool:
    """Of sorted numbers."""
    place = bisect_left(numbers, number)
    return place < len(numbers) and numbers[place] == number


def _stored_uid(file: Path) -> str:
    """(0002,0003) of a file that this module wrote."""
    with file.open("rb") as stream:
        stream.seek(132 + 12 + 14)  # preamble and prefix, group length, version
        (class_length,) = struct.unpack("<H", stream.read(8)[6:])
        stream.seek(class_length, os.SEEK_CUR)
        (uid_length,) = struct.unpack("<H", stream.read(8)[6:])
        return stream.read(uid_length).rstrip(b"\0").decode("utf-8", "surrogateescape")


def _make_folders(top: Path, folder: Path) -> None:
    """Makes `folder`, two levels below `top`, and makes its being there durable."""
    if folder.is_dir():
        return
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)
    sync_folder(top)


def sync_folder(folder: Path) -> None:
    """Returns when which files a folder holds is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_part(folder: Path) -> tuple[Path, int]:
    """A new temporary file and its descriptor, locked: a lock ends with its process, however that ends."""
    while True:
        part = folder / f"{secrets.token_hex(8)}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if part.exists():
            return part, descriptor
        os.close(descriptor)  # another process opened the store between our creating and our locking


def _remove_left_overs(folder: Path) -> None:
    """Removes the temporary files that no living writer has locked."""
    for part in folder.glob("*.part"):
        try:
            descriptor = os.open(part, os.O_WRONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
