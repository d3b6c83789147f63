"""Overlaps count pixels, both ends included."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force_froc import overlap
from froc_cases import case, seeds, spaces
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.overlap import Criterion, Space, checked_boxes, overlaps, sizes


def plane(*box: float) -> np.ndarray:
    return np.array([box], np.float64)


def test_a_box_of_one_pixel_has_area_one() -> None:
    assert sizes(plane(7, 7, 7, 7), Space.PLANE) == 1


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [(Criterion.IOU, 4 / 26), (Criterion.IOBB, 4 / 10), (Criterion.IOGT, 4 / 20), (Criterion.IOBBGT, 4 / 10)],
)
def test_each_criterion_divides_by_its_own_whole(criterion: Criterion, expected: float) -> None:
    detected = plane(0, 0, 4, 1)  # 5 x 2 pixels
    marked = plane(3, 0, 6, 4)  # 4 x 5 pixels, 2 x 2 of them common
    assert overlaps(detected, marked, Space.PLANE, criterion) == pytest.approx(expected)


def test_boxes_that_share_an_edge_share_its_pixels_and_neighbours_share_nothing() -> None:
    box = plane(0, 0, 4, 4)
    assert overlaps(box, plane(4, 0, 8, 4), Space.PLANE, Criterion.IOBB) == pytest.approx(1 / 5)
    assert overlaps(box, plane(5, 0, 9, 4), Space.PLANE, Criterion.IOBB) == 0


def test_a_volume_counts_slices_with_both_ends() -> None:
    detected, marked = plane(0, 0, 10, 9, 9, 13), plane(0, 0, 12, 9, 9, 19)
    assert overlaps(detected, marked, Space.VOLUME, Criterion.IOBB) == pytest.approx(2 / 4)
    assert overlaps(detected, marked, Space.VOLUME, Criterion.IOGT) == pytest.approx(2 / 8)


@pytest.mark.parametrize(("slice_number", "expected"), [(9, 0.0), (10, 1.0), (13, 1.0), (14, 0.0)])
def test_in_p3d_a_mark_counts_on_the_slices_of_the_detection_ends_included(slice_number: int, expected: float) -> None:
    detected, marked = plane(0, 0, 10, 9, 9, 13), plane(0, 0, slice_number, 9, 9, slice_number)
    assert overlaps(detected, marked, Space.PSEUDO_VOLUME, Criterion.IOU) == expected


def test_in_p3d_a_mark_on_several_slices_is_refused() -> None:
    with pytest.raises(ValueError, match="it must lie on one"):
        overlaps(plane(0, 0, 1, 9, 9, 5), plane(0, 0, 1, 9, 9, 2), Space.PSEUDO_VOLUME, Criterion.IOU)


@pytest.mark.parametrize(
    ("boxes", "word"),
    [
        (plane(0, 0, 5, np.nan), "not finite"),
        (plane(5, 0, 4, 9), "ends before it begins"),
        (plane(0, 0, 0, 1, 1, 1), "need .n, 4."),
        (np.zeros(4), "need .n, 4."),
    ],
)
def test_malformed_boxes_are_refused_with_their_name(boxes: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=f"marks of image 3.*{word}"):
        checked_boxes(boxes, Space.PLANE, "marks of image 3")


@given(seeds, spaces, st.sampled_from(list(Criterion)))
def test_overlaps_are_those_of_exact_fractions_and_do_not_move_with_the_origin(
    seed: int, space: Space, criterion: Criterion
) -> None:
    marked, detected = case(seed, space, images=1)
    marks, boxes = marked[0], detected[0][:, :-1]
    found = overlaps(boxes, marks, space, criterion)
    exact = [[float(overlap(b, m, space.value, criterion.value)) for m in marks.tolist()] for b in boxes.tolist()]
    assert found == pytest.approx(np.array(exact).reshape(found.shape), abs=1e-12)
    assert overlaps(boxes + 1, marks + 1, space, criterion) == pytest.approx(found, abs=1e-12)
    assert ((found >= 0) & (found <= 1)).all()
