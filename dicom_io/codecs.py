"""Decodes one compressed frame; what it claims is looked at before memory is taken for it.

imagecodecs holds every codec that is needed. Its JPEG decoder fills up what is missing at the end without a word,
and its OpenJPH decoder goes on after errors: so the end of a JPEG frame is looked for here, and HTJ2K is decoded by
OpenJPEG. pydicom's plugins add no codec to these, and one of them takes minutes over a frame that ends early.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
from numpy.typing import NDArray

NO_SIZE_MARKERS = frozenset({0xC4, 0xC8, 0xCC})
"""Of the frame header range C0 to CF these are tables and reserved (ITU-T T.81 table B.1)."""
JPEG_LS_FRAME = 0xF7
STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
CODESTREAM = b"\xff\x4f\xff\x51"
"""SOC and SIZ, with which every JPEG 2000 codestream begins (ITU-T T.800 A.4, A.5)."""

DECODERS: dict[str, Callable[[bytes], NDArray[np.integer]]] = {
    "jpeg8": imagecodecs.jpeg8_decode,
    "jpegls": imagecodecs.jpegls_decode,
    "jpeg2k": imagecodecs.jpeg2k_decode,
}


def decode_frame(codec: str, frame: bytes, rows: int, columns: int, bits_allocated: int) -> NDArray[np.integer]:
    """The samples of one frame, (rows, columns), as coded: sign and unused bits are the caller's.

    `codec`: a value of `schemas/pixels.toml`, section 'decoder'. Raises ValueError where the frame is coded in
    another size or ends early, else what the decoder raises.
    """
    if codec == "rle":
        dtype = np.dtype(f"<u{bits_allocated // 8}")
        return np.frombuffer(imagecodecs.dicomrle_decode(frame, dtype), dtype).reshape(rows, columns)
    shape = coded_shape(frame)
    if shape != (rows, columns):
        raise ValueError(f"the frame is coded as {shape}, the header says {(rows, columns)}")
    if frame.startswith(START_OF_IMAGE) and not frame.rstrip(b"\0").endswith(END_OF_IMAGE):
        raise ValueError("the frame ends early: there is no end of image")
    return DECODERS[codec](frame)


def coded_shape(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 frame claims; None where none is found."""
    if frame.startswith(START_OF_IMAGE):
        return _jpeg_shape(frame)
    begin = frame.find(CODESTREAM)
    if begin < 0 or begin + 24 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, begin + 8)
    return bottom - top, right - left


def _jpeg_shape(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in STANDALONE_MARKERS:
            at += 2
            continue
        if marker == JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in NO_SIZE_MARKERS):
            rows, columns = struct.unpack_from(">HH", frame, at + 5)
            return rows, columns
        (length,) = struct.unpack_from(">H", frame, at + 2)
        at += 2 + length
    return None
