"""Overlap of boxes as the public evaluation codes compute it, in numpy.

A box is its first and last pixel, both inclusive: (x1, y1, x2, y2) in a plane, (x1, y1, z1, x2, y2, z2) in a
volume, z being a slice number. An extent is therefore `last - first + 1`, also for fractional coordinates: the
"+1 pixel convention" of 3DCE, MULAN, AlignShift and LENS. An overlap does not change when both boxes are moved
together, so 0-based and 1-based coordinates serve alike as long as both boxes use the same.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


class Space(StrEnum):
    """In what boxes are compared (`dim` of the LENS evaluation code)."""

    PLANE = "2D"
    """Both are rectangles."""
    VOLUME = "3D"
    """Both are cuboids."""
    PSEUDO_VOLUME = "P3D"
    """Detections are cuboids, a mark is a rectangle on one slice (z1 = z2): compared in the plane, and only where
    the mark's slice lies in [z1, z2] of the detection, both inclusive."""

    @property
    def coordinates(self) -> int:
        """Numbers in a box: 4 in a plane, 6 in the others."""
        return 4 if self is Space.PLANE else 6


class Criterion(StrEnum):
    """What the intersection is divided by (`overlap_metric` of the LENS evaluation code)."""

    IOU = "IOU"
    """By the union."""
    IOBB = "IOBB"
    """By the detected box."""
    IOGT = "IOGT"
    """By the mark (ground truth)."""
    IOBBGT = "IOBBGT"
    """The larger of IOBB and IOGT."""


def checked_boxes(boxes: NDArray[np.floating], space: Space, what: str) -> Floats:
    """The boxes as (n, 4) or (n, 6) float64; an empty array of any shape becomes (0, 4) or (0, 6).

    ValueError, opening with `what`, for another width, a number that is not finite, a box whose last pixel lies
    before its first.
    """
    wanted = space.coordinates
    if boxes.size == 0:
        return np.zeros((0, wanted))
    if boxes.ndim != 2 or boxes.shape[1] != wanted:
        raise ValueError(f"{what}: boxes have shape {boxes.shape}; {space} boxes need (n, {wanted})")
    exact = boxes.astype(np.float64)
    for box in exact[~np.isfinite(exact).all(axis=1)].tolist():
        raise ValueError(f"{what}: box {box} has a coordinate that is not finite")
    for box in exact[(exact[:, wanted // 2 :] < exact[:, : wanted // 2]).any(axis=1)].tolist():
        raise ValueError(f"{what}: box {box} ends before it begins")
    return exact


def sizes(boxes: Floats, space: Space) -> Floats:
    """(n,) area in pixels or volume in voxels, +1 convention; in P3D the area in the plane."""
    first, last = _corners(boxes, space)
    size: Floats = (last - first + 1.0).prod(axis=1)
    return size


def intersections(detected: Floats, marked: Floats, space: Space) -> Floats:
    """(n, m) common area or volume of every detection with every mark, +1 convention.

    Boxes a fraction of a pixel apart still meet: the convention widens both by half a pixel on each side.
    """
    first, last = _corners(detected, space)
    marked_first, marked_last = _corners(marked, space)
    begin = np.maximum(first[:, None], marked_first[None])
    end = np.minimum(last[:, None], marked_last[None])
    common: Floats = np.maximum(end - begin + 1.0, 0.0).prod(axis=2)
    if space is not Space.PSEUDO_VOLUME:
        return common
    slice_number = marked[None, :, 2]
    common[(slice_number < detected[:, None, 2]) | (detected[:, None, 5] < slice_number)] = 0.0
    return common


def overlaps(detected: Floats, marked: Floats, space: Space, criterion: Criterion) -> Floats:
    """(n, m) overlap, 0 to 1, of n detections with m marks; both as `checked_boxes` gives them.

    ValueError in P3D where a mark spans several slices.
    """
    if space is Space.PSEUDO_VOLUME:
        for mark in marked[marked[:, 2] != marked[:, 5]].tolist():
            raise ValueError(f"P3D: mark {mark} spans several slices; it must lie on one")
    common = intersections(detected, marked, space)
    of_detected = sizes(detected, space)[:, None]
    of_marked = sizes(marked, space)[None]
    whole: Floats
    match criterion:
        case Criterion.IOU:
            whole = of_detected + of_marked - common
        case Criterion.IOBB:
            whole = of_detected
        case Criterion.IOGT:
            whole = of_marked
        case Criterion.IOBBGT:
            whole = np.minimum(of_detected, of_marked)
    return np.divide(common, whole)


def _corners(boxes: Floats, space: Space) -> tuple[Floats, Floats]:
    half = space.coordinates // 2
    axes = 3 if space is Space.VOLUME else 2
    return boxes[:, :axes], boxes[:, half : half + axes]
