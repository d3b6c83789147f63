"""The outline of a mask: closed polygons that run along the edges of its pixels, so that nothing is lost.

Points are pixels (column, row), the centre of the first pixel is (0, 0): pixel edges lie at halves, no point of an
outline is ever a pixel's centre, and a polygon's area in pixels is the number of pixels in it. Pixels that touch by a
corner only are apart (4-connected); a hole may pass through such corners (8-connected).
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.types import Point

Polygon: TypeAlias = tuple[Point, ...]
"""Corners of a closed line; the first is not repeated."""
_Corner: TypeAlias = tuple[int, int]
"""(column, row) of a corner of the pixel grid: that of pixel (c, r) nearest to the first pixel is (c, r)."""

RIGHT_TURN = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}
"""The direction after a turn to the right on the screen, where rows grow downwards."""


@dataclass(frozen=True)
class Outline:
    """One connected part of a mask."""

    outer: Polygon
    """Clockwise on the screen."""
    holes: tuple[Polygon, ...] = ()
    """Counterclockwise, from left to right."""


def outlines(mask: PixelMask) -> tuple[Outline, ...]:
    """Each connected part of a mask with its holes, by its topmost, then leftmost corner; () for an empty mask."""
    outers, holes, owners = _parts(mask)
    return tuple(
        Outline(
            _polygon(outer, mask),
            tuple(_polygon(hole, mask) for hole, owner in zip(holes, owners, strict=True) if owner == number),
        )
        for number, outer in enumerate(outers)
    )


def keyholed(mask: PixelMask) -> tuple[Polygon, ...]:
    """Each connected part of a mask as a single polygon: a hole hangs on a channel without width (PS3.3 C.8.8.6.3).

    Channels run along pixel edges inside the part, straight, and are as short as that allows, since viewers draw them.
    Rasterising the polygon by pixel centres gives the mask back, by the even-odd and by the winding rule.
    """
    outers, holes, owners = _parts(mask)
    merged = []
    for number, outer in enumerate(outers):
        whole = outer
        own = [hole for hole, owner in zip(holes, owners, strict=True) if owner == number]
        for channel in _channels(mask.bits, [outer, *own]):
            hole = _begun_at(own[channel.hole - 1], channel.begin)
            at = whole.index(channel.end)
            whole = [*whole[: at + 1], *hole, hole[0], *whole[at:]]
        merged.append(whole)
    return tuple(_polygon(whole, mask) for whole in merged)


def area_px(polygon: Polygon) -> float:
    """Area inside in pixels; negative for a polygon that runs counterclockwise on the screen."""
    return 0.5 * sum(
        x * below - right * y for (x, y), (right, below) in zip(polygon, (*polygon[1:], *polygon[:1]), strict=True)
    )


def _parts(mask: PixelMask) -> tuple[list[list[_Corner]], list[list[_Corner]], list[int]]:
    """Outer loops, holes from left to right each begun at its leftmost, then topmost corner, and the holes' owners."""
    loops = _loops(mask.bits)
    outers = [loop for loop in loops if area_px(_floats(loop)) > 0]
    holes = sorted(_begun_at_left(loop) for loop in loops if area_px(_floats(loop)) < 0)
    owner_of = {corner: number for number, outer in enumerate(outers) for corner in outer}
    owners = []
    for hole in holes:
        owner = owner_of[_left_of(hole[0], owner_of.keys())]
        owners.append(owner)
        owner_of.update(dict.fromkeys(hole, owner))
    return outers, holes, owners


@dataclass(frozen=True, order=True)
class _Channel:
    """The straight way from a hole to another boundary of its part, the shortest one first."""

    length: int
    hole: int
    """Number of the loop that it begins at."""
    begin: _Corner
    end: _Corner
    to: int
    """Number of the loop that it ends at."""


def _channels(bits: NDArray[np.bool_], loops: list[list[_Corner]]) -> list[_Channel]:
    """For each loop but the first one way to those before, together the shortest, in an order to join them."""
    ways_to: dict[int, list[_Channel]] = defaultdict(list)
    for one in _straight_ways(bits, loops):
        ways_to[one.to].append(one)
    joined, chosen = {0}, []
    waiting = ways_to[0]
    heapq.heapify(waiting)
    # from its leftmost corner every hole reaches a loop that lies farther left, so that all are joined in the end
    while waiting:
        one = heapq.heappop(waiting)
        if one.hole not in joined:
            joined.add(one.hole)
            chosen.append(one)
            for further in ways_to[one.hole]:
                heapq.heappush(waiting, further)
    return chosen


def _straight_ways(bits: NDArray[np.bool_], loops: list[list[_Corner]]) -> Iterator[_Channel]:
    """The ways along rows and columns between neighbouring corners of two loops, from each that is a hole."""
    padded = np.pad(bits, 1)
    loop_of = {corner: number for number, loop in enumerate(loops) for corner in loop}
    by_column, by_row = sorted(loop_of), sorted(loop_of, key=lambda corner: (corner[1], corner[0]))
    for ordered, along in ((by_column, 1), (by_row, 0)):
        for one, other in itertools.pairwise(ordered):
            column, row = one
            # both pixels beside the first step: no boundary lies between, so they tell of the whole way
            beside = padded[row + 1, column : column + 2] if along else padded[row : row + 2, column + 1]
            if one[1 - along] == other[1 - along] and loop_of[one] != loop_of[other] and beside.all():
                length = other[along] - one[along]
                for begin, end in ((one, other), (other, one)):
                    if loop_of[begin]:
                        yield _Channel(length, loop_of[begin], begin, end, loop_of[end])


def _begun_at_left(loop: list[_Corner]) -> list[_Corner]:
    return _begun_at(loop, min(loop))


def _begun_at(loop: list[_Corner], corner: _Corner) -> list[_Corner]:
    at = loop.index(corner)
    return [*loop[at:], *loop[:at]]


def _left_of(corner: _Corner, corners: Set[_Corner]) -> _Corner:
    """The nearest of `corners` to the left: from a hole's leftmost, topmost corner the way there is inside the part."""
    column, row = corner
    return next((left, row) for left in range(column - 1, -1, -1) if (left, row) in corners)


def _loops(bits: NDArray[np.bool_]) -> list[list[_Corner]]:
    """Every boundary as its corners one pixel apart, pixels of the mask to the right of the way."""
    ways = _edges(bits)
    # By topmost, then leftmost corner: of two loops that share a corner, the one that begins there is the later one.
    starts = sorted(ways, key=lambda corner: (corner[1], corner[0]))
    return [_walked(ways, start) for start in starts if ways[start]]


def _walked(ways: dict[_Corner, set[_Corner]], start: _Corner) -> list[_Corner]:
    """One loop from a corner back to it; its edges are taken out of `ways`."""
    loop: list[_Corner] = []
    here, heading = start, next(iter(ways[start]))
    while heading in ways[here]:
        ways[here].discard(heading)
        loop.append(here)
        here = (here[0] + heading[0], here[1] + heading[1])
        # Where two pixels touch by a corner only, turning right stays with the same pixel.
        heading = RIGHT_TURN[heading] if len(ways[here]) == 2 else next(iter(ways[here]), heading)
    return loop


def _edges(bits: NDArray[np.bool_]) -> dict[_Corner, set[_Corner]]:
    """Directions of the boundary's edges from each corner: one, or two where pixels touch by a corner only."""
    padded = np.pad(bits, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    ways: dict[_Corner, set[_Corner]] = defaultdict(set)
    for neighbour, (right, down), direction in sides:
        for row, column in np.argwhere(inside & ~neighbour).tolist():
            ways[column + right, row + down].add(direction)
    return ways


def _polygon(loop: list[_Corner], mask: PixelMask) -> Polygon:
    """The corners at which the way turns, in pixels of the image."""
    turns = [
        here
        for before, here, after in zip((loop[-1], *loop[:-1]), loop, (*loop[1:], loop[0]), strict=True)
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
    ]
    return tuple((column + mask.first_column - 0.5, row + mask.first_row - 0.5) for column, row in turns)


def _floats(loop: list[_Corner]) -> Polygon:
    return tuple((float(column), float(row)) for column, row in loop)
