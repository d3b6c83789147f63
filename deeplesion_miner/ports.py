"""The doors of the core: what the story needs of an archive, a ledger and a dataset, and what their errors mean.

Retry, rate limit, dry run and metrics are wrappers of a port, never flags inside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

from deeplesion_miner.records import Sample
from deeplesion_miner.studies import (
    InstanceListing,
    ObjectReading,
    StudyListing,
    StudyOutcome,
    StudyQuery,
    StudyRef,
    Transfers,
)
from deeplesion_miner.types import ImageHeader, ImageRef, Slice, Unreadable

TRY_AGAIN = "try again"
"""Stands in a ledger in place of the settings' digest, which it never equals, where the next run may find more."""


class Archive(Protocol):
    """A PACS, a DICOMweb server or a folder.

    Every method raises `ArchiveError` when the archive is away or refuses; a broken object is an
    `Unreadable` in the answer, never an exception. What an archive lists may be incomplete; what
    arrived is the only truth.
    """

    def studies(self, query: StudyQuery) -> Iterator[StudyRef]:
        """Studies that match, each once, sorted by nothing; where `query.measured`, those with measurement objects."""

    def listing(self, study: StudyRef) -> StudyListing:
        """The series of a study, with the instances of its measurement series. Transfers nothing."""

    def measurements(self, listing: StudyListing) -> tuple[ObjectReading | Unreadable, ...]:
        """Sip a: fetches the measurement objects of a study and reads them; sorted by SOP Instance UID.

        Objects of kinds that are not read come back, unfetched, as an ObjectReading with one bookmark
        of their kind.
        """

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """All objects of a series as the archive lists them, sorted. Transfers nothing; () = no such series."""

    def headers(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> Mapping[str, tuple[ImageHeader, ...] | Unreadable]:
        """Sips b and c: makes the named objects available and returns one header a frame.

        An object that the archive does not deliver is absent from the answer. `series_instance_uid` '' means
        that the series is not known: the archive looks in the whole study.
        """

    def slices(self, refs: Iterable[ImageRef]) -> Iterator[tuple[ImageRef, Slice | Unreadable]]:
        """Decodes the pixels of images whose headers were asked for before, in the given order."""

    def transfers(self, listing: StudyListing) -> Transfers:
        """What was moved for this study since its listing, and what was not."""

    def set_aside(self) -> tuple[Unreadable, ...]:
        """Objects that belong to no study: a folder's broken files, second copies that differ. Also after `close`."""

    def close(self) -> None:
        """Releases associations and files; afterwards only `set_aside` may be asked."""


class PngStage(Protocol):
    """Where encoded slices wait for the dataset (working folder, content-addressed)."""

    def put(self, image: Slice) -> str:
        """Encodes HU + 32768 as 16-bit PNG, makes it durable and returns the sha256 of its bytes."""


class Ledger(Protocol):
    """What is known about each study, durable at once. The trusted side's memory, one writer process."""

    def is_done(self, study_instance_uid: str, fingerprint: str, settings_digest: str) -> bool:
        """True where this very state of the study was mined under these settings."""

    def record(self, outcome: StudyOutcome, settings_digest: str) -> None:
        """Replaces what is known of the study, in one transaction; `TRY_AGAIN` as digest has it mined again."""

    def record_failure(self, study: StudyRef, error: str) -> None:
        """Notes that a study could not be mined now; it will be tried again by the next run."""

    def record_set_aside(self, objects: Iterable[Unreadable]) -> None:
        """Replaces the list of objects that belong to no study."""

    def outcomes(self) -> Iterator[StudyOutcome]:
        """Every study's outcome, sorted by StudyInstanceUID."""

    def patient_index(self, patient_ids: Iterable[str]) -> Mapping[str, int]:
        """1-based indices of pseudonymous patients; new ones are appended in sorted order, none ever changes."""

    def study_index(self, patient_id: str, study_ids: Iterable[str]) -> Mapping[str, int]:
        """1-based indices of a patient's studies; new ones are appended in the given order."""

    def series_index(self, study_id: str, series_ids: Iterable[str]) -> Mapping[str, int]:
        """1-based indices of a study's series; new ones are appended in the given order."""

    def record_crosswalk(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Remembers (public id, kind, original identifier): the only way back, never inside a dataset."""


class Sink(Protocol):
    """A dataset folder being written."""

    def write(self, samples: Iterable[Sample]) -> str:
        """Writes everything, the manifest last, and returns its digest. A crash leaves no half-written dataset."""


class Progress(Protocol):
    """Who watches a run: a bar on a terminal, a log, a test."""

    def found(self, studies: int) -> None:
        """So many studies are to be mined."""

    def skipped(self, study: StudyRef) -> None:
        """The study is known and unchanged."""

    def mined(self, outcome: StudyOutcome) -> None:
        """The study's outcome is durable."""

    def failed(self, study: StudyRef, error: str) -> None:
        """The study could not be mined now."""
