"""Files into an outbox: what must be known of an object to send it, read from its header."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.types import Unreadable
from dicom_io import part10
from dicom_io.attributes import quiet, text
from dicom_io.emit import EmittedObject
from dicom_io.object_file import ObjectFile
from dicom_io.outbox import Outbox
from dicom_io.store import normal_uid

_AT_ONCE = 200
_BYTES_AT_ONCE = 128_000_000
"""Objects in memory at one time, by number and by size."""
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_UID = re.compile("[0-9.]{1,64}")
"""What messages can hold; many archives live with components that PS3.5 9.1 forbids."""


@dataclass(frozen=True)
class Queued:
    """A file's object in the outbox."""

    path: Path
    sop_instance_uid: str
    state: str
    """'queued', or what became of it when it was queued before."""


def queue_files(outbox: Outbox, paths: Iterable[Path], destination: str, now_s: float) -> Iterator[Queued | Unreadable]:
    """Queues every file, those in folders too; what is no object that can be sent is told and left out.

    What was queued before is recognised without a look inside, so that an interrupted queueing soon goes on.
    """
    batch: dict[Path, bytes] = {}
    for path in _files(paths):
        try:
            batch[path] = path.read_bytes()
        except OSError as error:
            yield Unreadable(str(path), "not_opened", detail=str(error))
            continue
        if len(batch) >= _AT_ONCE or sum(map(len, batch.values())) >= _BYTES_AT_ONCE:
            yield from _queue(outbox, batch, destination, now_s)
            batch = {}
    yield from _queue(outbox, batch, destination, now_s)


def _queue(
    outbox: Outbox, batch: Mapping[Path, bytes], destination: str, now_s: float
) -> Iterator[Queued | Unreadable]:
    digests = {path: hashlib.sha256(encoded).hexdigest() for path, encoded in batch.items()}
    known = outbox.known(set(digests.values()), destination)
    fresh: dict[Path, EmittedObject] = {}
    for path, encoded in batch.items():
        if digests[path] in known:
            yield Queued(path, *known[digests[path]])
            continue
        found = read_object(encoded, str(path))
        if isinstance(found, Unreadable):
            yield found
        else:
            fresh[path] = found
    states = outbox.put(fresh.values(), destination, now_s)
    kept = outbox.known({digests[path] for path in fresh}, destination)
    for path, one in fresh.items():
        if digests[path] in kept or outbox.has_same(one, destination):
            yield Queued(path, one.sop_instance_uid, states[one.sop_instance_uid])
        else:
            detail = f"the outbox has another object of the UID {one.sop_instance_uid}; the first one is kept"
            yield Unreadable(str(path), "conflicting_copies", detail=detail)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.is_file())
        else:
            yield path


def read_object(encoded: bytes, name: str) -> EmittedObject | Unreadable:
    """The object of a PS3.10 file; its kind is its Modality, `name` is what an Unreadable calls it."""
    dataset = part10.read(encoded, source=name)  # with pixels: archives store an object that was cut there
    if isinstance(dataset, Unreadable):
        return dataset
    with quiet():
        uids = {keyword: normal_uid(text(dataset, keyword)) for keyword in _NEEDED}
        missing = [keyword for keyword, value in uids.items() if not value]
        if missing:
            return Unreadable(name, "missing_attribute", detail=f"{missing[0]} is missing or empty")
        patient_id, issuer, kind = (text(dataset, one) for one in ("PatientID", "IssuerOfPatientID", "Modality"))
    try:
        file = ObjectFile.read(encoded)
    except ConfigError as error:
        return Unreadable(name, "not_dicom", detail=str(error))
    for keyword, uid in (*uids.items(), ("TransferSyntaxUID", file.transfer_syntax_uid)):
        if not _UID.fullmatch(uid):
            return Unreadable(name, "bad_value", detail=f"{keyword} {uid!a} is no UID: digits and dots, 64 at most")
    if (file.sop_instance_uid, file.sop_class_uid) != (uids["SOPInstanceUID"], uids["SOPClassUID"]):
        detail = "file meta information and data set name different objects; write the file anew"
        return Unreadable(name, "bad_value", detail=detail)
    return EmittedObject(
        kind=kind or "other",
        patient_id=patient_id,
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        transfer_syntax_uid=file.transfer_syntax_uid,
        encoded=encoded,
        issuer_of_patient_id=issuer,
    )
