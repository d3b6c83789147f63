"""Pictures of lesions: lines lie where the coordinates say, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from dataset_builder.draw import LONG_AXIS_COLOR, Crop, crop_around, cut, draw_lesion, windowed
from deeplesion_miner.types import Box, Segment

BLACK = np.full((40, 60), -1000, np.int16)
WINDOW = (-100.0, 200.0)


def centre_of_mass(image: Image.Image) -> tuple[float, float]:
    """Of the red channel, in corner-based picture coordinates."""
    red = np.asarray(image)[:, :, 0].astype(float)
    y, x = np.mgrid[: red.shape[0], : red.shape[1]] + 0.5
    return float((red * x).sum() / red.sum()), float((red * y).sum() / red.sum())


@given(st.floats(12, 48), st.floats(10, 30), st.floats(3, 8), st.floats(-8, 8), st.sampled_from([1, 3, 4]))
@example(12.125, 10.0, 3.0, 5.875, 3)
def test_the_middle_of_a_drawn_line_is_the_middle_of_the_axis(
    x: float, y: float, dx: float, dy: float, scale: int
) -> None:
    axis = Segment((x - dx, y - dy), (x + dx, y + dy))
    picture = draw_lesion(BLACK, axis, None, None, WINDOW, width_px=60 * scale)
    assert picture.size == (60 * scale, 40 * scale)
    # A picture pixel is 1/scale image pixels; blending keeps a line within a fifth of that, short ones too.
    assert centre_of_mass(picture) == pytest.approx(((x + 0.5) * scale, (y + 0.5) * scale), abs=0.2)


def test_a_pixel_and_a_point_at_its_centre_are_drawn_at_one_place() -> None:
    hu = BLACK.copy()
    hu[17, 23] = 3000
    spot = draw_lesion(hu, Segment((-90, -90), (-90, -90)), None, None, WINDOW, width_px=480)
    dot = draw_lesion(BLACK, Segment((23, 17), (23, 17)), None, None, WINDOW, width_px=480)
    assert centre_of_mass(spot) == pytest.approx(centre_of_mass(dot), abs=0.05)


def test_a_crop_shows_the_same_as_the_whole_picture() -> None:
    random = np.random.default_rng(3)
    hu = random.integers(-100, 200, (40, 60)).astype(np.int16)
    axis, box = Segment((20.3, 15.1), (31.0, 22.9)), Box(15.3, 10.1, 36.0, 27.9)
    whole = np.asarray(draw_lesion(hu, axis, None, box, WINDOW, width_px=60))
    part = np.asarray(draw_lesion(hu, axis, None, box, WINDOW, crop=Crop(12, 6, 30), width_px=30))
    np.testing.assert_array_equal(part, whole[6:36, 12:42])


def test_a_crop_over_the_edge_is_black_beyond_the_image() -> None:
    hu = np.full((40, 60), 3000, np.int16)
    shown = windowed(cut(hu, Crop(-3, 38, 10)), WINDOW)
    assert shown.shape == (10, 10)
    assert (shown[:2, 3:] == 255).all() and (shown == 255).sum() == 2 * 7
    assert not windowed(cut(hu, Crop(100, 100, 5)), WINDOW).any()


@given(st.floats(-20, 80), st.floats(-20, 60), st.floats(0.5, 200), st.floats(0.5, 200))
def test_a_crop_holds_its_box_in_the_middle(x: float, y: float, width: float, height: float) -> None:
    crop = crop_around(Box(x, y, x + width, y + height))
    assert crop.side >= 64
    assert crop.left - 0.5 <= x and x + width <= crop.left + crop.side - 0.5
    assert crop.left + (crop.side - 1) / 2 == pytest.approx(x + width / 2, abs=0.51)
    assert crop.top + (crop.side - 1) / 2 == pytest.approx(y + height / 2, abs=0.51)


def test_the_window_maps_its_bounds_to_black_and_white() -> None:
    hu = np.array([[-2000, -100, 50, 200, 3000]], np.int16)
    assert windowed(hu, WINDOW).tolist() == [[0, 0, 128, 255, 255]]
    assert windowed(hu, (50.0, 50.0)).tolist() == [[0, 0, 0, 255, 255]]
    assert windowed(np.array([[-160, 40, 240]], np.int16), None).tolist() == [[0, 128, 255]]


def test_the_long_axis_has_its_colour() -> None:
    picture = np.asarray(draw_lesion(BLACK, Segment((10, 20.125), (50, 20.125)), None, None, WINDOW, width_px=240))
    assert tuple(picture[82, 120]) == LONG_AXIS_COLOR
