"""A small DICOM archive on loopback over a folder of Part 10 files, for the demo and for tests.

C-ECHO, C-STORE and Study Root C-FIND, C-GET and C-MOVE (PS3.4 annexes A, B and C). Objects go out as the bytes
that lie in their files; only uncompressed ones are encoded anew, where the peer accepted no other syntax.
`Faults` makes it behave as badly as real archives do.

    python -m dicom_io.testbed.embedded FOLDER --port 11112
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    AllTransferSyntaxes,
)
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_io.catalogue import (
    COUNTED_KEYS,
    LEVEL_KEYS,
    UNIQUE_KEY,
    StoredObject,
    entities,
    matches,
    read_stored_object,
    wanted_keys,
)
from dicom_io.sub_operations import Ticket, contexts_for, send, send_at_once

LOOPBACK = "127.0.0.1"
# DIMSE status codes (PS3.4 tables B.2-1, C.4-1, C.4-2, C.4-3).
SUCCESS, PENDING, CANCELLED = 0x0000, 0xFF00, 0xFE00
OUT_OF_RESOURCES, BAD_IDENTIFIER, UNABLE_TO_PROCESS = 0xA702, 0xA900, 0xC000


@dataclass(frozen=True)
class Faults:
    """How the archive misbehaves; the default is an archive without faults. All seen in real archives."""

    abort_after_images: int | None = None
    """Abort the association of a C-GET, or of the request for a C-MOVE, after so many sub-operations."""
    abort_times: int = 1
    """How many retrieves are aborted so; later ones succeed."""
    deliver_at_most: int | None = None
    """Send no more objects than this per retrieve and answer Success."""
    withheld: frozenset[str] = frozenset()
    """SOP Instance UIDs that are listed but never sent; the retrieve answers Success."""
    refuse_retrieves: int = 0
    """The first retrieves are answered A702 (out of resources)."""
    duplicate_rows: bool = False
    """C-FIND answers one row for each image of the entity."""
    ignored_keys: frozenset[str] = frozenset()
    """Keywords that C-FIND neither matches nor returns, e.g. 'ModalitiesInStudy'."""
    refuse_lists: bool = False
    """C-FIND, C-GET and C-MOVE refuse identifiers with a list of UIDs (C000)."""
    silent_finds: int = 0
    """The first C-FINDs get no answer until the peer gives up."""


class EmbeddedArchive:
    """An archive that serves `folder` while the context is open; safe for many associations at once.

    `port` 0 takes a free one. `move_destinations` maps AE titles to (host, port); it may grow while running.
    Files that are no Part 10 objects are passed over. Received objects are durable before they are
    acknowledged; of two objects with one SOP Instance UID the first is kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "EMBEDDED",
        port: int = 0,
        move_destinations: Mapping[str, tuple[str, int]] | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.ae_title = ae_title
        self.port = port
        self.move_destinations = dict(move_destinations or {})
        self.faults = faults or Faults()
        self._lock = threading.Lock()
        self._objects: dict[str, StoredObject] = {}
        self._sent: list[str] = []
        self._aborts_left = self.faults.abort_times
        self._refusals_left = self.faults.refuse_retrieves
        self._silences_left = self.faults.silent_finds
        self._stopping = threading.Event()
        self._entity: Any = None

    @property
    def address(self) -> str:
        """The address as it is given on the command line: AET@host:port."""
        return f"{self.ae_title}@{LOOPBACK}:{self.port}"

    @property
    def sent(self) -> tuple[str, ...]:
        """SOP Instance UIDs of the objects sent by C-GET and C-MOVE so far, in order."""
        with self._lock:
            return tuple(self._sent)

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """Every object of the archive, sorted by SOP Instance UID."""
        with self._lock:
            return tuple(stored for _, stored in sorted(self._objects.items()))

    def __enter__(self) -> EmbeddedArchive:
        for path in sorted(self.folder.rglob("*")):
            stored = read_stored_object(path) if path.is_file() else None
            if stored is not None:
                self._objects.setdefault(stored.sop_instance_uid, stored)
        self._entity = AE(ae_title=self.ae_title)
        self._entity.maximum_associations = 50
        # A client may think for long between two requests on one association.
        self._entity.network_timeout = None
        self._entity.add_supported_context(Verification)
        self._entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        self._entity.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        for context in AllStoragePresentationContexts:
            self._entity.add_supported_context(
                context.abstract_syntax, AllTransferSyntaxes, scu_role=True, scp_role=True
            )
        handlers = [
            (evt.EVT_CONN_OPEN, send_at_once),
            (evt.EVT_ESTABLISHED, self._send_stored_bytes),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_C_GET, self._on_get),
            (evt.EVT_C_MOVE, self._on_move),
        ]
        server = self._entity.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)
        self.port = server.server_address[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._entity.shutdown()

    # --- storage -------------------------------------------------------------------------------------------

    def _on_store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            if uid in self._objects:
                return SUCCESS
        # A hash of the UID, since a hostile UID must never become a path.
        path = self.folder / f"{hashlib.sha256(uid.encode()).hexdigest()}.dcm"
        _write_durably(path, event.encoded_dataset(include_meta=True))
        stored = read_stored_object(path)
        if stored is None or stored.sop_instance_uid != uid:
            path.unlink()
            return UNABLE_TO_PROCESS
        with self._lock:
            self._objects.setdefault(uid, stored)
        return SUCCESS

    # --- query ---------------------------------------------------------------------------------------------

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        level = event.identifier.get("QueryRetrieveLevel")
        wanted = wanted_keys(event.identifier)
        if self._takes_one("_silences_left"):
            while event.assoc.is_established and not self._stopping.wait(0.05):
                pass
            return
        if level not in LEVEL_KEYS:
            yield BAD_IDENTIFIER, None
            return
        if self._refuses(wanted):
            yield UNABLE_TO_PROCESS, None
            return
        known = {key: value for key, value in wanted.items() if key not in self.faults.ignored_keys}
        for row in self._rows(level, known):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, _answer(level, row, known, self.ae_title)

    def _rows(self, level: str, wanted: Mapping[str, str]) -> Iterator[dict[str, str]]:
        # Keys of lower levels, e.g. Modality at STUDY level, are not held by a row: they do not match.
        for row in entities(self.objects, level):
            if matches(row, wanted):
                copies = row.get("NumberOfStudyRelatedInstances", row.get("NumberOfSeriesRelatedInstances", "2"))
                yield from [row] * (int(copies) if self.faults.duplicate_rows else 1)

    def _refuses(self, wanted: Mapping[str, str]) -> bool:
        return self.faults.refuse_lists and any("\\" in wanted.get(key, "") for key in UNIQUE_KEY.values())

    def _takes_one(self, counter: str) -> bool:
        """True, and one less is left, where the named counter of faults is not used up."""
        with self._lock:
            left: int = getattr(self, counter)
            setattr(self, counter, max(left - 1, 0))
            return left > 0

    # --- retrieve ------------------------------------------------------------------------------------------

    def _selected(self, event: Any) -> tuple[StoredObject, ...] | int:
        """The objects that a retrieve identifier names, by unique keys only (C.4.2.2.1); or a failure status."""
        if self._takes_one("_refusals_left"):
            return OUT_OF_RESOURCES
        level = event.identifier.get("QueryRetrieveLevel")
        unique = {
            key: value
            for key, value in wanted_keys(event.identifier).items()
            if key in (*UNIQUE_KEY.values(), "PatientID")
        }
        if level not in UNIQUE_KEY or not unique.get(UNIQUE_KEY[level]):
            return BAD_IDENTIFIER
        if self._refuses(unique):
            return UNABLE_TO_PROCESS
        found = [stored for stored in self.objects if matches(stored.keys, unique)]
        delivered = [stored for stored in found if stored.sop_instance_uid not in self.faults.withheld]
        return tuple(delivered[: self.faults.deliver_at_most])

    def _on_get(self, event: Any) -> Iterator[Any]:
        selected = self._selected(event)
        if isinstance(selected, int):
            yield 1
            yield selected, None
            return
        yield len(selected)
        yield from self._sub_operations(event, selected)

    def _on_move(self, event: Any) -> Iterator[Any]:
        destination = self.move_destinations.get(str(event.move_destination).strip())
        if destination is None:
            yield None, None
            return
        selected = self._selected(event)
        objects = () if isinstance(selected, int) else selected
        handlers = [(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_ESTABLISHED, self._send_stored_bytes)]
        yield (
            *destination,
            {"contexts": contexts_for(objects) or [build_context(Verification)], "evt_handlers": handlers},
        )
        if isinstance(selected, int):
            yield 1
            yield selected, None
            return
        yield len(selected)
        yield from self._sub_operations(event, selected)

    def _sub_operations(self, event: Any, objects: tuple[StoredObject, ...]) -> Iterator[tuple[int, Dataset | None]]:
        for done, stored in enumerate(objects):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            if done == self.faults.abort_after_images and self._takes_one("_aborts_left"):
                event.assoc.abort()
                return
            yield PENDING, Ticket(stored)

    def _send_stored_bytes(self, event: Any) -> None:
        """Makes the association send a `Ticket` as the bytes of its file.

        pynetdicom's own C-GET and C-MOVE decode and encode each data set; the sending method of this one
        association is replaced, so that what is delivered is what is stored.
        """
        event.assoc.send_c_store = partial(self._send_ticket, event.assoc)

    def _send_ticket(self, association: Any, ticket: Ticket, **options: Any) -> Dataset:
        status = send(association, ticket.stored, **options)
        if status.get("Status") is not None:
            with self._lock:
                self._sent.append(ticket.stored.sop_instance_uid)
        return status


def _answer(level: str, row: Mapping[str, str], wanted: Mapping[str, str], ae_title: str) -> Dataset:
    """A C-FIND response: the asked keys that this archive knows; others are left out, as most archives do."""
    answer = Dataset()
    answer.SpecificCharacterSet = "ISO_IR 192"
    answer.QueryRetrieveLevel = level
    answer.RetrieveAETitle = ae_title
    for key in (*LEVEL_KEYS[level], *COUNTED_KEYS[level]):
        if key in wanted or key == UNIQUE_KEY[level]:
            value = row.get(key, "")
            setattr(answer, key, value.split("\\") if "\\" in value else value or None)
    return answer


def _write_durably(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{threading.get_ident()}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def main(arguments: list[str]) -> int:
    """Serves a folder until interrupted; prints the address on standard output."""
    parser = argparse.ArgumentParser(prog="python -m dicom_io.testbed.embedded", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ae-title", default="EMBEDDED")
    parser.add_argument("--move", action="append", default=[], metavar="AET@HOST:PORT", help="a move destination")
    options = parser.parse_args(arguments)
    destinations = {}
    for text in options.move:
        title, _, place = text.partition("@")
        host, _, port = place.rpartition(":")
        if not (title and host and port.isdigit()):
            parser.error(f"--move {text}: expected AET@HOST:PORT")
        destinations[title] = (host, int(port))
    with EmbeddedArchive(
        options.folder, ae_title=options.ae_title, port=options.port, move_destinations=destinations
    ) as archive:
        print(f"{archive.address} {len(archive.objects)} objects", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
