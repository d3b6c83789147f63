"""Which slices a network sees around a key slice, and in what shares: by millimetres, never by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Context:
    """Slices to read, and what each seen slice is made of."""

    slices: tuple[int, ...]
    """Indices of the slices that are needed, rising."""
    shares: NDArray[np.float32]
    """(seen, needed): each seen slice is this weighted sum."""

    def mix(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(seen, rows, columns) of the planes (needed, rows, columns)."""
        mixed: NDArray[np.float32] = np.tensordot(self.shares, planes, 1)
        return mixed


def by_distance(position_mm: NDArray[np.float64], at: int, offsets_mm: Sequence[float]) -> Context:
    """Slices at distances from slice `at` of rising positions, as `Volume.context` defines them.

    Linearly interpolated between two slices; beyond the ends the last slice is repeated.
    """
    wanted = np.clip(position_mm[at] + np.asarray(offsets_mm, np.float64), position_mm[0], position_mm[-1])
    after = np.searchsorted(position_mm, wanted)
    before = np.maximum(after - 1, 0)
    gap = np.where(after > before, position_mm[after] - position_mm[before], 1.0)
    share = np.where(after > before, (wanted - position_mm[before]) / gap, 1.0)
    return gathered([((int(one), 1 - float(part)), (int(other), float(part)))
                     for one, other, part in zip(before, after, share, strict=True)])  # fmt: skip


def gathered(parts: Sequence[Sequence[tuple[int, float]]]) -> Context:
    """A context of (slice, share) pairs for each seen slice; a slice may be named twice."""
    slices = sorted({index for seen in parts for index, share in seen if share})
    shares = np.zeros((len(parts), len(slices)), np.float32)
    for row, seen in zip(shares, parts, strict=True):
        for index, share in seen:
            if share:
                row[slices.index(index)] += share
    return Context(tuple(slices), shares)
