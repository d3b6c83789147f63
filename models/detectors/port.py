"""The port of all detectors, in arrays: what prediction and evaluation call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.volume import Volume


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector finds on one slice, best score first, in pixels of that slice (core convention)."""

    boxes_px: NDArray[np.float64]
    """(n, 4) x_min, y_min, x_max, y_max, tight (no margin)."""
    scores: NDArray[np.float64]
    """(n,) 0 to 1."""
    ends_px: NDArray[np.float64]
    """(n, 4, 2) long axis, then short axis; NaN where the detector does not say."""


class Detector(Protocol):
    """Finds lesions on slices of a volume."""

    model_id: str

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        """One answer a slice, in the order of `indices`."""
