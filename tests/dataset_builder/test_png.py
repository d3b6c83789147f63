"""The PNG encoder: read back by another decoder, pixel for pixel."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dataset_builder.png import BadPng, encode, read_png

images = arrays(np.int16, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(images)
def test_another_decoder_reads_hu_plus_32768(hu: np.ndarray) -> None:
    with Image.open(io.BytesIO(encode(hu))) as image:
        assert image.format == "PNG" and image.mode == "I;16"
        stored = np.asarray(image)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored.astype(np.int64) - 32768, hu)


@given(images)
def test_the_same_pixels_give_the_same_bytes_whatever_their_memory_order(hu: np.ndarray) -> None:
    assert encode(np.asfortranarray(hu)) == encode(hu)
    assert encode(hu[::-1][::-1]) == encode(hu)


@given(images)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, hu: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(encode(hu))
    found = read_png(path)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, hu)


def test_the_file_is_16_bit_grayscale_without_any_other_chunk() -> None:
    data = encode(np.zeros((3, 5), np.int16))
    chunks, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + size : at + 12 + size], "big")
        chunks.append((kind, body))
        at += 12 + size
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[0][1] == bytes([0, 0, 0, 5, 0, 0, 0, 3, 16, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2), np.int32), np.zeros((2, 2, 1), np.int16), np.zeros((0, 4), np.int16)]
)
def test_anything_but_an_int16_image_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="int16"):
        encode(pixels)


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    good = encode(np.arange(6000, dtype=np.int16).reshape(60, 100))
    for data in (b"", b"no picture", good[: len(good) // 2]):
        path.write_bytes(data)
        with pytest.raises(BadPng, match=r"a\.png"):
            read_png(path)
    Image.new("L", (4, 4)).save(path)
    with pytest.raises(BadPng, match="mode L"):
        read_png(path)
