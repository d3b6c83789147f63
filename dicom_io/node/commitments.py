"""Storage commitment for others (PS3.4 annex J, Push Model): our word for what we answered with success.

A request is in the journal before it is taken. Its report is sent to the address of the peer's rule, over associations
of our own until the peer takes it; else once on the association of the request, where that lasts.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from deeplesion_miner.errors import ArchiveError
from dicom_io import association as associations
from dicom_io.address import Address
from dicom_io.attributes import DECODING_ERRORS, items, quiet, text
from dicom_io.commitment import (
    ALL_COMMITTED,
    INVALID_ARGUMENT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    REQUEST_COMMITMENT,
    SOME_FAILED,
    SUCCESS,
)
from dicom_io.negotiation import UNCOMPRESSED
from dicom_io.node.asking import ask_in_between
from dicom_io.node.journal import Journal, JournalError
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics
from dicom_io.node.records import CommitmentRequest
from dicom_io.store import normal_uid

NO_SUCH_ACTION = 0x0123
CLASS_CONFLICT = 0x0119
ATTEMPTS = 12
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 3600.0
_GRACE_S = 1.0
"""Between a request and a report over another association: some peers open their door after they have released."""
_LOOK_S = 0.25
_TROUBLE_S = 5.0
_CUT_EVERY_S = 0.1
_ANSWER_S = 20.0
"""What a peer gets to answer a report."""
_MOST_OPEN = 64
"""Associations that are remembered for reports."""

_Ask = Callable[[Association, Any, int], Any]

SCP_ROLE = [build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)]


class Commitments:
    """Takes requests and sends reports, from `start` to `stop`."""

    def __init__(
        self,
        journal: Journal,
        ae_title: str,
        report_to: Callable[[str], str],
        *,
        tls: ssl.SSLContext | None,
        log: NodeLog,
        metrics: Metrics,
    ) -> None:
        self._journal, self._ae_title, self._report_to = journal, ae_title, report_to
        self._tls, self._log, self._metrics = tls, log, metrics
        self._lock = threading.Lock()
        self._asked_on: dict[tuple[str, str], Any] = {}
        self._reports = 0
        """Sent so far: the number of a report tells its answer from a late one to another."""
        self._telling: Any = None
        """The association over which a report goes out just now."""
        self._stopping = threading.Event()
        # A daemon: a peer that does not answer must not keep the node from stopping.
        self._thread = threading.Thread(target=self._report_what_is_due, name="commitments", daemon=True)

    def start(self) -> None:
        """Begins to report."""
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Reports no more; what is open is reported after a restart. True where that was in time."""
        self._stopping.set()
        until_s = time.monotonic() + within_s
        while True:
            with self._lock:
                if self._telling is not None:
                    associations.cut(self._telling)
            if self._thread.is_alive():
                self._thread.join(_CUT_EVERY_S)
            if not self._thread.is_alive() or time.monotonic() > until_s:
                return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """False where nobody reports."""
        return self._thread.is_alive()

    def on_action(self, event: Any) -> tuple[int, Dataset | None]:
        """Handler of ``EVT_N_ACTION``: success only once the request is in the journal."""
        status = self._taken(event)
        self._metrics.count("services_total", service="N-ACTION", status=f"{status:04X}")
        return status, None

    def _taken(self, event: Any) -> int:
        if event.request.RequestedSOPClassUID != StorageCommitmentPushModel:
            return NO_SUCH_INSTANCE
        if event.action_type != REQUEST_COMMITMENT:
            return NO_SUCH_ACTION
        peer = event.assoc.peer.ae_title
        with quiet():
            try:
                information = event.action_information
                transaction = normal_uid(text(information, "TransactionUID"))
                asked = [(normal_uid(text(item, "ReferencedSOPClassUID")),
                          normal_uid(text(item, "ReferencedSOPInstanceUID")))
                         for item in items(information, "ReferencedSOPSequence")]  # fmt: skip
            except DECODING_ERRORS:
                return INVALID_ARGUMENT
        if not transaction or not asked:
            return INVALID_ARGUMENT
        own_association = bool(self._report_to(peer))
        with self._lock:  # before the request is in the journal, since it is reported as soon as it is there
            while len(self._asked_on) >= _MOST_OPEN:
                del self._asked_on[next(iter(self._asked_on))]
            self._asked_on[peer, transaction] = event.assoc
        try:
            self._journal.record_commitment_request(
                peer, transaction, asked, time.time() + (_GRACE_S if own_association else 0.0)
            )
        except JournalError as error:
            self._log.error("journal", error)
            return PROCESSING_FAILURE
        self._log.info("commitment_asked", peer=peer, transaction=self._log.name(transaction), objects=len(asked))
        return SUCCESS

    def _report_what_is_due(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                for request in self._journal.commitment_requests(time.time()):
                    if self._stopping.is_set():
                        return
                    self.report(request)
            except JournalError as error:
                if self._stopping.is_set():
                    return  # it is closed
                self._log.error("journal", error)
                self._stopping.wait(_TROUBLE_S)

    def report(self, request: CommitmentRequest) -> None:
        """Sends one report and records whether it was taken."""
        with self._lock:
            asked_on = self._asked_on.pop((request.peer, request.transaction_uid), None)
        name = self._log.name(request.transaction_uid)
        try:
            self._send(request, asked_on)
        except ArchiveError as error:
            if self._stopping.is_set():
                return  # it was cut off, and is reported after a restart
            again = error.temporary and request.attempts + 1 < ATTEMPTS and bool(self._report_to(request.peer))
            pause_s = min(_FIRST_PAUSE_S * 2**request.attempts, _LONGEST_PAUSE_S)
            now_s = time.time()
            self._journal.commitment_failed(request, str(error), now_s + pause_s if again else None, now_s=now_s)
            self._log.warning("report_not_taken", error, peer=request.peer, transaction=name, again=again)
            return
        self._journal.commitment_reported(request, now_s=time.time())
        self._log.info("report_taken", peer=request.peer, transaction=name)

    def _send(self, request: CommitmentRequest, asked_on: Any) -> None:
        information, event_type = self._report_of(request)
        place = self._report_to(request.peer)
        if not place:
            if asked_on is None or not asked_on.is_established:
                text = "the association of the request has ended, and the rule of the peer has no report_to"
                raise ArchiveError(text, peer=request.peer, operation="N-EVENT-REPORT", temporary=False)
            self._tell(asked_on, information, event_type, request.peer, partial(ask_in_between, within_s=_ANSWER_S))
            return
        association = associations.associate(
            Address.parse(place),
            self._ae_title,
            [build_context(StorageCommitmentPushModel, UNCOMPRESSED)],
            limits=associations.Limits(connect_s=5.0, idle_s=_ANSWER_S),
            tls_context=self._tls,
            roles=SCP_ROLE,
        )
        try:
            self._tell(association, information, event_type, place, associations.ask)
        finally:
            with suppress(RuntimeError):
                associations.release(association)

    def _tell(self, association: Association, information: Dataset, event_type: int, peer: str, ask: _Ask) -> None:
        with self._lock:
            if self._stopping.is_set():
                raise ArchiveError("the node stops", peer=peer, operation="N-EVENT-REPORT", temporary=True)
            self._telling = association
            self._reports += 1
        try:
            _tell(association, information, event_type, peer, ask, self._reports % 0xFFFF)
        finally:
            with self._lock:
                self._telling = None

    def _report_of(self, request: CommitmentRequest) -> tuple[Dataset, int]:
        """The event information and its type (PS3.4 table J.3-2)."""
        there, failed = [], []
        for sop_class, uid in request.items:
            item = Dataset()
            item.ReferencedSOPClassUID = sop_class
            item.ReferencedSOPInstanceUID = uid
            is_here = self._journal.has_object(uid, sop_class)
            if is_here:
                there.append(item)
            else:
                item.FailureReason = CLASS_CONFLICT if is_here is None else NO_SUCH_INSTANCE
                failed.append(item)
        information = Dataset()
        information.TransactionUID = request.transaction_uid
        if there:
            information.ReferencedSOPSequence = there
        if failed:
            information.FailedSOPSequence = failed
        return information, SOME_FAILED if failed else ALL_COMMITTED


def _tell(association: Association, information: Dataset, event_type: int, peer: str, ask: _Ask, number: int) -> None:
    """N-EVENT-REPORT; ArchiveError where the peer does not take it."""
    for context in association.accepted_contexts:
        if context.abstract_syntax == StorageCommitmentPushModel:
            break
    else:
        text = "the peer takes no reports of storage commitment"
        raise ArchiveError(text, peer=peer, operation="N-EVENT-REPORT", temporary=False)
    syntax = context.transfer_syntax[0]
    encoded = encode(information, syntax.is_implicit_VR, syntax.is_little_endian)
    assert encoded is not None
    report = N_EVENT_REPORT()
    report.MessageID = number
    report.AffectedSOPClassUID = StorageCommitmentPushModel
    report.AffectedSOPInstanceUID = StorageCommitmentPushModelInstance
    report.EventTypeID = event_type
    report.EventInformation = BytesIO(encoded)
    response = ask(association, report, context.context_id)
    if response is None:
        text = "no answer to the report: the peer is silent or has gone"
        raise ArchiveError(text, peer=peer, operation="N-EVENT-REPORT", temporary=True)
    if response.Status != SUCCESS:
        raise ArchiveError(
            "the report was refused", peer=peer, operation="N-EVENT-REPORT", status=response.Status, temporary=True
        )
