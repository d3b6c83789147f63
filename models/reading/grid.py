"""Network grids over images: where a pixel of one lies on the other, and CT numbers resampled between them.

Pixel centres map to pixel centres: network = (image + 0.5) * image spacing / network spacing - 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AIR_HU = -1024.0
"""What lies outside an image, and the least CT number that a network sees: scanners pad with -1024, -2048 or -3024."""
MULTIPLE_PX = 32
"""Sides of a whole slice are padded to a multiple of this: what the strides of our detectors divide."""

TAP_PX = 1.25
"""Points that are averaged in a network pixel lie at most so far apart, in image pixels: each reaches over one."""


@dataclass(frozen=True)
class Grid:
    """A network's grid over a whole image: network = image * scale + shift, axis by axis (column, row)."""

    rows: int
    columns: int
    """Size with padding, which lies at the bottom and the right."""
    scale: tuple[float, float]
    """Network pixels per image pixel, along columns and along rows."""
    shift: tuple[float, float]

    def to_network(self, points_px: NDArray[np.floating]) -> Floats:
        """Points (..., 2) of the image in network pixels; boxes as (..., 4) too."""
        return self._by_axis(points_px, lambda points: points * np.array(self.scale) + np.array(self.shift))

    def to_image(self, points_px: NDArray[np.floating]) -> Floats:
        """Undoes `to_network`: points (..., 2) or boxes (..., 4) of the network in image pixels."""
        return self._by_axis(points_px, lambda points: (points - np.array(self.shift)) / np.array(self.scale))

    @property
    def to_image_matrix(self) -> Floats:
        """(2, 3) that takes (column, row, 1) of the network to the image."""
        x, y = (1 / scale for scale in self.scale)
        return np.array([[x, 0.0, -self.shift[0] * x], [0.0, y, -self.shift[1] * y]])

    def _by_axis(self, values: NDArray[np.floating], change: Callable[[Floats], Floats]) -> Floats:
        pairs = np.asarray(values, np.float64).reshape(*values.shape[:-1], values.shape[-1] // 2, 2)
        return change(pairs).reshape(values.shape)


def grid_over(rows: int, columns: int, row_spacing_mm: float, col_spacing_mm: float, pixel_mm: float) -> Grid:
    """The grid of `pixel_mm` over a whole image, padded to a multiple of MULTIPLE_PX."""
    scale = (col_spacing_mm / pixel_mm, row_spacing_mm / pixel_mm)
    return Grid(
        rows=padded(rows * scale[1]),
        columns=padded(columns * scale[0]),
        scale=scale,
        shift=(scale[0] / 2 - 0.5, scale[1] / 2 - 0.5),
    )


def padded(side_px: float) -> int:
    """The next multiple of MULTIPLE_PX."""
    # a millionth of a pixel is the arithmetic's, not the image's
    return max(math.ceil((side_px - 1e-6) / MULTIPLE_PX), 1) * MULTIPLE_PX


def moved(points_px: NDArray[np.floating], matrix: Floats) -> Floats:
    """Points (..., 2) through a (2, 3) affine matrix; NaN stays NaN."""
    return np.asarray(points_px, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: Floats) -> Floats:
    """(2, 3) that undoes a (2, 3) affine matrix."""
    turned: Floats = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2]
    return turned


def resample(
    planes: Sequence[NDArray[np.generic]],
    to_image: Floats,
    rows: int,
    columns: int,
    *,
    outside: float = AIR_HU,
    smooth: bool = True,
) -> NDArray[np.float32]:
    """(planes, rows, columns) of images of one size, seen through a (2, 3) matrix from network to image pixels.

    Linear interpolation of the images. Where the network's pixels are larger than the image's (`smooth`), the image's
    are averaged first, by whole numbers of them, and then several points in each network pixel, so that nothing falls
    between them. Both keep the centre of gravity of what is seen.
    """
    steps = np.hypot(to_image[0, :2], to_image[1, :2])
    block = max(int(steps.min()), 1) if smooth else 1
    taps = [max(math.ceil(step / block / TAP_PX), 1) if smooth else 1 for step in steps.tolist()]
    fine = _finer(to_image, taps)
    part = _part(planes[0].shape, moved(_corners(columns * taps[0], rows * taps[1]), fine), block)
    found = np.full((len(planes), rows, columns), outside, np.float32)
    if part is None:
        return found
    left, top, wide, high = part
    # in blocks of image pixels, counted from the part's first
    fine[:, 2] = (fine[:, 2] - (left, top) + 0.5) / block - 0.5
    fine[:, :2] /= block
    seen = np.full((high * block, wide * block), outside, np.float32)
    for plane, result in zip(planes, found, strict=True):
        piece = plane[top : top + high * block, left : left + wide * block]
        seen[: piece.shape[0], : piece.shape[1]] = piece
        drawn = cv2.warpAffine(
            seen if block == 1 else cv2.resize(seen, (wide, high), interpolation=cv2.INTER_AREA),
            fine,
            (columns * taps[0], rows * taps[1]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=outside,
        )
        result[:] = drawn if taps == [1, 1] else cv2.resize(drawn, (columns, rows), interpolation=cv2.INTER_AREA)
    return found


def _part(shape: tuple[int, ...], corners: Floats, block: int) -> tuple[int, int, int, int] | None:
    """The part of an image that is needed: left, top (pixels), width, height (blocks); None where it lies outside."""
    height, width = shape
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - block, 0, (width, height)).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1 + block, 0, (width, height)).tolist()
    if left >= right or top >= bottom:
        return None
    return left, top, math.ceil((right - left) / block), math.ceil((bottom - top) / block)


def _corners(columns: int, rows: int) -> Floats:
    return np.array([(x, y) for x in (0, columns - 1) for y in (0, rows - 1)], np.float64)


def _finer(matrix: Floats, taps: Sequence[int]) -> Floats:
    """The matrix for a grid of `taps` points along each side of a pixel."""
    x, y = (1 / one for one in taps)
    return np.column_stack(
        [matrix[:, 0] * x, matrix[:, 1] * y, matrix[:, 2] + matrix[:, :2] @ ((x - 1) / 2, (y - 1) / 2)]
    )
