"""Random images with lesions and detections, many of them near a lesion, for tests of the evaluator."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.evaluation.overlap import Space

Arrays = list[NDArray[np.float64]]


def case(seed: int, space: Space, images: int = 6, distinct_scores: bool = True) -> tuple[Arrays, Arrays]:
    """Marks and detections of some images; coordinates are whole or half pixels, so that overlaps repeat."""
    random = np.random.default_rng(seed)
    marked = [
        boxes(random, int(random.integers(0, 4)), space, flat=space is Space.PSEUDO_VOLUME) for _ in range(images)
    ]
    detected = []
    for marks in marked:
        near = [mark + random.integers(-6, 7, space.coordinates) / 2 for mark in marks for _ in range(2)]
        near = [ordered(one) for one in near]
        far = boxes(random, int(random.integers(0, 4)), space)
        rows = np.array([*near, *far]).reshape(-1, space.coordinates)
        detected.append(rows)
    total = sum(len(one) for one in detected)
    scores = random.permutation(total) / 1000 if distinct_scores else random.integers(0, 4, total) / 4
    parts = np.split(scores, np.cumsum([len(one) for one in detected])[:-1])
    return marked, [np.column_stack([one, part]) for one, part in zip(detected, parts, strict=True)]


def boxes(random: np.random.Generator, count: int, space: Space, flat: bool = False) -> NDArray[np.float64]:
    axes = space.coordinates // 2
    first = random.integers(0, 40, (count, axes)) / 2
    last = first + random.integers(1, 30, (count, axes)) / 2
    if flat:
        first[:, 2] = last[:, 2] = np.floor(first[:, 2])
    return np.hstack([first, last]).astype(np.float64)


def ordered(box: NDArray[np.float64]) -> NDArray[np.float64]:
    half = len(box) // 2
    return np.concatenate([np.minimum(box[:half], box[half:]), np.maximum(box[:half], box[half:])])


seeds = st.integers(0, 2**32 - 1)
spaces = st.sampled_from(list(Space))
