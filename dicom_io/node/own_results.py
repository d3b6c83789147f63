"""Our own results for whoever asks: C-FIND and C-GET (PS3.4 annex C, Study Root) over what jobs made.

What others sent is not answered for: an archive is the place to ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.catalogue import (
    COUNTED_KEYS,
    LEVEL_KEYS,
    UNIQUE_KEY,
    StoredObject,
    keys_of,
    matches,
    wanted_keys,
)
from dicom_io.emit import EmittedObject
from dicom_io.node.journal import Journal
from dicom_io.node.outgoing import BATCH, wait_until_sent
from dicom_io.node.records import StoredResult
from dicom_io.node.result_rows import result_rows
from dicom_io.object_file import ObjectFile
from dicom_io.store import ObjectStore
from dicom_io.sub_operations import Ticket, send

SUCCESS, PENDING, CANCELLED = 0x0000, 0xFF00, 0xFE00
BAD_IDENTIFIER = 0xA900


class OwnResults:
    """The objects that jobs made, in a store of their own."""

    def __init__(self, store: ObjectStore, journal: Journal, ae_title: str) -> None:
        self._store, self._journal, self._ae_title = store, journal, ae_title

    def keep(self, objects: Iterable[EmittedObject]) -> None:
        """Stores objects, durably, and lists them; known ones stay as they are."""
        results = []
        for one in objects:
            content = ObjectFile(one.sop_instance_uid, one.sop_class_uid, one.transfer_syntax_uid, one.encoded)
            self._store.put_encoded(
                one.sop_instance_uid, one.sop_class_uid, one.transfer_syntax_uid, content.data_set_bytes()
            )
            header = dcmread(BytesIO(one.encoded), stop_before_pixels=True, specific_tags=list(LEVEL_KEYS["IMAGE"]))
            results.append(
                StoredResult(one.sop_instance_uid, one.sop_class_uid, one.transfer_syntax_uid, keys_of(header))
            )
        self._journal.record_results(results)

    def path(self, sop_instance_uid: str) -> Path | None:
        """The file of a result; None for what no job made."""
        return self._store.path(sop_instance_uid)

    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Handler of ``EVT_C_FIND``; memory does not depend on how many results there are, or how fast they are read.

        A cancel is heard between two batches, when all that was answered has gone out.
        """
        level = event.identifier.get("QueryRetrieveLevel")
        if level not in LEVEL_KEYS:
            yield BAD_IDENTIFIER, None
            return
        wanted = wanted_keys(event.identifier)
        unsent = 0
        for row in result_rows(self._here(wanted), level):
            if unsent == BATCH:
                if not wait_until_sent(event.assoc):
                    return
                unsent = 0
            if event.is_cancelled:
                yield CANCELLED, None
                return
            if matches(row, wanted):
                unsent += 1
                yield PENDING, self._answer(level, row, wanted)

    def on_get(self, event: Any) -> Iterator[Any]:
        """Handler of ``EVT_C_GET``; objects go out as the bytes that lie in their files."""
        level = event.identifier.get("QueryRetrieveLevel")
        wanted = wanted_keys(event.identifier)
        unique = {key: wanted.get(key, "") for key in (*UNIQUE_KEY.values(), "PatientID")}
        if level not in UNIQUE_KEY or not unique[UNIQUE_KEY[level]]:
            yield 1
            yield BAD_IDENTIFIER, None
            return
        chosen = [one.sop_instance_uid for one in self._here(unique) if matches(one.keys, unique)]
        event.assoc.send_c_store = partial(_send_ticket, event.assoc)
        yield len(chosen)
        for uid in chosen:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            one, path = self._journal.result(uid), self._store.path(uid)
            assert one is not None  # results stay
            assert path is not None
            yield PENDING, Ticket(StoredObject(path, one.transfer_syntax_uid, one.keys))

    def _here(self, wanted: Mapping[str, str]) -> Iterator[StoredResult]:
        """The results of the named studies, else of all, whose files are here; by study, series and object."""
        studies = [uid for uid in wanted.get("StudyInstanceUID", "").split("\\") if uid and "*" not in uid]
        for page in self._journal.result_pages(studies):
            yield from (one for one in page if self._store.has(one.sop_instance_uid))

    def _answer(self, level: str, row: Mapping[str, str], wanted: Mapping[str, str]) -> Dataset:
        """A response with the asked keys that are known here, in UTF-8."""
        answer = Dataset()
        answer.SpecificCharacterSet = "ISO_IR 192"
        answer.QueryRetrieveLevel = level
        answer.RetrieveAETitle = self._ae_title
        for key in (*LEVEL_KEYS[level], *COUNTED_KEYS[level]):
            if key in wanted or key == UNIQUE_KEY[level]:
                value = row.get(key, "")
                setattr(answer, key, value.split("\\") if "\\" in value else value or None)
        return answer


def _send_ticket(association: Any, ticket: Ticket, **options: Any) -> Dataset:
    return send(association, ticket.stored, **options)
