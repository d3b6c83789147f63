"""What to look at: the worst misses, the nearest, the surest detections beside the marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from deeplesion_miner.detection import Detection
from models.evaluation.cases import Cases
from models.evaluation.froc import Count, Indices, Pool, curve
from models.evaluation.froc_reading import score_at
from models.evaluation.overlap import Floats
from models.marks import KeySlice, Mark

OPERATING_POINT = 4.0
"""False positives per image at which a mark counts as missed here."""
MOST_ON_A_SLICE = 2
"""False positives of one slice that are shown."""


@dataclass(frozen=True, eq=False)
class Miss:
    """A mark that nothing hits at the operating point."""

    key_slice: KeySlice
    mark: Mark
    overlap: float
    """The largest of any detection with it, at any score; 0 where none touches it."""
    nearest: Detection | None
    """The detection that overlaps so."""


@dataclass(frozen=True, eq=False)
class Beside:
    """A detection that hits no mark of its slice."""

    key_slice: KeySlice
    detection: Detection


def operating_score(count: Count) -> float:
    """The score at `OPERATING_POINT`."""
    return score_at(curve(count), OPERATING_POINT)


def misses(cases: Cases, pool: Pool, count: Count) -> tuple[Miss, ...]:
    """Marks missed at the operating point: the least overlapped first, of these the largest."""
    overlap, nearest = best_overlaps(pool)
    rank = count.mark_rank
    missed = (rank < 0) | (count.scores[rank] < operating_score(count)) if len(count.scores) else rank < 0
    detections, marks = cases.flat, cases.slices.marks
    found = []
    for mark in count.mark[missed].tolist():
        by, (one, marked) = int(nearest[mark]), marks[mark]
        found.append(Miss(one, marked, float(overlap[mark]), detections[by] if by >= 0 else None))
    return tuple(sorted(found, key=lambda one: (one.overlap, -one.mark.long_axis_mm)))


def nearest_misses(missed: Iterable[Miss]) -> tuple[Miss, ...]:
    """Those that a detection touches, the most overlapped first: found, but the box is off or the score too low."""
    touched = [one for one in missed if one.nearest is not None]
    return tuple(sorted(touched, key=lambda one: -one.overlap))


def surest_beside(cases: Cases, count: Count, most: int) -> tuple[Beside, ...]:
    """The false positives of the highest scores, few of one slice."""
    shown: Counter[int] = Counter()
    found: list[Beside] = []
    detections = cases.flat
    for rank in np.flatnonzero(count.false_positive).tolist():
        image = int(count.image[rank])
        if shown[image] == MOST_ON_A_SLICE:
            continue
        shown[image] += 1
        found.append(Beside(cases.slices.counted[image], detections[int(count.detection[rank])]))
        if len(found) == most:
            break
    return tuple(found)


def best_overlaps(pool: Pool) -> tuple[Floats, Indices]:
    """(m,) largest overlap of any detection with each mark, and that detection; 0 and -1 where none touches it."""
    order = np.argsort(pool.pair_overlap, kind="stable")
    overlap = np.zeros(len(pool.mark_image))
    nearest = np.full(len(pool.mark_image), -1, np.int64)
    overlap[pool.pair_mark[order]] = pool.pair_overlap[order]
    nearest[pool.pair_mark[order]] = pool.pair_detection[order]
    return overlap, nearest
