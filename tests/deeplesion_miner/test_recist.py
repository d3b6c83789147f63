"""Crosses: box, crossing, perpendicularity, extent."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from core_factories import axial_plane
from hypothesis import assume, given
from hypothesis import strategies as st

from deeplesion_miner import recist
from deeplesion_miner.types import Box, ImagePlane, Segment

LONG = Segment((10.0, 10.0), (30.0, 10.0))
SHORT = Segment((20.0, 4.0), (20.0, 16.0))
FLAT_PIXELS = ImagePlane((0, 0, 0), (1, 0, 0), (0, 1, 0), 2.0, 1.0, 100, 100)

points = st.tuples(st.floats(-100, 600), st.floats(-100, 600))


def moved(segment: Segment, x: float, y: float) -> Segment:
    return Segment((segment.start[0] + x, segment.start[1] + y), (segment.end[0] + x, segment.end[1] + y))


def turned(segment: Segment, angle_deg: float, about: tuple[float, float]) -> Segment:
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))

    def turn(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point[0] - about[0], point[1] - about[1]
        return (about[0] + cos * x - sin * y, about[1] + sin * x + cos * y)

    return Segment(turn(segment.start), turn(segment.end))


def test_the_box_is_the_smallest_around_all_ends_and_five_pixels_more() -> None:
    assert recist.box(recist.ends(LONG, SHORT)) == Box(5, -1, 35, 21)
    assert recist.box(recist.ends(LONG, None), 0) == Box(10, 10, 30, 10)


@given(points, points, points, points, st.floats(0, 20))
def test_every_end_lies_in_the_box_however_far_outside_the_image(
    a: tuple[float, float],
    b: tuple[float, float],
    c: tuple[float, float],
    d: tuple[float, float],
    padding_px: float,
) -> None:
    found = recist.box((a, b, c, d), padding_px)
    assert all(found.x_min <= x <= found.x_max and found.y_min <= y <= found.y_max for x, y in (a, b, c, d))


def test_axes_that_meet_cross_and_axes_that_stay_apart_do_not() -> None:
    assert recist.crosses(LONG, SHORT, 0.02)
    assert not recist.crosses(LONG, moved(SHORT, 0, 20), 0.02)
    assert not recist.crosses(LONG, moved(SHORT, 15, 0), 0.02)


def test_axes_may_miss_by_two_percent_of_their_length() -> None:
    assert recist.crosses(LONG, moved(SHORT, 10.3, 0), 0.02)
    assert not recist.crosses(LONG, moved(SHORT, 10.5, 0), 0.02)


def test_parallel_axes_do_not_cross() -> None:
    assert not recist.crosses(LONG, moved(LONG, 0, 1), 0.02)
    assert not recist.crosses(LONG, Segment((5, 5), (5, 5)), 0.02)


@given(st.floats(0, 360), st.floats(-500, 500), st.floats(-500, 500), st.booleans())
def test_crossing_does_not_depend_on_place_turn_or_direction(
    angle_deg: float, x: float, y: float, reverse: bool
) -> None:
    one, other = (moved(turned(axis, angle_deg, (20, 10)), x, y) for axis in (LONG, SHORT))
    assert recist.crosses(Segment(one.end, one.start) if reverse else one, other, 0.02)
    assert recist.crosses(other, one, 0.02)


@given(st.floats(0, 90), st.floats(0, 360))
def test_the_deviation_is_the_angle_that_is_missing_to_ninety_degrees(angle_deg: float, turn_deg: float) -> None:
    one = turned(LONG, turn_deg, (20, 10))
    other = turned(LONG, turn_deg + 90 - angle_deg, (20, 10))
    assert recist.deviation_deg(axial_plane(), one, other) == pytest.approx(angle_deg, abs=1e-6)


def test_right_angles_are_right_in_millimetres_not_in_pixels() -> None:
    one, other = Segment((0, 0), (2, 1)), Segment((0, 0), (-1, 2))
    assert recist.deviation_deg(axial_plane(), one, other) == pytest.approx(0)
    assert recist.deviation_deg(FLAT_PIXELS, one, Segment((0, 0), (-2, 1))) == pytest.approx(0)
    assert recist.deviation_deg(FLAT_PIXELS, one, other) > 10


def test_a_point_has_no_direction() -> None:
    assert math.isnan(recist.deviation_deg(axial_plane(), LONG, Segment((5, 5), (5, 5))))


def test_a_cross_in_one_place_reaches_no_farther_than_its_long_axis() -> None:
    assert recist.extent_over_long(LONG, SHORT) == pytest.approx(1)
    assert recist.extent_over_long(LONG, moved(SHORT, 0, 60)) == pytest.approx(66 / 20)
    assert recist.extent_over_long(Segment((5, 5), (5, 5)), SHORT) == math.inf


@given(points, points)
def test_the_middle_is_as_far_from_one_end_as_from_the_other(a: tuple[float, float], b: tuple[float, float]) -> None:
    assume(a != b)
    middle = recist.midpoint(Segment(a, b))
    assert math.dist(middle, a) == pytest.approx(math.dist(middle, b), abs=1e-9)


def public_rows(real_data: Path) -> Iterator[dict[str, str]]:
    for path in sorted((real_data / "deeplesion").glob("DL_info_*_visible.csv")):
        with path.open(newline="") as lines:
            yield from csv.DictReader(lines)


@pytest.mark.real
def test_boxes_and_diameters_of_public_rows_are_recomputed(real_data: Path) -> None:
    count, not_crossing = 0, 0
    for row in public_rows(real_data):
        c = [float(x) for x in row["Measurement_coordinates"].split(",")]
        long, short = Segment((c[0], c[1]), (c[2], c[3])), Segment((c[4], c[5]), (c[6], c[7]))
        found = recist.box(recist.ends(long, short))
        public_box = [float(x) for x in row["Bounding_boxes"].split(",")]
        assert [found.x_min, found.y_min, found.x_max, found.y_max] == pytest.approx(public_box, abs=0.001)
        diameters = [float(x) for x in row["Lesion_diameters_Pixel_"].split(",")]
        assert [long.length_px, short.length_px] == pytest.approx(diameters, abs=0.002)
        count += 1
        not_crossing += not recist.crosses(long, short, 0.02)
    assert count == 5488
    assert 0 < not_crossing < 0.005 * count
