"""Boxes on neighbouring slices become one lesion, seen on its surest slice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.detectors.port import Found
from models.linking import link


def found(*rows: tuple[float, float, float, float, float]) -> Found:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Found(table[:, :4], table[:, 4], np.full((len(table), 4, 2), np.nan))


def at(*positions: float) -> np.ndarray:
    return np.array(positions, np.float64)


def test_a_lesion_on_three_slices_is_one_and_its_key_slice_is_the_surest() -> None:
    slices = [found((10, 10, 20, 20, 0.3)), found((10, 11, 21, 21, 0.8)), found((11, 11, 20, 20, 0.5))]
    (lesion,) = link(slices, at(0, 3, 6))
    assert (lesion.slices, lesion.boxes, lesion.best) == ((0, 1, 2), (0, 0, 0), 1)


def test_two_lesions_side_by_side_stay_two() -> None:
    slices = [found((10, 10, 20, 20, 0.9), (40, 10, 50, 20, 0.2)), found((40, 10, 50, 20, 0.6), (10, 10, 20, 20, 0.1))]
    first, second = link(slices, at(0, 3))
    assert (first.slices, first.boxes) == ((0, 1), (0, 1))
    assert (second.slices, second.boxes, second.best) == ((0, 1), (1, 0), 1)


def test_a_hole_in_the_series_ends_a_lesion() -> None:
    slices = [found((10, 10, 20, 20, 0.9)), found((10, 10, 20, 20, 0.8))]
    assert len(link(slices, at(0, 6))) == 1
    assert len(link(slices, at(0, 6.1))) == 2


def test_one_slice_without_a_box_is_bridged() -> None:
    slices = [found((10, 10, 20, 20, 0.9)), found(), found((10, 10, 20, 20, 0.8))]
    assert [one.slices for one in link(slices, at(0, 3, 6))] == [(0, 2)]


def test_boxes_that_hardly_overlap_are_two_lesions() -> None:
    slices = [found((0, 0, 10, 10, 0.9)), found((6, 0, 16, 10, 0.8))]
    assert len(link(slices, at(0, 3), overlap=0.3)) == 2
    assert len(link(slices, at(0, 3), overlap=0.2)) == 1


def test_nothing_found_is_no_lesion() -> None:
    assert link([found(), found()], at(0, 1)) == ()


boxes = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2, st.floats(0.01, 1)).map(
    lambda one: (one[0], one[1], one[0] + one[2], one[1] + one[3], one[4])
)


@given(st.lists(st.lists(boxes, max_size=5), min_size=1, max_size=6))
def test_every_box_belongs_to_exactly_one_lesion_and_lesions_come_surest_first(slices: list[list[tuple]]) -> None:
    answers = [found(*one) for one in slices]
    lesions = link(answers, np.arange(len(slices)) * 2.0)
    used = [pair for one in lesions for pair in zip(one.slices, one.boxes, strict=True)]
    assert sorted(used) == [(index, box) for index, one in enumerate(slices) for box in range(len(one))]
    scores = [answers[one.slices[one.best]].scores[one.boxes[one.best]] for one in lesions]
    assert scores == sorted(scores, reverse=True)
    assert all(list(one.slices) == sorted(set(one.slices)) for one in lesions)
