"""Makes an association's own thread stand still before we ask something, so that it cannot take our answers.

pynetdicom reads messages in two places: in the call that waits for an answer, and in the association's thread, which
serves requests of the peer. A call asks that thread to pause and looks whether it has, but the flag that it looks at
is already up when the thread is about to go on; on a busy machine the thread then takes an answer out of the queue
and drops it ("Received unexpected C-FIND service message", pynetdicom issue 875): a row, hence a series, is lost
without an error.
"""

from __future__ import annotations

import threading

from pynetdicom.association import Association

_LOOK_S = 0.05


class Checkpoint(threading.Event):
    """The event at which the thread pauses; it knows whether the thread really stands there."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.Lock()
        self._stands = threading.Event()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        """As `Event.wait`; who finds the event cleared is known to stand here until it is set."""
        with self._turn:
            if self.is_set():
                return True
            self._stands.set()
        return super().wait(timeout)

    def clear_and_see(self, timeout: float) -> bool:
        """Clears the event; True once somebody who came after that stands at it."""
        with self._turn:
            if self.is_set():
                self._stands.clear()
                self.clear()
        return self._stands.wait(timeout)


def stand_still(association: Association) -> None:
    """Returns when the association's thread stands still or has ended; pynetdicom's calls let it go on at their end."""
    if threading.current_thread() is association:
        return  # it serves a request of the peer, and serving is what asks
    if not isinstance(association._reactor_checkpoint, Checkpoint):
        association._reactor_checkpoint = Checkpoint()
    while association.is_established and association.is_alive():
        if association._reactor_checkpoint.clear_and_see(_LOOK_S):
            return


def go_on(association: Association) -> None:
    """Lets the association's thread run again, where a call failed before it asked anything."""
    association._reactor_checkpoint.set()
