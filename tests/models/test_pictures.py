"""Pictures of detections: what is drawn lies where it lies on the slice."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.types import Box, Segment
from models.pictures import BOX_COLOR, LONG_COLOR, MASK_COLOR, SIDE, draw_detection, window_of

ROWS, COLUMNS = slice(20, 30), slice(30, 45)
BOX = Box(30, 20, 44, 29)


def a_slice() -> NDArray[np.int16]:
    hu = np.full((64, 64), -100, np.int16)
    hu[ROWS, COLUMNS] = 150
    return hu


def extent(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """First column, first row, last column, last row of a colour."""
    rows, columns = np.nonzero((picture == color).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_the_box_lies_on_the_centres_of_its_outermost_pixels() -> None:
    drawn = np.asarray(draw_detection(a_slice(), Detection("a", BOX, 0.5, "m")))
    scale = SIDE / 64
    expected = [(30 + 0.5) * scale, (20 + 0.5) * scale, (44 + 0.5) * scale, (29 + 0.5) * scale]
    assert extent(drawn[:SIDE, :SIDE], BOX_COLOR) == pytest.approx(expected, abs=1.5)


def test_the_outline_runs_around_the_pixels_of_the_mask() -> None:
    mask = PixelMask(30, 20, np.ones((10, 15), np.bool_))
    near = np.asarray(draw_detection(a_slice(), Detection("a", BOX, 0.5, "m", mask=mask)))[:SIDE, SIDE:]
    left, top, right, bottom = extent(near, MASK_COLOR)
    scale = SIDE / 48
    assert (right - left, bottom - top) == pytest.approx((15 * scale, 10 * scale), abs=1)
    middle_row, middle_column = near[(top + bottom) // 2, :, 0], near[:, (left + right) // 2, 0]
    half = round(scale / 2)
    assert min(middle_row[left + half], middle_row[right - half], middle_column[top + half]) > 170
    assert max(middle_row[left - half], middle_row[right + half], middle_column[top - half]) < 70


def test_axes_run_from_end_to_end() -> None:
    axis = Segment((30, 24.5), (44, 24.5))
    near = np.asarray(draw_detection(a_slice(), Detection("a", BOX, 0.5, "m", long_axis=axis)))[:SIDE, SIDE:]
    first, _, last, _ = extent(near, LONG_COLOR)
    assert last - first == pytest.approx(14 * SIDE / 48, abs=2)


@pytest.mark.parametrize("box", [Box(-9, -9, -3, -3), Box(60, 60, 90, 95), Box(5, 5, 5, 5)])
def test_a_box_over_the_edge_or_without_size_is_drawn_all_the_same(box: Box) -> None:
    assert draw_detection(a_slice(), Detection("a", box, 0.5, "m")).size == (2 * SIDE, SIDE + 20)


def test_what_lies_in_air_is_shown_in_the_lung_window() -> None:
    air = np.full((64, 64), -850, np.int16)
    air[ROWS, COLUMNS] = 40
    assert window_of(air, BOX)[0] < -1000 < window_of(a_slice(), BOX)[0]
