"""Masks of what a detector found: their place on the slice, the one lesion in them, its RECIST axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deeplesion_miner.mask_recist import recist_of_mask

LEAST_FILLED = 0.2
"""A mask that fills less of its box is no lesion's; an ellipse aslant in its box fills half of it or more."""


def crop_of(box_px: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """First column, first row, columns, rows of the pixels that a mask crop of a box covers, unclipped."""
    left, top = np.floor(box_px[:2]).astype(int).tolist()
    right, bottom = np.ceil(box_px[2:]).astype(int).tolist()
    return left, top, right - left + 1, bottom - top + 1


def lesion_bits(logits: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The largest connected part of a crop's mask, its holes filled; None where it fills too little of the crop."""
    parts, count = ndimage.label(logits > 0)
    if not count:
        return None
    largest = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    bits: NDArray[np.bool_] = ndimage.binary_fill_holes(parts == largest)
    return bits if bits.mean() >= LEAST_FILLED else None


def axes_of(
    logits: NDArray[np.float32], box_px: NDArray[np.float64], row_spacing_mm: float, col_spacing_mm: float
) -> NDArray[np.float64] | None:
    """(4, 2) ends of the long, then the short axis of a crop's mask, in pixels of the slice; None as `lesion_bits`."""
    bits = lesion_bits(logits)
    if bits is None:
        return None
    long_axis, short_axis = recist_of_mask(bits, row_spacing_mm, col_spacing_mm)
    left, top, _, _ = crop_of(box_px)
    ends: NDArray[np.float64] = np.array([long_axis.start, long_axis.end, short_axis.start, short_axis.end])
    return ends + np.array([left, top], np.float64)
