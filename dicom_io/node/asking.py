"""A request of ours on an association that a peer opened: it goes on with what it came for meanwhile.

The association's own thread stands still, so that it does not take our answer. So who asks serves in its place: what
the peer sends before it answers, and a release that comes instead of an answer.
"""

from __future__ import annotations

import queue
import time
from typing import Any

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_RELEASE

from dicom_io import standstill
from dicom_io.node.outgoing import lasts

_LOOK_S = 0.02


def ask_in_between(association: Association, request: Any, context_id: int, within_s: float) -> Any | None:
    """The peer's answer to a DIMSE request; None where it does not answer in time, releases, or goes.

    The association stays as it is: an answer that comes later is passed over, since its request had another number.
    """
    standstill.stand_still(association)
    try:
        if not lasts(association):
            return None
        association.dimse.send_msg(request, context_id)
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s and lasts(association) and not _is_leaving(association):
            try:
                its_context_id, message = association.dimse.msg_queue.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if message is None:
                return None
            if type(message) is type(request) and message.MessageIDBeingRespondedTo == request.MessageID:
                return message if message.is_valid_response else None
            association._serve_request(message, its_context_id)
            standstill.stand_still(association)  # a C-GET lets it go on
        return None
    finally:
        standstill.go_on(association)


def _is_leaving(association: Association) -> bool:
    """Whether the peer has asked for the release, which its thread answers as soon as it goes on."""
    return isinstance(association.dul.peek_next_pdu(), A_RELEASE)
