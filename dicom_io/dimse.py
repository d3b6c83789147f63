"""An archive over DIMSE: C-FIND to look, C-GET or C-MOVE to fetch, one association for all of it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from pydicom.dataset import Dataset

from deeplesion_miner.errors import ArchiveError
from deeplesion_miner.studies import InstanceListing, SeriesListing, StudyQuery, StudyRef
from dicom_io import query as q
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.dialects import MEASUREMENT_MODALITIES
from dicom_io.link import Link
from dicom_io.receiver import Receiver
from dicom_io.retry import Retry
from dicom_io.store import ObjectStore

logger = logging.getLogger(__name__)

Method = Literal["get", "move"]

_LIST_LENGTH = 64
"""SOP Instance UIDs in one request: 4 KB of identifier, small enough for archives that limit a transfer."""
_FEW_STUDIES = 16
"""So many studies are asked one by one; for more, one relational query a modality is cheaper."""
_SPOT_CHECKS = 3
_FAILED_LISTS = 2
"""After so many lists in a row that brought nothing, though one by one it came, lists are not tried again."""
_HOPELESS = 3
"""After so many objects that no attempt brought, the next ones get a single attempt each."""


class DimseTransport:
    """One thread's way to a PACS; `receiver` is needed for `method` 'move' and may be shared between threads."""

    def __init__(
        self,
        address: Address,
        calling_ae: str,
        store: ObjectStore,
        *,
        method: Method = "get",
        receiver: Receiver | None = None,
        limits: Limits | None = None,
        retry: Retry | None = None,
        late_s: float = 3.0,
    ) -> None:
        if method == "move" and receiver is None:
            raise AssertionError("C-MOVE needs a receiver")
        self._address = address
        self._store = store
        self._receiver = receiver if method == "move" else None
        self._link = Link(address, calling_ae, store=store if method == "get" else None, limits=limits)
        self._retry = retry or Retry()
        self._late_s = late_s
        self._failed_lists = 0
        self._relational = True
        self._anything_came = False
        self._hopeless = 0

    @property
    def peer(self) -> str:
        """The archive's address."""
        return str(self._address)

    def echo(self) -> None:
        """C-ECHO; raises `ArchiveError` where the archive is away or refuses us."""
        self._retry(self._link.echo)

    def close(self) -> None:
        """Releases the association."""
        self._link.close()

    # --- looking ---

    def find_studies(self, query: StudyQuery) -> Iterator[StudyRef]:
        """Studies that match (and have measurement objects, if the query says so), each once.

        Studies are swept in windows of dates; which of them have measurement series is asked by relational
        SERIES queries where the archive answers those truly, else study by study. ModalitiesInStudy is not
        relied on: archives ignore it, leave it out or leave reports out of it.
        """
        if query.study_instance_uids:
            candidates = self._named_studies(query)
        else:
            today = datetime.now(UTC).date()
            candidates = q.sweep(q.window_of(query, today), lambda window: self._studies(window, query), today)
        wanted = self._measured(candidates, query) if query.measured else set(candidates)
        yield from (candidates[uid] for uid in sorted(wanted))

    def find_series(self, study_instance_uid: str) -> tuple[SeriesListing, ...]:
        """SERIES level C-FIND of one study."""
        return q.series(self._find(q.series_keys(study_instance_uid)), study_instance_uid)

    def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> tuple[InstanceListing, ...]:
        """IMAGE level C-FIND of one series."""
        rows = self._find(q.listing_keys(study_instance_uid, series_instance_uid))
        return q.instances(rows, study_instance_uid, series_instance_uid)

    def _find(self, identifier: Dataset) -> list[Dataset]:
        return self._retry(lambda: self._link.find(identifier))

    def _named_studies(self, query: StudyQuery) -> dict[str, StudyRef]:
        """The studies that a query names, one request each: lists of UIDs fail on some archives."""
        window = q.window_of(query, datetime.now(UTC).date())
        found: dict[str, StudyRef] = {}
        for uid in query.study_instance_uids:
            rows = self._find(q.study_keys(q.Window(None, None), study_instance_uid=uid))
            found.update(q.studies(rows, window, replace(query, study_instance_uids=(uid,))))
        return found

    def _studies(self, window: q.Window, query: StudyQuery) -> dict[str, StudyRef]:
        return q.studies(self._find(q.study_keys(window, query.patient_id)), window, query)

    def _measured(self, studies: Collection[str], query: StudyQuery) -> set[str]:
        """Which of the studies have measurement series."""
        if len(studies) > _FEW_STUDIES and self._relational:
            answer = self._measured_relational(studies, query)
            if answer is not None:
                return answer
            logger.info("%s: relational SERIES queries are not answered truly; asking study by study", self.peer)
            self._relational = False
        return {uid for uid in studies if self._is_measured(uid)}

    def _is_measured(self, study_instance_uid: str) -> bool:
        return any(
            not series.modality or series.modality in MEASUREMENT_MODALITIES
            for series in self.find_series(study_instance_uid)
        )

    def _measured_relational(self, studies: Collection[str], query: StudyQuery) -> set[str] | None:
        """The same by one query a modality; None where the answer is refused, capped or proves untrue."""
        window = q.window_of(query, datetime.now(UTC).date())
        measured: set[str] = set()
        for modality in sorted(MEASUREMENT_MODALITIES):
            try:
                rows = self._find(q.series_keys("", modality, window))
            except ArchiveError as error:
                if error.status is None and error.operation != "C-FIND":
                    raise
                return None
            if q.looks_capped(len(rows)):
                return None
            measured |= q.measured_studies(rows, modality)
        others = sorted(set(studies) - measured)
        checked = others[:: max(1, len(others) // _SPOT_CHECKS)][:_SPOT_CHECKS]
        if any(self._is_measured(uid) for uid in checked):
            return None
        return measured & set(studies)

    # --- fetching ---

    def retrieve(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
    ) -> tuple[str, ...]:
        """Fetches into the store what it lacks: as lists of UIDs, then one by one what did not arrive.

        The archive's counters are not believed; what is in the store afterwards has arrived.
        """
        asked = self._missing(sorted(set(sop_instance_uids)))
        if self._failed_lists < _FAILED_LISTS and len(asked) > 1:
            for start in range(0, len(asked), _LIST_LENGTH):
                self._fetch_list(study_instance_uid, series_instance_uid, asked[start : start + _LIST_LENGTH])
        left = self._missing(asked)
        self._anything_came = self._anything_came or len(left) < len(asked)
        if len(left) + 1 < len(asked):
            self._failed_lists = 0
        for uid in left:
            self._fetch_one(study_instance_uid, series_instance_uid, uid)
        if len(asked) > 1 and len(left) == len(asked) and len(self._missing(left)) + 1 < len(left):
            self._failed_lists += 1
        return tuple(uid for uid in asked if self._store.has(uid))

    def _missing(self, uids: Iterable[str]) -> list[str]:
        return [uid for uid in uids if not self._store.has(uid) and self._store.kept_out(uid) is None]

    def _fetch_list(self, study: str, series: str, uids: Collection[str]) -> None:
        """One request for many objects; what it does not bring is asked for again one by one."""
        try:
            self._request(study, series, uids)
        except ArchiveError as error:
            if error.operation == "A-ASSOCIATE":
                raise
            logger.info("%s; going on one by one", error)

    def _fetch_one(self, study: str, series: str, uid: str) -> None:
        """One object with all patience; raises where the archive is away, or has never delivered anything."""
        patience = self._retry if self._hopeless < _HOPELESS else replace(self._retry, attempts=1)
        try:
            patience(lambda: self._request(study, series, [uid]))
        except ArchiveError as error:
            if error.status is None or 0xA800 <= error.status <= 0xA8FF or not self._anything_came:
                raise
            logger.warning("%s; object %s is not delivered", error, uid)
        if self._missing([uid]):
            self._hopeless += 1
        else:
            self._hopeless = 0
            self._anything_came = True

    def _request(self, study: str, series: str, uids: Collection[str]) -> None:
        missing = self._missing(uids)
        if not missing:
            return
        identifier = q.image_keys(study, series, missing)
        if self._receiver is None:
            self._link.get(identifier)
            return
        self._receiver.expect(missing)
        final = self._link.move(identifier, self._receiver.ae_title)
        announced = len(missing) if final.completed is None else min(final.completed, len(missing))
        self._receiver.wait_for(lambda: len(missing) - len(self._missing(missing)) >= announced, self._late_s)
