"""What a crop should teach: the marks of its key slice, moved onto it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import PixelMask
from models.delineation.ellipse import completed, cross_of, ellipse_mask
from models.marks import KeySlice, Mark
from models.reading.grid import Floats, inverse, moved, resample

TRUSTED_DICE = 0.75
"""A mask that agrees so well with its RECIST's ellipse counts fully (ml-facts: as good as clean labels)."""
REFUSED_DICE = 0.5
"""One that agrees no better than this counts nothing; between the two in proportion."""
SUBPIXELS = 3
"""A soft outline is drawn on so many points along each side of a pixel."""


class MaskSource(Protocol):
    """Where masks of marks come from: annotators, a delineator."""

    def mask(self, key_slice: KeySlice, mark: Mark) -> PixelMask | None:
        """The mark's mask on its image; None where there is none, and the quarter ellipses of its ends serve."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The marks whose centre lies on a crop, in the crop's pixels."""

    boxes: NDArray[np.float32]
    """(k, 4) tight boxes of the moved ends, not clipped to the crop."""
    ends: NDArray[np.float32]
    """(k, 4, 2) long axis, then short axis; NaN where no short axis was drawn."""
    masks: NDArray[np.float32]
    """(k, crop, crop) share of each pixel that is lesion."""
    mask_weight: NDArray[np.float32]
    """(k,) how far the mask can be trusted."""
    marks: tuple[Mark, ...]


def targets(
    key_slice: KeySlice, marks: Sequence[Mark], to_image: Floats, crop_px: int, source: MaskSource | None = None
) -> Targets:
    """The marks on a crop that lies on the image by a (2, 3) matrix.

    A box is the tight box of the moved ends, as after a rotation a mask's box would be another thing than the
    marks of other crops teach. A mark without a short axis gets one of the common ratio for its box and ellipse,
    whose weight is then 0.
    """
    to_crop = inverse(to_image)
    found = []
    for mark in marks:
        ends = moved(mark.ends_px, to_crop)
        whole = moved(_completed(key_slice, mark), to_crop)
        box = np.concatenate([whole.min(axis=0), whole.max(axis=0)])
        centre = (box[:2] + box[2:]) / 2
        if (centre >= -0.5).all() and (centre < crop_px - 0.5).all():
            mask, weight = _mask(key_slice, mark, whole, to_image, crop_px, source)
            found.append((box, ends, mask, weight, mark))
    return Targets(
        boxes=np.array([one[0] for one in found], np.float32).reshape(-1, 4),
        ends=np.array([one[1] for one in found], np.float32).reshape(-1, 4, 2),
        masks=np.array([one[2] for one in found], np.float32).reshape(-1, crop_px, crop_px),
        mask_weight=np.array([one[3] for one in found], np.float32),
        marks=tuple(one[4] for one in found),
    )


def soft_ellipse(ends_px: Floats, rows: int, columns: int) -> NDArray[np.float32]:
    """(rows, columns) share of each pixel in the four quarter ellipses through the ends (4, 2)."""
    mask = np.zeros((rows, columns), np.float32)
    cross = cross_of(ends_px)
    reach = max(*cross.long_halves_px, *cross.short_halves_px) + 1
    left, right = (_within(cross.centre[0] + side * reach, columns) for side in (-1, 1))
    top, bottom = (_within(cross.centre[1] + side * reach, rows) for side in (-1, 1))
    if left == right or top == bottom:
        return mask
    fine = (np.arange(SUBPIXELS) + 0.5) / SUBPIXELS - 0.5
    x = (np.arange(left, right)[:, None] + fine).ravel()
    y = (np.arange(top, bottom)[:, None] + fine).ravel()
    along, across = cross.coordinates(x[None, :], y[:, None])
    inside = along**2 + across**2 <= 1
    mask[top:bottom, left:right] = inside.reshape(bottom - top, SUBPIXELS, right - left, SUBPIXELS).mean(axis=(1, 3))
    return mask


def trust(ends_px: Floats, mask: PixelMask) -> float:
    """0 to 1: how far a mask can be trusted, by its Dice with the quarter ellipses of the ends (4, 2) of its mark."""
    top_left = np.floor(np.minimum(ends_px.min(axis=0), (mask.first_column, mask.first_row))).astype(int) - 1
    far_corner = (mask.first_column + mask.bits.shape[1], mask.first_row + mask.bits.shape[0])
    columns, rows = np.ceil(np.maximum(ends_px.max(axis=0), far_corner)).astype(int) + 2 - top_left
    near = PixelMask(mask.first_column - int(top_left[0]), mask.first_row - int(top_left[1]), mask.bits)
    drawn = near.on_plane(int(rows), int(columns))
    ellipse = ellipse_mask(ends_px - top_left, int(rows), int(columns))
    dice = 2 * int((drawn & ellipse).sum()) / (int(drawn.sum()) + int(ellipse.sum()))
    return min(max((dice - REFUSED_DICE) / (TRUSTED_DICE - REFUSED_DICE), 0.0), 1.0)


def _mask(
    key_slice: KeySlice, mark: Mark, ends: Floats, to_image: Floats, crop_px: int, source: MaskSource | None
) -> tuple[NDArray[np.float32], float]:
    given = None if source is None else source.mask(key_slice, mark)
    if given is None:
        return soft_ellipse(ends, crop_px, crop_px), 0.0 if mark.short_axis_mm is None else 1.0
    plane = given.on_plane(key_slice.rows, key_slice.columns)
    return resample([plane], to_image, crop_px, crop_px, outside=0.0)[0], trust(_completed(key_slice, mark), given)


def _completed(key_slice: KeySlice, mark: Mark) -> Floats:
    return completed(mark.ends_px, key_slice.row_spacing_mm, key_slice.col_spacing_mm)


def _within(value: float, side: int) -> int:
    return min(max(math.ceil(value), 0), side)
