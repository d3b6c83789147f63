"""Answers of many parts at the pace of whoever reads them.

pynetdicom puts what is to be sent into a queue without an end, and reads from the peer only while that queue is empty:
a handler that does not wait fills the memory for a peer that reads slowly, and never hears its cancel.
"""

from __future__ import annotations

import time
from typing import Any

BATCH = 50
"""Answers that may lie in the queue."""
_LOOK_S = 0.002
_LISTEN_S = 0.005
"""What the association's other thread gets to read what the peer has sent; it looks each millisecond."""


def wait_until_sent(association: Any) -> bool:
    """Returns when all that was answered has gone out and the peer was listened to; False where it has gone."""
    while association.dul.to_provider_queue.qsize():
        if not lasts(association):
            return False
        time.sleep(_LOOK_S)
    time.sleep(_LISTEN_S)
    return lasts(association)


def lasts(association: Any) -> bool:
    """False where the association has ended: the thread that would note it is the one that serves."""
    return bool(
        association.is_established
        and not association._sent_abort
        and association.dul.is_alive()
        and not association.acse.is_aborted()
    )
