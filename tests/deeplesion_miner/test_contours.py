"""A mask's outline is exact: rasterised by pixel centres it is the mask again, and its area is the mask's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from deeplesion_miner.contours import Polygon, area_px, keyholed, outlines
from deeplesion_miner.detection import PixelMask

masks = st.builds(
    PixelMask,
    st.integers(-20, 500),
    st.integers(-20, 500),
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)),
)


def drawn(*rows: str, first_column: int = 0, first_row: int = 0) -> PixelMask:
    return PixelMask(first_column, first_row, np.array([[cell == "#" for cell in row] for row in rows]))


def crossings_to_the_right(polygon: Polygon, column: float, row: float) -> tuple[int, int]:
    """How often a ray from a pixel's centre to the right is crossed upwards and downwards."""
    up = down = 0
    for (x, y), (_, below) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if x > column and (y < row) != (below < row):
            up, down = up + (below < y), down + (below > y)
    return up, down


def filled(polygons: tuple[Polygon, ...], mask: PixelMask, rule: str) -> NDArray[np.bool_]:
    """The pixels whose centres are inside, by the even-odd or by the winding rule; all edges are axis-parallel."""
    found = np.zeros(mask.bits.shape, np.bool_)
    for row, column in np.ndindex(*found.shape):
        crossings = [
            crossings_to_the_right(polygon, column + mask.first_column, row + mask.first_row) for polygon in polygons
        ]
        total = sum(up + down for up, down in crossings) % 2 if rule == "even-odd" else sum(d - u for u, d in crossings)
        found[row, column] = total != 0
    return found


def flat(mask: PixelMask) -> tuple[Polygon, ...]:
    return tuple(polygon for one in outlines(mask) for polygon in (one.outer, *one.holes))


def test_one_pixel_is_a_square_around_its_centre() -> None:
    (only,) = outlines(drawn("#", first_column=7, first_row=3))
    assert only.outer == ((6.5, 2.5), (7.5, 2.5), (7.5, 3.5), (6.5, 3.5))
    assert only.holes == ()


def test_an_empty_mask_has_no_outline() -> None:
    assert outlines(drawn("...")) == () == keyholed(drawn("..."))
    assert keyholed(PixelMask(0, 0, np.zeros((0, 0), np.bool_))) == ()


def test_straight_edges_hold_no_points_but_their_ends() -> None:
    (only,) = outlines(drawn("####", "####"))
    assert len(only.outer) == 4


def test_pixels_that_touch_by_a_corner_are_two_parts() -> None:
    assert [one.outer[0] for one in outlines(drawn("#.", ".#"))] == [(-0.5, -0.5), (0.5, 0.5)]
    assert len(outlines(drawn(".#", "#."))) == 2


def test_a_hole_may_pass_through_a_corner() -> None:
    (only,) = outlines(drawn("####", "#.##", "##.#", "####"))
    assert [area_px(hole) for hole in only.holes] == [-2]


def test_holes_are_apart_in_the_outline_and_on_channels_in_the_keyhole() -> None:
    mask = drawn("#######", "#.##..#", "#######")
    (only,) = outlines(mask)
    assert [area_px(hole) for hole in only.holes] == [-1, -2]
    (whole,) = keyholed(mask)
    assert area_px(whole) == mask.bits.sum()
    assert filled((whole,), mask, "even-odd").tolist() == mask.bits.tolist()


def way_px(polygons: tuple[Polygon, ...]) -> float:
    return sum(
        abs(x - right) + abs(y - below)
        for one in polygons
        for (x, y), (right, below) in zip(one, (*one[1:], one[0]), strict=True)
    )


def channel_px(mask: PixelMask) -> float:
    """Length of all channels; each is walked there and back."""
    return (way_px(keyholed(mask)) - way_px(flat(mask))) / 2


def test_a_channel_takes_the_shortest_way_out() -> None:
    """Viewers draw it: one to the left crossed a whole liver for a hole beside its lower edge."""
    beside_an_edge = drawn("########", "########", "########", "######.#", "########")
    assert channel_px(beside_an_edge) == 1
    assert channel_px(drawn("#####", "#####", "##.##", "#####", "#####")) == 2
    in_a_row = drawn("#########", "#########", "##.#.#.##", "#########", "#########")
    assert channel_px(in_a_row) == 2 + 1 + 1
    assert filled(keyholed(in_a_row), in_a_row, "even-odd").tolist() == in_a_row.bits.tolist()


@given(masks)
@settings(max_examples=100)
def test_channels_run_inside_the_mask(mask: PixelMask) -> None:
    plane = np.pad(mask.bits, 1)
    for polygon in keyholed(mask):
        for (x, y), (right, below) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            assert x == right or y == below
            length = int(abs(right - x) + abs(below - y))
            across, down = (right - x) / length, (below - y) / length
            for step in range(length):
                column = x + across * (step + 0.5) - mask.first_column + 1
                row = y + down * (step + 0.5) - mask.first_row + 1
                assert plane[round(row + across / 2), round(column - down / 2)], "to the right"


def test_a_part_within_a_hole_is_a_part_of_its_own() -> None:
    mask = drawn("#####", "#...#", "#.#.#", "#...#", "#####")
    assert [len(one.holes) for one in outlines(mask)] == [1, 0]
    assert len(keyholed(mask)) == 2


@given(masks)
def test_outlines_filled_are_the_mask(mask: PixelMask) -> None:
    for rule in ("even-odd", "winding"):
        assert np.array_equal(filled(flat(mask), mask, rule), mask.bits)


@given(masks)
def test_keyholed_polygons_filled_are_the_mask(mask: PixelMask) -> None:
    for rule in ("even-odd", "winding"):
        assert np.array_equal(filled(keyholed(mask), mask, rule), mask.bits)


@given(masks)
def test_the_area_is_the_number_of_pixels(mask: PixelMask) -> None:
    assert sum(map(area_px, flat(mask))) == sum(map(area_px, keyholed(mask))) == mask.bits.sum()


@given(masks)
@settings(max_examples=50)
def test_every_edge_lies_between_a_pixel_of_the_mask_and_one_that_is_not(mask: PixelMask) -> None:
    """So no point of the outline is farther than half a pixel from the edge of a pixel that the mask ends with."""
    plane = PixelMask(mask.first_column - 1, mask.first_row - 1, np.pad(mask.bits, 1))

    def inside(column: float, row: float) -> bool:
        return bool(plane.bits[round(row) - plane.first_row, round(column) - plane.first_column])

    for polygon in flat(mask):
        for (x, y), (right, below) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            length = int(abs(right - x) + abs(below - y))
            across, down = (right - x) / length, (below - y) / length
            for step in range(length):
                middle = (x + across * (step + 0.5), y + down * (step + 0.5))
                to_the_right, to_the_left = (-down / 2, across / 2), (down / 2, -across / 2)
                assert inside(middle[0] + to_the_right[0], middle[1] + to_the_right[1])
                assert not inside(middle[0] + to_the_left[0], middle[1] + to_the_left[1])


@pytest.mark.parametrize("outline", [flat, keyholed])
@given(mask=masks)
@settings(max_examples=50)
def test_no_point_is_the_centre_of_a_pixel(outline: object, mask: PixelMask) -> None:
    assert callable(outline)
    assert all(value % 1 == 0.5 for polygon in outline(mask) for point in polygon for value in point)
