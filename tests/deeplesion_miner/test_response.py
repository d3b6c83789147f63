"""RECIST 1.1, as its authors' own examples and thresholds have it."""

from __future__ import annotations

import random

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


@st.composite
def courses(draw: st.DrawFn) -> tuple[TimePoint, list[TimePoint], TimePoint]:
    """A baseline of measurable targets, time points in between and now, all of them with every target."""
    nodes = draw(st.lists(st.booleans(), min_size=1, max_size=5))

    def at(least_mm: float) -> TimePoint:
        size = st.integers(int(least_mm), 200).map(float)
        return {str(k): Target(draw(size), draw(size), is_node) for k, is_node in enumerate(nodes)}

    return at(15), [at(0) for _ in range(draw(st.integers(0, 3)))], at(0)


@given(courses(), st.randoms())
def test_the_order_of_lesions_and_their_names_are_of_no_consequence(
    course: tuple[TimePoint, list[TimePoint], TimePoint], chance: random.Random
) -> None:
    names = sorted(course[0])
    renamed = dict(zip(names, chance.sample(names, len(names)), strict=True))

    def other(one: TimePoint) -> TimePoint:
        return {renamed[name]: one[name] for name in chance.sample(names, len(names))}

    baseline, earlier, now = course
    assert assess(other(baseline), [other(one) for one in earlier], other(now)) == assess(baseline, earlier, now)


@given(courses(), st.sampled_from([2.0, 3.0, 10.0]))
def test_scaling_everything_up_changes_no_percentage_and_no_partial_response_of_masses(
    course: tuple[TimePoint, list[TimePoint], TimePoint], factor: float
) -> None:
    def scaled(one: TimePoint) -> TimePoint:
        return {name: Target(x.long_axis_mm * factor, x.short_axis_mm * factor, x.is_node) for name, x in one.items()}

    baseline, earlier, now = course
    small, large = assess(*course), assess(scaled(baseline), [scaled(one) for one in earlier], scaled(now))
    assert large.sum_mm == pytest.approx(small.sum_mm * factor)
    assert large.nadir_mm == pytest.approx(small.nadir_mm * factor)
    assert large.nadir_at == small.nadir_at
    if not any(one.is_node for one in baseline.values()):
        grown = {Response.STABLE: {Response.STABLE, Response.PROGRESSIVE}, Response.PARTIAL: {
            Response.PARTIAL, Response.PROGRESSIVE}}  # fmt: skip
        assert large.response in grown.get(small.response, {small.response}), "5 mm alone do not scale"


@given(courses())
def test_the_nadir_is_the_sum_of_the_time_point_that_is_named(
    course: tuple[TimePoint, list[TimePoint], TimePoint],
) -> None:
    baseline, earlier, _ = course
    assessed = assess(*course)
    sums = [sum_of_diameters_mm(one) for one in (baseline, *earlier)]
    assert assessed.nadir_mm == min(sums) == sums[assessed.nadir_at]
    assert sums.index(min(sums)) == assessed.nadir_at, "of equal sums the first"


@given(courses(), st.integers(0, 4), st.floats(0.0, 50.0))
def test_a_lesion_that_measures_more_never_makes_the_response_better(
    course: tuple[TimePoint, list[TimePoint], TimePoint], which: int, more_mm: float
) -> None:
    better = [Response.COMPLETE, Response.PARTIAL, Response.STABLE, Response.PROGRESSIVE]
    baseline, earlier, now = course
    name = sorted(now)[which % len(now)]
    one = now[name]
    larger = {**now, name: Target(one.long_axis_mm + more_mm, one.short_axis_mm + more_mm, one.is_node)}
    before, after = (better.index(assess(baseline, earlier, then).response) for then in (now, larger))
    assert after >= before


@given(st.integers(15, 60), st.integers(0, 90))
def test_a_node_alone_responds_by_its_short_axis_exactly(before_mm: int, now_mm: int) -> None:
    found = response({"node": node(before_mm)}, {"node": node(now_mm)})
    if now_mm < 10:
        assert found is Response.COMPLETE
    elif 10 * now_mm >= 12 * before_mm and now_mm >= before_mm + 5:
        assert found is Response.PROGRESSIVE
    else:
        assert (found is Response.PARTIAL) == (10 * now_mm <= 7 * before_mm)


@pytest.mark.parametrize(
    ("target", "is_measurable"),
    [
        (Target(10.0), True), (Target(9.99), False), (Target(10.0 - 1e-9), True),
        (node(15.0), True), (node(14.99), False), (node(15.0 - 1e-9), True),
    ],
)  # fmt: skip
def test_a_target_is_a_mass_of_10_mm_or_a_node_of_15(target: Target, is_measurable: bool) -> None:
    assert target.is_measurable is is_measurable


def test_a_node_of_10_mm_is_not_normal_though_a_computer_measures_a_hair_less() -> None:
    assert not node(10.0 - 1e-9).is_gone
    assert node(9.99).is_gone


@given(st.permutations([masses(80), masses(60), masses(75)]))
def test_the_order_of_the_time_points_in_between_is_of_no_consequence(earlier: list[TimePoint]) -> None:
    assert assess(masses(100), earlier, masses(72)).nadir_mm == 60


def test_every_response_has_a_concept_that_reports_state() -> None:
    assert Response.PARTIAL.code == Code("112042", "DCM", "Target Lesion Partial Response")
    assert {one.value for one in Response} == set(schemas.load("emit")["response"])
