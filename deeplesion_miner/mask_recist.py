"""RECIST back from a mask by exact geometry: its longest diameter and the longest chord perpendicular to it.

The outline of a mask runs halfway between the centres of pixels inside and outside it (marching squares at one
half): a lone pixel is a diamond one pixel wide, and a disc keeps its diameter, while pixel corners would add to it.
Pixels that touch at a corner are connected; holes belong to the lesion, as a reader measures across a cavity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.types import Segment

_Floats = NDArray[np.float64]

_TIE = 1e-9
"""Diameters that differ by less than this share are equal; sections closer than this (mm) are one."""

# midpoints of a cell's sides as (column, row) from the centre of its upper left pixel
_TOP, _RIGHT, _BOTTOM, _LEFT = (0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)
# lines of the outline in a cell, by the bits upper left 1, upper right 2, lower right 4, lower left 8 inside
_LINES = {
    1: ((_LEFT, _TOP),),
    2: ((_TOP, _RIGHT),),
    3: ((_LEFT, _RIGHT),),
    4: ((_RIGHT, _BOTTOM),),
    5: ((_LEFT, _BOTTOM), (_TOP, _RIGHT)),
    6: ((_TOP, _BOTTOM),),
    7: ((_LEFT, _BOTTOM),),
    8: ((_LEFT, _BOTTOM),),
    9: ((_TOP, _BOTTOM),),
    10: ((_LEFT, _TOP), (_RIGHT, _BOTTOM)),
    11: ((_RIGHT, _BOTTOM),),
    12: ((_LEFT, _RIGHT),),
    13: ((_TOP, _RIGHT),),
    14: ((_LEFT, _TOP),),
}


def recist_of_mask(mask: NDArray[np.bool_], row_spacing_mm: float, col_spacing_mm: float) -> tuple[Segment, Segment]:
    """Long axis and short axis of a mask (rows, columns), in pixels (column, row), perpendicular in mm.

    The long axis is the farthest pair of points of the outline in mm, even where it leaves a concave mask; the short
    axis is the longest chord at a right angle to it that stays inside the outline. Of several equally long axes that
    with the longest short axis is taken.
    ValueError for an empty mask, other than two axes, or a spacing that is not above 0.
    """
    if mask.ndim != 2 or not mask.any():
        raise ValueError(f"a mask of shape {mask.shape} with {int(mask.sum())} pixels has no axes")
    if not min(row_spacing_mm, col_spacing_mm) > 0:
        raise ValueError(f"pixel spacing {row_spacing_mm} x {col_spacing_mm} mm: both must be above 0")
    scale = np.array([col_spacing_mm, row_spacing_mm])
    lines_mm = outline(mask) * scale
    crosses = [(pair, _longest_chord(lines_mm, pair)) for pair in _diameters(lines_mm.reshape(-1, 2))]
    long_mm, short_mm = max(crosses, key=lambda cross: round(_length(cross[1]), 9))
    return _segment(long_mm / scale), _segment(short_mm / scale)


def outline(mask: NDArray[np.bool_]) -> _Floats:
    """(lines, 2, 2) straight pieces, start and end as (column, row) in pixels, of the outline without holes."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    held = _without_holes(np.pad(mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], 1))
    corners = held.astype(np.uint8)
    code = corners[:-1, :-1] | corners[:-1, 1:] << 1 | corners[1:, 1:] << 2 | corners[1:, :-1] << 3
    pieces: list[_Floats] = []
    for bits, lines in _LINES.items():
        row, column = np.nonzero(code == bits)
        # the padding moved everything by one pixel
        cells = np.stack([column + left - 1, row + top - 1], axis=1).astype(np.float64)
        pieces.extend(cells[:, None, :] + np.array(line) for line in lines)
    return np.concatenate(pieces)


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask, padded by background, with what the background cannot reach across pixel sides filled."""
    outside = np.zeros_like(mask)
    outside[0] = outside[-1] = True
    outside[:, 0] = outside[:, -1] = True
    free = ~mask
    reached = 0
    while (count := int(outside.sum())) != reached:
        reached = count
        for grown, known in ((outside[1:], outside[:-1]), (outside[:-1], outside[1:])):
            grown |= known
        for grown, known in ((outside[:, 1:], outside[:, :-1]), (outside[:, :-1], outside[:, 1:])):
            grown |= known
        outside &= free
    return ~outside


def _diameters(points: _Floats) -> list[_Floats]:
    """Every farthest pair (2, 2) of the points; more than one where they tie."""
    hull = _hull(points)
    squares = ((hull[:, None] - hull[None]) ** 2).sum(axis=2)
    first, second = np.nonzero(np.triu(squares >= squares.max() * (1 - _TIE)))
    return [np.stack([hull[i], hull[j]]) for i, j in zip(first.tolist(), second.tolist(), strict=True)]


def _hull(points: _Floats) -> _Floats:
    """Corners of the convex hull, by Andrew's monotone chain."""
    ordered = np.unique(points, axis=0).tolist()
    halves = []
    for run in (ordered, ordered[::-1]):
        chain: list[list[float]] = []
        for point in run:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        halves += chain[:-1]
    return np.array(halves)


def _turn(a: list[float], b: list[float], c: list[float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _longest_chord(lines_mm: _Floats, axis_mm: _Floats) -> _Floats:
    """(2, 2) the longest piece inside the outline of any line perpendicular to the axis.

    Between two corners of the outline the length of a chord is linear along the axis: it is longest at a corner.
    """
    along = (axis_mm[1] - axis_mm[0]) / np.linalg.norm(axis_mm[1] - axis_mm[0])
    across = np.array([-along[1], along[0]])
    # rounding makes corners that differ by floating point noise one
    place, height = (lines_mm @ along).round(9), lines_mm @ across
    stops = np.unique(place)
    before: list[tuple[float, float]] = []
    best = (0.0, 0.0, 0.0)
    for start, end in zip(stops[:-1].tolist(), stops[1:].tolist(), strict=True):
        at_start, at_end = _chords(place, height, start, end)
        best = max(best, _longest(start, before + at_start), key=lambda chord: round(chord[2] - chord[1], 9))
        before = at_end
    best = max(best, _longest(float(stops[-1]), before), key=lambda chord: round(chord[2] - chord[1], 9))
    at, low, high = best
    return np.stack([at * along + low * across, at * along + high * across])


def _chords(
    place: _Floats, height: _Floats, start: float, end: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Chords (low, high) at both ends of a strip that holds no corner: its lines cross it one above the other."""
    first, second = place.T
    crossing = (np.minimum(first, second) <= start) & (np.maximum(first, second) >= end) & (first != second)
    first, second, one, other = first[crossing], second[crossing], height[crossing, 0], height[crossing, 1]
    slope = (other - one) / (second - first)
    at_start, at_end = one + slope * (start - first), one + slope * (end - first)
    order = np.argsort(at_start + at_end, kind="stable")
    at_start, at_end = at_start[order], at_end[order]
    return (
        list(zip(at_start[::2].tolist(), at_start[1::2].tolist(), strict=True)),
        list(zip(at_end[::2].tolist(), at_end[1::2].tolist(), strict=True)),
    )


def _longest(at: float, chords: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(place, low, high) of the longest among chords of one line, those that touch being one."""
    best, run = (at, 0.0, 0.0), (0.0, -np.inf)
    for low, high in sorted(chords):
        run = (run[0], max(run[1], high)) if low <= run[1] + _TIE else (low, high)
        if run[1] - run[0] > best[2] - best[1]:
            best = (at, *run)
    return best


def _length(line: _Floats) -> float:
    return float(np.linalg.norm(line[1] - line[0]))


def _segment(line: _Floats) -> Segment:
    (start_column, start_row), (end_column, end_row) = line.tolist()
    return Segment((start_column, start_row), (end_column, end_row))
