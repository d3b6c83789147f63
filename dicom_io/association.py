"""Associations that we ask for: made over TCP or TLS, one message at a time, a word for every refusal.

pynetdicom tells of a silent, aborting or vanished peer by an answer that is not there; here that is None, and the
association behind it is not used again.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.presentation import PresentationContext

from deeplesion_miner.errors import ArchiveError
from dicom_io import negotiation, standstill, tls
from dicom_io.address import Address
from dicom_io.store import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_TRANSIENT_REJECTION = 0x02
_REJECTION_TEXTS = {
    (1, 3): "it does not know our AE title {calling}: ask its administrator to add it",
    (1, 7): "its AE title is not {called} (titles are compared to the letter)",
    (3, 1): "it is congested",
    (3, 2): "it has as many associations as it allows",
}
"""By source and diagnostic of A-ASSOCIATE-RJ (PS3.8 9.3.4)."""


@dataclass(frozen=True)
class Limits:
    """How long we wait, in seconds."""

    connect_s: float = 10.0
    negotiate_s: float = 30.0
    idle_s: float = 120.0
    """Silence within an operation: a nearline recall or a long query may take minutes."""
    total_s: float = 1800.0
    """One operation, though the peer keeps answering: some send pending responses for ever."""


def associate(
    address: Address,
    calling_ae: str,
    contexts: Sequence[PresentationContext],
    *,
    limits: Limits,
    tls_context: ssl.SSLContext | None = None,
    roles: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
) -> Association:
    """An established association; `ArchiveError` says why there is none, and whether a later try may get one."""
    entity = AE(ae_title=calling_ae)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = limits.connect_s
    entity.acse_timeout = limits.negotiate_s
    entity.dimse_timeout = limits.idle_s
    entity.network_timeout = None  # an association may rest while pixels are decoded
    rejections: list[A_ASSOCIATE_RJ] = []
    try:
        association = entity.associate(
            address.host,
            address.port,
            contexts=list(contexts),
            ae_title=address.ae_title,
            max_pdu=negotiation.MAXIMUM_PDU_BYTES,
            ext_neg=list(roles),
            evt_handlers=[
                (evt.EVT_CONN_OPEN, negotiation.send_at_once),
                (evt.EVT_CONN_OPEN, _limit_sending, [limits.idle_s]),
                (evt.EVT_PDU_RECV, _note_rejection, [rejections]),
                *handlers,
            ],
            tls_args=None if tls_context is None else (tls_context, address.host),
        )
    except socket.gaierror as error:
        text = f"the host {address.host} is not known here ({error.strerror}): check its name, or give its number"
        temporary = error.errno == socket.EAI_AGAIN
        raise ArchiveError(text, peer=str(address), operation="A-ASSOCIATE", temporary=temporary) from error
    except UnicodeError as error:
        text = f"the host {address.host!r} is not known here (it cannot be the name of a host): check its name"
        raise ArchiveError(text, peer=str(address), operation="A-ASSOCIATE", temporary=False) from error
    if not association.is_established:
        if rejections:
            raise _rejection(rejections[0], address, calling_ae)
        raise _no_association(address, limits, tls_context)
    association.unbind(evt.EVT_PDU_RECV, _note_rejection)
    _send_one_message_at_a_time(association)
    return association


def ask(association: Association, request: Any, context_id: int) -> Any | None:
    """The peer's answer to a DIMSE request; None where it is silent, aborts, vanishes or answers something else."""
    if not association.is_established:
        return None
    standstill.stand_still(association)
    association.dimse.send_msg(request, context_id)
    _, response = association.dimse.get_msg(block=True)
    standstill.go_on(association)
    answers = type(response) is type(request) and response.MessageIDBeingRespondedTo == request.MessageID
    if answers and response.is_valid_response:
        return response
    drop(association)
    return None


def release(association: Association) -> None:
    """Ends an association as agreed (PS3.8 7.2): some archives take the release as the end of a job."""
    if association.is_established:
        standstill.stand_still(association)
        # As `Association.release`, which waits for ever where an event report was just served in another thread.
        association.acse.negotiate_release()
        standstill.go_on(association)


def drop(association: Association) -> None:
    """Aborts an association that cannot be trusted any more."""
    if association.is_established:
        association.abort()


def cut(association: Association) -> None:
    """Called from another thread: who waits for an answer on the association is told that there is none."""
    association.dimse.msg_queue.put((None, None))


def _limit_sending(event: Any, idle_s: float) -> None:
    """A peer that stops reading would hold the sending thread, and with it an abort, for ever."""
    seconds = struct.pack("@ll", int(idle_s), int(idle_s % 1 * 1_000_000))
    event.assoc.dul.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)


def _send_one_message_at_a_time(association: Association) -> None:
    """Answers to event reports come from another thread; fragments of two messages must not mix (PS3.8 annex E).

    Nor must one come after the release was asked for (PS3.8 7.2.2): pynetdicom would end in the middle of it.
    """
    send, send_release, lock = association.dimse.send_msg, association.acse.send_release, threading.Lock()

    def send_alone(primitive: Any, context_id: int) -> None:
        with lock:
            if not association._sent_release:
                send(primitive, context_id)

    def release_alone(is_response: bool = False) -> None:
        with lock:
            send_release(is_response)

    association.dimse.send_msg, association.acse.send_release = send_alone, release_alone


def _note_rejection(event: Any, rejections: list[A_ASSOCIATE_RJ]) -> None:
    """pynetdicom takes a rejection after which the peer hangs up at once for a connection that never was."""
    if isinstance(event.pdu, A_ASSOCIATE_RJ):
        rejections.append(event.pdu)


def _rejection(answer: A_ASSOCIATE_RJ, address: Address, calling_ae: str) -> ArchiveError:
    source, diagnostic = answer.source, answer.reason_diagnostic
    why = _REJECTION_TEXTS.get((source, diagnostic), f"source {source}, diagnostic {diagnostic}")
    text = f"association rejected: {why.format(calling=calling_ae, called=address.ae_title)}"
    temporary = answer.result == _TRANSIENT_REJECTION
    return ArchiveError(text, peer=str(address), operation="A-ASSOCIATE", temporary=temporary)


def _no_association(address: Address, limits: Limits, tls_context: ssl.SSLContext | None) -> ArchiveError:
    text, temporary = "no association: nobody listens there, or the connection was aborted in negotiation", True
    if tls_context is not None:
        failure = tls.handshake_failure(address.host, address.port, tls_context, limits.connect_s)
        if failure:
            text, temporary = f"no association: TLS: {failure}", False
    return ArchiveError(text, peer=str(address), operation="A-ASSOCIATE", temporary=temporary)
