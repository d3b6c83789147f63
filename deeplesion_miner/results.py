"""What goes back to an archive: lesions with their measurements and masks, and who measured them.

Made from a model's detections or from mined bookmarks; emitters turn a `Result` into DICOM objects. Identified side.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import schemas
from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.types import Box, Code, ImageRef, Kept, Segment

OURSELVES = "deeplesion_miner"
"""The writer of our own reports, a name of `schemas/dialects/tid1500.toml`."""


@dataclass(frozen=True)
class Author:
    """Who measured: an algorithm, or the person whose bookmark was mined."""

    name: str
    """Of the algorithm; of a mined bookmark the reader as the archive names them, or ''."""
    version: str = ""
    manufacturer: str = ""
    is_algorithm: bool = True
    parameters: tuple[tuple[str, str], ...] = ()
    """Names and values that the result depends on, e.g. the digest of the model's weights."""


@dataclass(frozen=True)
class ObjectRef:
    """A DICOM object that a result refers to as a whole."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True)
class Prior:
    """The same lesion in an earlier study."""

    study_date: str
    """YYYYMMDD."""
    long_axis_mm: float
    short_axis_mm: float | None = None
    report: ObjectRef | None = None
    """The report that holds it, where there is one."""


@dataclass(frozen=True, eq=False)
class ReportedLesion:
    """One lesion on its key slice; pixels as (column, row), the first pixel's centre = (0, 0)."""

    key: str
    """Unique within the result and stable: a bookmark's key, or a detection's number. Written nowhere."""
    image: ImageRef
    label: str
    """What a reader sees: 'Lesion 1', or the mined label."""
    finding: Code
    site: Code | None = None
    lesion_type: Code | None = None
    score: float | None = None
    """0 to 1; None for a person's measurement."""
    long_axis: Segment | None = None
    short_axis: Segment | None = None
    box: Box | None = None
    """Tight."""
    masks: tuple[tuple[ImageRef, PixelMask], ...] = ()
    """By slice, from head to feet; one of the key slice alone is a 2-D mask."""
    volume_mm3: float | None = None
    tracking_uid: str = ""
    """Of the lesion through time, where it is known; '' has the emitter derive one."""
    prior: Prior | None = None
    prior_note: str = ""
    """In words: what no earlier measurement means, e.g. that the lesion may be new."""


@dataclass(frozen=True, eq=False)
class Result:
    """What one author says of one study. The same content gives the same UIDs, whenever it is emitted."""

    study_instance_uid: str
    author: Author
    lesions: tuple[ReportedLesion, ...]
    made_at: datetime
    """When it was computed or read: the content's date and time, local, since without a zone DICOM's times are
    (PS3.3 C.12.1.1.8). No part of what UIDs are derived from."""
    predecessors: tuple[ObjectRef, ...] = ()
    """The reports that this one corrects or takes its measurements from (PS3.3 C.17.2 PredecessorDocuments)."""
    response: Code | None = None
    """RECIST 1.1 response of the target lesions, against earlier studies."""
    response_basis: str = ""
    """In words: the sums that the response follows from, and of which studies they are."""
    response_notes: tuple[str, ...] = ()
    """In words, one by one: the lesions by what they are to RECIST 1.1, and the response of the patient as far as marks
    tell it."""


def of_detections(detections: Iterable[Detection], author: Author, made_at: datetime) -> tuple[Result, ...]:
    """One result a study, by StudyInstanceUID; lesions of a study are numbered by falling score.

    ValueError for a detection on a slice of a dataset: it must come home first.
    """
    studies: dict[str, list[Detection]] = defaultdict(list)
    for one in detections:
        if isinstance(one.image, str):
            raise ValueError(f"{one.image} is a slice of a dataset, not an image of an archive")
        studies[one.image.study_instance_uid].append(one)
    return tuple(
        Result(
            uid,
            author,
            tuple(_of_detection(number, one) for number, one in enumerate(_surest_first(found), start=1)),
            made_at,
        )
        for uid, found in sorted(studies.items())
    )


def _surest_first(detections: Iterable[Detection]) -> list[Detection]:
    """A score that is no number is the least sure of all, so that the others are numbered without it."""
    return sorted(
        detections,
        key=lambda one: (not math.isfinite(one.score), -one.score, one.image, one.box.y_min, one.box.x_min),
    )


def _of_detection(number: int, one: Detection) -> ReportedLesion:
    assert isinstance(one.image, ImageRef)
    masks = tuple((image, mask) for image, mask in one.volume if isinstance(image, ImageRef))
    if not masks and one.mask is not None:
        masks = ((one.image, one.mask),)
    return ReportedLesion(
        key=str(number),
        image=one.image,
        label=f"Lesion {number}",
        finding=coded("finding", "lesion"),
        site=coded("site", one.label) if one.label else None,
        score=one.score,
        long_axis=one.long_axis,
        short_axis=one.short_axis,
        box=one.box,
        masks=masks,
        volume_mm3=one.volume_mm3,
    )


def of_bookmarks(kept: Sequence[Kept], unread_at: datetime) -> tuple[Result, ...]:
    """One result for each study and reader, sorted, from the bookmarks that mining kept, in the given order.

    A result is as old as the newest report that it takes bookmarks from; `unread_at` stands where none tells its
    time. Its predecessors are those reports.
    """
    groups: dict[tuple[str, str], list[Kept]] = defaultdict(list)
    for one in kept:
        groups[one.lesion.header.ref.study_instance_uid, one.bookmark.reader].append(one)
    return tuple(_of_reader(reader, found, unread_at) for (_, reader), found in sorted(groups.items()))


def is_told_already(result: Result, kept: Iterable[Kept]) -> bool:
    """Whether the archive has a result of these bookmarks: all of them lie in a single report that is ours.

    Exported once more it would be a new report that follows ours, and so on each time that the archive is mined.
    """
    ours = {one.bookmark.source.sop_instance_uid for one in kept if one.bookmark.source.writer == OURSELVES}
    return [one.sop_instance_uid in ours for one in result.predecessors] == [True]


def _of_reader(reader: str, found: Sequence[Kept], unread_at: datetime) -> Result:
    sources = sorted({one.bookmark.source for one in found}, key=lambda source: source.sop_instance_uid)
    moments = [written for source in sources if (written := moment(source.content_datetime))]
    return Result(
        study_instance_uid=found[0].lesion.header.ref.study_instance_uid,
        author=Author(reader, is_algorithm=False),
        lesions=tuple(_of_bookmark(number, one) for number, one in enumerate(found, start=1)),
        made_at=max(moments, default=unread_at),
        predecessors=tuple(
            ObjectRef(
                source.study_instance_uid, source.series_instance_uid, source.sop_instance_uid, source.sop_class_uid
            )
            for source in sources
        ),
    )


def moment(content_datetime: str) -> datetime | None:
    """YYYYMMDDHHMMSS[.ffffff] to the second; None for what is no date and time, such as a 31st of June."""
    try:
        return datetime.strptime(content_datetime[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _of_bookmark(number: int, one: Kept) -> ReportedLesion:
    bookmark, lesion = one.bookmark, one.lesion
    return ReportedLesion(
        key=bookmark.key,
        image=lesion.header.ref,
        label=bookmark.label or f"Lesion {number}",
        finding=bookmark.finding or coded("finding", "lesion"),
        site=bookmark.finding_site,
        long_axis=lesion.long_axis,
        short_axis=lesion.short_axis,
        tracking_uid=bookmark.tracking_uid,
    )


def coded(table: str, word: str) -> Code:
    """The concept of a word of `schemas/emit.toml`. KeyError for a word that the table does not hold."""
    value, scheme, meaning = schemas.load("emit")[table][word]
    return Code(value, scheme, meaning)
