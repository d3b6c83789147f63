"""An archive that does to senders what real ones do on their bad days: every object's fate is planned."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_io.address import Address
from dicom_io.negotiation import ECHO, UNCOMPRESSED, send_at_once
from dicom_io.standstill import stand_still

ABORT, VANISH, SILENT, STRAY = "abort", "vanish", "silent", "stray"
"""Instead of a status: A-ABORT, a closed connection, no answer for as long as the association lives, an answer to
another request."""

Fate = int | str


class HostileArchive:
    """A storage and commitment SCP on loopback; `fates` of an object are used up one a request, then it is stored.

    `report_on_same` reports commitment on the association of the request, each report so often.
    """

    def __init__(
        self,
        fates: Mapping[str, Sequence[Fate]] | None = None,
        *,
        classes: Iterable[str] | None = None,
        syntaxes: Sequence[str] = UNCOMPRESSED,
        commitment: bool = True,
        report_on_same: int = 0,
        action_status: Fate = 0x0000,
    ) -> None:
        self._fates = {uid: list(planned) for uid, planned in (fates or {}).items()}
        self._report_on_same = report_on_same
        self._action_status = action_status
        self._stop = threading.Event()
        self._strays = 0
        self.arrivals: list[str] = []
        """SOP Instance UIDs of all requests, in order."""
        self.stored: dict[str, tuple[str, bytes]] = {}
        """Transfer syntax and data set by UID."""
        self.associations = 0
        self.released = 0
        self.report_statuses: list[int] = []
        self._entity = AE(ae_title="HOSTILE")
        self._entity.maximum_associations = 20
        self._entity.network_timeout = None
        for sop_class in classes or [str(one.abstract_syntax) for one in AllStoragePresentationContexts]:
            self._entity.add_supported_context(sop_class, list(syntaxes))
        self._entity.add_supported_context(ECHO, UNCOMPRESSED)
        if commitment:
            self._entity.add_supported_context(StorageCommitmentPushModel, UNCOMPRESSED)

    def __enter__(self) -> Self:
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, send_at_once),
            (evt.EVT_ESTABLISHED, self._count),
            (evt.EVT_RELEASED, self._count_release),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._act),
            (evt.EVT_DIMSE_RECV, self._note_answer),
        ]
        self._server = self._entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.address = Address("HOSTILE", "127.0.0.1", self._server.socket.getsockname()[1])
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        # socketserver looks at its end every half second: nobody needs to wait for that.
        threading.Thread(target=self._server.shutdown, daemon=True).start()

    def hang_up(self) -> None:
        """Aborts what is idle, as archives do after a while."""
        for association in self._server.active_associations:
            association.abort()

    def _count(self, event: Any) -> None:
        self.associations += 1
        send, lock = event.assoc.dimse.send_msg, threading.Lock()

        def send_alone(primitive: Any, context_id: int) -> None:
            if self._strays > 0 and getattr(primitive, "MessageIDBeingRespondedTo", None) is not None:
                self._strays -= 1
                primitive.MessageIDBeingRespondedTo += 1
            with lock:
                send(primitive, context_id)

        event.assoc.dimse.send_msg = send_alone

    def _count_release(self, event: Any) -> None:
        self.released += 1

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.arrivals.append(uid)
        planned = self._fates.get(uid)
        fate = planned.pop(0) if planned else 0x0000
        if isinstance(fate, int) and (fate == 0 or 0xB000 <= fate <= 0xBFFF):
            self.stored[uid] = (str(event.context.transfer_syntax), event.request.DataSet.getvalue())
        return self._suffer(event, fate)

    def _suffer(self, event: Any, fate: Fate) -> int:
        if isinstance(fate, int):
            return fate
        if fate == ABORT:
            event.assoc.abort()
        elif fate == VANISH:
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        if fate == STRAY:
            self._strays += 1
            return 0x0000
        while fate == SILENT and event.assoc.is_established and not self._stop.wait(0.02):
            pass
        return 0xC000

    def _act(self, event: Any) -> tuple[int, None]:
        status = self._suffer(event, self._action_status)
        if status == 0 and self._report_on_same:
            threading.Thread(target=self._report, args=(event.assoc, event.action_information)).start()
        return status, None

    def _report(self, association: Any, information: Dataset) -> None:
        """Says of every object whether it is here, without waiting for the answer: other requests come meanwhile."""
        time.sleep(0.02)  # after the answer to the request
        report = Dataset()
        report.TransactionUID = information.TransactionUID
        report.ReferencedSOPSequence, report.FailedSOPSequence = DicomSequence(), DicomSequence()
        for item in information.ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID in self.stored:
                report.ReferencedSOPSequence.append(item)
            else:
                item.FailureReason = 0x0112
                report.FailedSOPSequence.append(item)
        context = next(
            one for one in association.accepted_contexts if one.abstract_syntax == StorageCommitmentPushModel
        )
        syntax = context.transfer_syntax[0]
        encoded = encode(report, syntax.is_implicit_VR, syntax.is_little_endian)
        assert encoded is not None
        for number in range(self._report_on_same):
            request = N_EVENT_REPORT()
            request.MessageID = 1000 + number
            request.AffectedSOPClassUID = StorageCommitmentPushModel
            request.AffectedSOPInstanceUID = StorageCommitmentPushModelInstance
            request.EventTypeID = 2 if report.FailedSOPSequence else 1
            request.EventInformation = BytesIO(encoded)
            association.dimse.send_msg(request, context.context_id)

    def _note_answer(self, event: Any) -> None:
        if isinstance(event.message, N_EVENT_REPORT_RSP):
            self.report_statuses.append(event.message.command_set.Status)


def send_report(association: Any, information: Dataset, event_type: int | None = None) -> int | None:
    """Reports over an association; the status of the answer, None where there is none."""
    stand_still(association)
    failed = information.get("FailedSOPSequence")
    kind = event_type or (2 if failed else 1)
    status, _ = association.send_n_event_report(
        information, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return status.get("Status")
