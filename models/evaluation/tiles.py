"""One lesion or detection on its slice, as inline SVG: pixels of the image below lines in the image's coordinates."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deeplesion_miner.detection import Detection
from deeplesion_miner.types import Box
from models.marks import KeySlice, Mark
from models.pictures import window_of

LEAST_CROP_PX = 72
CROP_MARGIN = 3.0
"""Side of a crop in longer sides of the box."""
LARGEST_PREVIEW_PX = 200
"""Crops wider than this are shown smaller than their pixels."""


def tile(
    hu: NDArray[np.int16],
    one: KeySlice,
    around: Box,
    strong: Sequence[Detection],
    faint: Sequence[Detection],
    caption: str,
) -> str:
    """A `<figure>`: the surroundings of a box, all marks of the slice, detections strong or faint with their scores."""
    window = window_of(hu, around)
    side = max(LEAST_CROP_PX, math.ceil(CROP_MARGIN * max(around.x_max - around.x_min, around.y_max - around.y_min)))
    left = round((around.x_min + around.x_max) / 2 - (side - 1) / 2)
    top = round((around.y_min + around.y_max) / 2 - (side - 1) / 2)
    # coordinates count from the centre of the first pixel, so a pixel spans -0.5 to +0.5
    frame = f'x="{left - 0.5}" y="{top - 0.5}" width="{side}" height="{side}"'
    lines = "".join(map(_mark, one.marks))
    lines += "".join(_detection(detection, "faint", side) for detection in faint)
    lines += "".join(_detection(detection, "strong", side) for detection in strong)
    return (
        f'<figure><svg viewBox="{left - 0.5} {top - 0.5} {side} {side}">'
        f'<image {frame} href="{_picture(_cut(hu, left, top, side), window)}"/>{lines}</svg>'
        f"<figcaption><b>{escape(caption)}</b> {escape(one.file_name)}</figcaption></figure>\n"
    )


def mark_box(mark: Mark) -> Box:
    """The tight box of a mark."""
    return Box(*mark.tight_box_px.tolist())


def _mark(mark: Mark) -> str:
    long_axis = _line("long", mark.ends_px[:2])
    short_axis = _line("short", mark.ends_px[2:]) if np.isfinite(mark.ends_px[2:]).all() else ""
    return _rectangle("box", mark_box(mark)) + short_axis + long_axis


def _detection(detection: Detection, kind: str, side: int) -> str:
    box = detection.box
    size = side * 0.065
    return (
        _rectangle(kind, box) + f'<text class="{kind}" x="{box.x_min:.2f}" y="{box.y_min - size * 0.3:.2f}" '
        f'font-size="{size:.2f}">{detection.score:.2f}</text>'
    )


def _rectangle(kind: str, box: Box) -> str:
    width, height = box.x_max - box.x_min, box.y_max - box.y_min
    return f'<rect class="{kind}" x="{box.x_min:.2f}" y="{box.y_min:.2f}" width="{width:.2f}" height="{height:.2f}"/>'


def _line(kind: str, ends: NDArray[np.float64]) -> str:
    (x1, y1), (x2, y2) = ends.tolist()
    return f'<line class="{kind}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def _cut(hu: NDArray[np.int16], left: int, top: int, side: int) -> NDArray[np.int16]:
    """(side, side), the least CT number beyond the image."""
    piece = np.full((side, side), np.iinfo(np.int16).min, np.int16)
    rows, columns = hu.shape
    first_row, first_column = max(top, 0), max(left, 0)
    last_row, last_column = min(top + side, rows), min(left + side, columns)
    if first_row < last_row and first_column < last_column:
        piece[first_row - top : last_row - top, first_column - left : last_column - left] = hu[
            first_row:last_row, first_column:last_column
        ]
    return piece


def _picture(hu: NDArray[np.int16], window: tuple[float, float]) -> str:
    """An 8-bit grey PNG as a data URI."""
    low, high = window
    grey = np.clip((hu.astype(np.float32) - low) * (255 / (high - low)), 0, 255) + 0.5
    image = Image.fromarray(grey.astype(np.uint8))
    image.thumbnail((LARGEST_PREVIEW_PX, LARGEST_PREVIEW_PX), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
