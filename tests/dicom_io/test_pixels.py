"""CT numbers are exact in every syntax, or there is a reason why there are none."""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.sequence import Sequence

from deeplesion_miner.types import ImageRef, Slice, Unreadable
from dicom_io.codecs import coded_shape
from dicom_io.pixels import decode, decode_frames

REF = ImageRef("1.2", "1.2.1", "1.2.3")


def described(values: NDArray[np.integer]) -> dict[str, object]:
    """What pydicom's encoder asks to be told."""
    rows, columns = values.shape
    return {
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": 1,
        "bits_allocated": 16,
        "bits_stored": 16,
        "pixel_representation": 0,
        "number_of_frames": 1,
        "photometric_interpretation": "MONOCHROME2",
        "encoding_plugin": "pydicom",
    }


LITTLE, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
LOSSLESS: dict[str, Callable[[NDArray[np.integer]], bytes]] = {
    "1.2.840.10008.1.2.4.57": lambda a: bytes(imagecodecs.ljpeg_encode(a)),
    "1.2.840.10008.1.2.4.70": lambda a: bytes(imagecodecs.ljpeg_encode(a)),
    "1.2.840.10008.1.2.4.80": lambda a: bytes(imagecodecs.jpegls_encode(a)),
    "1.2.840.10008.1.2.4.90": lambda a: bytes(imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k")),
    "1.2.840.10008.1.2.4.201": lambda a: bytes(imagecodecs.htj2k_encode(a, reversible=True)),
    "1.2.840.10008.1.2.5": lambda a: bytes(RLELosslessEncoder.encode(a, **described(a))),
}


def stored(rows: int = 24, columns: int = 32, *, low: int = -2000, high: int = 2000) -> NDArray[np.int16]:
    return np.random.default_rng(1).integers(low, high, (rows, columns)).astype(np.int16)


def image(values: NDArray[np.integer], syntax: str = LITTLE, data: bytes | None = None, frames: int = 1) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated = ds.BitsStored = values.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.PixelData = values.tobytes() if data is None else data
    return ds


def hu(ds: Dataset, frame: int = 1) -> NDArray[np.int16]:
    found = decode(ds, ImageRef("1.2", "1.2.1", "1.2.3", frame))
    assert isinstance(found, Slice), found
    return found.hu


def why(ds: Dataset, frame: int = 1) -> str:
    found = decode(ds, ImageRef("1.2", "1.2.1", "1.2.3", frame))
    assert isinstance(found, Unreadable)
    assert found.source == "1.2.3"
    assert found.detail
    return found.why


# --- exact in every syntax -------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("signed", [True, False])
def test_every_lossless_syntax_gives_the_stored_values(syntax: str, signed: bool) -> None:
    values = stored() if signed else (stored() + 2000).astype(np.uint16)
    coded = LOSSLESS[syntax](values.view(np.uint16))
    ds = image(values, syntax, encapsulate([coded]))
    assert np.array_equal(hu(ds), values)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_give_the_stored_values(order: str) -> None:
    values = stored()
    assert np.array_equal(
        hu(image(values, LITTLE if order == "<" else BIG, values.astype(f"{order}i2").tobytes())), values
    )


def test_eight_and_thirty_two_bits_are_read() -> None:
    assert np.array_equal(hu(image(stored(low=0, high=255).astype(np.uint8))), stored(low=0, high=255))
    assert np.array_equal(hu(image(stored().astype(np.int32))), stored())


def test_the_answer_cannot_be_written_to() -> None:
    assert not hu(image(stored())).flags.writeable
    ds = image(stored())
    ds.RescaleSlope = 2
    assert not hu(ds).flags.writeable


def test_overlay_bits_above_the_stored_ones_are_dropped() -> None:
    values = stored(low=0, high=4095).astype(np.uint16)
    ds = image((values | 0x7000).astype(np.uint16))
    ds.BitsStored, ds.HighBit = 12, 11
    assert np.array_equal(hu(ds), values)


def test_twelve_stored_bits_with_a_sign_are_extended() -> None:
    values = stored()
    ds = image((values.astype(np.uint16) & 0x0FFF).astype(np.uint16))
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 1
    assert np.array_equal(hu(ds), values)


def test_bits_stored_at_the_top_are_shifted_down() -> None:
    values = stored(low=0, high=4095).astype(np.uint16)
    ds = image((values << 4).astype(np.uint16))
    ds.BitsStored, ds.HighBit = 12, 15
    assert np.array_equal(hu(ds), values)


# --- frames ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments_are_put_together(fragments: int, table: bool) -> None:
    frames = [stored(), stored() + 1, stored() + 2]
    coded = [LOSSLESS["1.2.840.10008.1.2.4.80"](frame.view(np.uint16)) for frame in frames]
    data = encapsulate(coded, fragments_per_frame=fragments, has_bot=table)
    ds = image(frames[0], "1.2.840.10008.1.2.4.80", data, 3)
    for number, frame in enumerate(frames, 1):
        assert np.array_equal(hu(ds, number), frame)


def test_frames_behind_an_extended_offset_table_are_found() -> None:
    frames = [stored(), stored() + 1]
    data, offsets, lengths = encapsulate_extended([LOSSLESS["1.2.840.10008.1.2.5"](f.view(np.uint16)) for f in frames])
    ds = image(frames[0], "1.2.840.10008.1.2.5", data, 2)
    ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = offsets, lengths
    assert np.array_equal(hu(ds, 2), frames[1])


def test_frames_of_an_uncompressed_image_are_told_apart_and_given_in_order() -> None:
    frames = [stored(), stored() + 1]
    ds = image(frames[0], LITTLE, b"".join(frame.tobytes() for frame in frames), 2)
    refs = [ImageRef("1.2", "1.2.1", "1.2.3", number) for number in (2, 1, 3)]
    found = list(decode_frames(ds, refs))
    assert [ref for ref, _ in found] == refs
    answers = [answer for _, answer in found]
    assert isinstance(answers[0], Slice)
    assert np.array_equal(answers[0].hu, frames[1])
    assert isinstance(answers[2], Unreadable)
    assert answers[2].why == "bad_value"


def test_each_frame_has_the_rescale_of_its_own_functional_group() -> None:
    ds = image(stored(), LITTLE, stored().tobytes() * 2, 2)
    del ds.RescaleSlope, ds.RescaleIntercept
    groups = []
    for intercept in (0, -100):
        item, transformation = Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = 1, intercept
        item.PixelValueTransformationSequence = Sequence([transformation])
        groups.append(item)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    assert np.array_equal(hu(ds, 1), stored())
    assert np.array_equal(hu(ds, 2), stored() - 100)


# --- rescale ---------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([1.0, 1.0, 0.5, 2.0002442, 32.1216, -1.0]),
    st.sampled_from([0.0, -1024.0, 1.5, 40000.0, -40000.0]),
    st.sampled_from([np.int16, np.uint16, np.uint8]),
    st.integers(0, 2**32 - 1),
)
def test_hounsfield_units_are_rescaled_rounded_and_clipped(
    slope: float, intercept: float, dtype: type[np.integer], seed: int
) -> None:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(limits.min, limits.max, (5, 6), dtype, endpoint=True)
    ds = image(values)
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    exact = np.rint(values.astype(np.float64) * slope + intercept)
    found = decode(ds, REF)
    assert isinstance(found, Slice)
    assert found.hu.dtype == np.int16
    assert np.array_equal(found.hu, np.clip(exact, -32768, 32767))
    assert found.clipped_px == np.count_nonzero((exact < -32768) | (exact > 32767))


def test_values_that_are_no_hounsfield_units_are_set_aside() -> None:
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        ds = image(stored())
        delattr(ds, keyword)
        assert why(ds) == "not_hounsfield"
    ds = image(stored())
    ds.RescaleSlope = 0
    assert why(ds) == "not_hounsfield"
    ds = image(stored())
    ds.RescaleType = "OD"
    assert why(ds) == "not_hounsfield"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL"])
def test_pictures_that_are_no_plain_grey_are_set_aside(photometric: str) -> None:
    ds = image(stored())
    ds.PhotometricInterpretation = photometric
    assert why(ds) == "not_hounsfield"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"])
def test_cosine_transform_jpeg_does_not_keep_ct_numbers(syntax: str) -> None:
    coded = imagecodecs.jpeg8_encode(stored(low=0, high=255).astype(np.uint8))
    assert why(image(stored(), syntax, encapsulate([bytes(coded)]))) == "not_hounsfield"


# --- broken ----------------------------------------------------------------------------------------------


def test_sizes_are_checked_before_memory_is_taken() -> None:
    ds = image(stored())
    ds.Rows = ds.Columns = 65535
    assert why(ds) == "too_large"
    ds.Rows, ds.Columns = 8000, 8000
    assert why(ds) == "broken_pixels"


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if not s.endswith(".5")])
def test_a_frame_that_claims_another_size_than_the_header_is_broken(syntax: str) -> None:
    ds = image(stored(), syntax, encapsulate([LOSSLESS[syntax](stored(48, 64).view(np.uint16))]))
    assert why(ds) == "broken_pixels"


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_the_size_that_a_frame_claims_is_read_from_its_header(syntax: str) -> None:
    expected = None if syntax.endswith("1.2.5") else (24, 32)
    assert coded_shape(LOSSLESS[syntax](stored().view(np.uint16))) == expected


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_frame_that_ends_early_is_broken_never_half_a_picture(syntax: str) -> None:
    coded = LOSSLESS[syntax](stored().view(np.uint16))
    for tenths in range(1, 10):
        ds = image(stored(), syntax, encapsulate([coded[: len(coded) * tenths // 10]]))
        assert why(ds) == "broken_pixels"


@pytest.mark.parametrize("syntax", LOSSLESS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_broken_frames_are_set_aside_or_decoded_but_never_raise(syntax: str, data: st.DataObject) -> None:
    coded = bytearray(LOSSLESS[syntax](stored().view(np.uint16)))
    cut = data.draw(st.integers(0, len(coded)))
    for _ in range(data.draw(st.integers(0, 4))):
        coded[data.draw(st.integers(0, len(coded) - 1))] = data.draw(st.integers(0, 255))
    found = decode(image(stored(), syntax, encapsulate([bytes(coded[: max(cut, 2)])])), REF)
    assert isinstance(found, Slice) or found.why == "broken_pixels"


def test_missing_pixels_unknown_syntaxes_and_bad_values_have_their_reasons() -> None:
    ds = image(stored())
    del ds.PixelData
    assert why(ds) == "no_pixels"
    for unknown in ("1.2.840.10008.1.2.4.100", "1.2.3.4"):
        assert why(image(stored(), unknown, encapsulate([b"\0\0"]))) == "no_codec"
    for keyword, value in (("Rows", 0), ("BitsAllocated", 12), ("BitsStored", 17), ("PixelRepresentation", 2)):
        ds = image(stored())
        setattr(ds, keyword, value)
        assert why(ds) == "bad_value"


def test_an_unreadable_file_is_unreadable_as_an_image() -> None:
    found = decode(b"not DICOM at all", REF)
    assert isinstance(found, Unreadable)
    assert (found.source, found.why) == ("1.2.3", "not_dicom")
