"""How fast each peer may send: who is faster is made to wait, since most senders wait patiently for an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

LONGEST_WAIT_S = 15.0
"""Below what senders take for a peer that is gone (30 s is common)."""
_BURST_S = 5.0
"""A peer that was silent may send at once what it might have sent in this time."""


class Paces:
    """Objects a minute, by AE title; None for no limit. Safe to use from many threads."""

    def __init__(self, objects_per_minute: Mapping[str, float | None]) -> None:
        self._interval_s = {peer: 60 / rate for peer, rate in objects_per_minute.items() if rate is not None}
        self._next_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, peer: str) -> bool:
        """Returns when the peer's next object may be taken; False, at once, where that is too far away."""
        interval_s = self._interval_s.get(peer)
        if interval_s is None:
            return True
        with self._lock:
            now_s = time.monotonic()
            at_s = max(self._next_s.get(peer, 0.0), now_s - _BURST_S)
            if at_s - now_s > LONGEST_WAIT_S:
                return False
            self._next_s[peer] = at_s + interval_s
        time.sleep(max(at_s - now_s, 0.0))
        return True
