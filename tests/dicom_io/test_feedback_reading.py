"""What feedback needs of an archive: whose a report is, what a note rejects, where the images lie."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept, ObserverContext, PersonObserverIdentifyingAttributes
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from deeplesion_miner.detection import Detection
from deeplesion_miner.feedback import feedback
from deeplesion_miner.feedback_reports import RejectionNote
from deeplesion_miner.results import Author, of_detections
from deeplesion_miner.studies import StudyQuery
from deeplesion_miner.types import Box, ImagePlane, Segment
from dicom_io.emit import emit
from dicom_io.emit.source import SourceImages
from dicom_io.feedback_reading import StudyReports, author_of, rejection_note, study_reports
from dicom_io.opening import ArchiveOpener, ArchiveSettings
from dicom_io.testbed.embedded import EmbeddedArchive, Faults
from tests.browser.phantom import newcomer

WHEN = datetime(2024, 3, 19, 12, 0)
QUALITY = codes.DCM.RejectedForQualityReasons
SAFETY = CodedConcept("113037", "DCM", "Rejected for Patient Safety Reasons")
EXPIRED = CodedConcept("113039", "DCM", "Data Retention Policy Expired")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with our report, its volumes and its key objects."""
    made = tmp_path_factory.mktemp("feedback") / "study"
    case = newcomer(made, small=True)
    for one in emit(case.result, case.source, ["dicom-sr", "volume-sr", "kos"]).objects:
        (made / f"{one.kind}.dcm").write_bytes(one.encoded)
    return made


@pytest.fixture
def study(folder: Path, tmp_path: Path) -> Path:
    """The study, to be added to and spoilt."""
    copy = tmp_path / "study"
    for path in folder.rglob("*.dcm"):
        (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    return copy


def note_of(path: Path, title: CodedConcept = QUALITY, reader: str = "Reader^Rita") -> KeyObjectSelectionDocument:
    """A note by highdicom that rejects the object of a file."""
    rejected = dcmread(path)
    observer = ObserverContext(codes.DCM.Person, PersonObserverIdentifyingAttributes(name=reader))
    content = KeyObjectSelection(title, referenced_objects=[rejected], observer_person_context=observer)
    note = KeyObjectSelectionDocument(
        evidence=[rejected],
        content=content,
        series_instance_uid="1.2.3.77",
        series_number=77,
        sop_instance_uid="1.2.3.77.1",
        instance_number=1,
    )
    note.ContentDate, note.ContentTime = "20240319", "120000"
    return note


def read(*paths: Path) -> list[StudyReports]:
    with ArchiveOpener(ArchiveSettings(paths=paths)) as opener, closing(opener.open()) as archive:
        return list(study_reports(archive, StudyQuery()))


def by_author(folder: Path, author: Author, path: Path) -> Dataset:
    """A report of one cross by another author."""
    images = [one for one in sorted(folder.rglob("*.dcm")) if dcmread(one, specific_tags=["Modality"]).Modality == "CT"]
    source = SourceImages.read(images)
    image = next(headers[0].ref for headers in source.headers.values())
    found = Detection(
        image,
        Box(20, 15, 40, 25),
        0.5,
        "m",
        "",
        Segment((20.0, 20.0), (40.0, 20.0)),
        Segment((30.0, 15.0), (30.0, 25.0)),
    )
    (result,) = of_detections([found], author, WHEN)
    (one,) = emit(result, source, ["dicom-sr"]).objects
    path.write_bytes(one.encoded)
    return dcmread(path)


# --- whose a report is -----------------------------------------------------------------------------------


def test_our_report_names_its_algorithm(folder: Path) -> None:
    assert author_of(dcmread(folder / "dicom-sr.dcm")) == Author("phantom reader", "1")


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        (Author("a model", "7.1", "maker"), Author("a model", "7.1")),
        (Author("a model", "", "maker"), Author("a model", "")),
        (Author("Doe^Jane", is_algorithm=False), Author("", "", is_algorithm=False)),
        (Author("", is_algorithm=False), Author("", "", is_algorithm=False)),
    ],
    ids=["an algorithm", "an algorithm without a version", "a reader", "nobody"],
)  # fmt: skip
def test_who_measured_is_read_back(folder: Path, tmp_path: Path, author: Author, expected: Author) -> None:
    assert author_of(by_author(folder, author, tmp_path / "one.dcm")) == expected


def test_a_report_of_another_maker_has_no_author_of_ours(folder: Path) -> None:
    report = dcmread(folder / "dicom-sr.dcm")
    report.Manufacturer = "Unspecified"
    assert author_of(report) is None
    del report.Manufacturer
    assert author_of(report) is None


# --- rejection notes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("title", "reason"), [(QUALITY, "quality"), (SAFETY, "patient_safety")])
def test_a_note_names_what_it_rejects_and_why(folder: Path, title: CodedConcept, reason: str) -> None:
    path = folder / "dicom-sr.dcm"
    assert rejection_note(note_of(path, title)) == RejectionNote(
        study_instance_uid=str(dcmread(path).StudyInstanceUID),
        series_instance_uid="1.2.3.77",
        sop_instance_uid="1.2.3.77.1",
        reason=reason,
        rejected=(str(dcmread(path).SOPInstanceUID),),
        reader="Reader^Rita",
        written_at="20240319120000",
    )


def test_what_has_only_expired_is_not_rejected(folder: Path) -> None:
    assert rejection_note(note_of(folder / "dicom-sr.dcm", EXPIRED)) is None


def test_key_objects_for_review_and_reports_reject_nothing(folder: Path) -> None:
    assert rejection_note(dcmread(folder / "kos.dcm")) is None
    assert rejection_note(dcmread(folder / "dicom-sr.dcm")) is None
    assert rejection_note(Dataset()) is None


# --- a study ---------------------------------------------------------------------------------------------


def test_a_study_gives_its_reports_and_the_planes_of_their_images(folder: Path) -> None:
    (found,) = read(folder)
    (recist,) = (one for one in found.reports if any(mark.long_axis for mark in one.bookmarks))
    assert recist.author == Author("phantom reader", "1")
    assert all(one.author is not None for one in found.reports)
    images = {(ref.sop_instance_uid, ref.frame_number) for mark in recist.bookmarks for ref in mark.images}
    assert found.planes.keys() == images
    assert all(isinstance(plane, ImagePlane) for plane in found.planes.values())
    assert (found.notes, found.unreadable) == ((), ())
    assert {row.verdict for row in feedback(found.reports, found.notes, found.planes).rows} == {"unreviewed"}


def test_an_archive_on_the_network_gives_the_same(folder: Path, tmp_path: Path) -> None:
    with EmbeddedArchive(folder) as served:
        settings = ArchiveSettings(address=served.address, store_folder=tmp_path)
        with ArchiveOpener(settings) as opener, closing(opener.open()) as archive:
            (found,) = study_reports(archive, StudyQuery())
    (expected,) = read(folder)
    assert (found.reports, found.planes, found.notes) == (expected.reports, expected.planes, expected.notes)
    fetched = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    images = len({ref.sop_instance_uid for one in found.reports for mark in one.bookmarks for ref in mark.images})
    assert len(fetched) < len(list(folder.rglob("*.dcm"))) and images > 0, "images that nobody measured stay there"


def test_a_note_of_the_study_rejects_its_report(study: Path) -> None:
    note_of(study / "dicom-sr.dcm").save_as(study / "note.dcm")
    (found,) = read(study)
    rows = feedback(found.reports, found.notes, found.planes).rows
    assert {(row.verdict, row.reason, row.reader) for row in rows} == {("rejected", "quality", "Reader^Rita")}


def test_a_study_without_a_report_of_ours_is_passed_over(study: Path) -> None:
    for kind in ("dicom-sr", "volume-sr"):
        report = dcmread(study / f"{kind}.dcm")
        report.Manufacturer = "another"
        report.save_as(study / f"{kind}.dcm")
    assert read(study) == []


def test_a_study_in_which_ours_pass_on_what_a_person_measured_is_passed_over(study: Path) -> None:
    by_author(study, Author("Doe^Jane", is_algorithm=False), study / "dicom-sr.dcm")
    (study / "volume-sr.dcm").unlink()
    assert read(study) == []


def test_images_that_are_gone_leave_verdicts_without_millimetres(study: Path) -> None:
    (before,) = read(study)
    gone = {uid for uid, _ in before.planes}
    for path in list(study.rglob("*.dcm")):
        if str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) in gone:
            path.unlink()
    (found,) = read(study)
    assert found.planes == {}
    assert {(one.source, one.why) for one in found.unreadable} == {(uid, "not_delivered") for uid in gone}


def test_a_note_that_the_archive_does_not_deliver_is_told(study: Path, tmp_path: Path) -> None:
    note_of(study / "dicom-sr.dcm").save_as(study / "note.dcm")
    with EmbeddedArchive(study, faults=Faults(withheld=frozenset({"1.2.3.77.1"}))) as served:
        settings = ArchiveSettings(address=served.address, store_folder=tmp_path / "objects", late_s=0.1)
        with ArchiveOpener(settings) as opener, closing(opener.open()) as archive:
            (found,) = study_reports(archive, StudyQuery())
    assert found.notes == ()
    assert [(one.source, one.why) for one in found.unreadable] == [("1.2.3.77.1", "not_delivered")]


def test_a_note_that_is_broken_is_told(study: Path) -> None:
    note = note_of(study / "dicom-sr.dcm")
    note.save_as(study / "note.dcm")
    whole = (study / "note.dcm").read_bytes()
    with ArchiveOpener(ArchiveSettings(paths=(study,))) as opener, closing(opener.open()) as archive:
        assert list(archive.studies(StudyQuery()))
        (study / "note.dcm").write_bytes(whole[:-20])
        (found,) = study_reports(archive, StudyQuery())
    assert [(one.source, one.why) for one in found.unreadable] == [("1.2.3.77.1", "truncated")]
