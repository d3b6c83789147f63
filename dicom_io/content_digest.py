"""A digest of what an object says, however it is encoded: whether an archive has our object or another one.

Archives decode and encode data sets: sequences get other lengths, values other padding, group lengths come and go.
Those change nothing, so they are not part of the digest; every element, its value and its place are. So is not when
and by which version of a program an object was written: one result may be written twice, and is the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from io import BytesIO
from typing import Protocol

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag
from pydicom.uid import RLELossless

from deeplesion_miner.errors import ConfigError
from dicom_io.attributes import DECODING_ERRORS, quiet

_UNPADDED = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
                       "UT"})  # fmt: skip
"""Text, padded with a space or a NUL to an even length (PS3.5 6.2)."""

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
    try:
        with quiet():
            dataset = dcmread(BytesIO(file_bytes))
            if dataset.file_meta.TransferSyntaxUID == RLELossless:
                dataset.decompress(generate_instance_uid=False)
            _add(digest, dataset)
    except DECODING_ERRORS as error:
        raise ConfigError(f"{name}: its content cannot be compared: {type(error).__name__}: {error}") from error
    return digest.hexdigest()


def _add(digest: _Hash, dataset: Dataset) -> None:
    for tag in sorted(dataset.keys()):
        if tag.element == 0:
            continue  # group length, retired (PS3.5 7.2)
        if tag in _OF_WRITING:
            continue
        raw = dataset.get_item(tag)
        vr = str(raw.VR or _vr(tag))
        digest.update(tag.to_bytes(4, "big"))
        if vr == "SQ" or (vr == "UN" and dataset[tag].VR == "SQ"):
            _add_items(digest, dataset[tag].value)
            continue
        encoded = raw.value if isinstance(raw, RawDataElement) else _encoded(dataset, tag)
        data = bytes(encoded or b"")
        data = data.rstrip(b" \0") if vr in _UNPADDED or tag.is_private else data
        digest.update(len(data).to_bytes(8, "big") + data)


def _add_items(digest: _Hash, items: Iterable[Dataset]) -> None:
    listed = list(items)
    digest.update(b"items" + len(listed).to_bytes(8, "big"))
    for item in listed:
        _add(digest, item)


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
