"""FROC as the public codes of DeepLesion's detectors count it: 3DCE, MULAN, AlignShift, LENS.

All detections of all images are pooled and ranked by score. A detection that overlaps no mark of its image enough
is a false positive. Any other hits every mark that it overlaps enough and that no better one hit before: it may hit
several, and one that hits nothing new is neither hit nor false positive. Sensitivity is hits over all marks, false
positives are divided by the number of all images, also of those without marks.

The work is in three steps, so that a bootstrap, a stratum or another threshold repeats only what it must:
`pool` (overlaps, once per criterion) -> `count` (once per threshold and selection of marks) -> `curve` (per weights
of the images). Read from: viggin/DeepLesion_manual_test_set general_detection_evaluation.py (LENS),
rsummers11/CADLab lesion_detector_3DCE/rcnn/utils/evaluation.py and MULAN's maskrcnn evaluation code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.evaluation.overlap import Criterion, Floats, Space, checked_boxes, overlaps

Indices: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

PUBLISHED_FALSE_POSITIVES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Per image, where DeepLesion's papers read the curve; their "average" is the mean of the first four."""
SUB_VOLUME_FALSE_POSITIVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Per sub-volume, where LENS reads the 3-D curve; its average is the mean of all seven (IoBB >= 0.3)."""


class Ties(StrEnum):
    """In what order detections of equal score enter.

    The public codes rank by `numpy.argsort(scores)[::-1]`: not a stable sort, its order of equal scores depends on
    the input order and on the processor's vector instructions. The two others do not: they bound every order.
    """

    PUBLISHED = "published"
    HITS_LAST = "hits_last"
    """False positives first: the lowest sensitivity of any order."""
    HITS_FIRST = "hits_first"
    """The highest sensitivity of any order."""


@dataclass(frozen=True, eq=False)
class Pool:
    """All d detections and m marks of the images, with the p pairs that overlap at all."""

    image_count: int
    """Images with and without marks and detections."""
    scores: Floats
    """(d,) image after image, in the given order, as the next."""
    detection_image: Indices
    """(d,) 0-based number of each detection's image."""
    mark_image: Indices
    """(m,) 0-based number of each mark's image, image after image, in the given order."""
    pair_detection: Indices
    """(p,) number of the detection, and of the mark, and how much they overlap (above 0)."""
    pair_mark: Indices
    pair_overlap: Floats


@dataclass(frozen=True, eq=False)
class Count:
    """What each detection is at one threshold, best score first."""

    image_count: int
    detection: Indices
    """(d,) number of the detection in the pool, in order of rank, as the next four."""
    scores: Floats
    image: Indices
    false_positive: Flags
    new_hits: Indices
    """Marks that this detection is the first to hit; 0 for a false positive and for a repeated hit."""
    mark: Indices
    """(s,) numbers in the pool of the marks that count, as the next two."""
    mark_image: Indices
    mark_rank: Indices
    """Rank of the detection that hits the mark first; -1 = missed."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A point after each detection, best score first: at this score so much is found, so much is false."""

    false_positives: Floats
    """(k,) per image, never falling."""
    sensitivity: Floats
    """(k,) 0 to 1, never falling; NaN throughout where no mark counts."""
    scores: Floats
    images: float
    """Images (or their weights) that false positives are divided by."""
    marks: float
    """Marks (or their weights) that hits are divided by."""


def pool(
    marked: Sequence[NDArray[np.floating]],
    detected: Sequence[NDArray[np.floating]],
    space: Space = Space.PLANE,
    criterion: Criterion = Criterion.IOU,
) -> Pool:
    """Compares detections and marks image by image.

    `marked[i]` is (m_i, 4) or, in 3-D and P3D, (m_i, 6); `detected[i]` has one more column, the score, last. An
    array without rows may have any shape. ValueError for lists of different length, malformed boxes and scores that
    are not finite (the public codes count boxes with NaN as false positives; a model that gives them is broken).
    """
    if len(marked) != len(detected):
        raise ValueError(f"marks of {len(marked)} images, detections of {len(detected)}: one array each per image")
    scores: list[Floats] = []
    pairs: list[tuple[Indices, Indices, Floats]] = []
    detections = marks = 0
    for image, (image_marks, image_detections) in enumerate(zip(marked, detected, strict=True)):
        boxes, image_scores = _boxes_and_scores(image_detections, space, f"detections of image {image}")
        truth = checked_boxes(image_marks, space, f"marks of image {image}")
        overlap = overlaps(boxes, truth, space, criterion)
        rows, columns = np.nonzero(overlap > 0)
        pairs.append((rows + detections, columns + marks, overlap[rows, columns]))
        scores.append(image_scores)
        detections += len(boxes)
        marks += len(truth)
    no_number = np.zeros(0, np.int64)
    return Pool(
        image_count=len(marked),
        scores=np.concatenate([np.zeros(0), *scores]),
        detection_image=np.repeat(np.arange(len(marked)), [len(one) for one in scores]).astype(np.int64),
        mark_image=np.repeat(np.arange(len(marked)), [_rows(one) for one in marked]).astype(np.int64),
        pair_detection=np.concatenate([no_number, *(pair[0] for pair in pairs)]),
        pair_mark=np.concatenate([no_number, *(pair[1] for pair in pairs)]),
        pair_overlap=np.concatenate([np.zeros(0), *(pair[2] for pair in pairs)]),
    )


def count(pool: Pool, threshold: float, *, marks: Flags | None = None, ties: Ties = Ties.PUBLISHED) -> Count:
    """Who hits what where an overlap of at least `threshold` is a hit.

    `marks` (m,) selects the marks that count, all by default. All detections stay: one that hits only marks left
    out is a false positive, as in the published FROC by size and type (the marks are selected, nothing else).
    ValueError for a threshold outside (0, 1] and a selection of another length.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"overlap threshold {threshold}: must lie above 0 and not above 1")
    selected = np.ones(len(pool.mark_image), bool) if marks is None else marks
    if selected.shape != pool.mark_image.shape:
        raise ValueError(f"selection of {selected.shape} marks, the pool has {pool.mark_image.shape}")
    enough = (pool.pair_overlap >= threshold) & selected[pool.pair_mark]
    false_positive = np.ones(len(pool.scores), bool)
    false_positive[pool.pair_detection[enough]] = False
    order = _ranking(pool.scores, false_positive, ties)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    never = len(order)
    first = np.full(len(pool.mark_image), never, np.int64)
    np.minimum.at(first, pool.pair_mark[enough], rank[pool.pair_detection[enough]])
    return Count(
        image_count=pool.image_count,
        detection=order,
        scores=pool.scores[order],
        image=pool.detection_image[order],
        false_positive=false_positive[order],
        new_hits=np.bincount(first[first < never], minlength=never).astype(np.int64),
        mark=np.flatnonzero(selected).astype(np.int64),
        mark_image=pool.mark_image[selected],
        mark_rank=np.where(first < never, first, -1)[selected],
    )


def curve(count: Count, *, image_weights: Floats | None = None, counted_images: Flags | None = None) -> Curve:
    """The FROC curve.

    `image_weights` (images,) are numbers of copies of each image: a bootstrap draws them instead of copying images,
    and the curve reads the same. `counted_images` (images,) says where a detection without a mark is a false
    positive: on other images it is left out, and they do not divide false positives; marks count everywhere. By
    default all images count once. ValueError for arrays of another length or negative weights, and where no image
    is left to divide by.
    """
    weights = np.ones(count.image_count) if image_weights is None else image_weights.astype(np.float64)
    counted = np.ones(count.image_count, bool) if counted_images is None else counted_images
    if weights.shape != (count.image_count,) or counted.shape != (count.image_count,):
        raise ValueError(f"weights {weights.shape} and images that count {counted.shape} of {count.image_count} images")
    images = float((weights * counted).sum())
    if (weights < 0).any() or images <= 0:
        raise ValueError("false positives per image need images with a weight above 0, and none below")
    marks = float(weights[count.mark_image].sum())
    entering = (weights[count.image] > 0) & ~(count.false_positive & ~counted[count.image])
    weight = weights[count.image[entering]]
    hits = np.cumsum(count.new_hits[entering] * weight)
    return Curve(
        false_positives=np.cumsum(count.false_positive[entering] * weight) / images,
        sensitivity=hits / marks if marks > 0 else np.full(len(hits), np.nan),
        scores=count.scores[entering],
        images=images,
        marks=marks,
    )


def misses(pool: Pool, count: Count) -> list[tuple[int, float]]:
    """(mark, best overlap of any detection with it) of marks that nothing hits, the least overlapped first."""
    best = np.zeros(len(pool.mark_image))
    np.maximum.at(best, pool.pair_mark, pool.pair_overlap)
    missed = count.mark[count.mark_rank < 0]
    return [(int(mark), float(best[mark])) for mark in missed[np.argsort(best[missed], kind="stable")]]


def false_positives(count: Count) -> list[tuple[int, float]]:
    """(detection, score) of false positives, the surest first."""
    wrong = count.false_positive
    return list(zip(count.detection[wrong].tolist(), count.scores[wrong].tolist(), strict=True))


def _ranking(scores: Floats, false_positive: Flags, ties: Ties) -> Indices:
    match ties:
        case Ties.PUBLISHED:
            return np.argsort(scores)[::-1].astype(np.int64)
        case Ties.HITS_LAST:
            return np.lexsort((~false_positive, -scores)).astype(np.int64)
        case Ties.HITS_FIRST:
            return np.lexsort((false_positive, -scores)).astype(np.int64)


def _boxes_and_scores(detections: NDArray[np.floating], space: Space, what: str) -> tuple[Floats, Floats]:
    if detections.size == 0:
        return np.zeros((0, space.coordinates)), np.zeros(0)
    if detections.ndim != 2 or detections.shape[1] != space.coordinates + 1:
        raise ValueError(f"{what}: shape {detections.shape}; {space} needs (n, {space.coordinates + 1}), score last")
    scores = detections[:, -1].astype(np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(f"{what}: a score is not finite")
    return checked_boxes(detections[:, :-1], space, what), scores


def _rows(boxes: NDArray[np.floating]) -> int:
    return len(boxes) if boxes.size else 0
