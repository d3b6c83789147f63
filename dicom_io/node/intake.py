"""C-STORE: each object is durable in the store and in the journal before it is answered with success.

Whatever cannot be kept is refused with a status (PS3.4 B.2.3) and a comment: A7xx may be sent again, A9xx and Cxxx
will not be taken as they are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.attributes import DECODING_ERRORS, number, quiet, text
from dicom_io.node.association import StoreFile
from dicom_io.node.journal import Journal, JournalError
from dicom_io.node.limits import NodeLimits
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics
from dicom_io.node.pace import Paces
from dicom_io.node.records import Arrival
from dicom_io.store import Incoming, ObjectStore, Outcome, normal_uid

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
NOT_WHAT_IT_SAYS = 0xA900
NOT_READABLE, TOO_LARGE, OTHER_COPY = 0xC000, 0xC010, 0xC020

_TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription",
         "ProtocolName", "BodyPartExamined", "SliceThickness"]  # fmt: skip
_DISK_LOOK_S = 1.0
_COMMENT_LENGTH = 64


class Refused(Exception):
    """Why an object is not taken: the status, and a comment for the peer."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment


class Intake:
    """Serves C-STORE for any number of associations."""

    def __init__(
        self,
        store: ObjectStore,
        folder: Path,
        journal: Journal,
        limits: NodeLimits,
        *,
        quiet_s: Callable[[str], float],
        paces: Paces,
        log: NodeLog,
        metrics: Metrics,
    ) -> None:
        self._store, self._folder, self._journal, self._limits = store, folder, journal, limits
        self._quiet_s, self._paces, self._log, self._metrics = quiet_s, paces, log, metrics
        self._disk = (float("-inf"), 0)
        """When it was looked at, and what was free then: in one, since many threads read and change it."""

    def on_store(self, event: Any) -> int | Dataset:
        """Handler of ``EVT_C_STORE``."""
        peer = event.assoc.peer.ae_title
        try:
            status = self._take(event, peer)
            comment = ""
        except Refused as refused:
            status, comment = refused.status, refused.comment
            self._log.warning("object_refused", refused.__cause__, peer=peer, status=f"{status:04X}", why=comment)
        self._metrics.count("objects_total", peer=peer, status=f"{status:04X}")
        if status == SUCCESS:
            return SUCCESS
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = comment[:_COMMENT_LENGTH]
        return answer

    def free_bytes(self) -> int:
        """Of the disk that holds the objects, looked at once a second."""
        now_s = time.monotonic()
        looked_s, free_bytes = self._disk
        if now_s - looked_s > _DISK_LOOK_S:
            free_bytes = shutil.disk_usage(self._folder).free
            self._disk = (now_s, free_bytes)
        return free_bytes

    def _take(self, event: Any, peer: str) -> int:
        file = event.request._dataset_file
        if not isinstance(file, StoreFile):
            raise Refused(NOT_READABLE, "the request holds no data set")
        incoming = file.incoming
        if not self._paces.wait(peer):
            raise Refused(OUT_OF_RESOURCES, "more objects a minute than agreed")
        if self.free_bytes() < self._limits.free_bytes:
            raise Refused(OUT_OF_RESOURCES, "the disk is almost full")
        if incoming.is_too_large:
            raise Refused(TOO_LARGE, f"{incoming.size_bytes} bytes are more than is taken")
        arrival = self._arrival(incoming, str(event.request.AffectedSOPClassUID), peer)
        if self._journal.open_studies(arrival.study_instance_uid) >= self._limits.open_studies:
            raise Refused(OUT_OF_RESOURCES, "too many studies wait to be looked at")
        self._keep(incoming, arrival)
        return SUCCESS

    def _keep(self, incoming: Incoming, arrival: Arrival) -> None:
        try:
            outcome = incoming.keep()
            if outcome is Outcome.CONFLICT:
                raise Refused(OTHER_COPY, "another object with this SOP Instance UID is here")
            with self._journal.undisturbed():
                if not self._store.has(incoming.uid):  # its time was over just now
                    raise Refused(OUT_OF_RESOURCES, "the older copy of it is being removed")
                self._journal.record_arrival(arrival, self._quiet_s(arrival.source), time.time())
        except OSError as error:
            raise Refused(OUT_OF_RESOURCES, error.strerror or "the disk failed") from error
        except JournalError as error:
            self._log.error("journal", error)
            raise Refused(OUT_OF_RESOURCES, "the journal cannot be written") from error
        self._metrics.count("object_bytes_total", by=incoming.size_bytes)
        self._log.debug("object_stored", peer=arrival.source, object=self._log.name(incoming.uid), outcome=outcome)

    def _arrival(self, incoming: Incoming, sop_class_uid: str, peer: str) -> Arrival:
        """What the object says of itself; it must be what the request said."""
        incoming.flush()
        if incoming.failure is not None:
            raise Refused(OUT_OF_RESOURCES, incoming.failure.strerror or "the disk failed") from incoming.failure
        with quiet():
            try:
                header = dcmread(incoming.path, stop_before_pixels=True, specific_tags=_TAGS)
                facts = {keyword: text(header, keyword) for keyword in _TAGS}
                thickness_mm = number(header, "SliceThickness")
            except DECODING_ERRORS as error:
                raise Refused(NOT_READABLE, "cannot be read") from error
        if normal_uid(facts["SOPInstanceUID"]) != incoming.uid or not incoming.uid:
            raise Refused(NOT_WHAT_IT_SAYS, "SOP Instance UID of request and data set differ")
        if normal_uid(facts["SOPClassUID"]) != normal_uid(sop_class_uid):
            raise Refused(NOT_WHAT_IT_SAYS, "SOP Class UID of request and data set differ")
        study, series = normal_uid(facts["StudyInstanceUID"]), normal_uid(facts["SeriesInstanceUID"])
        if not study or not series:
            raise Refused(NOT_WHAT_IT_SAYS, "Study or Series Instance UID (0020,000D, 000E) is missing")
        if not (incoming.uid + study + series).isascii():
            raise Refused(NOT_WHAT_IT_SAYS, "a UID holds other than digits and dots")
        return Arrival(
            source=peer,
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid=incoming.uid,
            sop_class_uid=normal_uid(facts["SOPClassUID"]),
            size_bytes=incoming.size_bytes,
            modality=_column(facts["Modality"]),
            description=_column(facts["SeriesDescription"] or facts["ProtocolName"]),
            body_part=_column(facts["BodyPartExamined"]),
            slice_thickness_mm=thickness_mm,
        )


def _column(value: str) -> str:
    """Text as SQLite takes it: lone surrogates of broken text are escaped."""
    return value.encode("utf-8", "backslashreplace").decode()
