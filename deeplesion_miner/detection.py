"""What a model says of an image: the type that models return, that rows and pictures show and that emitters take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.types import Box, ImageRef, Segment


@dataclass(frozen=True, eq=False)
class PixelMask:
    """Part of an image plane: `bits[row, column]` is pixel (first_column + column, first_row + row)."""

    first_column: int
    first_row: int
    bits: NDArray[np.bool_]
    """(rows, columns)."""

    def on_plane(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """(rows, columns) of the whole plane; what lies outside it is left out."""
        plane = np.zeros((rows, columns), np.bool_)
        top, left = max(self.first_row, 0), max(self.first_column, 0)
        bottom = min(self.first_row + self.bits.shape[0], rows)
        right = min(self.first_column + self.bits.shape[1], columns)
        if top < bottom and left < right:
            plane[top:bottom, left:right] = self.bits[
                top - self.first_row : bottom - self.first_row, left - self.first_column : right - self.first_column
            ]
        return plane

    @classmethod
    def of_plane(cls, plane: NDArray[np.bool_]) -> PixelMask:
        """The smallest crop that holds a plane's pixels; of 0 x 0 pixels at (0, 0) for an empty plane."""
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        if not rows.size:
            return cls(0, 0, np.zeros((0, 0), np.bool_))
        top, left = int(rows[0]), int(columns[0])
        return cls(left, top, plane[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].copy())


@dataclass(frozen=True, eq=False)
class Detection:
    """One lesion that a model found, on its key slice; pixels as (column, row), the first pixel's centre = (0, 0)."""

    image: ImageRef | str
    """The image in an archive, or the file name of a slice in a dataset ('000001_01_01/103.png')."""
    box: Box
    """Tight: without the margin that datasets add to their boxes."""
    score: float
    """0 to 1, comparable within one model only."""
    model_id: str
    """Name and digest of the model's weights."""
    label: str = ""
    """A word of `schemas/dataset.toml` coarse_lesion_type, '' where the model does not say."""
    long_axis: Segment | None = None
    short_axis: Segment | None = None
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    mask: PixelMask | None = None
    """On the key slice."""
    volume: tuple[tuple[ImageRef | str, PixelMask], ...] = ()
    """The 3-D mask, slice by slice from head to feet, the key slice among them."""
    volume_mm3: float | None = None
