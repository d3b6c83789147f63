"""Reports on real CT of many makers: independent validators find in them nothing that the images do not have."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pydicom
import pytest
from dicom_validators import dcentvfy, dciodvfy, dsrdump, tid1500reader
from real_series import MADE, SERIES, crossed, image_paths, without_values

from deeplesion_miner.results import Author, ObjectRef, ReportedLesion, Result, coded
from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Bookmark, Kind, Segment
from dicom_io import lint, part10
from dicom_io.dialects import read_object
from dicom_io.emit import Emission, EmitSettings, emit, envelope
from dicom_io.emit.source import SourceImages

pytestmark = pytest.mark.real
KINDS = ("dicom-sr", "dicom-seg", "volume-sr", "kos")
EMPTY = "OK only If Type 2"
"""What it says of an attribute that a report must have and an image does not; `envelope.REQUIRED` are of type 2."""
LACKING = "Attribute present in one instance but not the other"
"""What dcentvfy says of attributes of patient and study that are not copied: of staff, free text, ethnic group."""


def stored(emission: Emission, folder: Path) -> dict[str, Path]:
    paths = {}
    for one in emission.objects:
        paths[one.kind] = folder / f"{one.kind}.dcm"
        paths[one.kind].write_bytes(one.encoded)
    return paths


def crosses(path: Path) -> list[Bookmark]:
    reading = read_object(part10.read(path), str(path))
    assert isinstance(reading, ObjectReading)
    return [one for one in reading.bookmarks if one.kind is Kind.BIDIRECTIONAL]


def same_place(found: Bookmark, lesion: ReportedLesion) -> bool:
    ends = []
    for axis, drawn in ((found.long_axis, lesion.long_axis), (found.short_axis, lesion.short_axis)):
        assert axis is not None and isinstance(axis.segment, Segment) and drawn is not None
        ends += list(zip((*axis.segment.start, *axis.segment.end), (*drawn.start, *drawn.end), strict=True))
    return all(abs(one - other) < 0.01 for one, other in ends)


@pytest.mark.parametrize("pattern", SERIES)
def test_validators_find_nothing_that_the_images_do_not_have(real_data: Path, pattern: str, tmp_path: Path) -> None:
    images = image_paths(real_data, pattern)
    source = SourceImages.read(images)
    result = crossed(source)
    assert result.lesions
    paths = stored(emit(result, source, KINDS, EmitSettings(planar_boxes=True)), tmp_path)
    assert {"dicom-sr", "volume-sr", "kos"} <= set(paths)
    of_images = {without_values(finding) for image in images for finding in dciodvfy(image)}
    for kind in ("dicom-sr", "volume-sr", "kos"):
        assert [found for found in dciodvfy(paths[kind]) if without_values(found) not in of_images] == []
        assert dsrdump(paths[kind])
    of_images_together = {finding.partition(" for file ")[0] for finding in dcentvfy(images)}
    for finding in dcentvfy([*images, *paths.values()]):
        (keyword,) = re.findall(r"Element=<(\w+)>", finding)
        is_ours = (
            finding.partition(" for file ")[0] not in of_images_together and keyword != "AccessionNumber"
        )  # It looks for that in series.
        is_lacking = LACKING in finding and keyword not in {*envelope.PATIENT, *envelope.STUDY}
        is_empty = EMPTY in finding and keyword in envelope.REQUIRED
        assert not is_ours or is_lacking or is_empty, finding


@pytest.mark.parametrize("pattern", SERIES)
def test_our_reader_and_dcmqi_read_the_crosses_back(real_data: Path, pattern: str, tmp_path: Path) -> None:
    source = SourceImages.read(image_paths(real_data, pattern))
    result = crossed(source)
    paths = stored(emit(result, source, KINDS), tmp_path)
    found = crosses(paths["dicom-sr"])
    assert [one.images for one in found] == [(lesion.image,) for lesion in result.lesions]
    assert all(same_place(one, lesion) for one, lesion in zip(found, result.lesions, strict=True))
    read = tid1500reader(paths["dicom-sr"], tmp_path)["Measurements"]
    numbers = [[float(item["value"]) for item in group["measurementItems"]] for group in read]
    stated = [[axis.stated.value for axis in (one.long_axis, one.short_axis) if axis and axis.stated] for one in found]
    assert numbers == stated
    uids = [group["TrackingUniqueIdentifier"] for group in read]
    assert uids == [one.tracking_uid for one in found]
    volumes = tid1500reader(paths["volume-sr"], tmp_path)["Measurements"]
    assert [group["TrackingUniqueIdentifier"] for group in volumes] == uids


READERS = (
    ("ohif_phantom/g1_bidirectional_3.13.dcm", "ohif_phantom/ct_B"),
    ("ohif_phantom/g5_bidirectional_3.11.dcm", "ohif_phantom/ct_B"),
    ("ohif_phantom/g6_resave_of_ours_3.13.dcm", "ohif_phantom/ct_B"),
    ("ohif_phantom/g8_prone_square_3.13.dcm", "ohif_phantom/ct_D"),
)


@pytest.mark.parametrize(("report", "images"), READERS)
def test_a_readers_own_marks_become_a_report_that_the_viewer_can_edit(
    real_data: Path, report: str, images: str, tmp_path: Path
) -> None:
    marks = crosses(real_data / report)
    assert marks
    source = SourceImages.read(sorted((real_data / images).glob("*.dcm")))
    lesions = tuple(of_mark(number, mark) for number, mark in enumerate(marks, start=1))
    came_from = marks[0].source
    predecessor = ObjectRef(
        came_from.study_instance_uid,
        came_from.series_instance_uid,
        came_from.sop_instance_uid,
        came_from.sop_class_uid,
    )
    author = Author(marks[0].reader, is_algorithm=False)
    result = Result(came_from.study_instance_uid, author, lesions, MADE, (predecessor,))
    emission = emit(result, source, ("dicom-sr",))
    assert emission.left_out == ()
    path = stored(emission, tmp_path)["dicom-sr"]
    assert lint.check_before_sending(path.read_bytes()) == ()
    found = crosses(path)
    assert all(same_place(one, lesion) for one, lesion in zip(found, lesions, strict=True))
    assert [one.label for one in found] == [lesion.label for lesion in lesions]
    assert found[0].source.predecessors == (came_from.sop_instance_uid,)
    assert dciodvfy(path) == []


def of_mark(number: int, mark: Bookmark) -> ReportedLesion:
    assert mark.long_axis is not None and mark.short_axis is not None
    assert isinstance(mark.long_axis.segment, Segment) and isinstance(mark.short_axis.segment, Segment)
    (image,) = mark.images
    return ReportedLesion(
        key=mark.key,
        image=image,
        label=mark.label or f"Lesion {number}",
        finding=mark.finding or coded("finding", "lesion"),
        site=mark.finding_site,
        long_axis=mark.long_axis.segment,
        short_axis=mark.short_axis.segment,
        tracking_uid=mark.tracking_uid,
    )


def test_a_japanese_name_survives_in_a_report(real_data: Path) -> None:
    image = pydicom.dcmread(real_data / "archive_population" / "japanese_charset_cr.dcm", stop_before_pixels=True)
    report = pydicom.Dataset()
    envelope.put_patient_and_study(report, image)
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.3"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, report, enforce_file_format=True)
    again = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    assert str(again.PatientName) == str(image.PatientName)
    assert any(ord(character) > 0x3000 for character in str(again.PatientName))
