"""Marked key slices of a dataset, as every part of this room takes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Annotation(StrEnum):
    """How much of a slice was annotated; decides what a detection beside the marks is."""

    COMPLETE = "complete"
    """Somebody marked every lesion: a detection elsewhere is a false positive."""
    PARTIAL = "partial"
    """Marked, but perhaps not everything, as in DeepLesion: a detection elsewhere counts as the protocol says."""
    UNMARKED = "unmarked"
    """Nobody looked at this slice for everything: a detection is neither right nor wrong."""


@dataclass(frozen=True, eq=False)
class Mark:
    """One marked lesion on its key slice; pixels as (column, row), the centre of the first pixel = (0, 0)."""

    mark_id: str
    """lesion_id of the dataset, or 'row 17' (0-based) of a DL_info.csv."""
    ends_px: NDArray[np.float64]
    """(4, 2): both ends of the long axis, then of the short axis; NaN where there is no short axis."""
    box_px: tuple[float, float, float, float]
    """As in the dataset: with its margin, unclipped."""
    long_axis_mm: float
    short_axis_mm: float | None
    coarse_lesion_type: int
    possibly_noisy: bool

    @property
    def tight_box_px(self) -> NDArray[np.float64]:
        """(4,) x_min, y_min, x_max, y_max of the ends, without a margin."""
        return np.concatenate([np.nanmin(self.ends_px, axis=0), np.nanmax(self.ends_px, axis=0)])


@dataclass(frozen=True, eq=False)
class KeySlice:
    """One slice with all its marks; frozen facts, no pixels."""

    file_name: str
    """'000001_01_01/103.png' below Images_png."""
    series: str
    """'000001_01_01'."""
    patient: str
    """Stable name of the patient within the dataset."""
    split: str
    """'train', 'val' or 'test'."""
    slice_number: int
    slice_range: tuple[int, int]
    """First and last slice number that the dataset ships around it."""
    rows: int
    columns: int
    row_spacing_mm: float
    col_spacing_mm: float
    slice_interval_mm: float
    """NaN where the series holds a single slice."""
    marks: tuple[Mark, ...]
    annotation: Annotation = Annotation.PARTIAL
