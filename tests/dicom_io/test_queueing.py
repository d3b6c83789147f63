"""Files into an outbox: what can be sent is queued, what cannot is told, and one bad file keeps no other back."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from little_objects import ct, sr
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from deeplesion_miner.types import Unreadable
from dicom_io.attributes import quiet
from dicom_io.delivery_rules import Event, Happening
from dicom_io.outbox import Outbox
from dicom_io.queueing import Queued, queue_files, read_object

PACS = "PACS@archive:104"
TOO_LONG = "1." * 40 + "1"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox.open(tmp_path / "outbox") as opened:
        yield opened


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    with quiet():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_whose_number_the_patients_is_goes_along(outbox: Outbox, tmp_path: Path) -> None:
    report = sr(1)
    report.IssuerOfPatientID = "HOSPITAL A "
    (tmp_path / "one.dcm").write_bytes(encoded(report))
    (queued,) = queue_files(outbox, [tmp_path / "one.dcm"], PACS, 7.0)
    assert isinstance(queued, Queued)
    (parcel,) = outbox.parcels()
    assert (parcel.patient_id, parcel.issuer_of_patient_id) == ("PAT0001", "HOSPITAL A")


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("uid", [TOO_LONG, "1.2.x", "*", "1.2/../3", "1.2 3"])
def test_an_object_whose_uid_no_message_can_hold_is_told_and_not_queued(keyword: str, uid: str) -> None:
    report = sr(1)
    with quiet():
        setattr(report, keyword, uid)
    found = read_object(encoded(report), "a report")
    assert isinstance(found, Unreadable)
    assert found.why == "bad_value"
    assert keyword in found.detail


EXPLICIT, DEFLATED = ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian
LAST = 0
"""Stands for the length without the last element, ImplementationVersionName (0002,0013)."""


@pytest.mark.parametrize(
    ("syntax", "wrong_bytes"),
    [*((EXPLICIT, one) for one in (LAST, -4, 8, 1_000_000)), *((DEFLATED, one) for one in (-4, 8, 1_000_000))],
)
def test_a_file_whose_data_set_begins_elsewhere_than_its_header_says_is_told_and_not_sent(
    syntax: UID, wrong_bytes: int
) -> None:
    report = sr(1)
    report.file_meta.TransferSyntaxUID = syntax
    good = encoded(report)
    (length,) = struct.unpack_from("<L", good, 140)
    wrong_bytes = wrong_bytes or good.index(b"\x02\x00\x13\x00SH") - 144 - length
    assert not isinstance(read_object(good, "a report"), Unreadable)
    found = read_object(good[:140] + struct.pack("<L", length + wrong_bytes) + good[144:], "a report")
    assert isinstance(found, Unreadable)
    assert found.why == "not_dicom"
    assert "(0002,0000)" in found.detail


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_queued(outbox: Outbox, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "a.dcm").symlink_to("/proc/self/mem")
    (folder / "b.dcm").write_bytes(encoded(sr(1)))
    bad, good = queue_files(outbox, [folder], PACS, 0.0)
    assert isinstance(bad, Unreadable) and bad.why == "not_opened" and "a.dcm" in bad.source
    assert isinstance(good, Queued)


@pytest.mark.parametrize("lost_bytes", [2, 300])
@pytest.mark.parametrize("encapsulated", [False, True])
def test_a_file_that_was_cut_in_its_pixels_is_told_and_not_sent(encapsulated: bool, lost_bytes: int) -> None:
    image = ct(1, 1)
    if encapsulated:
        image.file_meta.TransferSyntaxUID = JPEG2000Lossless
        image.PixelData = encapsulate([bytes(400)])
        image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    whole = encoded(image)
    assert not isinstance(read_object(whole, "whole"), Unreadable)
    found = read_object(whole[:-lost_bytes], "cut")
    assert isinstance(found, Unreadable)
    assert found.why == "truncated"


def with_another_header(dataset: Dataset) -> bytes:
    """The same object as another program writes it: preamble, version and implementation differ."""
    again = dcmread(BytesIO(encoded(dataset)))
    again.preamble = b"other".ljust(128, b"\0")
    again.file_meta.ImplementationVersionName = "ANOTHER"
    again.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    return encoded(again)


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_file_of_which_only_the_header_differs_is_the_same_object(
    outbox: Outbox, tmp_path: Path, is_forgotten: bool
) -> None:
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    first.write_bytes(encoded(sr(1)))
    second.write_bytes(with_another_header(sr(1)))
    assert first.read_bytes() != second.read_bytes()
    list(queue_files(outbox, [first], PACS, 0.0))
    if is_forgotten:
        for event in (Event.STORED, Event.COMMITTED):
            outbox.record([(one, Happening(event)) for one in outbox.parcels()], 1.0)
        assert outbox.forget_delivered()[0] == 1
    (queued,) = queue_files(outbox, [second], PACS, 2.0)
    assert queued == Queued(second, sr(1).SOPInstanceUID, "committed" if is_forgotten else "queued")
    (parcel,) = outbox.parcels()
    assert is_forgotten or outbox.content(parcel) == first.read_bytes(), "the first file is kept"


def test_the_same_object_of_an_older_outbox_is_known_by_its_file(outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "first.dcm").write_bytes(encoded(sr(1)))
    (tmp_path / "second.dcm").write_bytes(with_another_header(sr(1)))
    list(queue_files(outbox, [tmp_path / "first.dcm"], PACS, 0.0))
    with closing(sqlite3.connect(outbox.folder / "outbox.sqlite")) as database, database:
        database.execute("UPDATE object SET stored_sha256 = ''")
    (queued,) = queue_files(outbox, [tmp_path / "second.dcm"], PACS, 0.0)
    assert isinstance(queued, Queued)


@pytest.mark.parametrize("what", ["word", "syntax"])
def test_another_data_set_or_another_transfer_syntax_is_another_object(
    outbox: Outbox, tmp_path: Path, what: str
) -> None:
    other = sr(1)
    if what == "word":
        other.StudyDescription = "another"
    else:
        other.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    (tmp_path / "first.dcm").write_bytes(encoded(sr(1)))
    (tmp_path / "second.dcm").write_bytes(encoded(other))
    list(queue_files(outbox, [tmp_path / "first.dcm"], PACS, 0.0))
    (left_out,) = queue_files(outbox, [tmp_path / "second.dcm"], PACS, 0.0)
    assert isinstance(left_out, Unreadable)
    assert left_out.why == "conflicting_copies"
