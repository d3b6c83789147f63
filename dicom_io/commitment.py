"""Storage commitment, Push Model (PS3.4 annex J): an archive's word that it keeps objects.

The word comes as an event report: on the association of the request or on one that the archive opens, at once or hours
later, perhaps twice. So a report carries its transaction UID, and whoever takes reports must not mind a second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from deeplesion_miner.errors import ArchiveError
from dicom_io import association as associations
from dicom_io import attributes
from dicom_io.negotiation import UNCOMPRESSED
from dicom_io.store import normal_uid
from dicom_io.store_status import one_line

REQUEST_COMMITMENT = 1
"""Action type (PS3.4 table J.3-1)."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event types (PS3.4 table J.3-2)."""

SUCCESS, PROCESSING_FAILURE, NO_SUCH_EVENT_TYPE, INVALID_ARGUMENT, NO_SUCH_INSTANCE = (
    0x0000,
    0x0110,
    0x0113,
    0x0115,
    0x0112,
)
"""Statuses with which a report is answered (PS3.7 C.5)."""


@dataclass(frozen=True)
class Reference:
    """An object that commitment is asked for."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class CommitmentReport:
    """What an archive says of the objects of one request."""

    transaction_uid: str
    committed: tuple[str, ...]
    """SOP Instance UIDs, sorted."""
    failed: Mapping[str, int]
    """Failure reasons (PS3.3 C.14.1.1) by UID. An object may be neither here nor there: nothing was said of it."""


OnReport = Callable[[CommitmentReport], bool]
"""Keeps a report so that no power cut loses it and returns True; False where the transaction is not known.

It may be called twice with one report, and from any thread; what it raises is answered as a processing failure, so
that the archive reports again.
"""


def context() -> PresentationContext:
    """The presentation context that asks for storage commitment."""
    return build_context(StorageCommitmentPushModel, UNCOMPRESSED)


def support(entity: AE, *, as_provider: bool = False) -> None:
    """Lets archives report to this application entity; `as_provider` lets others ask it for commitment, too.

    The archive opens the association, but stays the provider: it selects roles for that (PS3.4 J.3.3), or forgets to.
    """
    entity.add_supported_context(StorageCommitmentPushModel, UNCOMPRESSED, scu_role=as_provider, scp_role=True)


def is_accepted(association: Association) -> bool:
    """Whether the peer offers storage commitment on this association."""
    return _context_id(association) is not None


def request(
    association: Association, peer: str, transaction_uid: str, references: Sequence[Reference], message_id: int = 1
) -> bool:
    """N-ACTION: True where the archive takes the request, False where the association was lost before it answered.

    Raises `ArchiveError` where it refuses the service or the request. ValueError for no references.
    """
    if not references:
        raise ValueError("storage commitment of no objects")
    accepted = _context_id(association)
    if accepted is None:
        text = "the archive offers no storage commitment: prove by a query that it has the objects"
        raise ArchiveError(text, peer=peer, operation="N-ACTION", temporary=False)
    context_id, syntax = accepted
    action = N_ACTION()
    action.MessageID = message_id
    action.RequestedSOPClassUID = StorageCommitmentPushModel
    action.RequestedSOPInstanceUID = StorageCommitmentPushModelInstance
    action.ActionTypeID = REQUEST_COMMITMENT
    encoded = encode(_information(transaction_uid, references), syntax.is_implicit_VR, syntax.is_little_endian)
    assert encoded is not None
    action.ActionInformation = BytesIO(encoded)
    response = associations.ask(association, action, context_id)
    if response is None:
        return False
    if response.Status != SUCCESS:
        comment = one_line(getattr(response, "ErrorComment", None))
        text = f"storage commitment refused{': ' + comment if comment else ''}"
        temporary = response.Status in (PROCESSING_FAILURE, 0x0213)
        raise ArchiveError(text, peer=peer, operation="N-ACTION", status=response.Status, temporary=temporary)
    return True


def handler(on_report: OnReport) -> Any:
    """pynetdicom's handler of event reports, for an association of ours and for a server that archives report to."""
    return (evt.EVT_N_EVENT_REPORT, lambda event: (_taken(event, on_report), None))


def _taken(event: Any, on_report: OnReport) -> int:
    """The status with which a report is answered: success only once it is kept."""
    if event.request.AffectedSOPClassUID != StorageCommitmentPushModel:
        return NO_SUCH_INSTANCE
    if event.event_type not in (ALL_COMMITTED, SOME_FAILED):
        return NO_SUCH_EVENT_TYPE
    with attributes.quiet():
        try:
            report = read_report(event.event_information)
        except attributes.DECODING_ERRORS:
            return INVALID_ARGUMENT
    if not report.transaction_uid:
        return INVALID_ARGUMENT
    return SUCCESS if on_report(report) else INVALID_ARGUMENT


def read_report(information: Dataset) -> CommitmentReport:
    """What the event information says, whatever the event type claims (PS3.4 table J.3-2)."""
    committed = {normal_uid(attributes.text(item, "ReferencedSOPInstanceUID"))
                 for item in attributes.items(information, "ReferencedSOPSequence")}  # fmt: skip
    failed = {}
    for item in attributes.items(information, "FailedSOPSequence"):
        uid = normal_uid(attributes.text(item, "ReferencedSOPInstanceUID"))
        failed[uid] = attributes.integer(item, "FailureReason") or PROCESSING_FAILURE
    committed -= {"", *failed}
    failed.pop("", None)
    return CommitmentReport(
        normal_uid(attributes.text(information, "TransactionUID")),
        tuple(sorted(committed)),
        {uid: failed[uid] for uid in sorted(failed)},
    )


def _information(transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = DicomSequence()
    for one in references:
        item = Dataset()
        item.ReferencedSOPClassUID = one.sop_class_uid
        item.ReferencedSOPInstanceUID = one.sop_instance_uid
        information.ReferencedSOPSequence.append(item)
    return information


def _context_id(association: Association) -> tuple[int, Any] | None:
    for one in association.accepted_contexts:
        if one.abstract_syntax == StorageCommitmentPushModel:
            return one.context_id, one.transfer_syntax[0]
    return None
