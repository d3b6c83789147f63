"""A PS3.10 file that is to be sent: its UIDs, and its data set as the bytes that lie there."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from deeplesion_miner.errors import ConfigError
from dicom_io.attributes import DECODING_ERRORS, quiet, text
from dicom_io.structure import Encoding, after_meta, build

_PREFIX_BYTES = 132
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
"""Tag, VR and length of (0002,0000), with which file meta information begins (PS3.10 7.1)."""
_META_START = _PREFIX_BYTES + len(_GROUP_LENGTH) + 4
_LONGEST_META_BYTES = 1 << 16
_META_GROUP = b"\x02\x00"
_DEEPEST = 8
"""Sequences in one another; file meta information has none."""


@dataclass(frozen=True)
class ObjectFile:
    """An object that is to be sent; `content` is its file, or the whole file's bytes."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    content: Path | bytes

    @classmethod
    def read(cls, content: Path | bytes) -> Self:
        """The object that a file or its bytes hold; `ConfigError` where that is no PS3.10 file, OSError as reading."""
        if isinstance(content, bytes):
            head = content[:_LONGEST_META_BYTES]
        else:
            with content.open("rb") as file:
                head = file.read(_LONGEST_META_BYTES)
        meta = _meta(head, content)
        found = {keyword: text(meta, keyword) for keyword in
                 ("MediaStorageSOPInstanceUID", "MediaStorageSOPClassUID", "TransferSyntaxUID")}  # fmt: skip
        for keyword, value in found.items():
            if not value:
                raise ConfigError(f"{_named(content)}: its file meta information lacks {keyword}; write it anew")
        uid, sop_class, syntax = found.values()
        return cls(uid, sop_class, syntax, content)

    def size_bytes(self) -> int:
        """Of the whole file."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def file_bytes(self) -> bytes:
        """The whole file."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    def data_set_bytes(self) -> bytes:
        """The encoded data set: all that follows the file meta information. `ConfigError` where there is none."""
        whole = self.file_bytes()
        return whole[_meta_end(whole, self.content) :]

    def stored_sha256(self) -> str:
        """Hex, of what an archive stores: the transfer syntax and the data set in it, not the file's own header.

        `ConfigError` where the file is none.
        """
        return hashlib.sha256(self.transfer_syntax_uid.encode() + b"\0" + self.data_set_bytes()).hexdigest()


def _meta(head: bytes, content: Path | bytes) -> Dataset:
    """The file meta information; refused where it is not as long as it says, since the data set is what follows it."""
    end = _meta_end(head, content)
    try:
        with quiet():
            found = build(head[:end], _PREFIX_BYTES, Encoding(implicit=False, little=True), after_meta, _DEEPEST)
            deflated = text(found.dataset, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    except DECODING_ERRORS as error:
        raise ConfigError(
            f"{_named(content)}: its file meta information is broken, or its length (0002,0000) wrong: {error}"
        ) from error
    if found.stopped or (head[end : end + 2] == _META_GROUP and not deflated):
        raise ConfigError(f"{_named(content)}: its length of the file meta information (0002,0000) is wrong")
    return found.dataset


def _meta_end(head: bytes, content: Path | bytes) -> int:
    """Where the data set begins."""
    if head[128:_PREFIX_BYTES] != b"DICM" or head[_PREFIX_BYTES : _META_START - 4] != _GROUP_LENGTH:
        raise ConfigError(f"{_named(content)}: it is no DICOM file (PS3.10 7.1): no preamble and group length")
    (length,) = struct.unpack_from("<L", head, _META_START - 4)
    return _META_START + int(length)


def _named(content: Path | bytes) -> str:
    return "an object in memory" if isinstance(content, bytes) else str(content)
