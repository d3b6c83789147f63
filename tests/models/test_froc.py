"""The FROC curve: what is a hit, what is false, what divides it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from brute_force_froc import points, read
from froc_cases import case, seeds, spaces
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.evaluation.froc import Ties, count, curve, false_positives, misses, pool
from models.evaluation.froc_reading import EXTRAPOLATED, sensitivity_at
from models.evaluation.overlap import Criterion, Space

ASKED = (0.0, 0.1, 0.125, 1 / 6, 0.25, 0.5, 1.0, 1.7, 2.0, 4.0, 8.0, 16.0)
criteria = st.sampled_from(list(Criterion))
thresholds = st.sampled_from((0.1, 0.3, 0.5, 0.7))

LESION = [10.0, 10.0, 29.0, 29.0]
BESIDE = [100.0, 100.0, 119.0, 119.0]


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float64)


NOTHING = np.zeros((0, 5))


def test_a_second_detection_of_a_lesion_is_neither_hit_nor_false_positive() -> None:
    found = curve(count(pool([boxes(LESION)], [boxes([*LESION, 0.9], [*LESION, 0.8], [*BESIDE, 0.7])]), 0.5))
    assert found.false_positives.tolist() == [0, 0, 1]
    assert found.sensitivity.tolist() == [1, 1, 1]
    assert found.scores.tolist() == [0.9, 0.8, 0.7]


def test_one_detection_hits_every_lesion_that_it_overlaps_enough() -> None:
    close = [11.0, 10.0, 30.0, 29.0]
    one = count(pool([boxes(LESION, close)], [boxes([*LESION, 0.9])]), 0.5)
    assert one.new_hits.tolist() == [2]
    assert curve(one).sensitivity.tolist() == [1]


def test_images_without_lesions_divide_false_positives_and_give_them() -> None:
    empty = np.zeros((0, 4))
    found = curve(
        count(pool([boxes(LESION), empty, empty, empty], [NOTHING, boxes([*BESIDE, 0.9]), NOTHING, NOTHING]), 0.5)
    )
    assert found.false_positives.tolist() == [1 / 4]
    assert found.sensitivity.tolist() == [0]


def test_an_overlap_of_exactly_the_threshold_is_a_hit() -> None:
    half = [10.0, 10.0, 29.0, 19.0]
    assert count(pool([boxes(LESION)], [boxes([*half, 0.9])]), 0.5).new_hits.tolist() == [1]


def test_nothing_detected_finds_nothing_and_no_lesions_have_no_sensitivity() -> None:
    nothing = curve(count(pool([boxes(LESION)], [NOTHING]), 0.5))
    assert sensitivity_at(nothing, ASKED).tolist() == [0.0] * len(ASKED)
    assert sensitivity_at(nothing, ASKED, EXTRAPOLATED).tolist() == [0.0] * len(ASKED)
    no_lesion = curve(count(pool([NOTHING[:, :4]], [boxes([*BESIDE, 0.9])]), 0.5))
    assert np.isnan(sensitivity_at(no_lesion, ASKED)).all()


def test_misses_and_false_positives_are_listed_worst_first() -> None:
    other = [60.0, 60.0, 79.0, 79.0]
    grazed = [60.0, 60.0, 79.0, 64.0, 0.6]
    pooled = pool([boxes(LESION, other)], [boxes([*BESIDE, 0.3], grazed)])
    one = count(pooled, 0.5)
    assert misses(pooled, one) == [(0, 0.0), (1, 0.25)]
    assert false_positives(one) == [(1, 0.6), (0, 0.3)]


@pytest.mark.parametrize(
    ("marked", "detected", "word"),
    [
        ([boxes(LESION)], [], "marks of 1 images, detections of 0"),
        ([boxes(LESION)], [boxes([*LESION, np.nan])], "detections of image 0: a score is not finite"),
        ([boxes(LESION)], [boxes(LESION)], "score last"),
    ],
)
def test_what_cannot_be_counted_is_refused(marked: list[np.ndarray], detected: list[np.ndarray], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        pool(marked, detected)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.1])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="overlap threshold"):
        count(pool([boxes(LESION)], [NOTHING]), threshold)


@given(seeds, spaces, criteria, thresholds)
@settings(max_examples=150, deadline=None)
def test_the_curve_is_that_of_the_words_of_the_protocol(
    seed: int, space: Space, criterion: Criterion, threshold: float
) -> None:
    marked, detected = case(seed, space)
    assume(sum(map(len, marked)) > 0 and sum(map(len, detected)) > 0)
    found = curve(count(pool(marked, detected, space, criterion), threshold))
    by_hand = points(
        [one.tolist() for one in marked],
        [one.tolist() for one in detected],
        space.value,
        criterion.value,
        threshold,
    )
    assert found.false_positives == pytest.approx([float(x) for x, _ in by_hand], abs=1e-12)
    assert found.sensitivity == pytest.approx([float(y) for _, y in by_hand], abs=1e-12)
    assert sensitivity_at(found, ASKED) == pytest.approx([read(by_hand, value) for value in ASKED], abs=1e-9)


def test_a_planted_case_is_counted_as_planted() -> None:
    marked = [boxes(LESION), boxes(LESION, BESIDE), np.zeros((0, 4)), boxes(LESION)]
    detected = [
        boxes([*LESION, 0.95], [*BESIDE, 0.50]),
        boxes([*LESION, 0.90], [200, 200, 219, 219, 0.80], [*BESIDE, 0.40]),
        boxes([*LESION, 0.70]),
        boxes([*BESIDE, 0.60]),
    ]
    found = curve(count(pool(marked, detected), 0.5))
    assert found.false_positives.tolist() == [0, 0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert found.sensitivity.tolist() == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.75]
    assert sensitivity_at(found, (0, 0.5, 0.9, 1, 2)).tolist() == [0.5, 0.5, 0.5, 0.75, 0.75]


@given(seeds, spaces, criteria)
@settings(max_examples=60, deadline=None)
def test_the_curve_does_not_depend_on_the_order_of_images_and_boxes(
    seed: int, space: Space, criterion: Criterion
) -> None:
    marked, detected = case(seed, space)
    random = np.random.default_rng(seed)
    order = random.permutation(len(marked))
    mixed = (
        [random.permutation(marked[image]) for image in order],
        [random.permutation(detected[image]) for image in order],
    )
    one, other = (curve(count(pool(*both, space, criterion), 0.5)) for both in ((marked, detected), mixed))
    assert one.false_positives.tolist() == other.false_positives.tolist()
    assert one.sensitivity.tolist() == other.sensitivity.tolist()


@given(seeds, spaces, st.sampled_from([Ties.HITS_FIRST, Ties.HITS_LAST]))
@settings(max_examples=60, deadline=None)
def test_with_equal_scores_the_bounds_do_not_depend_on_order_either(seed: int, space: Space, ties: Ties) -> None:
    marked, detected = case(seed, space, distinct_scores=False)
    assume(sum(map(len, marked)) > 0)
    order = np.random.default_rng(seed).permutation(len(marked))
    mixed = ([marked[image] for image in order], [detected[image][::-1] for image in order])
    one, other = (curve(count(pool(*both, space), 0.3, ties=ties)) for both in ((marked, detected), mixed))
    assert sensitivity_at(one, ASKED).tolist() == sensitivity_at(other, ASKED).tolist()


@given(seeds, spaces)
@settings(max_examples=60, deadline=None)
def test_any_order_of_equal_scores_lies_between_the_bounds(seed: int, space: Space) -> None:
    marked, detected = case(seed, space, distinct_scores=False)
    assume(sum(map(len, marked)) > 0)
    pooled = pool(marked, detected, space)
    low, between, high = (
        sensitivity_at(curve(count(pooled, 0.3, ties=ties)), ASKED)
        for ties in (Ties.HITS_LAST, Ties.PUBLISHED, Ties.HITS_FIRST)
    )
    assert (low <= between + 1e-12).all()
    assert (between <= high + 1e-12).all()


def test_the_bounds_differ_where_a_hit_and_a_false_positive_tie() -> None:
    pooled = pool([boxes(LESION)], [boxes([*LESION, 0.5], [*BESIDE, 0.5])])
    read_at = {ties: sensitivity_at(curve(count(pooled, 0.5, ties=ties)), [0.5])[0] for ties in Ties}
    assert read_at[Ties.HITS_LAST] == 0
    assert read_at[Ties.HITS_FIRST] == 1


@given(seeds, spaces)
@settings(max_examples=60, deadline=None)
def test_a_false_positive_of_the_lowest_score_never_raises_sensitivity(seed: int, space: Space) -> None:
    marked, detected = case(seed, space)
    assume(sum(map(len, marked)) > 0)
    far = np.full(space.coordinates, 500.0)
    more = [*detected[:-1], np.vstack([detected[-1], [*far, -1.0]])]
    before, after = (sensitivity_at(curve(count(pool(marked, d, space), 0.5)), ASKED) for d in (detected, more))
    assert (after <= before + 1e-12).all()


@given(seeds, spaces)
@settings(max_examples=60, deadline=None)
def test_scores_matter_by_their_order_only(seed: int, space: Space) -> None:
    marked, detected = case(seed, space)
    bent = [np.column_stack([one[:, :-1], np.exp(3 * one[:, -1])]) for one in detected]
    one, other = (curve(count(pool(marked, d, space), 0.5)) for d in (detected, bent))
    assert one.false_positives.tolist() == other.false_positives.tolist()
    assert sensitivity_at(one, ASKED).tolist() == pytest.approx(sensitivity_at(other, ASKED).tolist(), nan_ok=True)


@given(seeds, spaces, thresholds)
@settings(max_examples=60, deadline=None)
def test_a_stricter_threshold_never_finds_more(seed: int, space: Space, threshold: float) -> None:
    marked, detected = case(seed, space)
    assume(sum(map(len, marked)) > 0)
    pooled = pool(marked, detected, space)
    loose, strict = (sensitivity_at(curve(count(pooled, t)), ASKED) for t in (threshold, threshold + 0.2))
    assert (strict <= loose + 1e-12).all()


@given(seeds, spaces)
@settings(max_examples=60, deadline=None)
def test_false_positives_and_sensitivity_never_fall_along_the_curve(seed: int, space: Space) -> None:
    marked, detected = case(seed, space)
    assume(sum(map(len, marked)) > 0)
    found = curve(count(pool(marked, detected, space), 0.3))
    for values in (found.false_positives, found.sensitivity):
        assert all(left <= right for left, right in pairwise(values.tolist()))
    assert np.all(np.diff(found.scores) <= 0)


@given(seeds, st.lists(st.integers(0, 3), min_size=6, max_size=6))
@settings(max_examples=80, deadline=None)
def test_a_weight_is_a_number_of_copies(seed: int, weights: list[int]) -> None:
    marked, detected = case(seed, Space.PLANE)
    assume(sum(w * len(m) for w, m in zip(weights, marked, strict=True)) > 0)
    copies = [image for image, weight in enumerate(weights) for _ in range(weight)]
    copied = count(pool([marked[i] for i in copies], [detected[i] for i in copies]), 0.3)
    weighted = count(pool(marked, detected), 0.3)
    drawn = curve(weighted, image_weights=np.array(weights, np.float64))
    assert sensitivity_at(drawn, ASKED) == pytest.approx(sensitivity_at(curve(copied), ASKED), abs=1e-12)


def test_an_image_of_weight_nothing_leaves_no_point() -> None:
    one = count(pool([boxes(LESION), boxes(LESION)], [boxes([*LESION, 0.9]), boxes([*BESIDE, 0.8])]), 0.5)
    found = curve(one, image_weights=np.array([0.0, 2.0]))
    assert found.scores.tolist() == [0.8]
    assert found.false_positives.tolist() == [1.0]
    assert found.sensitivity.tolist() == [0.0]


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 1.0], [0.0, 0.0]])
def test_weights_that_mean_nothing_are_refused(weights: list[float]) -> None:
    one = count(pool([boxes(LESION)] * 2, [NOTHING] * 2), 0.5)
    with pytest.raises(ValueError, match="weight"):
        curve(one, image_weights=np.array(weights))
