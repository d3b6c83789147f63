"""Masks are compared in millimetres, exactly, and predicting nothing never pays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.evaluation.mask_metrics import (
    agreement,
    diameter_error_mm,
    dice,
    ends_error_mm,
    ends_to_contour_mm,
    surface,
    surface_distances_mm,
)

masks_2d = arrays.arrays(bool, (7, 9))
masks_3d = arrays.arrays(bool, (3, 5, 4))


def square(first: int, last: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[first : last + 1, first : last + 1] = True
    return mask


def surface_by_hand(mask: np.ndarray) -> list[tuple[int, ...]]:
    points = {tuple(map(int, point)) for point in np.argwhere(mask)}
    steps = [tuple(sign * (one == axis) for one in range(mask.ndim)) for axis in range(mask.ndim) for sign in (-1, 1)]
    beside = {point: [tuple(p + s for p, s in zip(point, step, strict=True)) for step in steps] for point in points}
    return sorted(point for point in points if any(one not in points for one in beside[point]))


@given(st.one_of(masks_2d, masks_3d))
def test_the_surface_is_what_has_a_neighbour_outside(mask: np.ndarray) -> None:
    assert [tuple(map(int, point)) for point in np.argwhere(surface(mask))] == surface_by_hand(mask)


@given(masks_3d, masks_3d, st.tuples(*[st.floats(0.3, 5.0)] * 3))
@settings(max_examples=60, deadline=None)
def test_distances_are_those_of_every_pair_of_points(one: np.ndarray, other: np.ndarray, spacing: tuple) -> None:
    def nearest(here: list, there: list) -> list[float]:
        scaled = [
            [tuple(p * s for p, s in zip(point, spacing, strict=True)) for point in side] for side in (here, there)
        ]
        return [min((math.dist(point, goal) for goal in scaled[1]), default=math.inf) for point in scaled[0]]

    first, second = surface_by_hand(one), surface_by_hand(other)
    found = surface_distances_mm(one, other, spacing)
    assert found[0].tolist() == pytest.approx(nearest(first, second))
    assert found[1].tolist() == pytest.approx(nearest(second, first))


def test_a_mask_agrees_with_itself() -> None:
    same = agreement(square(3, 9), square(3, 9), (0.8, 0.8))
    assert same.dice == 1
    assert (same.surface_distance_mm, same.hd95_mm, same.hausdorff_mm, same.size_error) == (0, 0, 0, 0)


def test_a_shift_of_three_columns_is_measured_in_their_millimetres() -> None:
    moved = np.roll(square(3, 9), 3, axis=1)
    told = agreement(moved, square(3, 9), (5.0, 0.5))
    assert told.dice == pytest.approx(2 * 28 / 98)
    assert told.hausdorff_mm == pytest.approx(1.5)
    assert 0 < told.surface_distance_mm < told.hd95_mm <= told.hausdorff_mm
    assert told.size_error == 0


def test_hd95_is_the_larger_of_the_two_directions_and_forgives_one_far_pixel_in_a_hundred() -> None:
    reference = square(2, 31, 60)
    predicted = reference.copy()
    predicted[55, 55] = True
    told = agreement(predicted, reference, (1.0, 1.0))
    assert told.hausdorff_mm == pytest.approx(24 * math.sqrt(2))
    assert told.hd95_mm == 0
    swapped = agreement(reference, predicted, (1.0, 1.0))
    assert (swapped.hd95_mm, swapped.surface_distance_mm) == (told.hd95_mm, told.surface_distance_mm)


def test_hd95_is_not_watered_down_by_the_surface_that_lies_close() -> None:
    reference = square(2, 31, 60)
    predicted = reference.copy()
    predicted[40:44, 2:6] = True  # 12 of its 136 surface pixels lie far away: under 5 % of the 260 of both
    told = agreement(predicted, reference, (1.0, 1.0))
    assert told.hd95_mm >= 9
    both = np.concatenate(surface_distances_mm(predicted, reference, (1.0, 1.0)))
    assert np.percentile(both, 95) == 0


def test_nothing_predicted_is_the_worst_prediction() -> None:
    told = agreement(np.zeros((20, 20), bool), square(3, 9), (1.0, 1.0))
    assert told.dice == 0
    assert told.size_error == -1
    assert (told.surface_distance_mm, told.hd95_mm, told.hausdorff_mm) == (math.inf,) * 3


@given(masks_2d, masks_2d)
def test_dice_is_of_sets_and_two_empty_masks_count_nothing(one: np.ndarray, other: np.ndarray) -> None:
    here, there = ({tuple(map(int, p)) for p in np.argwhere(mask)} for mask in (one, other))
    wanted = 2 * len(here & there) / (len(here) + len(there)) if here or there else 0
    assert dice(one, other) == pytest.approx(wanted)
    assert dice(one, other) == dice(other, one)


@pytest.mark.parametrize(
    ("predicted", "reference", "spacing", "word"),
    [
        (square(3, 9), square(3, 9, 21), (1.0, 1.0), "one shape"),
        (square(3, 9), square(3, 9), (1.0,), "one distance above 0"),
        (square(3, 9), square(3, 9), (1.0, 0.0), "one distance above 0"),
        (square(3, 9), np.zeros((20, 20), bool), (1.0, 1.0), "reference mask is empty"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    predicted: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        agreement(predicted, reference, spacing)


def test_ends_on_the_contour_lie_on_it_and_others_as_far_as_they_are() -> None:
    mask = square(5, 10)
    assert ends_to_contour_mm(mask, [(5, 5), (10, 10), (5, 10), (10, 5)], (0.7, 0.7)) == 0
    assert ends_to_contour_mm(mask, [(13, 7), (5, 5)], (1.0, 0.5)) == pytest.approx(0.75)
    assert ends_to_contour_mm(mask, [(7, 13), (5, 5)], (1.0, 0.5)) == pytest.approx(1.5)
    assert ends_to_contour_mm(np.zeros((4, 4), bool), [(1, 1)], (1.0, 1.0)) == math.inf


def test_diameter_error_is_the_mean_of_both_absolute_errors() -> None:
    assert diameter_error_mm((21.0, 9.0), (20.0, 12.0)) == 2.0


CROSS = [(0.0, 5.0), (10.0, 5.0), (5.0, 0.0), (5.0, 9.0)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (3, 2, 1, 0)])
def test_ends_have_no_order(order: tuple[int, ...]) -> None:
    assert ends_error_mm([CROSS[number] for number in order], CROSS, (1.0, 1.0)) == 0


def test_ends_of_one_axis_stay_together() -> None:
    torn = [CROSS[0], CROSS[2], CROSS[1], CROSS[3]]
    assert ends_error_mm(torn, CROSS, (1.0, 1.0)) > 0


def test_end_errors_are_in_millimetres_of_their_own_direction() -> None:
    right = [(column + 2, row) for column, row in CROSS]
    down = [(column, row + 2) for column, row in CROSS]
    assert ends_error_mm(right, CROSS, (3.0, 0.5)) == pytest.approx(1.0)
    assert ends_error_mm(down, CROSS, (0.5, 0.5)) == pytest.approx(1.0)
