"""A hostile archive that also answers what it has: C-FIND of studies and of their objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

from hostile_archive import HostileArchive, send_report
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_io.emit import EmittedObject
from dicom_io.negotiation import FIND, UNCOMPRESSED


class ListingArchive(HostileArchive):
    """`patients` says whose the studies are that it has ("P1", or "P1^^^A" where it tells the issuer, too); of
    `objects` it lists those that it stored."""

    def __init__(self, objects: Iterable[EmittedObject], patients: Mapping[str, Iterable[str]], **rest: Any) -> None:
        super().__init__(**rest)
        self.patients = {study: list(found) for study, found in patients.items()}
        self.hidden: set[str] = set()
        """Objects that are stored and not listed."""
        self.there_before: set[str] = set()
        self.taken_back: set[str] = set()
        """Objects that it lists once and then no more, as dcmqrscp where its answer could not be sent."""
        self.finds: list[str] = []
        """The levels that were asked for, in order."""
        self.requests: list[Dataset] = []
        """What commitment was asked for."""
        self._known = {one.sop_instance_uid: one for one in objects}
        self._entity.add_supported_context(FIND, UNCOMPRESSED)

    def __enter__(self) -> Self:
        super().__enter__()
        self._server.bind(evt.EVT_C_FIND, self._find)
        return self

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        self.finds.append(asked.QueryRetrieveLevel)
        for answer in self._rows(asked.QueryRetrieveLevel, asked.StudyInstanceUID):
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            answer.StudyInstanceUID = asked.StudyInstanceUID
            yield 0xFF00, answer
        if asked.QueryRetrieveLevel != "STUDY":
            self.there_before -= self.taken_back

    def _rows(self, level: str, study: str) -> Iterator[Dataset]:
        if level == "STUDY":
            for patient in self.patients.get(study, ()):
                answer = Dataset()
                answer.PatientID, _, issuer = patient.partition("^^^")
                if issuer:
                    answer.IssuerOfPatientID = issuer
                yield answer
            return
        for uid in sorted((set(self.stored) | self.there_before) - self.hidden):
            one = self._known[uid]
            if one.study_instance_uid == study:
                answer = Dataset()
                answer.SeriesInstanceUID, answer.SOPInstanceUID = one.series_instance_uid, uid
                yield answer

    def _act(self, event: Any) -> tuple[int, None]:
        self.requests.append(event.action_information)
        return super()._act(event)

    def report_to(self, port: int) -> int | None:
        """Reports, on an association of its own, that it keeps what it was last asked for; the answer's status."""
        entity = AE(ae_title="HOSTILE")
        entity.add_requested_context(StorageCommitmentPushModel)
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
        association = entity.associate("127.0.0.1", port, ext_neg=roles)
        try:
            return send_report(association, self.requests[-1], 1)
        finally:
            association.release()

    def _report(self, association: Any, information: Dataset) -> None:
        """As real archives, it loses a report whose association has ended."""
        with suppress(RuntimeError):
            super()._report(association, information)
