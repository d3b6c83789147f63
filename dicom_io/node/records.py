"""The words of the journal: what arrived, what is to be done, what was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Arrival:
    """An object that a peer sent."""

    source: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    size_bytes: int
    modality: str
    description: str
    body_part: str
    slice_thickness_mm: float | None


@dataclass(frozen=True)
class ReceivedStudy:
    """A study that is looked at."""

    study_instance_uid: str
    source: str
    looks: int
    first_arrival_s: float
    last_arrival_s: float


@dataclass(frozen=True)
class ReceivedSeries:
    """A series with the objects that are here."""

    series_instance_uid: str
    modality: str
    description: str
    body_part: str
    slice_thickness_mm: float | None
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A rule applied to series of a whole study."""

    number: int
    study_instance_uid: str
    rule: str
    series_instance_uids: tuple[str, ...]
    attempts: int
    made_s: float


@dataclass(frozen=True)
class CommitmentRequest:
    """Objects of which a peer wants to know whether they are here."""

    transaction_uid: str
    peer: str
    items: tuple[tuple[str, str], ...]
    """SOP Class UID, SOP Instance UID."""
    attempts: int
    due_s: float


@dataclass(frozen=True)
class StoredResult:
    """An object that a job made."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    keys: Mapping[str, str]
