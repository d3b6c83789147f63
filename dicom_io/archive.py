"""The `Archive` port over any transport: three sips, counted."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from pydicom.dataset import Dataset

from deeplesion_miner.studies import (
    InstanceListing,
    ObjectReading,
    PatientFacts,
    SeriesListing,
    StudyListing,
    StudyQuery,
    StudyRef,
    Transfers,
)
from deeplesion_miner.types import ImageHeader, ImageRef, Slice, Unreadable
from dicom_io import dialects, part10, pixels, planes
from dicom_io.attributes import quiet, text
from dicom_io.transport import Objects, Transport

_FETCHED = ("SR", "")
"""Modalities of series whose objects are read; '' is a modality that the archive does not tell."""
_NO_IMAGES = frozenset(("KO", "REG", "FID", "RWV", "DOC", "PLAN", "RTPLAN", "RTRECORD", "RTDOSE", "AU", "ECG", "HD"))
"""Modalities of objects that are neither measurements nor images (PS3.3 C.7.3.1.1.1)."""


class TransportArchive:
    """One thread's archive: `transport` brings objects into reach, `objects` says where they lie."""

    def __init__(self, transport: Transport, objects: Objects, on_close: Callable[[], None] | None = None) -> None:
        self._transport = transport
        self._objects = objects
        self._closers = [] if on_close is None else [on_close]
        self._forget()

    def _forget(self) -> None:
        """Starts the counts and listings of a study anew."""
        self._series: dict[str, tuple[SeriesListing, ...]] = {}
        self._instances: dict[tuple[str, str], tuple[InstanceListing, ...]] = {}
        self._moved: dict[str, set[str]] = defaultdict(set)
        self._reached: dict[str, set[str]] = defaultdict(set)
        self._headers: dict[tuple[str, str], tuple[ImageHeader, ...]] = {}

    # --- looking ---

    def studies(self, query: StudyQuery) -> Iterator[StudyRef]:
        """Studies that match, and have measurement series where the query says so."""
        return self._transport.find_studies(query)

    def listing(self, study: StudyRef) -> StudyListing:
        """The series of a study; counts and transfers of the study begin here.

        The fingerprint is a digest over the UIDs of measurement objects and over the UIDs and object counts
        of the other series; a count that the archive does not tell is counted for CT only.
        """
        self._forget()
        series = tuple(
            self._counted(study.study_instance_uid, one) for one in self._find_series(study.study_instance_uid)
        )
        digest = hashlib.sha256()
        for one in series:
            uids = [instance.sop_instance_uid for instance in one.instances or ()]
            digest.update(f"{one.series_instance_uid}|{one.instance_count}|{'/'.join(uids)}\n".encode())
        return StudyListing(study, series, digest.hexdigest())

    def _counted(self, study_instance_uid: str, series: SeriesListing) -> SeriesListing:
        uid, modality = series.series_instance_uid, series.modality
        if _is_measurement(series):
            known = series.instances
            instances = self.instances(study_instance_uid, uid) if known is None else known
            return SeriesListing(uid, modality, len(instances), instances)
        if series.instance_count is None and modality == "CT":
            return SeriesListing(uid, modality, len(self.instances(study_instance_uid, uid)))
        return series

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """All objects of a series, asked for once a study."""
        key = (study_instance_uid, series_instance_uid)
        if key not in self._instances:
            self._instances[key] = tuple(
                sorted(self._transport.find_instances(*key), key=lambda one: one.sop_instance_uid)
            )
        return self._instances[key]

    def _find_series(self, study_instance_uid: str) -> tuple[SeriesListing, ...]:
        if study_instance_uid not in self._series:
            self._series[study_instance_uid] = self._transport.find_series(study_instance_uid)
        return self._series[study_instance_uid]

    # --- sip a ---

    def measurements(self, listing: StudyListing) -> tuple[ObjectReading | Unreadable, ...]:
        """Reports are fetched and read; objects of kinds that are not read are named without a transfer."""
        study_uid = listing.study.study_instance_uid
        answers: dict[str, ObjectReading | Unreadable] = {}
        unread: list[tuple[SeriesListing, InstanceListing]] = []
        for series in listing.series:
            members = series.instances or ()
            if _is_measurement(series) and series.modality not in _FETCHED:
                unread.extend((series, member) for member in members)
            elif members:
                uids = [member.sop_instance_uid for member in members]
                self._bring(study_uid, series.series_instance_uid, uids)
                answers.update((uid, self._read_report(study_uid, uid)) for uid in uids)
        patient = _patient(listing.study, answers.values())
        for series, member in unread:
            answers[member.sop_instance_uid] = dialects.unread(
                study_uid,
                series.series_instance_uid,
                member.sop_instance_uid,
                "",  # not every archive tells the class, and no dataset may depend on the archive
                series.modality,
                patient,
            )
        return tuple(answers[uid] for uid in sorted(answers))

    def _read_report(self, study_instance_uid: str, uid: str) -> ObjectReading | Unreadable:
        dataset = self._dataset(study_instance_uid, uid, pixels=False)
        if dataset is None:
            return Unreadable(uid, "not_delivered", detail=f"{self._transport.peer} lists it and does not deliver it")
        return dataset if isinstance(dataset, Unreadable) else dialects.read_object(dataset, uid)

    def report_files(self, study_instance_uid: str) -> tuple[Path, ...]:
        """Files of the study's structured reports, by UID; nothing is fetched where its series list none."""
        found: list[str] = []
        for series in self._find_series(study_instance_uid):
            if series.modality == "SR":
                listed = self.instances(study_instance_uid, series.series_instance_uid)
                uids = [one.sop_instance_uid for one in listed]
                self._bring(study_instance_uid, series.series_instance_uid, uids)
                found += uids
        paths = (self._objects.path(uid) for uid in sorted(set(found)))
        return tuple(path for path in paths if path is not None)

    # --- sips b and c ---

    def headers(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> Mapping[str, tuple[ImageHeader, ...] | Unreadable]:
        """Headers of the named objects, each read once a study; what is not delivered is left out."""
        answers: dict[str, tuple[ImageHeader, ...] | Unreadable] = {}
        for series, uids in self._located(study_instance_uid, series_instance_uid, sop_instance_uids).items():
            self._bring(study_instance_uid, series, uids)
            for uid in uids:
                header = self._read_header(study_instance_uid, uid)
                if header is not None:
                    answers[uid] = header
        return answers

    def _read_header(self, study_instance_uid: str, uid: str) -> tuple[ImageHeader, ...] | Unreadable | None:
        known = self._headers.get((study_instance_uid, uid))
        if known is not None:
            return known
        dataset = self._dataset(study_instance_uid, uid, pixels=False)
        if dataset is None or isinstance(dataset, Unreadable):
            return dataset
        headers = planes.headers_of(dataset, self._objects.size_bytes(uid))
        if not isinstance(headers, Unreadable):
            self._headers[study_instance_uid, uid] = headers
        return headers

    def _located(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> dict[str, list[str]]:
        """The series of each object: the named one where it lists the object, else CT series, then the others.

        The series '' is none that was named: it holds a folder's objects without a series UID.
        """
        missing = set(sop_instance_uids)
        found: dict[str, list[str]] = {}
        if series_instance_uid:
            found[series_instance_uid] = self._listed(study_instance_uid, series_instance_uid, missing)
            missing.difference_update(found[series_instance_uid])
        if missing:
            for series in sorted(self._find_series(study_instance_uid), key=_ct_first):
                if missing and series.series_instance_uid not in found:
                    uids = self._listed(study_instance_uid, series.series_instance_uid, missing)
                    found[series.series_instance_uid] = uids
                    missing.difference_update(uids)
        return {series: uids for series, uids in found.items() if uids}

    def _listed(self, study_instance_uid: str, series_instance_uid: str, wanted: set[str]) -> list[str]:
        listed = self.instances(study_instance_uid, series_instance_uid)
        return [one.sop_instance_uid for one in listed if one.sop_instance_uid in wanted]

    def slices(self, refs: Iterable[ImageRef]) -> Iterator[tuple[ImageRef, Slice | Unreadable]]:
        """Decoded pixels, in the given order; frames of one object in a row are decoded from one reading."""
        for uid, frames in groupby(refs, key=_sop_instance_uid):
            path = self._objects.path(uid)
            if path is None:
                dataset: Dataset | Unreadable = Unreadable(uid, "not_delivered", detail="it was not fetched before")
            else:
                dataset = _read(path, uid, pixels=True)
            if isinstance(dataset, Unreadable):
                yield from ((ref, dataset) for ref in frames)
            else:
                yield from pixels.decode_frames(dataset, frames)

    def file(self, sop_instance_uid: str) -> Path | None:
        """The file of an object that `headers` has brought into reach; None where it was not delivered."""
        return self._objects.path(sop_instance_uid)

    # --- reach and counts ---

    def _bring(self, study_instance_uid: str, series_instance_uid: str, uids: Iterable[str]) -> None:
        """Brings objects into reach and counts those that had to be moved, each once a study."""
        known = self._reached[series_instance_uid]
        wanted = [uid for uid in uids if uid not in known]
        if wanted:
            moved = self._transport.retrieve(study_instance_uid, series_instance_uid, wanted)
            self._moved[series_instance_uid].update(moved)
            known.update(uid for uid in wanted if self._objects.path(uid) is not None)

    def _dataset(self, study_instance_uid: str, uid: str, *, pixels: bool) -> Dataset | Unreadable | None:
        """The object's data set, checked to be what it was fetched as; None where it is not in reach."""
        path = self._objects.path(uid)
        if path is None:
            return self._objects.kept_out(uid)
        dataset = _read(path, uid, pixels=pixels)
        if isinstance(dataset, Unreadable):
            return dataset
        with quiet():
            stated = {keyword: text(dataset, keyword) for keyword in ("SOPInstanceUID", "StudyInstanceUID")}
        for (keyword, found), wanted in zip(stated.items(), (uid, study_instance_uid), strict=True):
            if found != wanted:
                detail = f"{keyword} is {found!r}; the archive delivered it as {wanted!r}"
                return Unreadable(uid, "bad_value", detail=detail)
        return dataset

    def transfers(self, listing: StudyListing) -> Transfers:
        """Objects and bytes moved since the study's listing; images of the study that were not needed.

        Bytes not transferred are estimated by the mean size of what is in reach of the series, else of the study.
        """
        images = {one.series_instance_uid for one in listing.series if _is_image(one)}
        image_series = set(self._moved) - {one.series_instance_uid for one in listing.series if _is_measurement(one)}
        moved = {series: [self._objects.size_bytes(uid) for uid in uids] for series, uids in self._moved.items()}
        reached = {
            series: [self._objects.size_bytes(uid) for uid in self._reached.get(series, ())] for series in images
        }
        of_study = [size for sizes in reached.values() for size in sizes]
        total = left = 0
        left_bytes = 0.0
        for one in listing.series:
            if one.series_instance_uid in images:
                sizes = reached[one.series_instance_uid]
                count = self._count(listing.study.study_instance_uid, one)
                total += count
                left += max(0, count - len(sizes))
                left_bytes += max(0, count - len(sizes)) * _mean(sizes or of_study)
        return Transfers(
            objects=sum(map(len, moved.values())),
            bytes=sum(map(sum, moved.values())),
            images=sum(len(moved[series]) for series in image_series),
            image_bytes=sum(sum(moved[series]) for series in image_series),
            images_in_studies=total,
            images_not_transferred=left,
            bytes_not_transferred=round(left_bytes),
        )

    def _count(self, study_instance_uid: str, series: SeriesListing) -> int:
        if series.instance_count is not None:
            return series.instance_count
        return len(self.instances(study_instance_uid, series.series_instance_uid))

    def set_aside(self) -> tuple[Unreadable, ...]:
        """Files that belong to no study, and second copies that differ from the first."""
        return self._objects.set_aside()

    def close(self) -> None:
        """Releases the association, then calls what waited for it; a second call does nothing."""
        self._transport.close()
        while self._closers:
            self._closers.pop(0)()

    def on_close(self, call: Callable[[], None]) -> None:
        """Adds something to be called when the archive is closed."""
        self._closers.append(call)


def _read(path: Path, uid: str, *, pixels: bool) -> Dataset | Unreadable:
    """The data set of an object that was in reach; an Unreadable names the object."""
    try:
        dataset = part10.read(path, pixels=pixels, source=uid)
    except OSError as error:
        return Unreadable(uid, "not_opened", detail=f"{path}: {error.strerror}")
    return dataset


def _is_measurement(series: SeriesListing) -> bool:
    """True for series that hold, or may hold, measurement objects: an unknown modality may."""
    return not series.modality or series.modality in dialects.MEASUREMENT_MODALITIES


def _sop_instance_uid(ref: ImageRef) -> str:
    return ref.sop_instance_uid


def _ct_first(series: SeriesListing) -> tuple[bool, str]:
    return series.modality != "CT", series.series_instance_uid


def _is_image(series: SeriesListing) -> bool:
    return not _is_measurement(series) and series.modality not in _NO_IMAGES


def _patient(study: StudyRef, answers: Iterable[ObjectReading | Unreadable]) -> PatientFacts:
    """What is known of the patient without fetching more: from a report that was read, else as listed."""
    readings = sorted(
        (answer for answer in answers if isinstance(answer, ObjectReading)),
        key=lambda reading: reading.source.sop_instance_uid,
    )
    if readings:
        return readings[0].patient
    return PatientFacts(study.study_instance_uid, patient_id=study.patient_id, study_date=study.study_date)


def _mean(sizes: Collection[int]) -> float:
    return sum(sizes) / len(sizes) if sizes else 0.0
