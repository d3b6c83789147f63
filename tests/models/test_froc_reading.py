"""Reading the curve: runs of one number of false positives, below the first point, above the last."""

from __future__ import annotations

import numpy as np
import pytest
from froc_cases import case, seeds
from hypothesis import assume, given, settings

from models.evaluation.froc import Curve, count, curve, pool
from models.evaluation.froc_reading import (
    EXTRAPOLATED,
    LENS,
    MULAN,
    Outside,
    Reading,
    Run,
    average_to_eight,
    published_average,
    score_at,
    sensitivity_at,
)
from models.evaluation.overlap import Space

FIRST_OF_RUN = Reading(Run.FIRST, Outside.ZERO, Outside.HOLD)


def drawn(false_positives: list[float], sensitivity: list[float]) -> Curve:
    scores = np.linspace(1, 0, len(sensitivity))
    return Curve(np.array(false_positives), np.array(sensitivity), scores, images=1.0, marks=1.0)


PROBE = drawn([1, 1, 2, 2], [0, 0.5, 0.5, 1])
PROBED_AT = (0.5, 1.0, 1.5, 2.0, 3.0)


def test_the_first_point_of_a_run_is_read_where_that_is_the_rule() -> None:
    assert sensitivity_at(PROBE, PROBED_AT, FIRST_OF_RUN).tolist() == [0, 0, 0.5, 0.5, 1]


def test_the_last_point_of_a_run_is_read_as_numpy_interp_reads_it() -> None:
    assert sensitivity_at(PROBE, PROBED_AT, LENS).tolist() == [0, 0.5, 0.5, 1, 1]
    inside = PROBED_AT[1:4]
    assert np.interp(inside, PROBE.false_positives, PROBE.sensitivity).tolist() == [0.5, 0.5, 1]


def test_between_runs_the_line_goes_from_the_last_point_to_the_first() -> None:
    runs = drawn([0, 0, 2, 2], [0.1, 0.3, 0.5, 0.9])
    assert sensitivity_at(runs, [0.5, 1.0, 1.5]) == pytest.approx([0.35, 0.4, 0.45])
    assert sensitivity_at(runs, [0.5, 1.0, 1.5], EXTRAPOLATED) == pytest.approx([0.35, 0.4, 0.45])


def test_lens_reads_nothing_below_the_first_point_and_holds_above_the_last() -> None:
    line = drawn([1, 2], [0.2, 0.6])
    assert sensitivity_at(line, [0.99, 1, 2, 100]).tolist() == [0, 0.2, 0.6, 0.6]


def test_mulan_refuses_below_the_first_point_and_holds_above_the_last() -> None:
    line = drawn([1, 2], [0.2, 0.6])
    assert sensitivity_at(line, [1, 5], MULAN).tolist() == [0.2, 0.6]
    with pytest.raises(ValueError, match=r"0\.5 false positives per image lie outside"):
        sensitivity_at(line, [0.5], MULAN)


def test_3dce_draws_the_end_lines_on_even_beyond_one() -> None:
    line = drawn([1, 2, 3], [0.2, 0.6, 0.8])
    assert sensitivity_at(line, [0.5, 4, 5], EXTRAPOLATED) == pytest.approx([0.0, 1.0, 1.2])


def test_3dce_has_no_end_line_where_the_last_two_points_share_their_false_positives() -> None:
    assert np.isnan(sensitivity_at(PROBE, [0.5, 3.0], EXTRAPOLATED)).all()
    assert np.isnan(sensitivity_at(drawn([1], [0.5]), [0.5, 3.0], EXTRAPOLATED)).all()


def test_averages_are_of_the_published_numbers_of_false_positives() -> None:
    line = drawn([0, 16], [0, 1])
    assert published_average(line) == pytest.approx((0.5 + 1 + 2 + 4) / 4 / 16)
    assert average_to_eight(line) == pytest.approx((0.5 + 1 + 2 + 4 + 8) / 5 / 16)


def test_the_score_for_a_number_of_false_positives_lets_no_more_in() -> None:
    steps = drawn([0, 1, 1, 2], [0.2, 0.2, 0.6, 0.6])
    assert [score_at(steps, asked) for asked in (0, 0.5, 1, 5)] == pytest.approx([1, 1, 1 / 3, 0])
    assert score_at(drawn([1], [0]), 0.5) == float("inf")


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_inside_the_curve_the_readings_differ_at_runs_only(seed: int) -> None:
    marked, detected = case(seed, Space.PLANE)
    assume(sum(map(len, marked)) > 0 and sum(map(len, detected)) > 1)
    found = curve(count(pool(marked, detected), 0.3))
    low, high = found.false_positives[[0, -1]]
    assume(low < high)
    asked = np.linspace(low, high, 23)
    between = asked[~np.isin(asked, found.false_positives)].tolist()
    assert sensitivity_at(found, between, LENS) == pytest.approx(sensitivity_at(found, between, EXTRAPOLATED))
    assert sensitivity_at(found, between, LENS) == pytest.approx(
        np.interp(between, found.false_positives, found.sensitivity)
    )
