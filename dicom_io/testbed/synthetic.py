"""Writes a stack of CT numbers with crosses on it as a study: a CT series and a TID 1500 report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.types import Code, ImageRef, Segment
from dicom_io.testbed.ct_objects import SeriesHeader, Storing, ct_image, write_image
from dicom_io.testbed.drawn import Drawing, DrawnOn
from dicom_io.testbed.identity import Person, StudyIdentity
from dicom_io.testbed.rasteriser import Grid
from dicom_io.testbed.series import SUPINE
from dicom_io.testbed.sr_highdicom import Manner, write_highdicom_report
from dicom_io.testbed.sr_ohif import ReportHeader

ROOT = "synthetic"
LESION_SITES = {
    "lung": Code("39607008", "SCT", "Lung"),
    "liver": Code("10200004", "SCT", "Liver"),
    "node": Code("59441001", "SCT", "Lymph node"),
    "soft tissue": Code("87784001", "SCT", "Soft tissues"),
}
"""Finding sites by the type words of synthetic lesions."""


@dataclass(frozen=True)
class Cross:
    """Both axes of a lesion on one slice of the stack; pixels as (column, row), the first pixel's centre = (0, 0)."""

    index: int
    long_axis_px: Segment
    short_axis_px: Segment
    word: str = ""
    """A key of LESION_SITES, or '' for a lesion without a finding site."""


def write_synthetic_study(
    folder: Path,
    person: Person,
    study_number: int,
    hu: NDArray[np.int16],
    spacing_mm: tuple[float, float],
    position_mm: NDArray[np.float64],
    crosses: Sequence[Cross],
) -> tuple[ImageRef, ...]:
    """Writes `0001.dcm` ... and `report.dcm` into a new `folder`; returns the reference to each slice.

    `hu` is (slices, rows, columns) from head to feet of a supine patient, `spacing_mm` the distances of rows and of
    columns, `position_mm` (slices,) rises towards the feet. UIDs, dates and bytes depend on the arguments only.
    """
    study = StudyIdentity(person, study_number, _date(study_number), "101500", ROOT)
    thickness_mm = float(np.median(np.diff(position_mm))) if len(position_mm) > 1 else 5.0
    series = SeriesHeader(study, "axial", 2, "Synthetic CT", thickness_mm=round(thickness_mm, 3))
    rows, columns = hu.shape[1:]
    left, front = -(columns - 1) / 2 * spacing_mm[1], -(rows - 1) / 2 * spacing_mm[0]
    marked = {cross.index for cross in crosses}
    evidence = {}
    storing = Storing()
    for index, (plane, position) in enumerate(zip(hu, position_mm, strict=True)):
        # the patient's z grows towards the head
        origin = (round(left, 6), round(front, 6), round(-float(position), 6))
        grid = Grid(origin, *SUPINE, spacing_mm[0], spacing_mm[1], rows, columns)
        image = ct_image(series, index + 1, grid, plane.astype(np.float64), storing)
        write_image(image, folder / f"{index + 1:04d}.dcm", storing)
        if index in marked:
            del image.PixelData
            evidence[index] = image
    if crosses:
        drawings = tuple(_drawing(series, cross, number, spacing_mm) for number, cross in enumerate(crosses, start=1))
        header = ReportHeader(study, "read", "read", 3001, "RECIST", study.date, "113000")
        write_highdicom_report(header, drawings, tuple(evidence.values()), Manner(), folder / "report.dcm")
    return tuple(series.ref(index + 1) for index in range(len(hu)))


def _date(study_number: int) -> str:
    """A day for each study: the numbers 0, 1, 2 ... are 28 days of each month from 2001 on."""
    month, day = divmod(study_number, 28)
    year, month = divmod(month, 12)
    return f"{2001 + year:04d}{month + 1:02d}{day + 1:02d}"


def _drawing(series: SeriesHeader, cross: Cross, number: int, spacing_mm: tuple[float, float]) -> Drawing:
    lines = (cross.long_axis_px, cross.short_axis_px)
    lengths = tuple(
        float(
            np.hypot(
                (line.end[0] - line.start[0]) * spacing_mm[1],
                (line.end[1] - line.start[1]) * spacing_mm[0],
            )
        )
        for line in lines
    )
    on = DrawnOn(
        ref=series.ref(cross.index + 1),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        row_spacing_mm=spacing_mm[0],
        col_spacing_mm=spacing_mm[1],
        frame_of_reference_uid=series.frame_of_reference_uid,
    )
    return Drawing(
        tool="Bidirectional",
        on=on,
        lines_px=lines,
        values=lengths,
        tracking_uid=replace(series.study, time_point=-1).uid("tracking", series.study.time_point, number),
        label=f"Lesion {number}",
        site=LESION_SITES[cross.word] if cross.word else None,
    )
