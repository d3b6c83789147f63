"""Reads from an archive what feedback needs: our reports, readers' re-saves, rejection notes, planes of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.feedback_marks import Planes
from deeplesion_miner.feedback_reports import ReadReport, RejectionNote
from deeplesion_miner.results import Author
from deeplesion_miner.studies import ObjectReading, StudyListing, StudyQuery, StudyRef
from deeplesion_miner.types import ImagePlane, ImageRef, Unreadable
from dicom_io import dialects, part10
from dicom_io.archive import TransportArchive
from dicom_io.attributes import items, quiet, text
from dicom_io.dialects.content_tree import ContentTree, code_of, content_tree, is_concept
from dicom_io.emit.envelope import MANUFACTURER, MODEL_NAME

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
KEY_OBJECT_MODALITY = "KO"


@dataclass(frozen=True)
class StudyReports:
    """All that one study holds for feedback."""

    study: StudyRef
    reports: tuple[ReadReport, ...]
    notes: tuple[RejectionNote, ...]
    planes: Planes
    unreadable: tuple[Unreadable, ...]
    """Reports and notes that could not be read, and images of our lesions whose plane is not known."""


def study_reports(archive: TransportArchive, query: StudyQuery) -> Iterator[StudyReports]:
    """Every study that holds a report of a model of ours. Raises `ArchiveError` where the archive is away."""
    for study in archive.studies(query):
        found = _of_study(archive, archive.listing(study))
        if any(report.is_of_model for report in found.reports):
            yield found


def _of_study(archive: TransportArchive, listing: StudyListing) -> StudyReports:
    reports: list[ReadReport] = []
    notes: list[RejectionNote] = []
    unreadable: list[Unreadable] = []
    for answer in archive.measurements(listing):
        if isinstance(answer, Unreadable):
            unreadable.append(answer)
            continue
        report = _report(archive, answer)
        if report is not None:
            reports.append(report)
    if not any(report.is_of_model for report in reports):
        return StudyReports(listing.study, (), (), {}, ())
    for note in _notes(archive, listing):
        if isinstance(note, RejectionNote):
            notes.append(note)
        else:
            unreadable.append(note)
    planes, unknown = _planes(archive, reports)
    return StudyReports(listing.study, tuple(reports), tuple(notes), planes, (*unreadable, *unknown))


# --- reports ---------------------------------------------------------------------------------------------


def _report(archive: TransportArchive, reading: ObjectReading) -> ReadReport | None:
    """None for what is no report: a segmentation, a presentation state."""
    path = archive.file(reading.source.sop_instance_uid)
    dataset = None if path is None else part10.read(path, pixels=False)
    if dataset is None or isinstance(dataset, Unreadable):
        return None
    return ReadReport(reading.source, reading.bookmarks, author_of(dataset))


def author_of(dataset: Dataset) -> Author | None:
    """Who measured, of a report that we wrote (Algorithm Identification, PS3.16 TID 4019); None for another's.

    The first algorithm that the report names, else the device that observed; without either, or where that is this
    software, it passes on what a person measured.
    """
    with quiet():
        if text(dataset, "Manufacturer") != MANUFACTURER:
            return None
        tree = content_tree(dataset)
        facts = schemas.load("feedback")["algorithm"]
        name, version = (_first_text(tree, facts["name"]) or _device(tree)), _first_text(tree, facts["version"])
    return Author(name, version, is_algorithm=bool(name))


def _device(tree: ContentTree) -> str:
    name = _first_text(tree, schemas.load("feedback")["algorithm"]["device"])
    return "" if name == MODEL_NAME else name


def _first_text(tree: ContentTree, concept: list[str]) -> str:
    for item in tree.nodes:
        if item.name is not None and [item.name.value, item.name.scheme] == concept[:2]:
            return text(item.dataset, "TextValue")
    return ""


# --- rejection notes -------------------------------------------------------------------------------------


def _notes(archive: TransportArchive, listing: StudyListing) -> Iterator[RejectionNote | Unreadable]:
    study_uid = listing.study.study_instance_uid
    for series in listing.series:
        if series.modality != KEY_OBJECT_MODALITY:
            continue
        uids = [one.sop_instance_uid for one in archive.instances(study_uid, series.series_instance_uid)]
        archive.headers(study_uid, series.series_instance_uid, uids)
        for uid in uids:
            path = archive.file(uid)
            if path is None:
                yield Unreadable(uid, "not_delivered", detail="the archive lists it and does not deliver it")
                continue
            dataset = part10.read(path, source=uid)
            note = dataset if isinstance(dataset, Unreadable) else rejection_note(dataset)
            if note is not None:
                yield note


def rejection_note(dataset: Dataset) -> RejectionNote | None:
    """The rejection note that a key object selection is; None for one with another title, and for other objects."""
    with quiet():
        title = code_of(dataset, "ConceptNameCodeSequence")
        if text(dataset, "SOPClassUID") != KEY_OBJECT_SELECTION or title is None:
            return None
        words = {(value, scheme): word for word, (value, scheme, _) in schemas.load("feedback")["rejection"].items()}
        reason = words.get((title.value, title.scheme))
        if reason is None:
            return None
        tree = content_tree(dataset)
        named = [
            text(sop, "ReferencedSOPInstanceUID")
            for item in tree.nodes
            for sop in items(item.dataset, "ReferencedSOPSequence")
        ]
        readers = [text(item.dataset, "PersonName") for item in tree.nodes if is_concept(item.name, "reader")]
        return RejectionNote(
            study_instance_uid=text(dataset, "StudyInstanceUID"),
            series_instance_uid=text(dataset, "SeriesInstanceUID"),
            sop_instance_uid=text(dataset, "SOPInstanceUID"),
            reason=reason,
            rejected=tuple(uid for uid in dict.fromkeys(named) if uid),
            reader=next((reader for reader in readers if reader), ""),
            written_at=dialects.content_datetime(dataset),
        )


# --- planes ----------------------------------------------------------------------------------------------


def _planes(archive: TransportArchive, reports: Iterable[ReadReport]) -> tuple[Planes, tuple[Unreadable, ...]]:
    """Planes of all images that the reports measure on; images of our models' lesions that are not to be had."""
    of_ours = _measured_on(report for report in reports if report.is_of_model)
    series: dict[tuple[str, str], set[str]] = {}
    for ref in of_ours | _measured_on(reports):
        series.setdefault((ref.study_instance_uid, ref.series_instance_uid), set()).add(ref.sop_instance_uid)
    planes: dict[tuple[str, int], ImagePlane] = {}
    for (study_uid, series_uid), uids in sorted(series.items()):
        for uid, headers in archive.headers(study_uid, series_uid, sorted(uids)).items():
            for header in () if isinstance(headers, Unreadable) else headers:
                if isinstance(header.plane, ImagePlane):
                    planes[uid, header.ref.frame_number] = header.plane
    unknown = {ref.sop_instance_uid for ref in of_ours if (ref.sop_instance_uid, ref.frame_number) not in planes}
    detail = "the image of a lesion: changes in millimetres are unknown"
    return planes, tuple(Unreadable(uid, "not_delivered", detail=detail) for uid in sorted(unknown))


def _measured_on(reports: Iterable[ReadReport]) -> set[ImageRef]:
    return {ref for report in reports for one in report.bookmarks if one.long_axis is not None for ref in one.images}
