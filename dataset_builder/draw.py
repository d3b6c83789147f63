"""A lesion on its slice as a picture: axes and box exactly where they are, between pixels too.

A picture of scale k shows the image point (x, y) at ((x - left + 0.5) * k, (y - top + 0.5) * k) of its own
corner-based coordinates, (left, top) being the first image pixel in it. Lines are blended by the distance of
each picture pixel from the ideal line, so their middle is true to a fraction of a picture pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deeplesion_miner.types import Box, Point, Segment

Color: TypeAlias = tuple[int, int, int]

LONG_AXIS_COLOR: Color = (255, 196, 0)
SHORT_AXIS_COLOR: Color = (0, 200, 255)
BOX_COLOR: Color = (96, 220, 110)
FALLBACK_WINDOW_HU = (-160.0, 240.0)
"""Shown where the header has no display window: soft tissue."""
LEAST_CROP_PX = 64
CROP_MARGIN = 2.0
"""Side of a crop in longer box sides."""
LINE_WIDTH = 1.5
"""In picture pixels."""
CHANNELS = 3


@dataclass(frozen=True)
class Crop:
    """A square of whole image pixels; it may reach over the image's edge."""

    left: int
    top: int
    side: int


def crop_around(box: Box, least_px: int = LEAST_CROP_PX, margin: float = CROP_MARGIN) -> Crop:
    """The square around a box, `margin` times its longer side, at least `least_px` wide."""
    side = max(least_px, math.ceil(margin * max(box.x_max - box.x_min, box.y_max - box.y_min)))
    return Crop(
        left=round((box.x_min + box.x_max) / 2 - (side - 1) / 2),
        top=round((box.y_min + box.y_max) / 2 - (side - 1) / 2),
        side=side,
    )


def windowed(hu: NDArray[np.int16], window_hu: tuple[float, float] | None) -> NDArray[np.uint8]:
    """8-bit grey (rows, columns): low bound or less is black, high bound or more is white."""
    low, high = window_hu or FALLBACK_WINDOW_HU
    if high <= low:
        high = low + 1
    grey = (hu.astype(np.float32) - low) * (255.0 / (high - low))
    shown: NDArray[np.uint8] = (np.clip(grey, 0, 255) + 0.5).astype(np.uint8)
    return shown


def cut(hu: NDArray[np.int16], crop: Crop) -> NDArray[np.int16]:
    """The crop's pixels (side, side); the least CT number, hence black, beyond the image."""
    rows, columns = hu.shape
    piece = np.full((crop.side, crop.side), np.iinfo(np.int16).min, np.int16)
    top, left = max(crop.top, 0), max(crop.left, 0)
    bottom, right = min(crop.top + crop.side, rows), min(crop.left + crop.side, columns)
    if top < bottom and left < right:
        piece[top - crop.top : bottom - crop.top, left - crop.left : right - crop.left] = hu[top:bottom, left:right]
    return piece


def draw_lesion(
    hu: NDArray[np.int16],
    long_axis: Segment,
    short_axis: Segment | None,
    box: Box | None,
    window_hu: tuple[float, float] | None = None,
    *,
    crop: Crop | None = None,
    width_px: int = 512,
) -> Image.Image:
    """RGB picture of a lesion on its key slice, `width_px` wide.

    `hu`: (rows, columns); axes and box in the core convention. `crop` None shows the whole slice.
    """
    left, top = (crop.left, crop.top) if crop else (0, 0)
    piece = cut(hu, crop) if crop else hu
    return draw_on(piece, (left, top), long_axis, short_axis, box, window_hu, width_px=width_px)


def draw_on(
    piece_hu: NDArray[np.int16],
    corner: tuple[int, int],
    long_axis: Segment,
    short_axis: Segment | None,
    box: Box | None,
    window_hu: tuple[float, float] | None = None,
    *,
    width_px: int,
) -> Image.Image:
    """The same on a piece that is cut out already; `corner` is the (column, row) of its first pixel in the slice."""
    left, top = corner
    piece = windowed(piece_hu, window_hu)
    scale = width_px / piece.shape[1]
    size = (width_px, max(1, round(piece.shape[0] * scale)))
    resized = Image.fromarray(piece).resize(size, Image.Resampling.BICUBIC)
    canvas = np.repeat(np.asarray(resized, np.float32)[:, :, None], CHANNELS, axis=2)

    def place(point: Point) -> Point:
        return ((point[0] - left + 0.5) * scale, (point[1] - top + 0.5) * scale)

    if box is not None:
        corners = [(box.x_min, box.y_min), (box.x_max, box.y_min), (box.x_max, box.y_max), (box.x_min, box.y_max)]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            _line(canvas, place(start), place(end), BOX_COLOR)
    if short_axis is not None:
        _line(canvas, place(short_axis.start), place(short_axis.end), SHORT_AXIS_COLOR)
    _line(canvas, place(long_axis.start), place(long_axis.end), LONG_AXIS_COLOR)
    return Image.fromarray((canvas + 0.5).astype(np.uint8))


def _line(canvas: NDArray[np.float32], start: Point, end: Point, color: Color) -> None:
    """Blends a line into (height, width, 3); ends in corner-based picture coordinates."""
    reach = LINE_WIDTH / 2 + 1
    height, width = canvas.shape[:2]
    left, right = _span(start[0], end[0], reach, width)
    top, bottom = _span(start[1], end[1], reach, height)
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right, dtype=np.float64)[None, :] + 0.5 - start[0]
    y = np.arange(top, bottom, dtype=np.float64)[:, None] + 0.5 - start[1]
    dx, dy = end[0] - start[0], end[1] - start[1]
    squared = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / squared, 0, 1) if squared > 0 else np.zeros_like(x * y)
    distance = np.hypot(x - along * dx, y - along * dy)
    cover = np.clip(LINE_WIDTH / 2 + 0.5 - distance, 0, 1)[:, :, None].astype(np.float32)
    part = canvas[top:bottom, left:right]
    part += cover * (np.asarray(color, np.float32) - part)


def _span(one: float, other: float, reach: float, size: int) -> tuple[int, int]:
    """First and last + 1 picture pixel that a line can touch in one direction."""
    return max(0, math.floor(min(one, other) - reach)), min(size, math.ceil(max(one, other) + reach))
