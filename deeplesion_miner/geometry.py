"""Image planes in the patient: validation, pixels to millimetres and back, and the one pixel convention.

Pixels are (column, row), the centre of the first pixel is (0, 0) (PS3.3 C.7.6.2.1.1). Patient coordinates
are LPS millimetres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from deeplesion_miner.types import Box, ImagePlane, Point, Segment, Vector

UNIT_LENGTH_TOLERANCE = 1e-3
"""How far the length of a direction may be from 1: headers round to as few as four decimals."""
RIGHT_ANGLE_TOLERANCE = 1e-3
"""How far the dot product of both directions may be from 0 (0.06 degrees)."""
SAME_SPACING_FRACTION = 1e-6
"""Row and column spacing that differ by less than this share are one spacing."""


class BadGeometry(ValueError):
    """A header's geometry cannot be used; `what` is a word of the vocabulary 'what' of `schemas/reasons.toml`."""

    def __init__(self, what: str, text: str) -> None:
        super().__init__(text)
        self.what = what


def plane_of(
    position: Sequence[float] | None,
    orientation: Sequence[float] | None,
    pixel_spacing: Sequence[float] | None,
    rows: int | None,
    columns: int | None,
    *,
    frame_of_reference_uid: str = "",
    slice_thickness_mm: float | None = None,
) -> ImagePlane:
    """The plane that a header's attributes describe, its directions made exactly orthonormal.

    `position`, `orientation`, `pixel_spacing`: ImagePositionPatient (3 numbers, mm), ImageOrientationPatient (6)
    and PixelSpacing (row spacing, column spacing, mm) (PS3.3 C.7.6.2), None where the header has none.
    Raises BadGeometry where a value is missing, not finite or contradicts itself.
    """
    origin = _numbers("position", "ImagePositionPatient (0020,0032)", position, 3)
    directions = _numbers("orientation", "ImageOrientationPatient (0020,0037)", orientation, 6)
    row_spacing, col_spacing = _numbers("spacing", "PixelSpacing (0028,0030)", pixel_spacing, 2)
    if row_spacing <= 0 or col_spacing <= 0:
        raise BadGeometry("spacing", f"PixelSpacing (0028,0030) is {row_spacing}\\{col_spacing}, not positive")
    if rows is None or columns is None or rows <= 0 or columns <= 0:
        raise BadGeometry("rows_columns", f"Rows (0028,0010) is {rows}, Columns (0028,0011) is {columns}")
    row_dir, col_dir = _orthonormal(directions)
    return ImagePlane(
        origin_mm=(origin[0], origin[1], origin[2]),
        row_dir=row_dir,
        col_dir=col_dir,
        row_spacing_mm=row_spacing,
        col_spacing_mm=col_spacing,
        rows=rows,
        columns=columns,
        frame_of_reference_uid=frame_of_reference_uid,
        slice_thickness_mm=slice_thickness_mm,
    )


def _numbers(what: str, name: str, values: Sequence[float] | None, count: int) -> tuple[float, ...]:
    if values is None:
        raise BadGeometry(what, f"{name} is missing")
    if len(values) != count:
        raise BadGeometry(what, f"{name} has {len(values)} values instead of {count}")
    numbers = tuple(float(value) for value in values)
    if not all(math.isfinite(number) for number in numbers):
        raise BadGeometry(what, f"{name} is {numbers}, not finite")
    return numbers


def _orthonormal(six: Sequence[float]) -> tuple[Vector, Vector]:
    """Both directions with unit length and a right angle; what is exact already stays exact."""
    row, col = (six[0], six[1], six[2]), (six[3], six[4], six[5])
    for direction in (row, col):
        if abs(math.hypot(*direction) - 1) > UNIT_LENGTH_TOLERANCE:
            raise BadGeometry("orientation", f"ImageOrientationPatient (0020,0037): {direction} is not of unit length")
    row = _unit(row)
    along = _dot(row, col)
    if abs(along) > RIGHT_ANGLE_TOLERANCE:
        raise BadGeometry(
            "orientation", f"ImageOrientationPatient (0020,0037): rows and columns are not at right angles ({along})"
        )
    return row, _unit((col[0] - along * row[0], col[1] - along * row[1], col[2] - along * row[2]))


def _unit(vector: Vector) -> Vector:
    length = math.hypot(*vector)
    return (vector[0] / length, vector[1] / length, vector[2] / length)


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def normal(plane: ImagePlane) -> Vector:
    """Unit vector at right angles to the plane: row direction x column direction."""
    (a, b, c), (d, e, f) = plane.row_dir, plane.col_dir
    return (b * f - c * e, c * d - a * f, a * e - b * d)


def to_px(plane: ImagePlane, point_mm: Vector) -> Point:
    """(column, row) of the foot of the perpendicular from a patient point on the plane (PS3.3 C.7.6.2.1.1)."""
    offset = _offset(plane, point_mm)
    return (
        _dot(offset, plane.row_dir) / plane.col_spacing_mm,
        _dot(offset, plane.col_dir) / plane.row_spacing_mm,
    )


def to_patient_mm(plane: ImagePlane, point: Point) -> Vector:
    """The patient point (LPS, mm) of a pixel position (PS3.3 C.7.6.2.1.1)."""
    across, down = point[0] * plane.col_spacing_mm, point[1] * plane.row_spacing_mm
    o, r, c = plane.origin_mm, plane.row_dir, plane.col_dir
    return (
        o[0] + across * r[0] + down * c[0],
        o[1] + across * r[1] + down * c[1],
        o[2] + across * r[2] + down * c[2],
    )


def distance_mm(plane: ImagePlane, point_mm: Vector) -> float:
    """Signed distance of a patient point from the plane, positive on the side of its normal."""
    return _dot(_offset(plane, point_mm), normal(plane))


def _offset(plane: ImagePlane, point_mm: Vector) -> Vector:
    o = plane.origin_mm
    return (point_mm[0] - o[0], point_mm[1] - o[1], point_mm[2] - o[2])


def tilt_deg(plane: ImagePlane) -> float:
    """Angle between the plane's normal and the patient's z axis: 0 = axial, 90 = sagittal or coronal."""
    x, y, z = normal(plane)
    return math.degrees(math.atan2(math.hypot(x, y), abs(z)))


def head_to_feet_mm(plane: ImagePlane, reference: ImagePlane | None = None) -> float:
    """Position of the plane along the normal of `reference` (its own without one), growing towards the feet.

    Comparable only along one normal; the sign of a plane parallel to z is that of its normal.
    """
    n = normal(plane if reference is None else reference)
    along = _dot(plane.origin_mm, n)
    return -along if n[2] > 0 else along


def length_mm(plane: ImagePlane, segment: Segment) -> float:
    """Length of a line on the plane, in millimetres, with both spacings."""
    return math.hypot(
        (segment.end[0] - segment.start[0]) * plane.col_spacing_mm,
        (segment.end[1] - segment.start[1]) * plane.row_spacing_mm,
    )


def is_inside(plane: ImagePlane, point: Point) -> bool:
    """True where a pixel position lies on the image, its outer edge included."""
    column, row = point
    return -0.5 <= column <= plane.columns - 0.5 and -0.5 <= row <= plane.rows - 0.5


# --- conventions -----------------------------------------------------------------------------------------


def corner_to_centre(point: Point) -> Point:
    """SCOORD (PS3.3 C.18.6.1) and GSPS PIXEL (C.10.5) count from the first pixel's corner, the core from its centre."""
    return (point[0] - 0.5, point[1] - 0.5)


def centre_to_corner(point: Point) -> Point:
    """The inverse of `corner_to_centre`: what a writer of SCOORD must write."""
    return (point[0] + 0.5, point[1] + 0.5)


def to_public(point: Point) -> Point:
    """DL_info.csv counts from 1 at the centre of the first pixel."""
    return (point[0] + 1.0, point[1] + 1.0)


def box_to_public(box: Box) -> Box:
    """A box in DL_info.csv's 1-based convention."""
    (x_min, y_min), (x_max, y_max) = to_public((box.x_min, box.y_min)), to_public((box.x_max, box.y_max))
    return Box(x_min, y_min, x_max, y_max)


def has_square_pixels(plane: ImagePlane) -> bool:
    """True where row and column spacing are equal."""
    return math.isclose(plane.row_spacing_mm, plane.col_spacing_mm, rel_tol=SAME_SPACING_FRACTION)


def undo_swapped_spacing(plane: ImagePlane, point: Point) -> Point:
    """The true pixel position of one whose writer multiplied columns by row spacing and rows by column spacing.

    OHIF 3.11 and 3.13 do so; over square pixels nothing changes.
    """
    ratio = plane.row_spacing_mm / plane.col_spacing_mm
    return (point[0] * ratio, point[1] / ratio)


def all_finite(points: Iterable[Sequence[float]]) -> bool:
    """True where every coordinate is a finite number."""
    return all(math.isfinite(value) for point in points for value in point)
