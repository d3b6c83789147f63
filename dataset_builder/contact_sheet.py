"""Key slices with their RECIST crosses: one picture to look at before anything else."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dataset_builder.draw import crop_around, cut, draw_on
from dataset_builder.summary import evenly
from deeplesion_miner.records import LesionRecord
from deeplesion_miner.types import Box, Segment

TILE_PX = 176
CAPTION_PX = 34
GAP_PX = 4
COLUMNS = 8
FONT_PX = 12
BACKGROUND = (24, 26, 30)
INK = (225, 228, 232)

ReadSlice: TypeAlias = Callable[[str], NDArray[np.int16]]
"""CT numbers of an image by its path below Images_png."""
Crops: TypeAlias = Mapping[str, NDArray[np.int16]]
"""CT numbers of the square around a lesion by its lesion_id: what sheet and report show of its key slice."""


def chosen(lesions: Sequence[LesionRecord], limit: int) -> tuple[LesionRecord, ...]:
    """The lesions that are shown: all, or `limit` of them spread evenly over the table."""
    return tuple(lesions[position] for position in evenly(len(lesions), limit))


def crops_of(lesions: Sequence[LesionRecord], read_slice: ReadSlice) -> Crops:
    """The square around each lesion; every key slice is read once and let go."""
    return {lesion.lesion_id: cut(read_slice(lesion.file_name), crop_around(Box(*lesion.box_px))) for lesion in lesions}


def window_of(lesion: LesionRecord) -> tuple[float, float] | None:
    """The display window of the key slice, None where its header has none."""
    if lesion.window_low_hu is None or lesion.window_high_hu is None:
        return None
    return (lesion.window_low_hu, lesion.window_high_hu)


def caption(lesion: LesionRecord) -> str:
    """Sizes in one line: '18.3 x 12.8 mm', '18.3 mm' for a plain length."""
    short = "" if lesion.short_axis_mm is None else f" x {lesion.short_axis_mm:.1f}"
    return f"{lesion.long_axis_mm:.1f}{short} mm"


def segments(lesion: LesionRecord) -> tuple[Segment, Segment | None]:
    """Long and short axis."""
    short = None if lesion.short_axis_px is None else _segment(lesion.short_axis_px)
    return _segment(lesion.long_axis_px), short


def contact_sheet(lesions: Sequence[LesionRecord], crops: Crops) -> bytes:
    """A PNG (RGB) with a tile for each lesion given: its crop, cross, box, file name and size."""
    columns = min(COLUMNS, max(1, len(lesions)))
    rows = max(1, -(-len(lesions) // columns))
    step_x, step_y = TILE_PX + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * step_x + GAP_PX, rows * step_y + GAP_PX), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PX)
    if not lesions:
        pen.text((GAP_PX, GAP_PX), "no lesions", INK, font)
    for place, lesion in enumerate(lesions):
        row, column = divmod(place, columns)
        x, y = GAP_PX + column * step_x, GAP_PX + row * step_y
        sheet.paste(tile(lesion, crops[lesion.lesion_id]), (x, y))
        pen.text((x + 2, y + TILE_PX + 1), lesion.file_name, INK, font)
        pen.text((x + 2, y + TILE_PX + FONT_PX + 3), caption(lesion), INK, font)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def tile(lesion: LesionRecord, crop_hu: NDArray[np.int16]) -> Image.Image:
    """The square picture of one lesion."""
    box = Box(*lesion.box_px)
    crop = crop_around(box)
    long_axis, short_axis = segments(lesion)
    corner = (crop.left, crop.top)
    return draw_on(crop_hu, corner, long_axis, short_axis, box, window_of(lesion), width_px=TILE_PX)


def _segment(axis: tuple[float, float, float, float]) -> Segment:
    x1, y1, x2, y2 = axis
    return Segment((x1, y1), (x2, y2))
