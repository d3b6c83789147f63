"""An archive, a ledger, a stage and a sink in memory: the ports of the core, as small as they can be."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from core_factories import axial_plane, header, image_ref

from deeplesion_miner.errors import ArchiveError
from deeplesion_miner.records import Sample
from deeplesion_miner.studies import (
    InstanceListing,
    ObjectReading,
    PatientFacts,
    SeriesListing,
    StudyListing,
    StudyOutcome,
    StudyQuery,
    StudyRef,
    Transfers,
)
from deeplesion_miner.types import Axis, Bookmark, ImageHeader, ImageRef, Kind, Segment, Slice, Source, Unreadable

INTERVAL_MM = 5.0


def ct_uid(study: str, number: int) -> str:
    return f"{study}.3.{number}"


def sr_uid(study: str) -> str:
    return f"{study}.9.1"


def mark(study: str, item: str, slice_number: int, *, at: float = 50.0, modality_series: str = ".3") -> Bookmark:
    image = ImageRef(study, f"{study}{modality_series}", ct_uid(study, slice_number))
    return Bookmark(
        source=Source(study, f"{study}.9", sr_uid(study), "1.2.840.10008.5.1.4.1.1.88.33", "tid1500", "highdicom"),
        item_path=item,
        kind=Kind.BIDIRECTIONAL,
        images=(image,),
        long_axis=Axis(Segment((at - 10.0, at), (at + 10.0, at))),
        short_axis=Axis(Segment((at, at - 6.0), (at, at + 6.0))),
    )


@dataclass
class StudyWorld:
    """One study: a CT series of `slices` images, a report with `bookmarks`, a PR and an MR series."""

    uid: str
    patient_id: str
    bookmarks: tuple[Bookmark, ...]
    date: str = "20200101"
    slices: int = 20
    undecodable: frozenset[int] = frozenset()
    withheld: frozenset[int] = frozenset()
    broken_report: str = "truncated"
    errors: list[ArchiveError] = field(default_factory=list)
    """Raised one after the other when the study is listed."""


class MemoryArchive:
    """The `Archive` port over study worlds; remembers what was asked for."""

    def __init__(self, worlds: Iterable[StudyWorld], aside: tuple[Unreadable, ...] = ()) -> None:
        self.worlds = {world.uid: world for world in worlds}
        self.aside = aside
        self.asked: list[tuple[str, str]] = []
        self.closed = 0

    def studies(self, query: StudyQuery) -> Iterator[StudyRef]:
        for world in self.worlds.values():
            yield StudyRef(world.uid, world.patient_id, world.date)

    def listing(self, study: StudyRef) -> StudyListing:
        world = self.worlds[study.study_instance_uid]
        if world.errors:
            raise world.errors.pop(0)
        series = (
            SeriesListing(f"{world.uid}.3", "CT", world.slices),
            SeriesListing(f"{world.uid}.4", "MR", 3),
            SeriesListing(f"{world.uid}.9", "SR", 1, (InstanceListing(sr_uid(world.uid)),)),
        )
        return StudyListing(study, series, f"{len(world.bookmarks)} bookmarks")

    def measurements(self, listing: StudyListing) -> tuple[ObjectReading | Unreadable, ...]:
        world = self.worlds[listing.study.study_instance_uid]
        patient = PatientFacts(world.uid, world.patient_id, patient_sex="F", study_date=world.date)
        source = Source(world.uid, f"{world.uid}.9", sr_uid(world.uid), "1.2.840.10008.5.1.4.1.1.88.33", "tid1500")
        return ObjectReading(source, patient, world.bookmarks), Unreadable(f"{world.uid}.9.2", world.broken_report)

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        world = self.worlds[study_instance_uid]
        return tuple(InstanceListing(ct_uid(world.uid, n), n) for n in range(1, world.slices + 1))

    def headers(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> Mapping[str, tuple[ImageHeader, ...] | Unreadable]:
        self.asked.extend((series_instance_uid, uid) for uid in sop_instance_uids)
        world = self.worlds[study_instance_uid]
        known = {ct_uid(world.uid, n): n for n in range(1, world.slices + 1) if n not in world.withheld}
        return {uid: (self._header(world, known[uid]),) for uid in sop_instance_uids if uid in known}

    @staticmethod
    def _header(world: StudyWorld, number: int) -> ImageHeader:
        ref = image_ref(ct_uid(world.uid, number), series=f"{world.uid}.3", study=world.uid)
        return header(ref, axial_plane(-INTERVAL_MM * number), number)

    def slices(self, refs: Iterable[ImageRef]) -> Iterator[tuple[ImageRef, Slice | Unreadable]]:
        for ref in refs:
            number = int(ref.sop_instance_uid.rpartition(".")[2])
            if number in self.worlds[ref.study_instance_uid].undecodable:
                yield ref, Unreadable(ref.sop_instance_uid, "broken_pixels")
            else:
                yield ref, Slice(ref, np.full((128, 128), number, dtype=np.int16))

    def transfers(self, listing: StudyListing) -> Transfers:
        return Transfers(objects=1)

    def set_aside(self) -> tuple[Unreadable, ...]:
        return self.aside

    def close(self) -> None:
        self.closed += 1


class MemoryLedger:
    """The `Ledger` port in dictionaries."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[StudyOutcome, str]] = {}
        self.failures: dict[str, str] = {}
        self.aside: tuple[Unreadable, ...] = ()
        self.crosswalk: set[tuple[str, str, str]] = set()
        self.indices: dict[str, dict[str, int]] = {}

    def is_done(self, study_instance_uid: str, fingerprint: str, settings_digest: str) -> bool:
        outcome, digest = self.known.get(study_instance_uid, (None, ""))
        return outcome is not None and (outcome.fingerprint, digest) == (fingerprint, settings_digest)

    def record(self, outcome: StudyOutcome, settings_digest: str) -> None:
        self.known[outcome.study.study_instance_uid] = (outcome, settings_digest)

    def record_failure(self, study: StudyRef, error: str) -> None:
        self.failures[study.study_instance_uid] = error

    def record_set_aside(self, objects: Iterable[Unreadable]) -> None:
        self.aside = tuple(objects)

    def outcomes(self) -> Iterator[StudyOutcome]:
        yield from (self.known[uid][0] for uid in sorted(self.known))

    def _index(self, group: str, names: Iterable[str]) -> Mapping[str, int]:
        known = self.indices.setdefault(group, {})
        for name in names:
            known.setdefault(name, len(known) + 1)
        return known

    def patient_index(self, patient_ids: Iterable[str]) -> Mapping[str, int]:
        return self._index("patients", patient_ids)

    def study_index(self, patient_id: str, study_ids: Iterable[str]) -> Mapping[str, int]:
        return self._index(f"patient {patient_id}", study_ids)

    def series_index(self, study_id: str, series_ids: Iterable[str]) -> Mapping[str, int]:
        return self._index(f"study {study_id}", series_ids)

    def record_crosswalk(self, rows: Iterable[tuple[str, str, str]]) -> None:
        self.crosswalk.update(rows)


class MemoryStage:
    """The `PngStage` port: names without files."""

    def put(self, image: Slice) -> str:
        return hashlib.sha256(image.hu.tobytes() + image.ref.sop_instance_uid.encode()).hexdigest()


class MemorySink:
    """The `Sink` port: keeps the samples."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def write(self, samples: Iterable[Sample]) -> str:
        self.samples = list(samples)
        return hashlib.sha256(repr(sorted(map(repr, self.samples))).encode()).hexdigest()


class Watcher:
    """The `Progress` port: remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def found(self, studies: int) -> None:
        self.events.append(f"found {studies}")

    def skipped(self, study: StudyRef) -> None:
        self.events.append(f"skipped {study.study_instance_uid}")

    def mined(self, outcome: StudyOutcome) -> None:
        self.events.append(f"mined {outcome.study.study_instance_uid}")

    def failed(self, study: StudyRef, error: str) -> None:
        self.events.append(f"failed {study.study_instance_uid}")


def worlds(count: int = 6) -> list[StudyWorld]:
    """Studies of two patients, two crosses each."""
    return [
        StudyWorld(
            uid=f"1.7.{n}",
            patient_id=f"P{n % 2}",
            bookmarks=(mark(f"1.7.{n}", "1.1", 8), mark(f"1.7.{n}", "1.2", 9, at=70.0)),
            date=f"2020010{n}",
        )
        for n in range(1, count + 1)
    ]


def with_bookmarks(world: StudyWorld, *bookmarks: Bookmark) -> StudyWorld:
    return replace(world, bookmarks=bookmarks)
