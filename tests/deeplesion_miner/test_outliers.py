"""The population rule: boxes far from the data set's are flagged, in whatever order they come."""

from __future__ import annotations

import csv
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from core_factories import header, kept
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner import outliers, recist
from deeplesion_miner.reasons import message
from deeplesion_miner.rules import Rules
from deeplesion_miner.types import Box, Kept, Note, Rejected, Segment

RULES = Rules()


def cross(number: int, width: float, height: float) -> Kept:
    made = kept(header(), f"9.9#{number}")
    half_w, half_h = width / 2, height / 2
    lesion = replace(
        made.lesion,
        long_axis=Segment((50 - half_w, 50), (50 + half_w, 50)),
        short_axis=Segment((50, 50 - half_h), (50, 50 + half_h)),
    )
    return Kept(lesion)


def ordinary(count: int = 60) -> list[Kept]:
    chance = random.Random(1)
    return [cross(number, 20 * math.exp(chance.gauss(0, 0.25)), 20) for number in range(count)]


NEEDLE = cross(1000, 200, 4)


def test_a_needle_among_ordinary_boxes_is_flagged_and_the_others_are_not() -> None:
    verdicts = outliers.judge_population([*ordinary(), NEEDLE], RULES)
    flagged = [v for v in verdicts if isinstance(v, Kept) and v.notes]
    assert [v.bookmark.key for v in flagged] == ["9.9#1000"]
    assert dict(flagged[0].notes[0].facts) == {"ratio": pytest.approx(50)}
    assert message("flag", flagged[0].notes[0].code, flagged[0].notes[0].facts)


def test_it_is_dropped_on_request_only() -> None:
    verdicts = outliers.judge_population([*ordinary(), NEEDLE], replace(RULES, drop_noisy=True))
    assert [v.reason for v in verdicts if isinstance(v, Rejected)] == ["population_outlier"]
    assert isinstance(verdicts[-1], Rejected)


def test_a_crowd_of_needles_cannot_hide_itself() -> None:
    """A plain mean and variance would take ten needles among sixty boxes for ordinary."""
    needles = [cross(1000 + number, 200, 4) for number in range(10)]
    verdicts = outliers.judge_population([*ordinary(), *needles], RULES)
    assert sum(bool(v.notes) for v in verdicts) == 10
    values = [outliers.log_ratio(outliers.tight_box(k.lesion)) for k in (*ordinary(), *needles)]
    plain = outliers.population(values, inlier_deviations=1e9)
    assert not plain.is_outlier(outliers.log_ratio(outliers.tight_box(NEEDLE.lesion)), 5)


def test_a_small_population_judges_nobody() -> None:
    few = ordinary(RULES.population_least_count - 2)
    assert outliers.judge_population([*few, NEEDLE], RULES) == (*few, NEEDLE)
    assert outliers.judge_population([], replace(RULES, population_least_count=0)) == ()


def test_equal_boxes_judge_nobody() -> None:
    same = [cross(number, 20, 10) for number in range(60)]
    assert outliers.judge_population(same, RULES) == tuple(same)


def test_without_spread_nothing_is_far_however_the_mean_was_rounded() -> None:
    assert not outliers.Population(60, 0.1, 0.0).is_outlier(0.1 + 1e-16, 5)


def test_more_than_half_equal_boxes_leave_the_rest_as_inliers() -> None:
    found = outliers.population([0.0] * 10 + [1.0], 5)
    assert (found.count, found.mean) == (11, pytest.approx(1 / 11))


def test_single_lengths_are_passed_by() -> None:
    single = replace(NEEDLE.lesion, short_axis=None, short_axis_mm=None)
    verdicts = outliers.judge_population([*ordinary(), Kept(single)], RULES)
    assert verdicts[-1] == Kept(single)


@given(st.randoms(use_true_random=False))
def test_numbers_do_not_depend_on_the_order(chance: random.Random) -> None:
    boxes = {k.bookmark.key: outliers.tight_box(k.lesion) for k in [*ordinary(), NEEDLE]}
    expected = outliers.population_outliers(boxes, RULES)
    mixed = list(boxes.items())
    chance.shuffle(mixed)
    assert list(outliers.population_outliers(dict(mixed), RULES).items()) == list(expected.items())


@given(st.floats(0, 500), st.floats(0, 500))
def test_the_ratio_is_finite_and_turning_the_box_only_changes_its_sign(width: float, height: float) -> None:
    one, other = outliers.log_ratio(Box(0, 0, width, height)), outliers.log_ratio(Box(0, 0, height, width))
    assert math.isfinite(one)
    assert one == pytest.approx(-other)


@pytest.mark.parametrize("code", ["population_outlier", "extent_over_long", "narrow_window"])
def test_the_noise_flags_make_a_lesion_possibly_noisy(code: str) -> None:
    assert outliers.possibly_noisy([Note("axes_do_not_cross"), Note(code)])


def test_other_flags_do_not() -> None:
    assert not outliers.possibly_noisy([Note("axes_do_not_cross"), Note("not_perpendicular")])


@pytest.mark.real
def test_hardly_any_public_row_is_flagged(real_data: Path) -> None:
    boxes: dict[str, Box] = {}
    for path in sorted((real_data / "deeplesion").glob("DL_info_*_visible.csv")):
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                c = [float(x) for x in row["Measurement_coordinates"].split(",")]
                boxes[str(len(boxes))] = recist.box(zip(c[::2], c[1::2], strict=True), 0)
    assert len(boxes) == 5488
    assert len(outliers.population_outliers(boxes, RULES)) <= 5
