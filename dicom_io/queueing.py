"""Files into an outbox: what must be known of an object to send it, read from its header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
"""Objects in memory at one time."""
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True)
class Queued:
    """A file's object in the outbox."""

    path: Path
    sop_instance_uid: str
    state: str
    """'queued', or what became of it when it was queued before."""


def queue_files(outbox: Outbox, paths: Iterable[Path], destination: str, now_s: float) -> Iterator[Queued | Unreadable]:
    """Queues every file, those in folders too; what is no object that can be sent is told and left out.

    Raises OSError where a named file cannot be opened.
    """
    batch: dict[Path, EmittedObject] = {}
    for path in _files(paths):
        found = read_object(path)
        if isinstance(found, Unreadable):
            yield found
            continue
        batch[path] = found
        if len(batch) >= _AT_ONCE:
            yield from _put(outbox, batch, destination, now_s)
            batch = {}
    yield from _put(outbox, batch, destination, now_s)


def _put(outbox: Outbox, batch: dict[Path, EmittedObject], destination: str, now_s: float) -> Iterator[Queued]:
    states = outbox.put(batch.values(), destination, now_s)
    for path, one in batch.items():
        yield Queued(path, one.sop_instance_uid, states[one.sop_instance_uid])


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.is_file())
        else:
            yield path


def read_object(path: Path) -> EmittedObject | Unreadable:
    """The object of a PS3.10 file; its kind is its Modality."""
    encoded = path.read_bytes()
    dataset = part10.read(encoded, pixels=False, source=str(path))
    if isinstance(dataset, Unreadable):
        return dataset
    with quiet():
        uids = {keyword: normal_uid(text(dataset, keyword)) for keyword in _NEEDED}
        missing = [keyword for keyword, value in uids.items() if not value]
        if missing:
            return Unreadable(str(path), "missing_attribute", detail=f"{missing[0]} is missing or empty")
        patient_id, kind = text(dataset, "PatientID"), text(dataset, "Modality")
    try:
        file = ObjectFile.read(encoded)
    except ConfigError as error:
        return Unreadable(str(path), "not_dicom", detail=str(error))
    if (file.sop_instance_uid, file.sop_class_uid) != (uids["SOPInstanceUID"], uids["SOPClassUID"]):
        detail = "file meta information and data set name different objects; write the file anew"
        return Unreadable(str(path), "bad_value", detail=detail)
    return EmittedObject(
        kind=kind or "other",
        patient_id=patient_id,
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        transfer_syntax_uid=file.transfer_syntax_uid,
        encoded=encoded,
    )
