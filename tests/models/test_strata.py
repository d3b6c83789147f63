"""Strata select marks and keep every detection; unmarked is a state of its own."""

from __future__ import annotations

import numpy as np
import pytest
from froc_cases import case, seeds
from hypothesis import assume, given, settings

from models.evaluation.froc import count, curve, pool
from models.evaluation.froc_reading import sensitivity_at
from models.evaluation.overlap import Space
from models.evaluation.strata import (
    Annotation,
    apart,
    by_overlap,
    by_size,
    by_slice_interval,
    by_type,
    by_word,
    stratified,
)

SMALL, LARGE = [10.0, 10.0, 14.0, 14.0], [50.0, 50.0, 99.0, 99.0]
ASKED = (0.0, 0.25, 0.5, 1.0, 2.0, 8.0)


def names(strata: tuple) -> list[str]:
    return [stratum.name for stratum in strata]


def test_a_detection_on_a_lesion_of_another_stratum_is_a_false_positive() -> None:
    pooled = pool([np.array([SMALL, LARGE])], [np.array([[*LARGE, 0.9], [*SMALL, 0.8]])])
    small, _, large = stratified(pooled, 0.5, by_size(np.array([5.0, 50.0])))
    assert small.curve.false_positives.tolist() == [1, 1]
    assert small.curve.sensitivity.tolist() == [0, 1]
    assert large.curve.false_positives.tolist() == [0, 1]
    assert large.curve.sensitivity.tolist() == [1, 1]


def test_a_stratum_without_marks_has_no_sensitivity() -> None:
    pooled = pool([np.array([SMALL])], [np.array([[*SMALL, 0.8]])])
    _, middle, _ = stratified(pooled, 0.5, by_size(np.array([5.0])))
    assert middle.mark_count == 0
    assert np.isnan(sensitivity_at(middle.curve, ASKED)).all()


def test_sizes_fall_into_the_published_groups_with_their_lower_edge() -> None:
    strata = by_size(np.array([9.99, 10.0, 29.9, 30.0]))
    assert names(strata) == ["below 10 mm", "10 to 30 mm", "30 mm and more"]
    assert [stratum.marks.tolist() for stratum in strata] == [
        [True, False, False, False],
        [False, True, True, False],
        [False, False, False, True],
    ]


def test_what_is_not_known_is_a_stratum_of_its_own() -> None:
    assert names(by_slice_interval(np.array([1.0, 5.0, np.nan]))) == ["below 2.5 mm", "2.5 mm and more", "not stated"]
    assert names(by_type(np.array([5, -1, 1]))) == ["bone", "lung", "not stated"]


def test_a_type_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="0, 9"):
        by_type(np.array([0, 9, 5]))


def test_words_make_sorted_strata() -> None:
    strata = by_word("patient", ["b", "a", "b"])
    assert [(one.name, one.marks.tolist()) for one in strata] == [
        ("a", [False, True, False]),
        ("b", [True, False, True]),
    ]


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_strata_read_as_if_the_other_marks_had_never_been_given(seed: int) -> None:
    marked, detected = case(seed, Space.PLANE)
    words = ["odd" if number % 2 else "even" for number in range(sum(map(len, marked)))]
    assume(len(words) > 1)
    starts = np.cumsum([0, *map(len, marked)])
    for result in stratified(pool(marked, detected), 0.3, by_word("parity", words)):
        kept = [m[result.stratum.marks[s : s + len(m)]] for m, s in zip(marked, starts, strict=False)]
        alone = curve(count(pool(kept, detected), 0.3))
        assert sensitivity_at(result.curve, ASKED).tolist() == sensitivity_at(alone, ASKED).tolist()


def test_a_looser_overlap_finds_more() -> None:
    half = [10.0, 10.0, 14.0, 12.0, 0.9]
    curves = by_overlap(pool([np.array([SMALL])], [np.array([half])]), (0.3, 0.7))
    assert {threshold: one.sensitivity.tolist() for threshold, one in curves.items()} == {0.3: [1], 0.7: [0]}


class TestUnmarked:
    marked = (np.array([SMALL]), np.array([SMALL]), np.zeros((0, 4)))
    detected = (
        np.array([[*SMALL, 0.9], [*LARGE, 0.8]]),
        np.array([[*SMALL, 0.7], [*LARGE, 0.6]]),
        np.array([[*LARGE, 0.5], [*SMALL, 0.4]]),
    )

    def test_a_detection_beside_the_marks_is_false_only_where_everything_was_marked(self) -> None:
        one = count(pool(self.marked, self.detected), 0.5)
        told = apart(one, [Annotation.COMPLETE, Annotation.PARTIAL, Annotation.UNMARKED])
        assert told.curve is not None
        assert told.curve.false_positives.tolist() == [0, 1, 1]
        assert told.curve.sensitivity.tolist() == [0.5, 0.5, 1.0]
        assert (told.complete_images, told.incomplete_images) == (1, 2)
        assert told.unmarked.tolist() == [3, 4, 5]
        assert told.unmarked_scores.tolist() == [0.6, 0.5, 0.4]

    def test_unmarked_detections_are_counted_per_incomplete_image_at_the_same_score(self) -> None:
        told = apart(count(pool(self.marked, self.detected), 0.5), [Annotation.COMPLETE, *[Annotation.PARTIAL] * 2])
        assert told.unmarked_per_image_at(0.5) == 1.0
        assert told.unmarked_per_image(0.5) == 0.0  # the score is 0.9 there
        assert told.unmarked_per_image(1.0) == 0.0  # 0.7, the last point of the curve

    def test_every_detection_is_a_hit_a_repeat_a_false_positive_or_unmarked(self) -> None:
        one = count(pool(self.marked, self.detected), 0.5)
        told = apart(one, [Annotation.COMPLETE, Annotation.PARTIAL, Annotation.UNMARKED])
        assert told.curve is not None
        assert len(told.curve.scores) + len(told.unmarked) == len(one.scores)

    def test_where_everything_was_marked_it_is_the_published_curve(self) -> None:
        one = count(pool(self.marked, self.detected), 0.5)
        told = apart(one, [Annotation.COMPLETE] * 3)
        assert told.curve is not None
        assert told.curve.false_positives.tolist() == curve(one).false_positives.tolist()
        assert told.unmarked.tolist() == []
        assert np.isnan(told.unmarked_per_image_at(0.0))

    def test_without_a_completely_marked_image_there_is_no_curve(self) -> None:
        told = apart(count(pool(self.marked, self.detected), 0.5), [Annotation.PARTIAL] * 3)
        assert told.curve is None
        assert told.unmarked_per_image_at(0.0) == pytest.approx(4 / 3)
        with pytest.raises(ValueError, match="ask by score"):
            told.unmarked_per_image(1.0)
