"""What is asked of an archive about studies, what it lists, and what mining one study gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from deeplesion_miner.types import Bookmark, ImageRef, Kept, Rejected, Source, Unreadable


@dataclass(frozen=True)
class StudyQuery:
    """Which studies to ask for; '' asks for all. Dates are YYYYMMDD, inclusive."""

    date_from: str = ""
    date_to: str = ""
    patient_id: str = ""
    study_instance_uids: tuple[str, ...] = ()
    measured: bool = True
    """Only studies with measurement series: what mining asks for. Models may look at any."""

    def absent(self, listed: Iterable[StudyRef]) -> tuple[str, ...]:
        """The studies that are asked for by UID and are not among those that the archive lists."""
        there = {study.study_instance_uid for study in listed}
        return tuple(uid for uid in dict.fromkeys(self.study_instance_uids) if uid not in there)


@dataclass(frozen=True, order=True)
class StudyRef:
    """A study as the archive listed it."""

    study_instance_uid: str
    patient_id: str = ""
    study_date: str = ""


@dataclass(frozen=True, order=True)
class InstanceListing:
    """One object as the archive lists it (no transfer)."""

    sop_instance_uid: str
    instance_number: int | None = None
    sop_class_uid: str = ""


@dataclass(frozen=True)
class SeriesListing:
    """One series as the archive lists it."""

    series_instance_uid: str
    modality: str
    """'' = unknown."""
    instance_count: int | None = None
    """None = the archive does not say."""
    instances: tuple[InstanceListing, ...] | None = None
    """Listed for measurement series; None = not asked for yet."""


@dataclass(frozen=True)
class StudyListing:
    """The series of a study; `fingerprint` changes when its measurement objects or image counts change."""

    study: StudyRef
    series: tuple[SeriesListing, ...]
    fingerprint: str


@dataclass(frozen=True)
class PatientFacts:
    """What a study's objects say about patient and date. Identified side."""

    study_instance_uid: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_sex: str = ""
    patient_birth_date: str = ""
    study_date: str = ""
    study_time: str = ""


@dataclass(frozen=True)
class ObjectReading:
    """One measurement object, read: all its items are here, readable or not."""

    source: Source
    patient: PatientFacts
    bookmarks: tuple[Bookmark, ...]


@dataclass(frozen=True)
class StackSlice:
    """One plane of a stack with its number from head to feet (1-based)."""

    ref: ImageRef
    slice_number: int
    position_mm: float
    """Position along the stack's normal, growing towards the feet."""
    staged_png: str
    """Name of the encoded PNG in the working folder (sha256 of its bytes)."""
    rows: int
    columns: int
    row_spacing_mm: float
    col_spacing_mm: float
    clipped_px: int = 0


@dataclass(frozen=True)
class PlacedLesion:
    """A kept lesion with its place in a stack of slices: all a dataset row needs."""

    kept: Kept
    stack_key: str
    slice_number: int
    slice_range: tuple[int, int]
    slice_interval_mm: float
    """NaN where the series holds a single slice."""
    body_box: tuple[int, int, int, int] | None
    """Left, top, right, bottom: first and last column and row (0-based) of the body on the key slice."""


@dataclass(frozen=True)
class Stack:
    """The slices that a study gives to the dataset from one series (or one multi-frame object)."""

    key: str
    """SeriesInstanceUID, with '/SOPInstanceUID' for a multi-frame object and '@2' ... for a further volume."""
    series_number: int | None
    numbering: str
    """'instance_number' or 'rank': how slice numbers were found."""
    slices: tuple[StackSlice, ...]


@dataclass(frozen=True)
class Transfers:
    """What moved and what did not. Images are objects; bytes not transferred are estimated by series mean."""

    objects: int = 0
    bytes: int = 0
    images: int = 0
    image_bytes: int = 0
    images_in_studies: int = 0
    images_not_transferred: int = 0
    bytes_not_transferred: int = 0


@dataclass(frozen=True)
class StudyOutcome:
    """All that mining one study gave; the unit of work and of the ledger."""

    study: StudyRef
    patient: PatientFacts
    fingerprint: str
    objects_read: tuple[str, ...]
    """SOP Instance UIDs of the measurement objects and images that were read."""
    unreadable: tuple[Unreadable, ...]
    rejected: tuple[Rejected, ...]
    placed: tuple[PlacedLesion, ...]
    stacks: tuple[Stack, ...]
    transfers: Transfers = field(default_factory=Transfers)
