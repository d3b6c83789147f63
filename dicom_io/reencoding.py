"""The same data set in another transfer syntax, for archives that refuse its own; nothing is lost (PS3.5 annex A)."""

from __future__ import annotations

import zlib
from io import BytesIO

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from deeplesion_miner.errors import ConfigError
from dicom_io.attributes import DECODING_ERRORS, quiet
from dicom_io.object_file import ObjectFile
from dicom_io.part10 import MAX_INFLATED_BYTES

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
DEFLATED, RLE = str(DeflatedExplicitVRLittleEndian), str(RLELossless)

_FALLBACKS = {
    EXPLICIT: (IMPLICIT,),
    IMPLICIT: (EXPLICIT,),
    DEFLATED: (EXPLICIT, IMPLICIT),
    RLE: (EXPLICIT, IMPLICIT),
}


def syntaxes(transfer_syntax_uid: str) -> tuple[str, ...]:
    """In which an object can be sent without loss, best first: its own, then what it can be turned into."""
    return (transfer_syntax_uid, *_FALLBACKS.get(transfer_syntax_uid, ()))


def encoded_as(item: ObjectFile, transfer_syntax_uid: str) -> bytes:
    """The data set in one of its `syntaxes`: the file's own bytes where it lies there in this syntax.

    A deflated one is inflated to the bytes that were deflated. Raises `ConfigError` where the object is broken, and
    ValueError for a syntax that it cannot be turned into.
    """
    own = item.transfer_syntax_uid
    if transfer_syntax_uid not in syntaxes(own):
        raise ValueError(f"{UID(own).name} is not turned into {UID(transfer_syntax_uid).name} here")
    if transfer_syntax_uid == own:
        return item.data_set_bytes()
    if own == DEFLATED and transfer_syntax_uid == EXPLICIT:
        return _inflated(item)
    try:
        return _written_anew(item, UID(transfer_syntax_uid))
    except DECODING_ERRORS as error:
        text = f"object {item.sop_instance_uid}: it cannot be turned into {UID(transfer_syntax_uid).name}: {error}"
        raise ConfigError(text) from error


def _written_anew(item: ObjectFile, syntax: UID) -> bytes:
    with quiet():
        dataset = dcmread(BytesIO(item.file_bytes()))
        if item.transfer_syntax_uid == RLE:
            dataset.decompress(generate_instance_uid=False)
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, True
        write_dataset(buffer, dataset)
        return bytes(buffer.getvalue())


def _inflated(item: ObjectFile) -> bytes:
    """The bytes that were deflated (PS3.5 A.5), bounded, so that a small file cannot fill the memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(item.data_set_bytes(), MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise ConfigError(f"object {item.sop_instance_uid}: the deflated data set is broken: {error}") from error
    if not inflater.eof:
        raise ConfigError(f"object {item.sop_instance_uid}: the deflated data set ends early, or is too large")
    return data
