"""The shape that a RECIST cross says without a look at the pixels: four quarter ellipses, and an ellipsoid.

MULAN's pseudo mask (Yan et al. 2019): with the axes crossing at o, each pair of neighbouring ends u and v gives the
quarter o + u cos t + v sin t, so that the outline passes through all four ends. In the frame of the cross, where
every end lies at distance 1 from the crossing, it is the unit disc: larger or smaller copies are other levels of
one map of distances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SHORT_OVER_LONG = 0.75
"""Taken for a length without a short axis: the median of DeepLesion's validation and test marks."""

LEAST_AGREEMENT = 0.6
"""A mask whose Dice with the quarter ellipses is below this has run away, and the ellipse is taken instead."""

SMALLEST_HALF_PX = 0.25
"""Halves of an axis below this are taken as this: an end on the crossing would have no quarter."""

LEAST_SINE = 0.1
"""Axes nearer to parallel than this (6 degrees) span no frame: of the short axis only the length is then used,
perpendicular through the middle of the long one."""


@dataclass(frozen=True)
class Cross:
    """The frame of a RECIST cross in pixels: its crossing, two unit directions, how far each end is."""

    centre: tuple[float, float]
    """(column, row) where the axes cross; halfway between their nearest points where they do not."""
    long_direction: tuple[float, float]
    short_direction: tuple[float, float]
    long_halves_px: tuple[float, float]
    """From the crossing to the first and to the second end of the long axis."""
    short_halves_px: tuple[float, float]

    def coordinates(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Points in the frame of the cross, of their common shape: the ends are (-1, 0), (1, 0), (0, -1), (0, 1)."""
        x, y = columns - self.centre[0], rows - self.centre[1]
        (long_x, long_y), (short_x, short_y) = self.long_direction, self.short_direction
        area = long_x * short_y - long_y * short_x
        along, across = (x * short_y - y * short_x) / area, (y * long_x - x * long_y) / area
        before, after = self.long_halves_px
        below, above = self.short_halves_px
        return along / np.where(along < 0, before, after), across / np.where(across < 0, below, above)


def cross_of(ends_px: NDArray[np.float64]) -> Cross:
    """The frame of four ends (4, 2), long axis first; a missing short axis (NaN) is completed.

    Axes that do not meet are taken at their nearest points. ValueError for ends of another shape or a long axis that
    is not finite.
    """
    ends = completed(ends_px)
    long_vector, short_vector = ends[1] - ends[0], ends[3] - ends[2]
    long_px, short_px = float(np.hypot(*long_vector)), float(np.hypot(*short_vector))
    long_direction = long_vector / long_px if long_px > 0 else np.array([1.0, 0.0])
    perpendicular = np.array([-long_direction[1], long_direction[0]])
    short_direction = short_vector / short_px if short_px > 0 else perpendicular
    if abs(short_direction @ perpendicular) >= LEAST_SINE:
        long_share, short_share = _nearest_shares(ends[0], long_vector, ends[2], short_vector)
        centre = (ends[0] + long_share * long_vector + ends[2] + short_share * short_vector) / 2
    else:
        short_direction, long_share, short_share = perpendicular, 0.5, 0.5
        centre = (ends[0] + ends[1]) / 2
    return Cross(
        (float(centre[0]), float(centre[1])),
        (float(long_direction[0]), float(long_direction[1])),
        (float(short_direction[0]), float(short_direction[1])),
        _halves(long_px, long_share),
        _halves(short_px, short_share),
    )


def completed(ends_px: NDArray[np.float64], row_spacing_mm: float = 1.0, col_spacing_mm: float = 1.0) -> Floats:
    """(4, 2) ends with a short axis: where it is NaN, through the middle of the long axis, perpendicular in mm,
    0.75 times as long (see SHORT_OVER_LONG).

    ValueError for ends of another shape or a long axis that is not finite.
    """
    ends = np.array(ends_px, np.float64)
    if ends.shape != (4, 2) or not np.isfinite(ends[:2]).all():
        raise ValueError(f"ends {ends.tolist()}: two finite ends of the long axis, then two of the short axis")
    if not np.isfinite(ends[2:]).all():
        scale = np.array([col_spacing_mm, row_spacing_mm])
        long_mm = (ends[1] - ends[0]) * scale
        half = SHORT_OVER_LONG / 2 * np.array([-long_mm[1], long_mm[0]]) / scale
        middle = (ends[0] + ends[1]) / 2
        ends[2:] = middle - half, middle + half
    return ends


def axes_mm(ends_px: NDArray[np.float64], row_spacing_mm: float, col_spacing_mm: float) -> tuple[float, float]:
    """Lengths of long and short axis in mm; the short one completed where it is NaN."""
    ends = completed(ends_px, row_spacing_mm, col_spacing_mm) * (col_spacing_mm, row_spacing_mm)
    return float(np.hypot(*(ends[1] - ends[0]))), float(np.hypot(*(ends[3] - ends[2])))


def ellipse_mask(ends_px: NDArray[np.float64], rows: int, columns: int, scale: float = 1.0) -> Mask:
    """(rows, columns) pixels whose centre lies in the four quarter ellipses through the ends, `scale` times as large.

    At least the pixel that holds the crossing, where it is on the image. Lengths without a short axis (NaN) are
    completed at 0.75 times the long axis. ValueError as `cross_of`.
    """
    cross = cross_of(ends_px)
    row, column = np.mgrid[:rows, :columns].astype(np.float64)
    along, across = cross.coordinates(column, row)
    mask: Mask = np.hypot(along, across) <= scale
    at_column, at_row = round(cross.centre[0]), round(cross.centre[1])
    if 0 <= at_row < rows and 0 <= at_column < columns:
        mask[at_row, at_column] = True
    return mask


def ellipsoid_mask(
    ends_px: NDArray[np.float64],
    distance_mm: NDArray[np.float64],
    rows: int,
    columns: int,
    half_depth_mm: float,
    scale: float = 1.0,
) -> Mask:
    """(slices, rows, columns) of the ellipsoid whose section on the key slice is the mask of `ellipse_mask`.

    `distance_mm` (slices,) tells how far each slice is from the key slice; `half_depth_mm` is the semi-axis along
    the patient, times `scale` as the others.
    """
    levels = np.sqrt(np.clip(scale**2 - (distance_mm / half_depth_mm) ** 2, 0, None))
    planes = np.zeros((len(distance_mm), rows, columns), np.bool_)
    for plane, level in zip(planes, levels.tolist(), strict=True):
        if level > 0:
            plane[:] = ellipse_mask(ends_px, rows, columns, level)
    return planes


def mean_half_depth_mm(ends_px: NDArray[np.float64], row_spacing_mm: float, col_spacing_mm: float) -> float:
    """Semi-axis along the patient of the plain ellipsoid: the mean of the two semi-axes in the plane."""
    return sum(axes_mm(ends_px, row_spacing_mm, col_spacing_mm)) / 4


def _halves(length_px: float, share: float) -> tuple[float, float]:
    return max(share * length_px, SMALLEST_HALF_PX), max((1 - share) * length_px, SMALLEST_HALF_PX)


def _nearest_shares(start: Floats, d: Floats, other: Floats, e: Floats) -> tuple[float, float]:
    """Where on each of two straight lines, as a share of its length, the point nearest to the other line lies."""
    area = float(d[0] * e[1] - d[1] * e[0])
    between = other - start
    if area != 0:
        one = float(between[0] * e[1] - between[1] * e[0]) / area
        two = float(between[0] * d[1] - between[1] * d[0]) / area
        if 0 <= one <= 1 and 0 <= two <= 1:
            return one, two
    # lines that do not meet are nearest at an end of one of them
    candidates = [(_share(start, d, other + share * e), share) for share in (0.0, 1.0)]
    candidates += [(share, _share(other, e, start + share * d)) for share in (0.0, 1.0)]
    return min(candidates, key=lambda pair: math.dist(start + pair[0] * d, other + pair[1] * e))


def _share(start: Floats, vector: Floats, point: Floats) -> float:
    square = float(vector @ vector)
    return min(max(float((point - start) @ vector) / square, 0.0), 1.0) if square > 0 else 0.5
