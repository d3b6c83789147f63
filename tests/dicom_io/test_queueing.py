"""Files into an outbox: what can be sent is queued, what cannot is told, and one bad file keeps no other back."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from little_objects import ct, sr
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from deeplesion_miner.types import Unreadable
from dicom_io.attributes import quiet
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
