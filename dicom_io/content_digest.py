"""A digest of what an object says, however it is encoded: whether an archive has our object or another one.

Archives decode and encode data sets: sequences get other lengths, values other padding, group lengths come and go.
Those change nothing, so they are not part of the digest; every element, its value and its place are. So is not when
and by which version of a program an object was written: one result may be written twice, and is the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import Protocol

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import RLELossless

import schemas
from deeplesion_miner.errors import ConfigError
from dicom_io.attributes import quiet
from dicom_io.pixels import CODEC_ERRORS

_UNPADDED = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
                       "UT"})  # fmt: skip
"""Text, padded with a space or a NUL to an even length (PS3.5 6.2)."""

_IN_CHARACTER_SET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Text that Specific Character Set governs (PS3.5 6.1.2.2)."""
_CHARACTER_SET = tag_for_keyword("SpecificCharacterSet")

_OF_WRITING = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        "InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
        "ContributionDateTime", "StructureSetDate", "StructureSetTime", "PresentationCreationDate",
        "PresentationCreationTime", "SoftwareVersions", "TimezoneOffsetFromUTC",
    )
)  # fmt: skip


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def content_digest(file_bytes: bytes, name: str) -> str:
    """Hex sha256 over the elements of a PS3.10 file's data set; `ConfigError`, with `name`, where it is broken.

    RLE is decoded first; other compressed pixels are digested as they are.
    """
    digest = hashlib.sha256()
    with _comparing(file_bytes, name) as dataset:
        _add(digest, dataset)
    return digest.hexdigest()


def coerced(their_bytes: bytes, own_bytes: bytes, name: str) -> frozenset[str] | None:
    """What an archive has changed in our object that it may change: keywords, 'private attributes' for added ones.

    None where it says something else than ours, beyond what `schemas/coercion.toml` names. Text counts as what it
    says, in whatever character set. Raises `ConfigError` as `content_digest` does.
    """
    theirs, ours = (_element_digests(one, name) for one in (their_bytes, own_bytes))
    found = set()
    for tag in theirs.keys() | ours.keys():
        if theirs.get(tag) == ours.get(tag):
            continue
        if tag in _coercible():
            found.add(keyword_for_tag(tag))
        elif tag.is_private and tag not in ours:
            found.add("private attributes")
        else:
            return None
    return frozenset(found)


@contextmanager
def _comparing(file_bytes: bytes, name: str) -> Iterator[Dataset]:
    try:
        with quiet():
            dataset = dcmread(BytesIO(file_bytes))
            if dataset.file_meta.TransferSyntaxUID == RLELossless:
                dataset.decompress(generate_instance_uid=False)
            yield dataset
    except CODEC_ERRORS as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{name}: its content cannot be compared: {type(error).__name__}: {said}") from error


def _element_digests(file_bytes: bytes, name: str) -> dict[BaseTag, bytes]:
    """Digests of the root's elements."""
    found: dict[BaseTag, bytes] = {}
    with _comparing(file_bytes, name) as dataset:
        for tag in _compared(dataset):
            digest = hashlib.sha256()
            _add_element(digest, dataset, tag, decoded=True)
            found[tag] = digest.digest()
    return found


@cache
def _coercible() -> frozenset[int | None]:
    return frozenset(tag_for_keyword(keyword) for group in schemas.load("coercion").values() for keyword in group)


def _compared(dataset: Dataset) -> list[BaseTag]:
    """Its tags in order, without group lengths, which are retired (PS3.5 7.2), and what tells when it was written."""
    return [tag for tag in sorted(dataset.keys()) if tag.element != 0 and tag not in _OF_WRITING]


def _add(digest: _Hash, dataset: Dataset, decoded: bool = False) -> None:
    tags = [tag for tag in _compared(dataset) if not decoded or tag != _CHARACTER_SET]
    # Else an element could move into the item before it, or from a parent into its last child, unnoticed.
    digest.update(len(tags).to_bytes(8, "big"))
    for tag in tags:
        _add_element(digest, dataset, tag, decoded)


def _add_element(digest: _Hash, dataset: Dataset, tag: BaseTag, decoded: bool) -> None:
    """`decoded` takes text as what it says, else as its bytes."""
    raw = dataset.get_item(tag)
    vr = str(raw.VR or _vr(tag))
    digest.update(tag.to_bytes(4, "big"))
    if vr == "SQ" or (vr == "UN" and dataset[tag].VR == "SQ"):
        _add_items(digest, dataset[tag].value, decoded)
        return
    if decoded and vr in _IN_CHARACTER_SET:
        value = dataset[tag].value
        said = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")
        if "\N{REPLACEMENT CHARACTER}" not in said:  # else its bytes are all that is known of it
            data = said.rstrip(" \0").encode("utf-8", "backslashreplace")
            digest.update(len(data).to_bytes(8, "big") + data)
            return
    encoded = raw.value if isinstance(raw, RawDataElement) else _encoded(dataset, tag)
    data = bytes(encoded or b"")
    data = data.rstrip(b" \0") if vr in _UNPADDED or tag.is_private else data
    digest.update(len(data).to_bytes(8, "big") + data)


def _add_items(digest: _Hash, items: Iterable[Dataset], decoded: bool) -> None:
    listed = list(items)
    digest.update(b"items" + len(listed).to_bytes(8, "big"))
    for item in listed:
        _add(digest, item, decoded)


def _vr(tag: BaseTag) -> str:
    try:
        return str(dictionary_VR(tag))
    except KeyError:  # private, in implicit VR
        return "UN"


def _encoded(dataset: Dataset, tag: BaseTag) -> bytes:
    """The value field of an element that was decoded already."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_data_element(buffer, dataset[tag])
    return bytes(buffer.getvalue()[8:])
