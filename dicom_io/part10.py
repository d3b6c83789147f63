"""Reads DICOM files and received objects (PS3.10), good or bad: a data set or the reason why not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from deeplesion_miner.types import Unreadable
from dicom_io.attributes import DECODING_ERRORS, quiet, text
from dicom_io.structure import (
    LONG_VRS,
    SHORT_VRS,
    BrokenStructure,
    Built,
    Encoding,
    after_meta,
    at_pixels,
    build,
    never,
)

PREAMBLE_BYTES = 128
TRANSFER_SYNTAX_UID = 0x00020010
EXPLICIT_LITTLE = Encoding(implicit=False, little=True)
MAX_DEPTH = 100_000
"""A content tree deeper than this is an attack, not a report."""
MAX_INFLATED_BYTES = 1 << 30
"""A deflated data set that grows beyond this is not inflated further."""
HEAD_BYTES = 1 << 16
"""What stands before the pixel data nearly always fits in here; the rest of such a file is not read."""
Stop: TypeAlias = Callable[[int], bool]
FIRST_GROUPS = frozenset({0x0002, 0x0004, 0x0008})
"""A data set without file meta information begins with one of these groups (PS3.5 section 7.1, PS3.3 annex C)."""
STATED = {
    ImplicitVRLittleEndian: Encoding(True, True),
    ExplicitVRLittleEndian: Encoding(False, True),
    DeflatedExplicitVRLittleEndian: Encoding(False, True),
    ExplicitVRBigEndian: Encoding(False, False),
}


@dataclass(frozen=True)
class _Found:
    """Where the data set begins and what its file meta information says."""

    meta: FileMetaDataset
    start: int


class _SetAside(Exception):
    """Ends the reading of one object; becomes an Unreadable."""

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(detail)
        self.why = why


def read(
    path_or_bytes: Path | str | bytes, *, pixels: bool = True, only: AbstractSet[int] | None = None, source: str = ""
) -> Dataset | Unreadable:
    """The data set of a DICOM file, or Unreadable with the reason; it always has `file_meta.TransferSyntaxUID`.

    `pixels=False` stops before the pixel data, so that a file that is truncated there is still read. `only` names
    the tags that the data set shall have, beside its character set. `source` names the object in an Unreadable, by
    default its path. Files without preamble or file meta information are read where they look like a data set.
    Raises OSError where the file itself cannot be opened.
    """
    stop = never if pixels else at_pixels
    if isinstance(path_or_bytes, bytes):
        return _whole(path_or_bytes, stop, only, source)
    path = Path(path_or_bytes)
    with path.open("rb") as file:
        head = b"" if pixels else file.read(HEAD_BYTES)
        if len(head) == HEAD_BYTES:
            dataset = _header(head, only)
            if dataset is not None:
                return dataset
        data = head + file.read()
    return _whole(data, stop, only, source or str(path))


def _whole(data: bytes, stop: Stop, only: AbstractSet[int] | None, source: str) -> Dataset | Unreadable:
    with quiet():
        try:
            return _read(data, stop, only).dataset
        except _SetAside as problem:
            return Unreadable(source, problem.why, detail=str(problem))


def _header(head: bytes, only: AbstractSet[int] | None) -> Dataset | None:
    """The data set before the pixel data where these lie within the head of the file; None where that is not sure."""
    with quiet():
        try:
            found = _read(head, at_pixels, only)
        except _SetAside:
            return None
    return found.dataset if found.stopped else None


def _read(data: bytes, stop: Stop, only: AbstractSet[int] | None) -> Built:
    found = _find(data)
    syntax = UID(text(found.meta, "TransferSyntaxUID"))
    start = found.start
    if syntax == DeflatedExplicitVRLittleEndian:
        data, start = _inflated(data[start:]), 0
    encoding = _encoding(data, start, syntax)
    built = _built(data, start, encoding, stop, only)
    if not syntax:
        # What stands there may be an element whose value cannot be read: it is replaced, never converted.
        found.meta.pop(TRANSFER_SYNTAX_UID, None)
        found.meta.TransferSyntaxUID = _syntax_found_out(built.dataset, encoding)
    built.dataset.file_meta = found.meta
    return built


def _find(data: bytes) -> _Found:
    """The file meta information and where the data set begins; not_dicom where nothing looks like either."""
    bare = _looks_like_a_data_set(data)
    magic = data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM"
    # 'DICM' may stand by chance at byte 128 of a data set without preamble: only group 2 after it proves a preamble.
    if magic and (not bare or data[PREAMBLE_BYTES + 4 : PREAMBLE_BYTES + 6] == b"\x02\x00"):
        start = PREAMBLE_BYTES + 4
    elif data[:4] == b"DICM":
        start = 4
    elif bare:
        start = 0
    else:
        raise _SetAside("not_dicom", "there is no 'DICM' at byte 128, and the first bytes are no data element")
    if len(data) == start:
        raise _SetAside("truncated", "nothing follows the preamble; copy or fetch the file again")
    group = data[start : start + 2]
    if group != b"\x02\x00":
        return _Found(FileMetaDataset(), start)
    encoding = EXPLICIT_LITTLE if data[start + 4 : start + 6].isalpha() else Encoding(True, True)
    meta = _built(data, start, encoding, after_meta)
    return _Found(FileMetaDataset(meta.dataset), meta.end)


def _looks_like_a_data_set(data: bytes) -> bool:
    """The first element belongs where a data set begins, and its VR or length is possible."""
    if len(data) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHI", data)
        vr = data[4:6]
        if group in FIRST_GROUPS and element <= 0x0120 and (vr in SHORT_VRS | LONG_VRS or length <= len(data) - 8):
            return True
    return False


def _encoding(data: bytes, start: int, syntax: UID) -> Encoding:
    """As the transfer syntax says; without one, as the first element looks."""
    if syntax in STATED:
        return STATED[syntax]
    if syntax:
        return EXPLICIT_LITTLE  # PS3.5 A.4: every encapsulated syntax; private ones that are not will not parse
    if len(data) < start + 8:
        raise _SetAside("truncated", "TransferSyntaxUID (0002,0010) and the data set are missing; fetch it again")
    explicit = data[start + 4 : start + 6] in SHORT_VRS | LONG_VRS
    (group,) = struct.unpack_from("<H", data, start)
    return Encoding(implicit=not explicit, little=group < 0x0400)


def _syntax_found_out(ds: Dataset, encoding: Encoding) -> UID:
    """The transfer syntax of a data set that does not state one; encapsulated pixels may be coded in any way."""
    pixel_data = ds.get_item("PixelData")
    if pixel_data is not None and pixel_data.length == 0xFFFFFFFF:
        raise _SetAside("no_transfer_syntax", "TransferSyntaxUID (0002,0010) is missing and the pixels are compressed")
    if encoding.implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if encoding.little else ExplicitVRBigEndian


def _inflated(deflated: bytes) -> bytes:
    """The inflated bytes (PS3.5 A.5), bounded, so that a small file cannot fill the memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(deflated, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise _SetAside("bad_encoding", f"the deflated data set is broken ({error}); fetch it again") from error
    if inflater.eof:
        return data
    if inflater.unconsumed_tail:
        raise _SetAside("too_large", f"the deflated data set grows beyond {MAX_INFLATED_BYTES} bytes")
    raise _SetAside("truncated", f"the deflated data set ends early, after {len(data)} bytes; fetch it again")


def _built(data: bytes, start: int, encoding: Encoding, stop: Stop, only: AbstractSet[int] | None = None) -> Built:
    try:
        return build(data, start, encoding, stop, MAX_DEPTH, only)
    except BrokenStructure as problem:
        raise _SetAside(problem.why, f"{problem}; copy or fetch it again, or repair it at its source") from problem
    except DECODING_ERRORS as error:
        raise _SetAside("bad_encoding", f"{type(error).__name__}: {error}; repair the object at its source") from error
