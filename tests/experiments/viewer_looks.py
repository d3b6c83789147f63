"""What is looked at in the viewer, one function a look: each opens the study afresh and says what it found."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deeplesion_miner.geometry import length_mm, to_patient_mm, to_px
from deeplesion_miner.results import ReportedLesion
from deeplesion_miner.types import Segment, Vector
from tests.browser.driver import Measured, Viewer
from tests.browser.overlay import Overlap, masks_overlap, outlines_overlap
from tests.browser.phantom import Case

WITHIN_MM, WITHIN_PX = 0.1, 0.05
OF_VOLUME = 1e-4
"""Reports state six digits."""
CORNER_PX = 0.1
"""The viewer writes an outline's corners to a tenth of a pixel of the screen."""
SAME = 0.98
"""Dice coefficient from which two sets of pixels are called the same: the viewer blends edges into the image."""


@dataclass(frozen=True)
class Stored:
    """The study in the archive: series of our objects by kind, '+' meaning written with other settings."""

    case: Case
    series: dict[str, str]
    pictures: Callable[[str], Path | None]
    """Where the picture of a look goes, None for nowhere."""
    close_ups: bool = False
    """Whether each picture has a close-up of the first lesion beside it."""


@dataclass(frozen=True)
class Look:
    """One look at one object."""

    what: str
    asked: str
    """The viewer's question, '' where it asked none."""
    found: str
    """In words and figures."""
    good: bool
    seconds: float
    complaints: tuple[str, ...]
    """Errors in the browser's console."""


Finding = tuple[str, str, bool]
"""Question, what was found, whether that is what should be."""
At = Callable[[Viewer, Stored], Finding]
"""One kind of look."""


def look(what: str, viewer: Viewer, stored: Stored, at: At) -> Look:
    """One look, timed, with a picture where one is wanted."""
    before, begun = len(viewer.complaints), time.monotonic()
    viewer.open(stored.case.result.study_instance_uid)
    asked, found, good = at(viewer, stored)
    path = stored.pictures(what)
    if path is not None:
        viewer.picture(path)
        if stored.close_ups:
            viewer.close_up(path.with_stem(f"{path.stem}-close"), _corners_mm(stored.case))
    complaints = tuple(viewer.complaints[before:])
    return Look(what, asked, found, good, time.monotonic() - begun, complaints)


def _corners_mm(case: Case) -> tuple[Vector, Vector]:
    """Of the first lesion's box."""
    lesion = case.result.lesions[0]
    plane, box = case.plane(lesion.image.sop_instance_uid), lesion.box
    assert box is not None
    return to_patient_mm(plane, (box.x_min, box.y_min)), to_patient_mm(plane, (box.x_max, box.y_max))


def report(viewer: Viewer, stored: Stored, kind: str = "dicom-sr") -> Finding:
    """The crosses of the RECIST report: lengths in the panel, ends in the patient, lines on every slice."""
    asked = viewer.load(stored.series[kind])
    crosses = [one for one in viewer.measurements() if one.tool == "Bidirectional"]
    lesions = stored.case.result.lesions
    if len(crosses) != len(lesions):
        return asked, f"{len(crosses)} of {len(lesions)} crosses", False
    drawn = 0
    for one in reversed(crosses):
        viewer.show(one.sop_instance_uid)
        drawn += viewer.shapes() > 1
    rows = [row for row in viewer.rows("trackedMeasurements") if any(line.startswith("W: ") for line in row)]
    off_mm = max(_lengths_off_mm(stored.case, lesion, row) for lesion, row in zip(lesions, rows, strict=True))
    off_px = max(_ends_off_px(stored.case, lesion, one) for lesion, one in zip(lesions, crosses, strict=True))
    boxes = sum(one.tool == "RectangleROI" for one in viewer.measurements())
    found = (
        f"{len(crosses)} of {len(lesions)} crosses, lengths off by {off_mm:.2f} mm beyond the panel's rounding, ends by"
    )
    found += f" {off_px:.4f} px, {drawn} of them seen drawn"
    found += f"; {boxes} rectangle{'s'[: boxes != 1]}" if boxes else ""
    return asked, found, off_mm <= WITHIN_MM and off_px <= WITHIN_PX and drawn == len(crosses)


def boxed_report(viewer: Viewer, stored: Stored) -> Finding:
    """The report with a planar box beside each cross."""
    return report(viewer, stored, "dicom-sr+boxes")


def _axes(lesion: ReportedLesion) -> tuple[Segment, Segment]:
    assert lesion.long_axis is not None and lesion.short_axis is not None
    return lesion.long_axis, lesion.short_axis


def _lengths_off_mm(case: Case, lesion: ReportedLesion, row: list[str]) -> float:
    plane = case.plane(lesion.image.sop_instance_uid)
    shown = [float(line[3:].split()[0]) for line in row if re.match("[LW]: ", line)]
    # what the panel rounds away, three digits being shown, is no error
    return max(
        max(abs(length_mm(plane, axis) - one) - (0.5 if one >= 100 else 0.05), 0.0)
        for axis, one in zip(_axes(lesion), shown, strict=True)
    )


def _ends_off_px(case: Case, lesion: ReportedLesion, shown: Measured) -> float:
    plane = case.plane(lesion.image.sop_instance_uid)
    ends = [end for axis in _axes(lesion) for end in (axis.start, axis.end)]
    return max(math.dist(end, to_px(plane, point)) for end, point in zip(ends, shown.points_mm, strict=True))


def volumes(viewer: Viewer, stored: Stored) -> Finding:
    """The report of volumes: readable as text, and the crosses still open after it."""
    asked = viewer.load(stored.series["volume-sr"])
    text = viewer.text()
    path = stored.pictures("volumes as text")
    if path is not None:
        viewer.picture(path)
    in_text = [float(one) for one in re.findall(r"([\d.]+) mm3", text)]
    wanted = [lesion.volume_mm3 or 0.0 for lesion in stored.case.result.lesions]
    stated = sum(any(math.isclose(one, volume, rel_tol=OF_VOLUME) for one in in_text) for volume in wanted)
    viewer.open(stored.case.result.study_instance_uid)
    viewer.load(stored.series["dicom-sr"])
    after = len(viewer.measurements())
    titled = "Oncology Measurement Report" in text
    found = f"text, {stated} of {len(wanted)} volumes in it; then {after} of {len(wanted)} crosses of the RECIST report"
    return asked, found, titled and stated == after == len(wanted)


def masks(viewer: Viewer, stored: Stored, kind: str = "dicom-seg") -> Finding:
    """The segmentation: a segment a lesion, and its pixels coloured on every key slice."""
    asked = viewer.load(stored.series[kind])
    labels = [one["label"] for one in viewer.segments()]
    if not labels:
        return asked, "nothing opens", False
    seen = _on_each_slice(viewer, stored.case, masks_overlap)
    same = all(one.dice >= SAME or one.within_a_pixel for one in seen)
    found = (
        f"segments {', '.join(labels)}; coloured pixels against masks: Dice at least {min(o.dice for o in seen):.3f}"
    )
    if min(one.dice for one in seen) < SAME and same:
        found += ", no pixel of the screen farther than one beside its place"
    return asked, found, same and labels == [one.label for one in stored.case.result.lesions]


def fractional_masks(viewer: Viewer, stored: Stored) -> Finding:
    """A FRACTIONAL segmentation."""
    return masks(viewer, stored, "dicom-seg+fractional")


def label_map(viewer: Viewer, stored: Stored) -> Finding:
    """A label map segmentation."""
    return masks(viewer, stored, "dicom-seg+labelmap")


def _on_each_slice(viewer: Viewer, case: Case, measure: Callable[..., Overlap]) -> list[Overlap]:
    found = []
    for lesion in reversed(case.result.lesions):
        viewer.show(lesion.image.sop_instance_uid)
        found.append(measure(viewer, case, lesion.image))
    return found


def contours(viewer: Viewer, stored: Stored) -> Finding:
    """The structure set: a contour segment a lesion, drawn around the mask on every key slice."""
    asked = viewer.load(stored.series["rtstruct"])
    labels = [one["label"] for one in viewer.segments()]
    if not labels:
        return asked, "nothing opens", False
    overlaps, corners = [], []
    for lesion in reversed(stored.case.result.lesions):
        viewer.show(lesion.image.sop_instance_uid)
        dice, corner_px = outlines_overlap(viewer, stored.case, lesion.image)
        overlaps.append(dice)
        corners.append(corner_px)
    named = labels == [one.label for one in stored.case.result.lesions]
    found = f"contours {', '.join(labels)}; enclosed pixels against masks: Dice at least {min(overlaps):.3f}, corners "
    found += f"off the pixels' edges by {max(corners):.2f} px"
    return asked, found, named and min(overlaps) >= SAME and max(corners) <= CORNER_PX


def listed(kind: str) -> At:
    """An object that the viewer cannot show: listed with a warning sign, and the crosses still open beside it."""

    def at(viewer: Viewer, stored: Stored) -> Finding:
        sign = viewer.unsupported(stored.series[kind])
        asked = viewer.load(stored.series["dicom-sr"])
        after = len(viewer.measurements())
        wanted = len(stored.case.result.lesions)
        found = (
            f"{'listed with a warning sign' if sign else 'listed'}; {after} of {wanted} crosses of the RECIST report"
        )
        return asked, found, sign and after == wanted

    return at
