"""RECIST 1.1, as its authors' own examples and thresholds have it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import schemas
from deeplesion_miner.response import Response, Target, TimePoint, assess, sum_of_diameters_mm
from deeplesion_miner.types import Code


def masses(*diameters_mm: float) -> TimePoint:
    return {f"mass {number}": Target(mm) for number, mm in enumerate(diameters_mm, start=1)}


def node(short_axis_mm: float) -> Target:
    return Target(long_axis_mm=30.0, short_axis_mm=short_axis_mm, is_node=True)


def response(baseline: TimePoint, now: TimePoint, *earlier: TimePoint) -> Response:
    return assess(baseline, earlier, now).response


def test_a_mass_counts_by_its_long_axis_and_a_lymph_node_by_its_short_axis() -> None:
    assert sum_of_diameters_mm({"mass": Target(40.0, 25.0), "node": node(18.0)}) == 58.0


def test_a_decrease_of_30_percent_from_baseline_is_a_partial_response_and_one_of_less_is_stable() -> None:
    assert response(masses(60, 40), masses(40, 30)) is Response.PARTIAL
    assert response(masses(60, 40), masses(40, 30.1)) is Response.STABLE


def test_the_decrease_is_measured_from_the_baseline_even_where_the_sum_was_smaller_in_between() -> None:
    assert response(masses(100), masses(70), masses(66)) is Response.PARTIAL


def test_an_increase_of_20_percent_from_the_smallest_sum_is_progression_even_below_the_baseline() -> None:
    assert response(masses(100), masses(60), masses(50)) is Response.PROGRESSIVE
    assert response(masses(100), masses(59.9), masses(50)) is Response.PARTIAL


def test_the_baseline_is_the_smallest_sum_where_the_lesions_never_shrank() -> None:
    assert assess(masses(100), [masses(110)], masses(119)).nadir_mm == 100
    assert response(masses(100), masses(119), masses(110)) is Response.STABLE
    assert response(masses(100), masses(120), masses(110)) is Response.PROGRESSIVE


def test_growth_of_20_percent_that_is_less_than_5_mm_is_no_progression() -> None:
    assert response(masses(20), masses(24.9)) is Response.STABLE
    assert response(masses(20), masses(25)) is Response.PROGRESSIVE


def test_the_response_is_complete_where_masses_are_gone_and_nodes_are_of_normal_size_though_the_sum_is_not_0() -> None:
    assessed = assess({"mass": Target(30), "node": node(20)}, [], {"mass": Target(0), "node": node(9.9)})
    assert (assessed.response, assessed.sum_mm) == (Response.COMPLETE, 9.9)
    assert response({"mass": Target(30), "node": node(20)}, {"mass": Target(0), "node": node(10)}) is Response.PARTIAL
    assert response({"mass": Target(30), "node": node(20)}, {"mass": Target(5), "node": node(9)}) is Response.PARTIAL


def test_a_mass_that_comes_back_after_a_complete_response_is_progression_however_small() -> None:
    assert response(masses(30), masses(3), masses(0)) is Response.PROGRESSIVE


def test_a_mass_that_comes_back_after_a_partial_response_is_added_to_the_sum() -> None:
    assert response(masses(30, 30), masses(28, 3), masses(28, 0)) is Response.PARTIAL


def test_without_one_of_the_lesions_there_is_no_response() -> None:
    assessed = assess(masses(50, 30), [], masses(20))
    assert (assessed.response, assessed.missing) == (Response.NOT_EVALUABLE, ("mass 2",))


def test_without_one_of_the_lesions_there_is_still_progression_where_the_others_have_grown_enough() -> None:
    """The example of section 4.4.2: three lesions of together 50 mm, later two of together 80 mm."""
    assert response(masses(20, 20, 10), masses(40, 40)) is Response.PROGRESSIVE


def test_an_incomplete_time_point_is_no_smallest_sum() -> None:
    assert assess(masses(50, 50), [masses(45)], masses(50, 50)).nadir_mm == 100


@pytest.mark.parametrize(
    ("baseline", "now", "says"),
    [
        ({}, {}, "no target lesion at baseline"),
        (masses(10), masses(10, 20), "mass 2 is no target lesion of the baseline"),
        (masses(10), masses(-1), "mass 1 measures -1"),
        (masses(10), masses(float("nan")), "mass 1 measures nan"),
    ],
)
def test_what_cannot_be_assessed_is_refused_by_name(baseline: TimePoint, now: TimePoint, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        assess(baseline, [], now)


@given(st.lists(st.integers(10, 200), min_size=1, max_size=5), st.data())
def test_a_percentage_that_is_met_exactly_is_met(baseline: list[int], data: st.DataObject) -> None:
    now = [data.draw(st.integers(0, 3 * mm)) for mm in baseline]
    before, after = sum(baseline), sum(now)
    assume(after > 0)
    found = response(masses(*baseline), masses(*now))
    assert (found is Response.PARTIAL) == (10 * after <= 7 * before)
    assert (found is Response.PROGRESSIVE) == (10 * after >= 12 * before and after >= before + 5)


@given(st.permutations([masses(80), masses(60), masses(75)]))
def test_the_order_of_the_time_points_in_between_is_of_no_consequence(earlier: list[TimePoint]) -> None:
    assert assess(masses(100), earlier, masses(72)).nadir_mm == 60


def test_every_response_has_a_concept_that_reports_state() -> None:
    assert Response.PARTIAL.code == Code("112042", "DCM", "Target Lesion Partial Response")
    assert {one.value for one in Response} == set(schemas.load("emit")["response"])
