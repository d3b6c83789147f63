"""Files good, odd, broken and hostile: a data set or a reason, never an exception, never a word on stderr."""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)
from report_by_hand import cross, group, measured

from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import ImageRef, Kind, Slice, Unreadable
from dicom_io import part10
from dicom_io.dialects import read_object
from dicom_io.pixels import decode
from dicom_io.planes import headers_of
from dicom_io.structure import Encoding, build, never

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
ENCODINGS = {
    ImplicitVRLittleEndian: Encoding(True, True),
    ExplicitVRLittleEndian: Encoding(False, True),
    ExplicitVRBigEndian: Encoding(False, False),
}


def small_image() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    ds.PatientName = "Müller^Jörg"
    ds.StudyInstanceUID = "1.2"
    ds.Rows = ds.Columns = 4
    ds.BitsAllocated = ds.BitsStored = 16
    ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 1, "MONOCHROME2"
    item = Dataset()
    item.CodeValue = "x"
    ds.ConceptNameCodeSequence = Sequence([item])
    ds.RescaleSlope, ds.RescaleIntercept, ds.HighBit = 1, 0, 15
    ds.PixelData = np.arange(16, dtype="<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def encoded(ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def bare(ds: Dataset, syntax: UID) -> bytes:
    """The data set alone, without preamble and file meta information."""
    encoding = ENCODINGS[syntax]
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = encoding.implicit, encoding.little
    write_dataset(buffer, ds)
    return buffer.getvalue()


def why(data: bytes, *, pixels: bool = True) -> str:
    found = part10.read(data, pixels=pixels)
    return found.why if isinstance(found, Unreadable) else "read"


def whole(data: bytes, *, pixels: bool = True) -> Dataset:
    found = part10.read(data, pixels=pixels)
    assert isinstance(found, Dataset), found
    return found


# --- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_uncompressed_syntax_is_read_as_pydicom_reads_it(syntax: UID) -> None:
    data = encoded(small_image(), syntax)
    found = whole(data)
    assert found == pydicom.dcmread(BytesIO(data))
    assert found.PatientName == "Müller^Jörg"
    assert found.file_meta.TransferSyntaxUID == syntax


def test_without_pixels_everything_before_them_is_read() -> None:
    found = whole(encoded(small_image()), pixels=False)
    assert "PixelData" not in found
    assert found.Rows == 4


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("before_pixels", [8, part10.HEAD_BYTES - 400, part10.HEAD_BYTES, 2 * part10.HEAD_BYTES])
def test_a_header_is_read_from_the_file_wherever_its_pixels_begin(
    tmp_path: Path, syntax: UID, before_pixels: int
) -> None:
    ds = small_image()
    ds.EncapsulatedDocument = bytes(before_pixels)
    ds.PixelData = bytes(2 * part10.HEAD_BYTES)
    path = tmp_path / "image.dcm"
    path.write_bytes(encoded(ds, syntax))
    found = part10.read(path, pixels=False)
    assert found == pydicom.dcmread(path, stop_before_pixels=True)


def test_a_report_longer_than_a_head_is_read_whole(tmp_path: Path) -> None:
    ds = measured(*(group(*cross()) for _ in range(120)))
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(ds))
    assert path.stat().st_size > part10.HEAD_BYTES
    assert part10.read(path, pixels=False) == pydicom.dcmread(path)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_of_named_elements_only_these_are_kept_with_their_character_set(syntax: UID) -> None:
    found = part10.read(encoded(small_image(), syntax), only={0x00100010, 0x0040A043})
    assert isinstance(found, Dataset)
    assert [element.keyword for element in found] == ["SpecificCharacterSet", "PatientName", "ConceptNameCodeSequence"]
    assert found.PatientName == "Müller^Jörg"
    assert found.ConceptNameCodeSequence[0].CodeValue == "x"


def test_a_broken_sequence_that_nobody_asked_for_is_seen_all_the_same() -> None:
    data = encoded(small_image())
    broken = data.replace(b"\x08\x00\x00\x01SH\x02\x00", b"\x08\x00\x00\x01SH\xff\x7f")
    assert broken != data
    found = part10.read(broken, only={0x00100010})
    assert isinstance(found, Unreadable)


@pytest.mark.parametrize("syntax", list(ENCODINGS))
def test_a_data_set_without_preamble_and_meta_is_read_and_its_syntax_found_out(syntax: UID) -> None:
    found = whole(bare(small_image(), syntax))
    assert found.SOPInstanceUID == "1.2.3"
    assert found.file_meta.TransferSyntaxUID == syntax


def test_a_file_without_preamble_but_with_meta_is_read() -> None:
    assert whole(encoded(small_image())[132:]).SOPInstanceUID == "1.2.3"


def test_the_letters_dicm_inside_a_data_set_are_no_preamble() -> None:
    ds = small_image()
    del ds.SpecificCharacterSet
    ds.PatientName = "x"
    data = bare(ds, ExplicitVRLittleEndian)
    at = 128 - data.index(b"PN") - 4
    ds.PatientName = "x" * at + "DICM" + "y" * (at % 2)
    data = bare(ds, ExplicitVRLittleEndian)
    assert data[128:132] == b"DICM"
    assert whole(data).SOPInstanceUID == "1.2.3"


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no DICOM")
    found = part10.read(path)
    assert isinstance(found, Unreadable)
    assert found.source == str(path)


# --- what is set aside -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"plain text, long enough to hold an element",
        b'{"00080018": {}}',
        b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
        b"<?xml version='1.0'?><a/>",
        b"PK\x03\x04" + b"\0" * 60,
        b"\xff\xd8\xff\xe0" + b"\0" * 60,
    ],
)
def test_other_files_are_not_dicom(data: bytes) -> None:
    assert why(data) == "not_dicom"


def test_compressed_pixels_of_unknown_syntax_are_set_aside() -> None:
    ds = small_image()
    ds.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    data = encoded(ds, JPEGLSLossless)
    at = data.index(b"\x02\x00\x10\x00UI")
    length = struct.unpack_from("<H", data, at + 6)[0]
    assert why(data[:at] + data[at + 8 + length :]) == "no_transfer_syntax"


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(SYNTAXES))
def test_a_file_that_ends_anywhere_is_truncated_unless_it_ends_between_elements(
    data: st.DataObject, syntax: UID
) -> None:
    whole_file = encoded(small_image(), syntax)
    cut = data.draw(st.integers(132, len(whole_file) - 1))
    found = part10.read(whole_file[:cut])
    if isinstance(found, Unreadable):
        assert found.why == "truncated"
        assert found.detail
    else:
        assert "PixelData" not in found


def test_a_file_cut_in_its_pixels_still_has_a_header() -> None:
    data = encoded(small_image())[:-5]
    assert why(data) == "truncated"
    assert whole(data, pixels=False).Rows == 4


def test_a_length_beyond_the_file_is_truncated_and_takes_no_memory() -> None:
    data = bytearray(encoded(small_image()))
    at = data.index(b"OW\0\0") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    assert why(bytes(data)) == "truncated"


def test_an_item_longer_than_its_sequence_is_bad_encoding() -> None:
    data = bytearray(encoded(small_image()))
    at = data.index(b"\xfe\xff\x00\xe0") + 4
    (length,) = struct.unpack_from("<I", data, at)
    data[at : at + 4] = struct.pack("<I", length + 8)
    assert why(bytes(data)) == "bad_encoding"


def test_a_deflated_bomb_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part10, "MAX_INFLATED_BYTES", 1 << 20)
    ds = small_image()
    ds.PixelData = bytes(2 << 20)
    assert why(encoded(ds, DeflatedExplicitVRLittleEndian)) == "too_large"


def test_a_broken_deflate_stream_is_set_aside() -> None:
    data = encoded(small_image(), DeflatedExplicitVRLittleEndian)
    start = len(data) - len(zlib.compress(b"")) - 40
    assert why(data[:start] + b"\xff" * 40) in ("bad_encoding", "truncated")


# --- depth -----------------------------------------------------------------------------------------------


def element(tag: bytes, vr: bytes, value: bytes) -> bytes:
    if vr == b"SQ":
        return tag + b"SQ\0\0" + struct.pack("<I", len(value)) + value
    return tag + vr + struct.pack("<H", len(value)) + value


def deep(levels: int, *, undefined: bool) -> bytes:
    """A content sequence in a content sequence and so on; the innermost item has a ValueType."""
    tag, item = b"\x40\x00\x30\xa7", b"\xfe\xff\x00\xe0"
    inner = element(b"\x40\x00\x40\xa0", b"CS", b"NUM ")
    if undefined:
        begin = tag + b"SQ\0\0" + b"\xff" * 4 + item + b"\xff" * 4
        end = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
        nested = begin * levels + inner + end * levels
    else:
        pieces = []
        length = len(inner)
        for _ in range(levels):
            pieces.append(tag + b"SQ\0\0" + struct.pack("<I", length + 8) + item + struct.pack("<I", length))
            length += 20
        nested = b"".join(reversed(pieces)) + inner
    uids = element(b"\x08\x00\x16\x00", b"UI", b"1.2.840.10008.5.1.4.1.1.88.34\0")
    uids += element(b"\x08\x00\x18\x00", b"UI", b"1.2.3\0") + element(b"\x20\x00\x0d\x00", b"UI", b"1.2\0")
    return uids + nested


@pytest.mark.parametrize("undefined", [True, False])
def test_ten_thousand_nested_sequences_are_read(undefined: bool) -> None:
    ds = whole(deep(10_000, undefined=undefined))
    found = read_object(ds, "here")
    assert isinstance(found, ObjectReading)
    assert [bookmark.kind for bookmark in found.bookmarks] == [Kind.NO_MEASUREMENT_GROUPS]


def test_sequences_hidden_in_unknown_elements_do_not_escape_the_count() -> None:
    nested = deep(2_000, undefined=True)
    at = nested.index(b"SQ")
    hidden = nested[:at] + b"UN" + nested[at + 2 :]
    found = part10.read(hidden)
    if isinstance(found, Dataset):
        assert isinstance(read_object(found, "here"), ObjectReading)
    else:
        assert found.why == "bad_encoding"


@pytest.mark.parametrize("undefined", [True, False])
def test_what_nests_deeper_than_any_report_is_set_aside(undefined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part10, "MAX_DEPTH", 500)
    assert why(deep(501, undefined=undefined)) == "too_deep"
    assert why(deep(500, undefined=undefined)) == "read"


# --- our walk against pydicom's --------------------------------------------------------------------------

values = st.one_of(
    st.builds(lambda v: ("PatientComments", v), st.text("abc äöü", max_size=9)),
    st.builds(lambda v: ("GraphicData", v), st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=4)),
    st.builds(lambda v: ("Rows", v), st.integers(0, 65535)),
    st.builds(lambda v: ("UID", v), st.sampled_from(["1.2", "1.2.3"])),
    st.builds(lambda v: ("EncapsulatedDocument", v), st.binary(max_size=8).map(lambda b: b + bytes(len(b) % 2))),
)


def filled(pairs: list[tuple[str, object]], below: list[Dataset] | None, undefined: bool) -> Dataset:
    ds = Dataset()
    for keyword, one in pairs:
        setattr(ds, keyword, one)
    if below is not None:
        ds.ContentSequence = Sequence(below)
        ds["ContentSequence"].is_undefined_length = undefined
    for item in below or []:
        item.is_undefined_length_sequence_item = undefined
    return ds


data_sets = st.recursive(
    st.builds(filled, st.lists(values, max_size=4), st.none(), st.booleans()),
    lambda inner: st.builds(filled, st.lists(values, max_size=3), st.lists(inner, max_size=3), st.booleans()),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(data_sets, st.sampled_from(list(ENCODINGS)))
def test_the_walk_without_recursion_gives_pydicoms_data_set(ds: Dataset, syntax: UID) -> None:
    ds.SpecificCharacterSet, ds.SOPInstanceUID = "ISO_IR 192", "1.2.3"
    data = bare(ds, syntax)
    encoding = ENCODINGS[syntax]
    expected = pydicom.filereader.read_dataset(BytesIO(data), encoding.implicit, encoding.little)
    found = build(data, 0, encoding, never, 100)
    assert (found.end, found.stopped) == (len(data), False)
    assert found.dataset == expected
    assert found.dataset.to_json() == expected.to_json()


# --- hostile bytes ---------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_changed_anywhere_never_raise_or_warn(data: st.DataObject) -> None:
    good = bytearray(encoded(measured(group(*cross())), data.draw(st.sampled_from(SYNTAXES[:3]))))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(132, len(good) - 1))] = data.draw(st.integers(0, 255))
    before = config.settings.reading_validation_mode
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = part10.read(bytes(good))
        if isinstance(found, Dataset):
            assert isinstance(read_object(found, "here"), ObjectReading | Unreadable)
    assert config.settings.reading_validation_mode == before


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_after_a_preamble_are_read_or_set_aside(noise: bytes) -> None:
    assert why(bytes(128) + b"DICM" + noise)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_changed_anywhere_in_an_image_never_raise(data: st.DataObject) -> None:
    good = bytearray(encoded(small_image(), data.draw(st.sampled_from(SYNTAXES[:3]))))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(132, len(good) - 1))] = data.draw(st.integers(0, 255))
    found = part10.read(bytes(good))
    if isinstance(found, Dataset):
        assert isinstance(headers_of(found, len(good)), tuple | Unreadable)
        assert isinstance(decode(found, ImageRef("", "", "")), Slice | Unreadable)
