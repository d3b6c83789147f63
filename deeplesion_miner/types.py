"""The words of the project as frozen values; a quantity carries its unit, a coordinate its convention.

Pixel coordinates are (column, row), the centre of the first pixel is (0, 0) (PS3.3 C.7.6.2.1.1).
Patient coordinates are LPS millimetres (x to the left, y to the back, z to the head).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Point: TypeAlias = tuple[float, float]
"""(column, row) in pixels, centre of the first pixel = (0, 0)."""
Vector: TypeAlias = tuple[float, float, float]
"""x, y, z in LPS millimetres, or a direction in that frame."""
Fact: TypeAlias = float | int | str
"""A number, or a word of our own vocabulary (`schemas/reasons.toml`): never text of the archive."""


# --- references ------------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class ImageRef:
    """One image plane in an archive: key of sets, ledger and logs. `series_instance_uid` is '' if unknown."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    frame_number: int = 1


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 table 8.8-1): code value, coding scheme designator, code meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Reason:
    """An entry of `schemas/reasons.toml`; `code` is the stable name in reports, tests and docs."""

    code: str
    level: str
    """'reject' a bookmark, 'flag' a kept one, 'unreadable' for an object."""
    message: str
    """A format string over the facts, free of anything that identifies a person."""
    advice: str


@dataclass(frozen=True)
class Unreadable:
    """A broken object or image is a value: it never stops a run."""

    source: str
    """What it is: SOP Instance UID or path. Trusted side only."""
    why: str
    """Code of a reason of level 'unreadable'."""
    facts: tuple[tuple[str, Fact], ...] = ()
    detail: str = ""
    """The tag or field, what was found and what to do. Trusted side only."""


# --- geometry --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A straight line between two points in pixels (column, row)."""

    start: Point
    end: Point

    @property
    def length_px(self) -> float:
        """Euclidean length in pixels."""
        return math.dist(self.start, self.end)


@dataclass(frozen=True)
class SegmentMm:
    """A straight line between two points in the patient, LPS millimetres."""

    start: Vector
    end: Vector

    @property
    def length_mm(self) -> float:
        """Euclidean length in millimetres."""
        return math.dist(self.start, self.end)


@dataclass(frozen=True)
class Box:
    """An axis-parallel rectangle in pixels (column, row), never clipped to the image."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True)
class ImagePlane:
    """Where an image lies in the patient (PS3.3 C.7.6.2). Made by `geometry.plane_of`, which validates it."""

    origin_mm: Vector
    """ImagePositionPatient: the centre of the first pixel."""
    row_dir: Vector
    """Unit vector along a row, the direction of growing column index: ImageOrientationPatient[0:3]."""
    col_dir: Vector
    """Unit vector down a column, the direction of growing row index: ImageOrientationPatient[3:6]."""
    row_spacing_mm: float
    """Distance between rows (down a column): PixelSpacing[0]."""
    col_spacing_mm: float
    """Distance between columns (along a row): PixelSpacing[1]."""
    rows: int
    columns: int
    frame_of_reference_uid: str = ""
    slice_thickness_mm: float | None = None


@dataclass(frozen=True)
class ImageHeader:
    """What an image's header says, as far as rules and the dataset need it. Identified side."""

    ref: ImageRef
    sop_class_uid: str
    modality: str
    image_type: tuple[str, ...]
    plane: ImagePlane | Unreadable
    instance_number: int | None = None
    series_number: int | None = None
    number_of_frames: int = 1
    window: tuple[float, float] | None = None
    """Low and high bound in HU of the first display window (center -/+ width / 2)."""
    patient_sex: str = ""
    patient_age_years: int | None = None
    burned_in_annotation: bool = False
    manufacturer: str = ""
    convolution_kernel: str = ""
    kvp: float | None = None
    size_bytes: int = 0
    """Size of the encoded object (all frames)."""


@dataclass(frozen=True, eq=False)
class Slice:
    """The only pixel currency between rooms: CT numbers of one image plane."""

    ref: ImageRef
    hu: NDArray[np.int16]
    """(rows, columns), Hounsfield units, not writeable."""
    clipped_px: int = 0
    """Pixels whose value did not fit in int16 and were set to its nearest bound."""


# --- bookmarks -------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """What a bookmark is. Only BIDIRECTIONAL and LENGTH can become lesions; the rest is counted and named."""

    BIDIRECTIONAL = "bidirectional"
    LENGTH = "length"
    POINT = "point"
    MULTIPOINT = "multipoint"
    OPEN_POLYLINE = "open_polyline"
    CLOSED_POLYLINE = "closed_polyline"
    CIRCLE = "circle"
    ELLIPSE = "ellipse"
    ELLIPSOID = "ellipsoid"
    SEGMENT_REFERENCE = "segment_reference"
    WHOLE_IMAGE_VALUE = "whole_image_value"
    NO_MEASUREMENT_GROUPS = "no_measurement_groups"
    PRESENTATION_STATE = "presentation_state"
    SEGMENTATION = "segmentation"
    RTSTRUCT = "rtstruct"
    OTHER_OBJECT = "other_object"


@dataclass(frozen=True)
class StatedValue:
    """A measured value as the object states it: UCUM code of the unit as written, '' if absent."""

    value: float
    unit: str


@dataclass(frozen=True)
class Axis:
    """One drawn axis. The type of `segment` names its space; pixels are already in the core convention."""

    segment: Segment | SegmentMm
    stated: StatedValue | None = None


@dataclass(frozen=True)
class Source:
    """The object that holds a bookmark. Identified side."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    dialect: str
    """Name of the dialect that read it, e.g. 'tid1500'."""
    writer: str = ""
    """Who wrote it, a name of `schemas/dialects/*.toml`, e.g. 'ohif', 'highdicom'; '' if not recognised."""
    quirks: tuple[str, ...] = ()
    """Names of that writer's known deviations, e.g. 'swapped_spacing', 'default_short_axis'."""
    content_datetime: str = ""
    """YYYYMMDDHHMMSS[.ffffff] of the content, sortable as text, '' if unknown."""
    predecessors: tuple[str, ...] = ()
    """SOP Instance UIDs of PredecessorDocumentsSequence."""


@dataclass(frozen=True)
class Bookmark:
    """Exactly what the archive said, never corrected. Identified side."""

    source: Source
    item_path: str
    """Path of the item in the source: 1-based positions from the root's children on, e.g. '5.1.3'; '' = object."""
    kind: Kind
    images: tuple[ImageRef, ...] = ()
    """Every image referenced by the geometry, in order, without repetition."""
    long_axis: Axis | None = None
    short_axis: Axis | None = None
    axis_images: tuple[ImageRef | None, ImageRef | None] = (None, None)
    """The image selected by the long and by the short axis, where the object says so."""
    frame_of_reference_uid: str = ""
    """Of SCOORD3D; '' for pixel coordinates."""
    tracking_identifier: str = ""
    tracking_uid: str = ""
    finding: Code | None = None
    finding_site: Code | None = None
    label: str = ""
    reader: str = ""
    algorithm: str = ""
    """Name of the algorithm that measured, as the object states it; '' for a person's measurement."""
    problem: str = ""
    """Code of a reason of level 'reject' where the item's geometry itself is broken, e.g. 'bad_coordinates'."""
    facts: tuple[tuple[str, Fact], ...] = ()

    @property
    def key(self) -> str:
        """Stable identity: SOP Instance UID of the source, '#', path of the item in it."""
        return f"{self.source.sop_instance_uid}#{self.item_path}"


@dataclass(frozen=True)
class Lesion:
    """A bookmark located on an image plane."""

    bookmark: Bookmark
    header: ImageHeader
    long_axis: Segment
    """Pixels on `header.plane`."""
    short_axis: Segment | None
    box: Box
    """Min/max of the ends, padded, unclipped (pixels)."""
    long_axis_mm: float
    short_axis_mm: float | None
    off_plane_mm: float = 0.0
    """Largest distance of an end from the plane; 0 for pixel coordinates."""
    notes: tuple[Note, ...] = ()
    """What locating had to undo, e.g. 'swapped_spacing_undone'."""

    @property
    def plane(self) -> ImagePlane:
        """The plane of the key image; a Lesion is never made without a valid one."""
        assert isinstance(self.header.plane, ImagePlane)
        return self.header.plane


@dataclass(frozen=True)
class Note:
    """A flag on a kept lesion: code of a reason of level 'flag', with its numbers."""

    code: str
    facts: tuple[tuple[str, Fact], ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A bookmark that does not become a row, and why. `reason` is a code of level 'reject'."""

    bookmark: Bookmark
    reason: str
    facts: tuple[tuple[str, Fact], ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A bookmark that becomes a row."""

    lesion: Lesion
    notes: tuple[Note, ...] = ()

    @property
    def bookmark(self) -> Bookmark:
        """The bookmark of the lesion."""
        return self.lesion.bookmark


Verdict: TypeAlias = Kept | Rejected
