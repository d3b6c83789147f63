"""RECIST crosses: do the axes cross, are they perpendicular, how far do they reach, what is the box."""

from __future__ import annotations

import math
from collections.abc import Iterable

from deeplesion_miner.types import Box, ImagePlane, Point, Segment


def ends(long_axis: Segment, short_axis: Segment | None) -> tuple[Point, ...]:
    """The end points, long axis first: four of a cross, two of a length."""
    long_ends = (long_axis.start, long_axis.end)
    return long_ends if short_axis is None else (*long_ends, short_axis.start, short_axis.end)


def box(points: Iterable[Point], padding_px: float = 5.0) -> Box:
    """Smallest axis-parallel rectangle around the points, padded on each side, never clipped (DeepLesion: 5 px).

    ValueError for no points.
    """
    columns, rows = zip(*points, strict=True)
    return Box(min(columns) - padding_px, min(rows) - padding_px, max(columns) + padding_px, max(rows) + padding_px)


def crosses(one: Segment, other: Segment, tolerance: float) -> bool:
    """True where the two lines meet; each may be prolonged by `tolerance` of its length at both ends.

    Parallel lines never cross.
    """
    d = (one.end[0] - one.start[0], one.end[1] - one.start[1])
    e = (other.end[0] - other.start[0], other.end[1] - other.start[1])
    between = (other.start[0] - one.start[0], other.start[1] - one.start[1])
    area = d[0] * e[1] - d[1] * e[0]
    if area == 0:
        return False
    on_one = (between[0] * e[1] - between[1] * e[0]) / area
    on_other = (between[0] * d[1] - between[1] * d[0]) / area
    return all(-tolerance <= share <= 1 + tolerance for share in (on_one, on_other))


def deviation_deg(plane: ImagePlane, one: Segment, other: Segment) -> float:
    """How far the angle between two lines on the plane (in mm) is from 90 degrees: 0 to 90; NaN for a point."""
    a, b = (_vector_mm(plane, segment) for segment in (one, other))
    dot = abs(a[0] * b[0] + a[1] * b[1])
    cross = abs(a[0] * b[1] - a[1] * b[0])
    if dot == 0 and cross == 0:
        return math.nan
    return math.degrees(math.atan2(dot, cross))


def _vector_mm(plane: ImagePlane, segment: Segment) -> tuple[float, float]:
    return (
        (segment.end[0] - segment.start[0]) * plane.col_spacing_mm,
        (segment.end[1] - segment.start[1]) * plane.row_spacing_mm,
    )


def extent_over_long(long_axis: Segment, short_axis: Segment) -> float:
    """Longer side of the tight box of a cross over the long axis's length (px); about 0.7 to 1 for a true cross.

    Infinite where the long axis has no length.
    """
    tight = box(ends(long_axis, short_axis), 0.0)
    extent = max(tight.x_max - tight.x_min, tight.y_max - tight.y_min)
    return extent / long_axis.length_px if long_axis.length_px > 0 else math.inf


def midpoint(segment: Segment) -> Point:
    """The middle of a line."""
    return ((segment.start[0] + segment.end[0]) / 2, (segment.start[1] + segment.end[1]) / 2)
