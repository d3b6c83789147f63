"""Our own storage SCP: where an archive sends to by C-MOVE.

While it is open, everybody who can reach its port can send to it. It keeps the objects that were asked for, by
their UID, and drops the others. It answers success to both, because some archives stop a whole move at the first
object that is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from pynetdicom import AE, evt

from deeplesion_miner.errors import ConfigError
from dicom_io import negotiation
from dicom_io.link import keep_event
from dicom_io.store import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, ObjectStore, normal_uid


class Receiver:
    """A storage SCP on `host`:`port` (0 takes a free port), running from construction to `close`."""

    def __init__(self, store: ObjectStore, ae_title: str, *, host: str = "0.0.0.0", port: int = 0) -> None:
        self.ae_title = ae_title
        self._store = store
        self._changed = threading.Condition()
        self._arrivals = 0
        self._expected: set[str] = set()
        self._disk_failure: OSError | None = None
        entity = AE(ae_title=ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_associations = 100
        entity.maximum_pdu_size = negotiation.MAXIMUM_PDU_BYTES
        entity.network_timeout = 300
        entity.supported_contexts = list(negotiation.receiver_contexts())
        entity.add_supported_context(negotiation.ECHO)
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, negotiation.send_at_once), (evt.EVT_C_STORE, self._keep)]
        try:
            self._server = entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ConfigError(f"storage SCP {ae_title} on {host}:{port}: {error.strerror or error}") from error
        self.port: int = self._server.socket.getsockname()[1]

    def expect(self, sop_instance_uids: Iterable[str]) -> None:
        """Lets these objects in; to be called before they are asked for."""
        with self._changed:
            self._expected.update(map(normal_uid, sop_instance_uids))

    def wait_for(self, all_here: Callable[[], bool], quiet_s: float) -> None:
        """Waits until `all_here`, or until nothing has arrived for `quiet_s` seconds.

        Raises the `OSError` (a full disk) that kept an object from being stored.
        """
        with self._changed:
            seen, quiet_since_s = self._arrivals, time.monotonic()
            while not all_here() and time.monotonic() - quiet_since_s < quiet_s:
                self._changed.wait(quiet_s / 10)
                if self._arrivals != seen:
                    seen, quiet_since_s = self._arrivals, time.monotonic()
            failure, self._disk_failure = self._disk_failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Stops listening and ends all associations."""
        self._server.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _keep(self, event: Any) -> int:
        failure: OSError | None = None
        uid = normal_uid(str(event.request.AffectedSOPInstanceUID))
        if self._is_expected(uid):
            try:
                keep_event(self._store, event)
            except OSError as error:
                failure = error
        with self._changed:
            self._arrivals += 1
            if failure is None:
                self._expected.discard(uid)
            self._disk_failure = failure or self._disk_failure
            self._changed.notify_all()
        return 0x0000 if failure is None else 0xA700

    def _is_expected(self, uid: str) -> bool:
        """True for what was asked for; a second copy of what is in the store is compared with it, so let in, too."""
        if self._store.has(uid):
            return True
        with self._changed:
            return uid in self._expected
