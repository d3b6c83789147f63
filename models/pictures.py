"""Detections as pictures: the whole slice with the box, beside it the lesion with mask outline and RECIST axes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deeplesion_miner.detection import Detection
from deeplesion_miner.types import Box, Point
from models.detectors.inputs import WINDOWS_HU

SIDE = 384
"""Of each of the two parts, in picture pixels."""
MARGIN = 2.5
"""Side of the lesion's part in longer box sides."""
LEAST_PX = 48
BOX_COLOR, MASK_COLOR, LONG_COLOR, SHORT_COLOR = (96, 220, 110), (255, 90, 90), (255, 196, 0), (0, 200, 255)
LUNG_BELOW_HU = -400
"""A lesion whose surroundings are mostly darker lies in the lung and is shown in the lung window."""


def draw_detection(hu: NDArray[np.int16], detection: Detection) -> Image.Image:
    """One RGB picture of a slice (rows, columns) and a detection on it; score and diameters stand below."""
    window = window_of(hu, detection.box)
    side = max(LEAST_PX, math.ceil(MARGIN * max(_extent(detection.box))))
    whole = _Part(hu, window, (hu.shape[1] - 1) / 2, (hu.shape[0] - 1) / 2, max(hu.shape))
    near = _Part(hu, window, *_middle(detection.box), side)
    whole.rectangle(detection.box)
    near.outline(detection)
    near.axes(detection)
    picture = Image.new("RGB", (2 * SIDE, SIDE + 20))
    picture.paste(whole.image, (0, 0))
    picture.paste(near.image, (SIDE, 0))
    ImageDraw.Draw(picture).text((4, SIDE + 4), _caption(detection), fill=(255, 255, 255))
    return picture


def window_of(hu: NDArray[np.int16], box: Box) -> tuple[float, float]:
    """Low and high bound in HU: lung where most of what lies around the box is air, else soft tissue."""
    reach = max(_extent(box)) / 2 + 2
    top, left = (max(0, math.floor(low - reach)) for low in (box.y_min, box.x_min))
    around = hu[top : math.ceil(box.y_max + reach) + 1, left : math.ceil(box.x_max + reach) + 1]
    in_lung = around.size and np.median(around) < LUNG_BELOW_HU
    return WINDOWS_HU[1] if in_lung else WINDOWS_HU[0]


class _Part:
    """A square of a slice, enlarged; image point (x, y) lies at ((x - left + 0.5) * scale)."""

    def __init__(self, hu: NDArray[np.int16], window: tuple[float, float], x: float, y: float, side: int) -> None:
        self.left, self.top = round(x - (side - 1) / 2), round(y - (side - 1) / 2)
        self.scale = SIDE / side
        padded = np.full((side, side), np.int16(window[0]), np.int16)
        rows, columns = hu.shape
        first_row, first_column = max(0, self.top), max(0, self.left)
        last_row, last_column = min(rows, self.top + side), min(columns, self.left + side)
        if first_row < last_row and first_column < last_column:
            padded[first_row - self.top : last_row - self.top, first_column - self.left : last_column - self.left] = hu[
                first_row:last_row, first_column:last_column
            ]
        grey = np.clip((padded - window[0]) * (255 / (window[1] - window[0])), 0, 255).astype(np.uint8)
        self.image = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
        self._pen = ImageDraw.Draw(self.image)

    def at(self, point: Point) -> Point:
        return (point[0] - self.left + 0.5) * self.scale, (point[1] - self.top + 0.5) * self.scale

    def rectangle(self, box: Box) -> None:
        self._pen.rectangle(
            [self.at((box.x_min, box.y_min)), self.at((box.x_max, box.y_max))], outline=BOX_COLOR, width=2
        )

    def axes(self, detection: Detection) -> None:
        for axis, color in ((detection.long_axis, LONG_COLOR), (detection.short_axis, SHORT_COLOR)):
            if axis is not None:
                self._pen.line([self.at(axis.start), self.at(axis.end)], fill=color, width=2)

    def outline(self, detection: Detection) -> None:
        """The border between mask and not mask, along the pixels' edges; the box where there is no mask."""
        if detection.mask is None:
            self.rectangle(detection.box)
            return
        mask = detection.mask
        bits = np.pad(mask.bits, 1)
        for row, column in np.argwhere(bits[:, 1:] != bits[:, :-1]).tolist():
            x, y = mask.first_column + column - 0.5, mask.first_row + row - 1.5
            self._pen.line([self.at((x, y)), self.at((x, y + 1))], fill=MASK_COLOR, width=1)
        for row, column in np.argwhere(bits[1:] != bits[:-1]).tolist():
            x, y = mask.first_column + column - 1.5, mask.first_row + row - 0.5
            self._pen.line([self.at((x, y)), self.at((x + 1, y))], fill=MASK_COLOR, width=1)


def _extent(box: Box) -> tuple[float, float]:
    return box.x_max - box.x_min, box.y_max - box.y_min


def _middle(box: Box) -> Point:
    return (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2


def _caption(detection: Detection) -> str:
    words = [f"score {detection.score:.2f}"]
    if detection.long_axis_mm is not None and detection.short_axis_mm is not None:
        words.append(f"{detection.long_axis_mm:.1f} x {detection.short_axis_mm:.1f} mm")
    if detection.volume_mm3 is not None:
        words.append(f"{detection.volume_mm3 / 1000:.1f} ml")
    return ", ".join([*words, detection.model_id])
