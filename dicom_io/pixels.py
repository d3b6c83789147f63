"""Decodes CT images to Hounsfield units, exactly, or says why it cannot; sizes are checked before memory is taken.

Stored values are decoded frame by frame, then made signed as PixelRepresentation and BitsStored say (PS3.5
section 8.1) and rescaled (PS3.3 C.11.1.1.2). Lossless syntaxes give the same values as the uncompressed image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import ExplicitVRBigEndian

import schemas
from deeplesion_miner.types import ImageRef, Slice, Unreadable
from dicom_io import part10
from dicom_io.attributes import DECODING_ERRORS, integer, number, quiet, text, value
from dicom_io.codecs import decode_frame
from dicom_io.planes import FrameAttributes

MAX_PX = 1 << 26
"""Pixels of one frame: 8192 x 8192. What claims more is not decoded."""
INT16 = np.iinfo(np.int16)
CODEC_ERRORS = (*DECODING_ERRORS, RuntimeError, MemoryError)
"""What decoders raise for broken data; imagecodecs' own errors are RuntimeError or ValueError."""


class _CannotDecode(Exception):
    """Ends the decoding of one frame; becomes an Unreadable."""

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(detail)
        self.why = why


def decode(ds_or_path: Dataset | Path | str | bytes, ref: ImageRef, *, max_px: int = MAX_PX) -> Slice | Unreadable:
    """CT numbers of one frame: int16 (rows, columns), not writeable. `ref.frame_number` is 1-based.

    Unreadable: no_pixels, no_codec, broken_pixels, not_hounsfield, too_large, bad_value, and what `part10.read` says.
    """
    return next(decode_frames(ds_or_path, (ref,), max_px=max_px))[1]


def decode_frames(
    ds_or_path: Dataset | Path | str | bytes, refs: Iterable[ImageRef], *, max_px: int = MAX_PX
) -> Iterator[tuple[ImageRef, Slice | Unreadable]]:
    """Decodes frames of one object, in the given order; the object is read once."""
    ds = ds_or_path if isinstance(ds_or_path, Dataset) else None
    if ds is None:
        assert not isinstance(ds_or_path, Dataset)
        found = part10.read(ds_or_path)
        if isinstance(found, Unreadable):
            for ref in refs:
                yield ref, Unreadable(ref.sop_instance_uid or found.source, found.why, found.facts, found.detail)
            return
        ds = found
    for ref in refs:
        yield ref, _decoded(ds, ref, max_px)


def _decoded(ds: Dataset, ref: ImageRef, max_px: int) -> Slice | Unreadable:
    with quiet():
        try:
            form = _Form.of(ds, ref.frame_number, max_px)
            rescale = _Rescale.of(ds, ref.frame_number)
            hu, clipped = rescale.applied(_stored(ds, form, ref.frame_number))
        except _CannotDecode as problem:
            return Unreadable(ref.sop_instance_uid, problem.why, detail=str(problem))
    hu.flags.writeable = False
    return Slice(ref, hu, clipped)


# --- what the header promises ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """The shape and type of stored values (PS3.3 C.7.6.3)."""

    syntax: str
    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @classmethod
    def of(cls, ds: Dataset, frame_number: int, max_px: int) -> _Form:
        """Checks what can be known before decoding; raises _CannotDecode."""
        if "PixelData" not in ds:
            raise _CannotDecode("no_pixels", "PixelData (7FE0,0010) is missing; private compression is not known")
        syntax = str(ds.file_meta.TransferSyntaxUID)
        cosine = schemas.load("pixels")["cosine_transform"]
        if syntax in cosine:
            raise _CannotDecode("not_hounsfield", f"{cosine[syntax]} does not keep CT numbers; ask for another copy")
        photometric, samples = text(ds, "PhotometricInterpretation"), integer(ds, "SamplesPerPixel")
        if photometric != "MONOCHROME2" or samples not in (1, None):
            raise _CannotDecode(
                "not_hounsfield",
                f"PhotometricInterpretation (0028,0004) is {photometric!r}, SamplesPerPixel (0028,0002) {samples}",
            )
        rows, columns = _whole(ds, "Rows", 1, 65535), _whole(ds, "Columns", 1, 65535)
        if rows * columns > max_px:
            raise _CannotDecode("too_large", f"{rows} x {columns} pixels, the limit is {max_px}")
        allocated = _whole(ds, "BitsAllocated", 1, 64)
        if allocated not in (8, 16, 32):
            raise _CannotDecode("bad_value", f"BitsAllocated (0028,0100) is {allocated}, not 8, 16 or 32")
        stored = integer(ds, "BitsStored") or allocated
        if not 1 <= stored <= allocated:
            raise _CannotDecode("bad_value", f"BitsStored (0028,0101) is {stored} of {allocated} allocated")
        high = integer(ds, "HighBit")
        frames = integer(ds, "NumberOfFrames") or 1
        if not 1 <= frame_number <= frames:
            raise _CannotDecode("bad_value", f"frame {frame_number} of {frames} was asked for")
        signed = _whole(ds, "PixelRepresentation", 0, 1) == 1
        in_range = high is not None and stored - 1 <= high < allocated
        return cls(syntax, rows, columns, frames, allocated, stored, high if in_range and high else stored - 1, signed)


def _whole(ds: Dataset, keyword: str, least: int, most: int) -> int:
    found = integer(ds, keyword)
    if found is None or not least <= found <= most:
        raise _CannotDecode("bad_value", f"{keyword} is {text(ds, keyword)!r}, not a number from {least} to {most}")
    return found


@dataclass(frozen=True)
class _Rescale:
    """From stored values to Hounsfield units (PS3.3 C.11.1, per frame C.7.6.16.2.9)."""

    slope: float
    intercept: float

    @classmethod
    def of(cls, ds: Dataset, frame_number: int) -> _Rescale:
        """Of the frame; raises _CannotDecode where there is none, or where it leads to other units."""
        frame = FrameAttributes.of(ds, frame_number)
        holder = frame.holder("PixelValueTransformationSequence", "RescaleSlope")
        slope, intercept = number(holder, "RescaleSlope"), number(holder, "RescaleIntercept")
        if slope is None or intercept is None:
            raise _CannotDecode(
                "not_hounsfield", "RescaleSlope (0028,1053) or RescaleIntercept (0028,1052) is missing or no number"
            )
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            raise _CannotDecode("not_hounsfield", f"RescaleSlope is {slope}, RescaleIntercept is {intercept}")
        unit = text(holder, "RescaleType").upper()
        if unit in schemas.load("pixels")["rescale_type"]["not_hounsfield"]:
            raise _CannotDecode("not_hounsfield", f"RescaleType (0028,1054) is {unit}")
        return cls(slope, intercept)

    def applied(self, stored: NDArray[np.integer]) -> tuple[NDArray[np.int16], int]:
        """Hounsfield units rounded to whole numbers (half to even), and how many did not fit in int16."""
        low, high = int(stored.min()), int(stored.max())
        if self.slope == 1 and self.intercept.is_integer():
            shift = int(self.intercept)
            if INT16.min <= low + shift and high + shift <= INT16.max and INT16.min <= shift <= INT16.max:
                # Sums that fit come out right modulo 2^16 whatever the stored type.
                return stored.astype(np.int16) + np.int16(shift), 0
            values = stored.astype(np.float64) + shift
        else:
            values = np.rint(stored * self.slope + self.intercept)
        clipped = int(np.count_nonzero((values < INT16.min) | (values > INT16.max)))
        return np.clip(values, INT16.min, INT16.max).astype(np.int16), clipped


# --- stored values ---------------------------------------------------------------------------------------


def _stored(ds: Dataset, form: _Form, frame_number: int) -> NDArray[np.integer]:
    """Stored values of a frame, signed or not as the header says: (rows, columns)."""
    data = value(ds, "PixelData")
    if not isinstance(data, bytes):
        raise _CannotDecode("broken_pixels", "PixelData (7FE0,0010) is empty or no bytes; fetch the object again")
    if form.syntax in part10.STATED:
        values = _native(data, form, frame_number)
    else:
        values = _decompressed(ds, data, form, frame_number)
    return _with_sign(values, form)


def _native(data: bytes, form: _Form, frame_number: int) -> NDArray[np.integer]:
    frame_bytes = form.rows * form.columns * form.bits_allocated // 8
    if len(data) < frame_bytes * form.frames:
        raise _CannotDecode(
            "broken_pixels", f"PixelData (7FE0,0010) has {len(data)} bytes instead of {frame_bytes * form.frames}"
        )
    order = ">" if form.syntax == ExplicitVRBigEndian else "<"
    begin = (frame_number - 1) * frame_bytes
    values = np.frombuffer(data, f"{order}u{form.bits_allocated // 8}", form.rows * form.columns, begin)
    return values.reshape(form.rows, form.columns).astype(values.dtype.newbyteorder("="), copy=False)


def _decompressed(ds: Dataset, data: bytes, form: _Form, frame_number: int) -> NDArray[np.integer]:
    codec = schemas.load("pixels")["decoder"].get(form.syntax)
    if codec is None:
        raise _CannotDecode("no_codec", f"TransferSyntaxUID (0002,0010) {form.syntax} is not known")
    try:
        offsets = None
        if "ExtendedOffsetTable" in ds and "ExtendedOffsetTableLengths" in ds:
            offsets = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths)
        frame = get_frame(data, frame_number - 1, number_of_frames=form.frames, extended_offsets=offsets)
    except CODEC_ERRORS as error:
        raise _CannotDecode("broken_pixels", f"frame {frame_number} cannot be found: {error}") from error
    try:
        values = decode_frame(codec, frame, form.rows, form.columns, form.bits_allocated)
    except CODEC_ERRORS as error:
        raise _CannotDecode("broken_pixels", f"frame {frame_number}: {error}; fetch the object again") from error
    if values.shape != (form.rows, form.columns):
        raise _CannotDecode(
            "broken_pixels", f"frame {frame_number} is coded as {values.shape}, not {(form.rows, form.columns)}"
        )
    return values


def _with_sign(values: NDArray[np.integer], form: _Form) -> NDArray[np.integer]:
    """BitsStored bits below HighBit as a number with or without sign; unused bits (old overlays) are dropped."""
    bits = form.bits_allocated
    unsigned = values.astype(f"u{bits // 8}", copy=False) if values.dtype.itemsize * 8 <= bits else values
    above = bits - 1 - form.high_bit
    below = bits - form.bits_stored
    dtype = np.dtype(f"{'i' if form.signed else 'u'}{bits // 8}")
    if below == 0:
        return unsigned.astype(dtype, copy=False)
    return (unsigned << above).astype(f"u{bits // 8}", copy=False).view(dtype) >> below
