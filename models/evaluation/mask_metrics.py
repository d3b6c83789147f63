"""How well a mask agrees with another, and RECIST with RECIST: Dice, surface distances, HD95, errors in mm.

Masks are boolean, (rows, columns) or (slices, rows, columns); `spacing_mm` gives the distance between the centres
of neighbours along each axis of the array, in the same order. The surface of a mask are its pixels (voxels) with a
neighbour across an edge (a face) that is outside the mask or the array; distances go between their centres.
The reference is never empty: a lesion has a mask. A prediction that is empty has Dice 0 and infinite distances, so
that predicting nothing never pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from models.evaluation.overlap import Floats

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """All that is told of one predicted mask beside its reference."""

    dice: float
    surface_distance_mm: float
    """Mean over both surfaces of the distance to the other (average symmetric surface distance)."""
    hd95_mm: float
    """The larger of the two 95th percentiles of these distances, one of each surface (as MONAI and Metrics Reloaded
    take it; a percentile of both together would be smaller)."""
    hausdorff_mm: float
    """The largest of these distances."""
    size_error: float
    """(predicted - reference) / reference, in pixels or voxels: -1 = nothing predicted."""


def agreement(predicted: Mask, reference: Mask, spacing_mm: Sequence[float]) -> Agreement:
    """Compares two masks of one shape.

    ValueError for different shapes, other than two or three axes, a spacing that does not fit, an empty reference.
    """
    _check(predicted, reference, spacing_mm)
    to_reference, to_predicted = surface_distances_mm(predicted, reference, spacing_mm)
    both = np.concatenate([to_reference, to_predicted])
    return Agreement(
        dice=dice(predicted, reference),
        surface_distance_mm=float(both.mean()),
        hd95_mm=max(_percentile_95(to_reference), _percentile_95(to_predicted)),
        hausdorff_mm=float(both.max()),
        size_error=float(predicted.sum() / reference.sum() - 1),
    )


def dice(predicted: Mask, reference: Mask) -> float:
    """Twice the common part over the sum of both; two empty masks count 0, as ULS23 counts them."""
    total = int(predicted.sum()) + int(reference.sum())
    return 2 * int((predicted & reference).sum()) / total if total else 0.0


def surface(mask: Mask) -> Mask:
    """Pixels of the mask with a neighbour, along an axis, outside the mask or the array; of the mask's shape."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        ahead, behind = _slices(mask.ndim, axis, slice(1, None)), _slices(mask.ndim, axis, slice(None, -1))
        inner[behind] &= mask[ahead]
        inner[ahead] &= mask[behind]
        inner[_slices(mask.ndim, axis, slice(0, 1))] = False
        inner[_slices(mask.ndim, axis, slice(-1, None))] = False
    return mask & ~inner


def surface_distances_mm(one: Mask, other: Mask, spacing_mm: Sequence[float]) -> tuple[Floats, Floats]:
    """Distance of each surface pixel of `one` to the nearest of `other`'s surface, and the reverse.

    Exact Euclidean distances, in the array's order. Infinite where the mask to measure to is empty; where the mask
    to measure from is empty, there is nothing to list.
    """
    box = _bounding_slices(one | other)
    first, second = surface(np.pad(one[box], 1)), surface(np.pad(other[box], 1))
    to_second = _distance_mm(second, spacing_mm)
    to_first = _distance_mm(first, spacing_mm)
    return to_second[first], to_first[second]


def ends_to_contour_mm(mask: Mask, ends_px: Sequence[tuple[float, float]], spacing_mm: Sequence[float]) -> float:
    """Mean distance of RECIST end points (column, row) to the nearest surface pixel of a mask on their slice.

    MULAN's measure of its masks, with all four ends. Infinite for an empty mask.
    """
    rows, columns = np.nonzero(surface(mask))
    if len(rows) == 0:
        return float("inf")
    row_mm, column_mm = spacing_mm
    distances = [np.hypot((rows - row) * row_mm, (columns - column) * column_mm).min() for column, row in ends_px]
    return float(np.mean(distances))


def diameter_error_mm(predicted_mm: tuple[float, float], reference_mm: tuple[float, float]) -> float:
    """Mean of the absolute errors of long and short diameter (MULAN)."""
    return (abs(predicted_mm[0] - reference_mm[0]) + abs(predicted_mm[1] - reference_mm[1])) / 2


def ends_error_mm(
    predicted_px: Sequence[tuple[float, float]],
    reference_px: Sequence[tuple[float, float]],
    spacing_mm: Sequence[float],
) -> float:
    """Mean distance of the four end points (column, row), long axis first, to the reference's.

    Neither the two ends of an axis nor, where they are about equal, the two axes have an order: the pairing with the
    least sum that keeps axes together counts. `spacing_mm` is (between rows, between columns).
    """
    scale = np.array([spacing_mm[1], spacing_mm[0]])
    predicted, reference = (np.asarray(ends, np.float64) * scale for ends in (predicted_px, reference_px))
    apart = np.linalg.norm(predicted[:, None] - reference[None], axis=2)
    orders = (order for order in permutations(range(4)) if {frozenset(order[:2]), frozenset(order[2:])} == _AXES)
    return min(float(apart[range(4), order].mean()) for order in orders)


_AXES = {frozenset((0, 1)), frozenset((2, 3))}


def _distance_mm(points: Mask, spacing_mm: Sequence[float]) -> Floats:
    """Distance of each element to the nearest point, axis by axis: the least sum of squares along each in turn."""
    squares = np.where(points, 0.0, np.inf)
    for axis, spacing in enumerate(spacing_mm):
        lines = np.moveaxis(squares, axis, 0)
        offsets = (np.arange(len(lines)) * spacing).reshape(-1, *[1] * (points.ndim - 1))
        nearest = np.full_like(lines, np.inf)
        for line, offset in zip(lines, offsets.ravel().tolist(), strict=True):
            if np.isfinite(line).any():
                np.minimum(nearest, line + (offsets - offset) ** 2, out=nearest)
        squares = np.moveaxis(nearest, 0, axis)
    return np.sqrt(squares)


def _percentile_95(distances: Floats) -> float:
    # numpy would interpolate between infinities, which has no value
    if len(distances) == 0 or np.isinf(distances).any():
        return float("inf")
    return float(np.percentile(distances, 95))


def _bounding_slices(mask: Mask) -> tuple[slice, ...]:
    if not mask.any():
        return tuple(slice(0, 0) for _ in mask.shape)
    others = [tuple(axis for axis in range(mask.ndim) if axis != kept) for kept in range(mask.ndim)]
    held = [np.flatnonzero(mask.any(axis=axes)) for axes in others]
    return tuple(slice(int(one[0]), int(one[-1]) + 1) for one in held)


def _slices(axes: int, axis: int, chosen: slice) -> tuple[slice, ...]:
    return tuple(chosen if one == axis else slice(None) for one in range(axes))


def _check(predicted: Mask, reference: Mask, spacing_mm: Sequence[float]) -> None:
    if predicted.shape != reference.shape or predicted.ndim not in (2, 3):
        raise ValueError(f"masks of shapes {predicted.shape} and {reference.shape}: one shape of two or three axes")
    if len(spacing_mm) != predicted.ndim or min(spacing_mm) <= 0:
        raise ValueError(f"spacing {tuple(spacing_mm)} mm: one distance above 0 for each of {predicted.ndim} axes")
    if not reference.any():
        raise ValueError("the reference mask is empty: a lesion without pixels cannot be compared")
