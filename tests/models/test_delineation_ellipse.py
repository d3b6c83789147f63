"""Quarter ellipses and ellipsoids of RECIST crosses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.delineation.ellipse import axes_mm, completed, cross_of, ellipse_mask, ellipsoid_mask
from models.delineation.prior import Prior, calibrated

CROSS = np.array([(10.0, 20.0), (40.0, 20.0), (20.0, 12.0), (20.0, 25.0)])


def turned(ends: NDArray[np.float64], angle_deg: float) -> NDArray[np.float64]:
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return (ends - 25) @ np.array([[cos, sin], [-sin, cos]]) + 25


@given(st.floats(0, 360), st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.floats(6, 20), st.floats(3, 12))
@settings(max_examples=50, deadline=None)
def test_every_end_lies_at_distance_one_in_the_frame_of_its_cross(
    angle_deg: float, long_share: float, short_share: float, half_long: float, half_short: float
) -> None:
    ends = turned(
        np.array([
            (25 - 2 * half_long * long_share, 25), (25 + 2 * half_long * (1 - long_share), 25),
            (25, 25 - 2 * half_short * short_share), (25, 25 + 2 * half_short * (1 - short_share)),
        ]),
        angle_deg,
    )  # fmt: skip
    along, across = cross_of(ends).coordinates(ends[:, 0], ends[:, 1])
    assert np.stack([along, across], axis=1) == pytest.approx(np.array([(-1, 0), (1, 0), (0, -1), (0, 1)]), abs=1e-6)


def test_the_area_is_that_of_four_quarters() -> None:
    quarters = math.pi / 4 * (10 + 20) * (8 + 5)
    assert ellipse_mask(CROSS, 50, 50).sum() == pytest.approx(quarters, rel=0.03)
    assert ellipse_mask(CROSS, 60, 60, scale=1.1).sum() == pytest.approx(1.21 * quarters, rel=0.03)


def test_an_end_of_the_axes_is_the_last_pixel_inside() -> None:
    mask = ellipse_mask(CROSS, 50, 50)
    assert mask[20, 10] and mask[20, 40] and mask[12, 20] and mask[25, 20]
    assert not (mask[20, 9] or mask[20, 41] or mask[11, 20] or mask[26, 20])


@pytest.mark.parametrize("angle_deg", [0, 45, 90])
def test_axes_through_the_first_pixel_are_no_exception(angle_deg: float) -> None:
    cross = turned(np.array([(15, 25), (35, 25), (25.0, 18), (25, 32.5)]), angle_deg)
    assert (ellipse_mask(cross - 25, 40, 40) == ellipse_mask(cross, 65, 65)[25:, 25:]).all()


def test_a_lesion_across_the_border_is_cut_by_it() -> None:
    whole, cut = ellipse_mask(CROSS, 60, 60), ellipse_mask(CROSS - (25, 0), 60, 60)
    assert (cut[:, :35] == whole[:, 25:]).all()


def test_a_length_gets_a_short_axis_of_three_quarters_perpendicular_in_mm() -> None:
    ends = np.array([(10, 10), (20, 20), (math.nan, math.nan), (math.nan, math.nan)])
    full = completed(ends, row_spacing_mm=0.5, col_spacing_mm=1.5)
    long_mm, short_mm = (full[1] - full[0]) * (1.5, 0.5), (full[3] - full[2]) * (1.5, 0.5)
    assert long_mm @ short_mm == pytest.approx(0)
    assert np.linalg.norm(short_mm) == pytest.approx(0.75 * np.linalg.norm(long_mm))
    assert axes_mm(ends, 0.5, 1.5) == pytest.approx((math.hypot(15, 5), 0.75 * math.hypot(15, 5)))
    assert ellipse_mask(ends, 30, 30).sum() == pytest.approx(math.pi / 4 * 200 * 0.75, rel=0.1)


def test_axes_that_stay_apart_meet_at_their_nearest_points() -> None:
    apart = np.array([(10.0, 20.0), (40.0, 20.0), (25.0, 10.0), (25.0, 16.0)])
    cross = cross_of(apart)
    assert cross.centre == (25.0, 18.0)
    assert ellipse_mask(apart, 50, 50).sum() > 0.5 * math.pi / 4 * 15 * 6


@pytest.mark.parametrize(
    "ends",
    [
        [(10, 10), (30, 10), (10, 14), (30, 14)],
        [(10, 10), (30, 10), (12, 10), (28, 10)],
        [(10, 10), (30, 10), (20, 10), (20, 10)],
        [(10, 10), (10, 10), (10, 10), (10, 10)],
    ],
    ids=["parallel", "on one line", "short axis of no length", "a point"],
)
def test_crosses_that_are_none_still_give_a_mask_around_them(ends: list[tuple[float, float]]) -> None:
    mask = ellipse_mask(np.array(ends, np.float64), 40, 40)
    rows, columns = np.nonzero(mask)
    assert mask.any()
    assert rows.min() >= 0 and rows.max() <= 20 and columns.min() >= 5 and columns.max() <= 35


def test_the_smallest_lesion_has_the_pixel_it_lies_on() -> None:
    tiny = np.array([(10.4, 10.4), (10.45, 10.4), (10.42, 10.38), (10.42, 10.42)])
    assert np.argwhere(ellipse_mask(tiny, 20, 20)).tolist() == [[10, 10]]


def test_an_ellipsoid_has_the_ellipse_on_its_key_slice_and_ends_at_its_depth() -> None:
    distance_mm = np.arange(-10.0, 11.0)
    planes = ellipsoid_mask(CROSS, distance_mm, 50, 50, half_depth_mm=8.0)
    assert (planes[10] == ellipse_mask(CROSS, 50, 50)).all()
    assert np.flatnonzero(planes.any(axis=(1, 2))).tolist() == list(range(3, 18))
    assert planes.sum() == pytest.approx(4 / 3 * math.pi / 4 * 30 * 13 * 8, rel=0.03)


@pytest.mark.parametrize("ends", [np.zeros((3, 2)), np.full((4, 2), math.nan)])
def test_ends_without_a_long_axis_are_refused(ends: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="long axis"):
        ellipse_mask(ends, 10, 10)


def test_the_prior_moves_each_end_out_by_its_margin_in_mm() -> None:
    prior = Prior(margin_mm=0.6, depth_short=0.2, depth_long=0.25, depth_interval=0.5)
    ends = prior.ends(CROSS, row_spacing_mm=0.5, col_spacing_mm=1.5)
    assert ends == pytest.approx(CROSS + np.array([(-0.4, 0), (0.4, 0), (0, -1.2), (0, 1.2)]))
    assert prior.key_mask(CROSS, 0.5, 1.5, 50, 50).sum() > ellipse_mask(CROSS, 50, 50).sum()


def test_the_prior_reaches_farther_through_thick_slices() -> None:
    prior = calibrated()
    depths = [prior.half_depth_mm(20, 15, interval) for interval in (1.0, 5.0)]
    assert depths[0] < depths[1] < depths[0] + 5
    distance_mm = np.arange(-30.0, 31.0)
    planes = prior.volume_mask(CROSS, distance_mm, 1.0, 0.8, 0.8, 50, 50)
    reached = distance_mm[planes.any(axis=(1, 2))]
    assert reached.max() == -reached.min() == int(prior.half_depth_mm(*axes_mm(CROSS, 0.8, 0.8), 1.0))
