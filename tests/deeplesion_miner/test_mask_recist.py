"""RECIST of a mask: held by known shapes, by symmetry, and by a search that tries everything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deeplesion_miner.mask_recist import outline, recist_of_mask
from deeplesion_miner.types import Segment

Mask = NDArray[np.bool_]


def of_text(*rows: str) -> Mask:
    return np.array([[sign == "#" for sign in row] for row in rows])


def ellipse(
    a_mm: float, b_mm: float, turned_deg: float, row_mm: float = 1.0, col_mm: float = 1.0, side: int = 80
) -> Mask:
    row, column = np.mgrid[:side, :side]
    x, y = (column - 0.47 * side) * col_mm, (row - 0.52 * side) * row_mm
    cos, sin = math.cos(math.radians(turned_deg)), math.sin(math.radians(turned_deg))
    return ((x * cos + y * sin) / a_mm) ** 2 + ((y * cos - x * sin) / b_mm) ** 2 <= 1  # type: ignore[no-any-return]


def length_mm(axis: Segment, row_mm: float, col_mm: float) -> float:
    return math.hypot((axis.end[0] - axis.start[0]) * col_mm, (axis.end[1] - axis.start[1]) * row_mm)


def inside(points: NDArray[np.float64], mask: Mask) -> NDArray[np.bool_]:
    """Even-odd count of the outline above each point."""
    lines = outline(mask)
    (x0, y0), (x1, y1) = lines[:, 0].T, lines[:, 1].T
    x, y = points[:, :1], points[:, 1:]
    spans = (x0 <= x) != (x1 <= x)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = y0 + (x - x0) * (y1 - y0) / (x1 - x0) > y
    return (spans & above).sum(axis=1) % 2 == 1  # type: ignore[no-any-return]


masks = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=5, max_size=5).map(np.array)
spacings = st.floats(0.3, 3.0)


def test_a_lone_pixel_is_one_pixel_long_and_wide() -> None:
    long_axis, short_axis = recist_of_mask(of_text("...", ".#.", "..."), 2.0, 1.0)
    assert {long_axis.start, long_axis.end} == {(1.0, 0.5), (1.0, 1.5)}
    assert {short_axis.start, short_axis.end} == {(0.5, 1.0), (1.5, 1.0)}


def test_a_row_of_pixels_is_as_long_as_it_has_pixels() -> None:
    long_axis, short_axis = recist_of_mask(of_text(".....", "####.", "....."), 1.0, 1.0)
    assert (long_axis.length_px, short_axis.length_px) == (4.0, 1.0)


def test_pixels_at_the_edge_of_the_image_count_in_full() -> None:
    long_axis, short_axis = recist_of_mask(np.ones((1, 7), np.bool_), 1.0, 1.0)
    assert (long_axis.length_px, short_axis.length_px) == (7.0, 1.0)


@pytest.mark.parametrize("turned_deg", [0, 13, 30, 45, 77, 90, 120])
@pytest.mark.parametrize(("a_mm", "b_mm"), [(30, 30), (25, 14), (11, 6), (6, 2)])
def test_an_ellipse_has_its_axes_within_a_pixel(a_mm: float, b_mm: float, turned_deg: float) -> None:
    for row_mm, col_mm in ((1.0, 1.0), (0.8, 1.3)):
        axes = recist_of_mask(ellipse(a_mm, b_mm, turned_deg, row_mm, col_mm, 100), row_mm, col_mm)
        found = [length_mm(axis, row_mm, col_mm) for axis in axes]
        assert found == pytest.approx([2 * a_mm, 2 * b_mm], abs=max(row_mm, col_mm))


def test_discs_of_all_sizes_are_measured_to_a_third_of_a_pixel_on_average() -> None:
    errors = [recist_of_mask(ellipse(r, r, 0), 1, 1)[1].length_px - 2 * r for r in np.linspace(3, 30, 40)]
    assert abs(np.mean(errors)) < 1 / 3


def test_the_short_axis_of_a_bow_stays_inside_it_and_the_long_one_need_not() -> None:
    bow = of_text("##########", "##########", "##......##", "##......##", "##......##", "##......##", "##......##")
    long_axis, short_axis = recist_of_mask(bow, 1.0, 1.0)
    middle = (np.array(long_axis.start) + long_axis.end) / 2
    assert not inside(middle[None], bow)[0]
    shares = np.linspace(0.01, 0.99, 50)[:, None]
    assert inside(short_axis.start + shares * np.subtract(short_axis.end, short_axis.start), bow).all()


def test_a_short_axis_does_not_jump_a_gap() -> None:
    comb = of_text("##############", "##############", "..............", "..............", "##############")
    long_axis, short_axis = recist_of_mask(comb, 1.0, 1.0)
    assert long_axis.length_px > 14
    assert 2.0 <= short_axis.length_px < 2.2


def test_a_cavity_is_measured_across() -> None:
    ring = of_text(".###.", "##.##", "#...#", "##.##", ".###.")
    full = of_text(".###.", "#####", "#####", "#####", ".###.")
    assert recist_of_mask(ring, 1.0, 0.7) == recist_of_mask(full, 1.0, 0.7)


def test_a_cavity_that_winds_is_filled_and_a_bay_is_not() -> None:
    walls = of_text("#######", "#...#.#", "#.#.#.#", "#.#...#", "#.#####", "#######")
    open_walls = walls.copy()
    open_walls[5, 1] = False
    assert recist_of_mask(walls, 1, 1) == recist_of_mask(np.ones_like(walls), 1, 1)
    assert recist_of_mask(open_walls, 1, 1)[1].length_px < recist_of_mask(walls, 1, 1)[1].length_px


def test_chords_that_touch_where_a_shape_widens_are_one() -> None:
    stairs = of_text("####....", "####....", "########", "....####", "....####")
    long_axis, short_axis = recist_of_mask(stairs, 1.0, 1.0)
    assert short_axis.length_px == pytest.approx(_brute_short(stairs, long_axis, 1, 1), abs=0.02)


@given(masks, spacings, spacings)
@settings(max_examples=60, deadline=None)
def test_the_axes_are_those_that_trying_everything_finds(mask: Mask, row_mm: float, col_mm: float) -> None:
    if not mask.any():
        return
    long_axis, short_axis = recist_of_mask(mask, row_mm, col_mm)
    points = outline(mask).reshape(-1, 2) * (col_mm, row_mm)
    farthest = math.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2).max())
    assert length_mm(long_axis, row_mm, col_mm) == pytest.approx(farthest, rel=1e-9)
    short_mm = length_mm(short_axis, row_mm, col_mm)
    assert short_mm <= farthest * (1 + 1e-9)
    assert short_mm == pytest.approx(_brute_short(mask, long_axis, row_mm, col_mm), abs=0.03)


@given(masks, spacings, spacings)
@settings(max_examples=60, deadline=None)
def test_the_axes_are_perpendicular_in_the_patient_not_in_pixels(mask: Mask, row_mm: float, col_mm: float) -> None:
    if not mask.any():
        return
    one, other = (np.subtract(axis.end, axis.start) * (col_mm, row_mm) for axis in recist_of_mask(mask, row_mm, col_mm))
    assert abs(one @ other) <= 1e-6 * np.linalg.norm(one) * np.linalg.norm(other)


@given(masks, spacings, spacings, st.integers(0, 3), st.booleans(), st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_lengths_do_not_depend_on_place_quarter_turn_or_mirror(
    mask: Mask, row_mm: float, col_mm: float, turns: int, mirrored: bool, down: int, right: int
) -> None:
    if not mask.any():
        return
    moved = np.rot90(np.pad(mask[:, ::-1] if mirrored else mask, ((down, 0), (right, 2))), turns)
    moved_mm = (col_mm, row_mm) if turns % 2 else (row_mm, col_mm)
    before = [length_mm(axis, row_mm, col_mm) for axis in recist_of_mask(mask, row_mm, col_mm)]
    after = [length_mm(axis, *moved_mm) for axis in recist_of_mask(moved, *moved_mm)]
    assert after == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("mask", [np.zeros((4, 4), np.bool_), np.zeros((0, 0), np.bool_), np.ones((2, 2, 2), np.bool_)])
def test_what_is_no_mask_of_a_plane_has_no_axes(mask: Mask) -> None:
    with pytest.raises(ValueError, match="has no axes"):
        recist_of_mask(mask, 1.0, 1.0)


@pytest.mark.parametrize("spacing", [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_a_spacing_must_be_above_zero(spacing: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="spacing"):
        recist_of_mask(np.ones((2, 2), np.bool_), *spacing)


def _brute_short(mask: Mask, long_axis: Segment, row_mm: float, col_mm: float) -> float:
    """Longest run of points inside the outline on lines perpendicular to the axis, by sampling."""
    scale = np.array([col_mm, row_mm])
    start, end = np.array(long_axis.start) * scale, np.array(long_axis.end) * scale
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    corners = outline(mask).reshape(-1, 2) * scale
    stops = np.unique((corners @ along).round(9))
    heights = corners @ across
    steps = np.linspace(heights.min() - 0.01, heights.max() + 0.01, 1500)
    longest = 0.0
    for stop in np.concatenate([stops - 1e-6, stops + 1e-6]):
        held = inside((stop * along + steps[:, None] * across) / scale, mask)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], held.astype(np.int8), [0]])))
        if len(edges):
            longest = max(longest, float((edges[1::2] - edges[::2]).max()) * (steps[1] - steps[0]))
    return longest
