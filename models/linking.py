"""From boxes on slices to lesions: what overlaps from slice to slice is one lesion, seen best on its surest slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.detectors.port import Found


@dataclass(frozen=True)
class Linked:
    """One lesion: the slices on which it was found, from head to feet, with the number of its box there."""

    slices: tuple[int, ...]
    boxes: tuple[int, ...]
    best: int
    """Position in `slices` of the surest one: the key slice."""


@dataclass
class _Open:
    """A lesion that may go on towards the feet."""

    slices: list[int] = field(default_factory=list)
    boxes: list[int] = field(default_factory=list)

    def add(self, slice_index: int, box: int) -> None:
        self.slices.append(slice_index)
        self.boxes.append(box)


def link(
    found: Sequence[Found], positions_mm: NDArray[np.float64], *, overlap: float = 0.3, gap_mm: float = 6.0
) -> tuple[Linked, ...]:
    """Lesions of a stack, the surest first.

    `found[i]` was found at `positions_mm[i]`, rising. Going from head to feet, a box continues the lesion whose
    last box it overlaps most (IoU at least `overlap`, at most `gap_mm` away), surest boxes first; each box belongs
    to exactly one lesion, and a lesion has at most one box a slice. ValueError for lists of different length.
    """
    if len(found) != len(positions_mm):
        raise ValueError(f"answers for {len(found)} slices, positions of {len(positions_mm)}")
    going_on: list[_Open] = []
    ended: list[_Open] = []
    for index, answer in enumerate(found):
        near = [one for one in going_on if positions_mm[index] - positions_mm[one.slices[-1]] <= gap_mm]
        ended += [one for one in going_on if one not in near]
        going_on = _continued(near, found, index, answer, overlap)
    lesions = [_closed(one, found) for one in (*ended, *going_on)]
    return tuple(sorted(lesions, key=lambda one: (-_score(one, found), one.slices, one.boxes)))


def _continued(near: list[_Open], found: Sequence[Found], index: int, answer: Found, overlap: float) -> list[_Open]:
    free = list(near)
    for box in np.argsort(-answer.scores, kind="stable").tolist():
        last = np.array([found[one.slices[-1]].boxes_px[one.boxes[-1]] for one in free]).reshape(-1, 4)
        overlaps = _iou(answer.boxes_px[box], last)
        if overlaps.size and overlaps.max() >= overlap:
            free.pop(int(overlaps.argmax())).add(index, box)
        else:
            begun = _Open()
            begun.add(index, box)
            near.append(begun)
    return near


def _closed(one: _Open, found: Sequence[Found]) -> Linked:
    scores = [found[index].scores[box] for index, box in zip(one.slices, one.boxes, strict=True)]
    return Linked(tuple(one.slices), tuple(one.boxes), int(np.argmax(scores)))


def _score(lesion: Linked, found: Sequence[Found]) -> float:
    return float(found[lesion.slices[lesion.best]].scores[lesion.boxes[lesion.best]])


def _iou(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(min=0).prod(axis=1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1)
    result: NDArray[np.float64] = np.divide(common, areas - common, out=np.zeros(len(others)), where=areas > common)
    return result
