"""Earlier reports of ours in a study: which one says the same already, and which ones a new one corrects.

Nothing is remembered for it: what lies in the archive, or is on its way there, and the UIDs that reports are given
decide. So the same content is the same report however often it is emitted, and another content follows the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.results import OURSELVES, ObjectRef, Result, moment
from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Unreadable
from dicom_io import part10
from dicom_io.attributes import items, quiet, text
from dicom_io.dialects import read_object
from dicom_io.dialects.content_tree import code_of
from dicom_io.emit.identity import report_uid
from dicom_io.feedback_reading import author_of


@dataclass(frozen=True)
class EarlierReport:
    """A report of crosses that we wrote for an algorithm."""

    ref: ObjectRef
    algorithm: str
    image_series: frozenset[str]
    """Series Instance UIDs of the images that it measures on."""
    predecessors: tuple[ObjectRef, ...]
    """In the order in which reports name them: by SOP Instance UID."""
    made_at: datetime | None
    """None where its date and time are none."""


@dataclass(frozen=True)
class Following:
    """A result in its place among the earlier reports."""

    result: Result
    """With the predecessors that its report names; with the time of the report that says the same, if there is one."""
    is_told: bool = False
    """Whether an earlier report says the same."""
    corrects: tuple[str, ...] = ()
    """SOP Instance UIDs of the reports that it newly corrects."""
    corrected_by: tuple[str, ...] = ()
    """Of the last reports that followed the one that says the same."""


def follow(result: Result, earlier: Iterable[EarlierReport], written_with: str) -> Following:
    """The result after the earlier reports of its algorithm; as it is where there are none.

    A report that says the same is that report again, whatever came after it. Else the result follows the reports on
    any of its image series that no other report of ours names, since a model may look at other series by themselves.
    """
    ours = {one.ref.sop_instance_uid: one for one in earlier if one.ref.study_instance_uid == result.study_instance_uid}
    same = {uid: one for uid, one in sorted(ours.items()) if one.algorithm == _plain(result.author.name)}
    named = {ref.sop_instance_uid for uid, one in ours.items() for ref in one.predecessors if ref != one.ref}
    told = [one for uid, one in same.items() if report_uid(result, one.predecessors, written_with) == uid]
    if told:
        last = next((one for one in told if one.ref.sop_instance_uid not in named), told[0])
        again = replace(result, predecessors=last.predecessors, made_at=last.made_at or result.made_at)
        return Following(again, is_told=True, corrected_by=_after(last, same.values()))
    series = {lesion.image.series_instance_uid for lesion in result.lesions}
    tips = [one.ref for uid, one in same.items() if uid not in named and one.image_series & series]
    if not tips:
        return Following(result)
    return Following(replace(result, predecessors=tuple(tips)), corrects=tuple(ref.sop_instance_uid for ref in tips))


def _after(report: EarlierReport, others: Iterable[EarlierReport]) -> tuple[str, ...]:
    """The reports that follow one, directly or not, and that none of them follows in turn."""
    by_uid = {one.ref.sop_instance_uid: one for one in others}
    found: set[str] = set()
    waiting = {report.ref.sop_instance_uid}
    while waiting:
        waiting = {
            uid
            for uid, one in by_uid.items()
            if uid not in found and any(ref.sop_instance_uid in waiting for ref in one.predecessors)
        }
        found |= waiting
    named = {ref.sop_instance_uid for uid in found for ref in by_uid[uid].predecessors}
    return tuple(sorted(found - named - {report.ref.sop_instance_uid}))


def earlier_reports(paths: Iterable[Path]) -> tuple[EarlierReport, ...]:
    """Those among files that are reports of crosses which we wrote for an algorithm; the others are passed over.

    A reader's re-save of a report of ours is the reader's. A file that has gone meanwhile is passed over, too.
    """
    return tuple(report for path in paths if (report := _read(path)) is not None)


def _read(path: Path) -> EarlierReport | None:
    try:
        dataset = part10.read(path, pixels=False)
    except FileNotFoundError:
        return None
    if isinstance(dataset, Unreadable) or not _is_titled(dataset):
        return None
    reading, author = read_object(dataset, str(path)), author_of(dataset)
    if not isinstance(reading, ObjectReading) or reading.source.writer != OURSELVES:
        return None
    if author is None or not author.is_algorithm:
        return None
    source = reading.source
    return EarlierReport(
        ref=ObjectRef(
            source.study_instance_uid, source.series_instance_uid, source.sop_instance_uid, source.sop_class_uid
        ),
        algorithm=_plain(author.name),
        image_series=frozenset(image.series_instance_uid for one in reading.bookmarks for image in one.images),
        predecessors=_predecessors(dataset),
        made_at=moment(source.content_datetime),
    )


def _is_titled(dataset: Dataset) -> bool:
    """Whether the root says that it is a report of crosses: that of volumes has another title."""
    with quiet():
        title = code_of(dataset, "ConceptNameCodeSequence")
    return title is not None and [title.value, title.scheme] == schemas.load("emit")["concept"]["recist_report"][:2]


def _predecessors(dataset: Dataset) -> tuple[ObjectRef, ...]:
    """All that PredecessorDocumentsSequence says (PS3.3 C.17.2.2)."""
    with quiet():
        found = [
            ObjectRef(
                text(study, "StudyInstanceUID"),
                text(series, "SeriesInstanceUID"),
                text(sop, "ReferencedSOPInstanceUID"),
                text(sop, "ReferencedSOPClassUID"),
            )
            for study in items(dataset, "PredecessorDocumentsSequence")
            for series in items(study, "ReferencedSeriesSequence")
            for sop in items(series, "ReferencedSOPSequence")
        ]
    return tuple(sorted(found, key=_by_uid))


def _by_uid(ref: ObjectRef) -> str:
    return ref.sop_instance_uid


def _plain(name: str) -> str:
    """A name as it is compared: archives pad texts and take spaces at their ends away."""
    return " ".join(name.split())
