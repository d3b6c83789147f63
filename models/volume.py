"""A stack of axial slices as models see it, wherever it came from: a dataset folder, files, an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """Parallel slices from head to feet on one pixel grid.

    Rows run from front to back of a supine patient, columns from the patient's right to left, as an axial series
    shows them. A pixel is named (column, row), the centre of the first pixel is (0, 0).
    """

    hu: NDArray[np.int16]
    """(slices, rows, columns), Hounsfield units."""
    position_mm: NDArray[np.float64]
    """(slices,) rising strictly from head to feet; holes in a series are holes here."""
    row_spacing_mm: float
    """Distance between rows."""
    col_spacing_mm: float
    """Distance between columns."""
    images: tuple[str, ...]
    """Name of each slice: a dataset's file name or a SOP Instance UID (with '#frame' in a multi-frame object)."""

    def __post_init__(self) -> None:
        """Raises ValueError for parts that do not fit together."""
        slices = self.hu.shape[0]
        if self.hu.ndim != 3 or self.position_mm.shape != (slices,) or len(self.images) != slices:
            raise ValueError(f"{self.hu.shape} voxels, {self.position_mm.shape} positions, {len(self.images)} names")
        if not (np.diff(self.position_mm) > 0).all():
            raise ValueError("slice positions must rise from head to feet")
        if min(self.row_spacing_mm, self.col_spacing_mm) <= 0:
            raise ValueError(f"pixel spacing {self.row_spacing_mm} x {self.col_spacing_mm} mm")

    @property
    def interval_mm(self) -> float:
        """Median distance of neighbouring slices; 0 for a single slice."""
        return float(np.median(np.diff(self.position_mm))) if len(self.position_mm) > 1 else 0.0

    def context(self, index: int, offsets_mm: Sequence[float]) -> NDArray[np.float32]:
        """(offsets, rows, columns) HU at distances from slice `index`, towards the feet where positive.

        Between two slices linearly interpolated; beyond the ends the last slice is repeated.
        """
        picked = [self._weights(self.position_mm[index] + offset) for offset in offsets_mm]
        planes = np.empty((len(picked), *self.hu.shape[1:]), np.float32)
        for plane, (before, after, share) in zip(planes, picked, strict=True):
            np.copyto(plane, self.hu[before])
            if share:
                plane *= 1 - share
                plane += np.float32(share) * self.hu[after]
        return planes

    def _weights(self, position_mm: float) -> tuple[int, int, float]:
        last = len(self.position_mm) - 1
        after = int(np.searchsorted(self.position_mm, position_mm))
        if after == 0 or after > last:
            end = min(after, last)
            return end, end, 0.0
        before = after - 1
        gap = self.position_mm[after] - self.position_mm[before]
        share = float((position_mm - self.position_mm[before]) / gap)
        return (after, after, 0.0) if share >= 1 else (before, after, share)
