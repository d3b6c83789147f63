"""One association for many operations: made when needed, made again after a loss, released at the end.

A thread owns its link. pynetdicom tells of a silent, aborting or vanished peer by an empty status; here that
is an `ArchiveError` that may be tried again, and the association behind it is never used again.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from deeplesion_miner.errors import ArchiveError
from dicom_io import association as associations
from dicom_io import negotiation, standstill
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.store import ObjectStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Final:
    """The last response of a retrieval. Counters are hints: what arrived is the only truth."""

    status: int
    completed: int | None
    failed: int | None


def is_temporary(status: int) -> bool:
    """True where the same request may succeed later: out of resources, unable to process, busy, cancelled.

    Refused for what was asked (A8xx, A9xx, 01xx) is permanent (PS3.4 C.4, PS3.7 annex C).
    """
    return 0xA700 <= status <= 0xA7FF or 0xC000 <= status <= 0xCFFF or status in (0xFE00, 0x0213)


def is_pending(status: int) -> bool:
    """True for the statuses of a response that more will follow (PS3.7 C.1)."""
    return status in (0xFF00, 0xFF01)


def is_done(status: int) -> bool:
    """True for success and warnings (PS3.7 C.1 and C.2)."""
    return status == 0x0000 or status == 0x0001 or 0xB000 <= status <= 0xBFFF


class Link:
    """The association of one thread with one archive.

    `store` takes what comes by C-GET: objects of `classes`, else what mining fetches.
    """

    def __init__(
        self,
        address: Address,
        calling_ae: str,
        *,
        store: ObjectStore | None = None,
        limits: Limits | None = None,
        tls_context: ssl.SSLContext | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.address = address
        self.calling_ae = calling_ae
        self._store = store
        self._limits = limits or Limits()
        self._tls_context = tls_context
        self._classes = classes
        self._association: Association | None = None
        self._deadline_s = 0.0
        self._disk_failure: OSError | None = None

    def echo(self) -> None:
        """C-ECHO."""
        self._started("C-ECHO")
        status = self._call("C-ECHO", lambda association: association.send_c_echo())
        self._check("C-ECHO", status)

    def find(self, identifier: Dataset) -> list[Dataset]:
        """All rows of a C-FIND in the Study Root model, as they came: nothing in them is to be believed yet."""
        rows = []
        responses = self._responses("C-FIND", lambda association: association.send_c_find(identifier, negotiation.FIND))
        for status, row in responses:
            if is_pending(status.Status):
                if row is None:
                    logger.warning("%s: C-FIND: a match could not be decoded and is left out", self.address)
                else:
                    rows.append(row)
        return rows

    def get(self, identifier: Dataset) -> Final:
        """C-GET in the Study Root model into the store."""
        send = lambda association: association.send_c_get(identifier, negotiation.GET)  # noqa: E731
        return self._retrieved("C-GET", send)

    def move(self, identifier: Dataset, destination: str) -> Final:
        """C-MOVE in the Study Root model to the application entity `destination`."""
        send = lambda association: association.send_c_move(identifier, destination, negotiation.MOVE)  # noqa: E731
        return self._retrieved("C-MOVE", send)

    def accepted_contexts(self) -> list[Any]:
        """The presentation contexts that the archive accepted."""
        return list(self._established().accepted_contexts)

    def close(self) -> None:
        """Releases the association: some archives take the release as the end of a job."""
        if self._association is not None:
            associations.release(self._association)
        self._association = None

    def cut(self) -> None:
        """Called from another thread: the operation that waits for an answer fails now, as if the peer were silent."""
        association = self._association
        if association is not None:
            associations.cut(association)

    def _retrieved(self, operation: str, send: Callable[[Association], Any]) -> Final:
        last = Dataset()
        self._disk_failure = None
        try:
            for status, _ in self._responses(operation, send):
                last = status
        except ArchiveError:
            if self._disk_failure is None:
                raise
        if self._disk_failure is not None:
            raise self._disk_failure
        return Final(
            last.Status,
            last.get("NumberOfCompletedSuboperations"),
            last.get("NumberOfFailedSuboperations"),
        )

    def _responses(
        self, operation: str, send: Callable[[Association], Any]
    ) -> Iterator[tuple[Dataset, Dataset | None]]:
        """Every response of an operation, each with a status; raises `ArchiveError` for all but success and warning."""
        self._started(operation)
        for status, identifier in self._call(operation, send):
            self._check(operation, status)
            yield status, identifier
            if time.monotonic() > self._deadline_s and is_pending(status.Status):
                self._drop()
                raise self._error(f"not finished after {self._limits.total_s:.0f} s", operation, temporary=True)

    def _started(self, operation: str) -> None:
        self._established()
        self._deadline_s = time.monotonic() + self._limits.total_s

    def _call(self, operation: str, send: Callable[[Association], Any]) -> Any:
        association = self._established()
        standstill.stand_still(association)
        try:
            return send(association)
        except ValueError as error:  # no accepted context for the service
            standstill.go_on(association)
            raise self._error(f"the archive does not offer the service: {error}", operation, temporary=False) from error
        except RuntimeError as error:  # the association ended since it was looked at
            self._drop()
            raise self._error("the association was lost", operation, temporary=True) from error

    def _check(self, operation: str, status: Dataset) -> None:
        """Raises for an empty status (time-out, abort, lost connection) and for a refusal or failure."""
        if "Status" not in status:
            self._drop()
            text = f"no answer: silent for {self._limits.idle_s:.0f} s, or the association was aborted"
            raise self._error(text, operation, temporary=True)
        code = status.Status
        if not is_pending(code) and not is_done(code):
            comment = str(status.get("ErrorComment", "") or "").strip()
            text = f"refused or failed{': ' + comment if comment else ''}"
            raise self._error(text, operation, status=code, temporary=is_temporary(code))

    def _established(self) -> Association:
        if self._association is not None and self._association.is_established:
            return self._association
        contexts: Sequence[PresentationContext] = negotiation.query_contexts()
        roles: Sequence[Any] = ()
        if self._store is not None and self._classes:
            contexts, roles = negotiation.get_contexts(self._classes), negotiation.storage_roles(self._classes)
        elif self._store is not None:
            contexts, roles = negotiation.retrieve_contexts(), negotiation.storage_roles()
        self._association = associations.associate(
            self.address,
            self.calling_ae,
            contexts,
            limits=self._limits,
            tls_context=self._tls_context,
            roles=roles,
            handlers=[(evt.EVT_C_STORE, self._keep)],
        )
        return self._association

    def _keep(self, event: Any) -> int:
        """C-STORE of a C-GET: answers success for all that is kept, so that the archive goes on."""
        if time.monotonic() > self._deadline_s:
            event.assoc.abort()
            return 0xA700
        assert self._store is not None
        try:
            keep_event(self._store, event)
        except OSError as error:
            self._disk_failure = error
            return 0xA700
        return 0x0000

    def _drop(self) -> None:
        """Forgets an association that cannot be trusted any more."""
        if self._association is not None:
            associations.drop(self._association)
        self._association = None

    def _error(self, text: str, operation: str, *, temporary: bool, status: int | None = None) -> ArchiveError:
        return ArchiveError(text, peer=str(self.address), operation=operation, status=status, temporary=temporary)


def keep_event(store: ObjectStore, event: Any) -> str:
    """Puts the encoded bytes of a C-STORE request into the store, undecoded; returns the SOP Instance UID."""
    request = event.request
    with request.DataSet.getbuffer() as encoded:
        store.put_encoded(
            str(request.AffectedSOPInstanceUID),
            str(request.AffectedSOPClassUID),
            str(event.context.transfer_syntax),
            encoded,
        )
    return str(request.AffectedSOPInstanceUID)
