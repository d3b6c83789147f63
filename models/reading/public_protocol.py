"""DeepLesion's images as the authors' public loaders see them, for results beside published ones.

After `load_ct_img.py` of 3DCE, LesaNet and MULAN (rsummers11/CADLab), its deviations from geometry included: the
interpolation weights of the first neighbour serve all of them, a slice that is missing is replaced by the next one
towards the key slice, and boxes are mapped without regard to pixel centres (off by at most half a pixel).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.deeplesion import body_box
from models.reading.context import Context, gathered
from models.reading.grid import AIR_HU, Grid, padded

NEIGHBOUR_MM = 2.0
PIXEL_MM = 0.8
LARGEST_PX = 512
WINDOW_HU = (-1024.0, 3071.0)
"""Clamped before an image is resized; the loaders then map it to 0 to 255 and subtract 50."""


@dataclass(frozen=True)
class Frame:
    """The part of an image that is shown, and how large."""

    left: int
    top: int
    right: int
    bottom: int
    """First and last column and row of the body (0-based); the whole image where there is none."""
    scale: float
    """Network pixels per image pixel."""

    @property
    def offset(self) -> tuple[int, int]:
        """(column, row) of the image's first pixel that is shown."""
        return self.left, self.top

    @property
    def grid(self) -> Grid:
        """Network = (image - offset) * scale, as the loaders map boxes; padded at the bottom and the right."""
        columns, rows = self.right - self.left + 1, self.bottom - self.top + 1
        return Grid(
            rows=padded(_side(rows, self.scale)),
            columns=padded(_side(columns, self.scale)),
            scale=(self.scale, self.scale),
            shift=(-self.left * self.scale, -self.top * self.scale),
        )


def neighbours(slice_numbers: Sequence[int], at: int, interval_mm: float, count: int) -> Context:
    """The slices that the loaders make of a series: `count` of them (odd), the key slice `at` in the middle.

    `slice_numbers` are those of the pictures that are there. An interval that is no positive number repeats the key
    slice. ValueError for an even count.
    """
    if count % 2 == 0:
        raise ValueError(f"{count} slices have none in the middle")
    if not interval_mm > 0:
        return gathered([[(at, 1.0)]] * count)
    index = {number: place for place, number in enumerate(slice_numbers)}
    key = slice_numbers[at]
    steps = NEIGHBOUR_MM / interval_mm
    far_share, near_share = steps - math.floor(steps), math.ceil(steps) - steps
    parts = []
    for place in range(-(count // 2), count // 2 + 1):
        reach, side = abs(place) * steps, 1 if place > 0 else -1
        if place == 0:
            parts.append([(at, 1.0)])
        elif far_share == 0:
            parts.append([(_there(index, key, side * int(reach)), 1.0)])
        else:
            far = _there(index, key, side * math.ceil(reach))
            near = _there(index, key, side * math.floor(reach))
            parts.append([(far, far_share), (near, near_share)])
    return gathered(parts)


def frame(key_hu: NDArray[np.int16], spacing_mm: float) -> Frame:
    """What is shown of an image (rows, columns): its body at 0.8 mm a pixel, at most 512 pixels on the longer side.

    `spacing_mm` is the distance between columns; the loaders know no other.
    """
    rows, columns = key_hu.shape
    left, top, right, bottom = body_box(key_hu) or (0, 0, columns - 1, rows - 1)
    scale = spacing_mm / PIXEL_MM
    longer = max(right - left, bottom - top) + 1
    return Frame(left, top, right, bottom, min(scale, LARGEST_PX / longer))


def public_image(
    read: Callable[[int], NDArray[np.int16]],
    slice_numbers: Sequence[int],
    at: int,
    *,
    interval_mm: float,
    spacing_mm: float,
    count: int,
) -> tuple[NDArray[np.float32], Frame]:
    """(H, W, count) HU within WINDOW_HU, and the frame with its scale and offset, whose grid maps boxes.

    `read` gives the CT numbers of a slice by its place in `slice_numbers`. The slices are in the order of their
    numbers.
    """
    seen = neighbours(slice_numbers, at, interval_mm, count)
    shown = frame(read(at), spacing_mm)
    planes = np.stack([read(index) for index in seen.slices]).astype(np.float32)
    hu = seen.mix(planes)[:, shown.top : shown.bottom + 1, shown.left : shown.right + 1].clip(*WINDOW_HU)
    if shown.scale != 1:
        # one by one: some builds refuse to resize more than four channels at once
        hu = np.stack(
            [cv2.resize(one, None, fx=shown.scale, fy=shown.scale, interpolation=cv2.INTER_LINEAR) for one in hu]
        )
    return hu.transpose(1, 2, 0), shown


def on_grid(image: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """(slices, rows, columns) of an (H, W, slices) image in the upper left corner of a padded grid."""
    found = np.full((image.shape[2], grid.rows, grid.columns), AIR_HU, np.float32)
    found[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return found


def _there(index: dict[int, int], key: int, delta: int) -> int:
    """The place of the slice at a distance in slice numbers, or of the nearest one towards the key slice."""
    while delta and key + delta not in index:
        delta -= 1 if delta > 0 else -1
    return index[key + delta]


def _side(side_px: int, scale: float) -> int:
    """Pixels that cv2.resize makes of a side."""
    return round(side_px * scale)
