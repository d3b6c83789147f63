"""What a reader draws on a phantom, before one of the writers turns it into a report."""

from __future__ import annotations

from dataclasses import dataclass

from deeplesion_miner.types import Code, ImageRef, Segment, SegmentMm

LESION = Code("52988006", "SCT", "Lesion")
SITES = {
    "lung": Code("39607008", "SCT", "Lung"),
    "liver": Code("10200004", "SCT", "Liver"),
    "kidney": Code("64033007", "SCT", "Kidney"),
    "spleen": Code("78961009", "SCT", "Spleen"),
    "vertebra": Code("51282000", "SCT", "Vertebra"),
}


@dataclass(frozen=True)
class DrawnOn:
    """The image under a drawing."""

    ref: ImageRef
    sop_class_uid: str
    is_multi_frame: bool = False
    row_spacing_mm: float = 1.0
    col_spacing_mm: float = 1.0
    frame_of_reference_uid: str = ""


@dataclass(frozen=True)
class Drawing:
    """One tool used once: the lines in pixels (first pixel's centre = (0, 0)) with the values that are stated."""

    tool: str
    """'Bidirectional', 'Length', 'ArrowAnnotate' or 'EllipticalROI' (two diameters)."""
    on: DrawnOn
    lines_px: tuple[Segment, ...]
    values: tuple[float, ...]
    tracking_uid: str
    label: str = ""
    site: Code | None = None
    lines_mm: tuple[SegmentMm, ...] = ()
    """The same lines in the patient, for writers of SCOORD3D."""
    finding: Code | None = None
    """Of a drawing that was opened from another report: OHIF gives its own drawings none."""


def scoord(line: Segment) -> list[float]:
    """The line as SCOORD graphic data: column, row from the outer corner of the first pixel (PS3.3 C.18.6.1.2)."""
    return [line.start[0] + 0.5, line.start[1] + 0.5, line.end[0] + 0.5, line.end[1] + 0.5]
