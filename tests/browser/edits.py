"""What readers do to our report: each edit is done by mouse and keyboard, saved by the viewer and known by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Vector
from dicom_io.dialects import read_object
from dicom_io.emit import EmittedObject
from tests.browser.archive import WebArchive
from tests.browser.driver import Measured, Viewer

NEW_LABEL = "Spleen, seen before"
Verdicts = Mapping[str, str]
"""What became of each lesion by its label in our report; '' stands for one that the reader drew anew."""


@dataclass(frozen=True)
class Edited:
    """A report saved by the viewer."""

    name: str
    encoded: bytes
    """The file as the archive has it."""
    reading: ObjectReading
    held: tuple[Measured, ...]
    """What the viewer held when it saved."""
    verdicts: Verdicts


def shifted(point: Vector, by_mm: Vector) -> Vector:
    """The point moved by so much."""
    return point[0] + by_mm[0], point[1] + by_mm[1], point[2] + by_mm[2]


def _labelled(viewer: Viewer, label: str) -> Measured:
    return next(one for one in viewer.measurements() if one.label == label)


def _kept(viewer: Viewer) -> Verdicts:
    return {}


def _moved(viewer: Viewer, label: str = "Lesion 1") -> Verdicts:
    viewer.move(_labelled(viewer, label), (7.0, -5.0, 0.0))
    return {label: "moved"}


def _resized(viewer: Viewer, label: str = "Lesion 2") -> Verdicts:
    one = _labelled(viewer, label)
    viewer.move_point(one, 1, shifted(one.points_mm[1], (5.0, 3.0, 0.0)))
    return {label: "resized"}


def _resized_across(viewer: Viewer, label: str = "Lesion 2") -> Verdicts:
    one = _labelled(viewer, label)
    (x0, y0, z), (x1, y1, _) = one.points_mm[2:4]
    viewer.move_point(one, 3, (x1 + 0.25 * (x1 - x0), y1 + 0.25 * (y1 - y0), z))
    return {label: "resized"}


def _deleted(viewer: Viewer, label: str = "Lesion 3") -> Verdicts:
    viewer.delete(label)
    return {label: "deleted"}


def _relabelled(viewer: Viewer, label: str = "Lesion 4") -> Verdicts:
    viewer.rename(label, NEW_LABEL)
    return {label: "relabelled"}


def _added(viewer: Viewer) -> Verdicts:
    beside = _labelled(viewer, "Lesion 1")
    start = shifted(beside.points_mm[0], (0.0, 20.0, 0.0))
    viewer.draw("Bidirectional", beside.sop_instance_uid, start, shifted(start, (9.0, 7.0, 0.0)))
    return {"": "added"}


def _all(viewer: Viewer) -> Verdicts:
    done: dict[str, str] = {}
    for act in (_moved, _resized, _added, _relabelled, _deleted):
        done |= act(viewer)
    return done


EDITS: Mapping[str, Callable[[Viewer], Verdicts]] = {
    "kept": _kept,
    "moved": _moved,
    "resized": _resized,
    "resized_across": _resized_across,
    "deleted": _deleted,
    "relabelled": _relabelled,
    "added": _added,
    "all": _all,
}
"""By name; each works on a report that was just loaded and says what it did, lesions that it names not being kept."""


def edit(name: str, viewer: Viewer, archive: WebArchive, ours: EmittedObject, picture: Path | None = None) -> Edited:
    """Our report alone in its study, opened, edited and saved; it stays in the archive with the saved one.

    `picture` is where a screenshot goes, taken before saving on the first lesion's slice.
    """
    study = ours.study_instance_uid
    archive.forget(study, "SR")
    archive.send([ours])
    viewer.open(study)
    viewer.load(ours.series_instance_uid)
    labels = [one.label for one in viewer.measurements()]
    done = EDITS[name](viewer)
    held = tuple(viewer.measurements())
    if picture is not None:
        viewer.show(held[0].sop_instance_uid)
        viewer.picture(picture)
    viewer.save()
    (saved,) = (body for uid, body in archive.reports(study).items() if uid != ours.sop_instance_uid)
    reading = read_object(dcmread(BytesIO(saved)), name)
    assert isinstance(reading, ObjectReading), reading
    verdicts = {label: done.get(label, "kept") for label in labels}
    return Edited(name, saved, reading, held, verdicts | {"": done[""]} if "" in done else verdicts)
