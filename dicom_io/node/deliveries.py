"""Brings what jobs made to where it belongs, for as long as the node runs: one thread for each destination."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from deeplesion_miner.errors import ArchiveError, MinerError
from dicom_io.delivery import Delivery, Wire
from dicom_io.node.log import NodeLog
from dicom_io.outbox import Outbox

_LOOK_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 300.0

OpenWire = Callable[[str], Wire]


class Deliveries:
    """Works on the outbox from `start` to `stop`."""

    def __init__(self, outbox: Outbox, destinations: Sequence[str], open_wire: OpenWire, log: NodeLog) -> None:
        self._outbox, self._open_wire, self._log = outbox, open_wire, log
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._deliver, args=[one], name=f"delivery-{number}", daemon=True)
            for number, one in enumerate(destinations)
        ]

    def start(self) -> None:
        """Begins to deliver."""
        for thread in self._threads:
            thread.start()

    def stop(self, within_s: float) -> bool:
        """Ends after the batches that are under way; True where that was in time."""
        self._stopping.set()
        until_s = time.monotonic() + within_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(until_s - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def is_alive(self) -> bool:
        """False where a thread has ended that should run."""
        return all(thread.is_alive() for thread in self._threads)

    def _deliver(self, destination: str) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                self._work(destination)
                pause_s = _FIRST_PAUSE_S
            except (MinerError, OSError) as error:
                if self._stopping.is_set():
                    return  # the outbox is closed, and what it holds is delivered after a restart
                level = self._log.info if isinstance(error, ArchiveError) and error.temporary else self._log.error
                level("not_delivered", error, destination=destination, again_in_s=pause_s)
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _work(self, destination: str) -> None:
        """Delivers over one wire while there is something to do, then rests without one."""
        if not self._has_work(destination):
            self._stopping.wait(_LOOK_S)
            return
        wire = self._open_wire(destination)
        try:
            delivery = Delivery(self._outbox, destination, wire, stop=self._stopping.is_set)
            while not self._stopping.is_set() and self._has_work(destination):
                if not delivery.step():
                    self._stopping.wait(_LOOK_S)
            if delivery.tally.events:
                self._log.info("delivered", destination=destination, **delivery.tally.events)
        finally:
            wire.close()

    def _has_work(self, destination: str) -> bool:
        """False, too, where all that is left waits for its study: for that no association is held, for hours."""
        return self._outbox.pending(destination) > self._outbox.awaiting(destination, time.time())
