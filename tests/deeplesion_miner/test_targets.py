"""Target lesions: the largest measurable ones of the baseline, five at most, two of an organ at most."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from core_factories import bookmark
from hypothesis import given
from hypothesis import strategies as st

import schemas
from deeplesion_miner.organs import organ_of
from deeplesion_miner.response import Target
from deeplesion_miner.results import coded
from deeplesion_miner.targets import BaselineLesion, choose_targets
from deeplesion_miner.types import Code


def mass(name: str, long_axis_mm: float, organ: str = "", thickness_mm: float | None = None) -> BaselineLesion:
    return BaselineLesion(name, Target(long_axis_mm, 5.0), organ, thickness_mm)


def node(name: str, short_axis_mm: float, thickness_mm: float | None = None) -> BaselineLesion:
    return BaselineLesion(name, Target(40.0, short_axis_mm, is_node=True), "lymph nodes", thickness_mm)


def chosen(*lesions: BaselineLesion) -> set[str]:
    return {name for name, reason in choose_targets(lesions).items() if not reason}


def test_of_six_lesions_in_six_organs_the_five_largest_are_targets() -> None:
    reasons = choose_targets(mass(str(mm), mm, f"organ {mm}") for mm in (12, 11, 30, 25, 14, 50))
    assert reasons == {"50": "", "30": "", "25": "", "14": "", "12": "", "11": "five_in_all"}


def test_of_three_lesions_in_the_liver_the_two_largest_are_targets() -> None:
    reasons = choose_targets([mass("a", 20, "liver"), mass("b", 40, "liver"), mass("c", 30, "liver"), mass("d", 10)])
    assert reasons == {"b": "", "c": "", "a": "two_of_organ", "d": ""}


def test_an_unknown_organ_limits_nothing_but_five_in_all() -> None:
    assert chosen(*(mass(name, 20) for name in "abcdefg")) == set("abcde")


def test_all_lymph_nodes_are_one_organ_and_compete_by_their_short_axis() -> None:
    assert chosen(node("a", 16), node("b", 18), node("c", 17), mass("d", 12)) == {"b", "c", "d"}


def test_of_lesions_of_one_size_the_first_by_name_is_taken_whatever_order_they_come_in() -> None:
    liver = [mass("b", 20.004, "liver"), mass("a", 20.0, "liver"), mass("c", 20.001, "liver")]
    assert chosen(*liver) == chosen(*reversed(liver)) == {"a", "b"}


@pytest.mark.parametrize(
    ("lesion", "reason"),
    [
        (mass("x", 10.0), ""),
        (mass("x", 9.99), "mass_below_10_mm"),
        (mass("x", 10.0, thickness_mm=5.0), ""),
        (mass("x", 14.0, thickness_mm=7.5), "mass_below_two_slices"),
        (mass("x", 15.0, thickness_mm=7.5), ""),
        (mass("x", 9.0, thickness_mm=7.5), "mass_below_10_mm"),
        (node("x", 15.0), ""),
        (node("x", 15.0, thickness_mm=10.0), ""),
        (node("x", 14.99), "node_below_15_mm"),
        (node("x", 10.0), "node_below_15_mm"),
        (node("x", 9.99), "node_below_10_mm"),
        (BaselineLesion("x", None), "node_without_short_axis"),
    ],
)
def test_a_mass_is_measurable_from_10_mm_or_two_thick_slices_on_and_a_node_from_15_mm(
    lesion: BaselineLesion, reason: str
) -> None:
    assert choose_targets([lesion]) == {"x": reason}
    assert not reason or reason in schemas.load("follow_up")["no_target"]


@st.composite
def baselines(draw: st.DrawFn) -> list[BaselineLesion]:
    organs = st.sampled_from(["", "", "lung", "liver", "bone"])
    sizes = st.integers(6, 40).map(float)
    return [
        node(str(number), draw(sizes)) if draw(st.booleans()) else mass(str(number), draw(sizes), draw(organs))
        for number in range(draw(st.integers(0, 8)))
    ]


def is_allowed(some: tuple[BaselineLesion, ...]) -> bool:
    """By the paper's words: measurable, no more than five, of each organ no more than two."""
    organs = Counter(one.organ for one in some if one.organ)
    measurable = all(
        one.size is not None and (one.size.short_axis_mm >= 15 if one.size.is_node else one.size.long_axis_mm >= 10)
        for one in some
    )
    return measurable and len(some) <= 5 and max(organs.values(), default=0) <= 2


def total_mm(some: tuple[BaselineLesion, ...]) -> float:
    return sum(one.size.diameter_mm for one in some if one.size)


@given(baselines(), st.randoms())
def test_no_other_allowed_choice_has_a_larger_sum(baseline: list[BaselineLesion], chance: random.Random) -> None:
    names = chosen(*baseline)
    taken = tuple(one for one in baseline if one.name in names)
    every = [some for count in range(6) for some in combinations(baseline, count) if is_allowed(some)]
    assert taken in every
    assert total_mm(taken) == max(map(total_mm, every))
    assert chosen(*chance.sample(baseline, len(baseline))) == names


@given(baselines())
def test_every_lesion_is_a_target_or_has_one_reason(baseline: list[BaselineLesion]) -> None:
    reasons = choose_targets(baseline)
    assert reasons.keys() == {one.name for one in baseline}
    assert set(reasons.values()) <= {"", *schemas.load("follow_up")["no_target"]}


# --- organs ----------------------------------------------------------------------------------------------


def organ(value: str, scheme: str = "SCT") -> str:
    return organ_of(replace(bookmark(), finding_site=Code(value, scheme, "")))


@pytest.mark.parametrize(
    ("value", "scheme", "expected"),
    [
        ("39607008", "SCT", "lung"),
        ("44714003", "SCT", "lung"),
        ("T-28000", "SRT", "lung"),
        ("T-28000", "SNM3", "lung"),
        ("10200004", "SCT", "liver"),
        ("277958008", "SCT", "liver"),
        ("66794005", "SCT", "bone"),
        ("15776009", "SCT", "SCT 15776009"),
        ("818981001", "SCT", ""),
        ("72410000", "SCT", ""),
        ("x", "CORNERSTONEJS", ""),
        ("", "SCT", ""),
    ],
)
def test_parts_of_an_organ_are_that_organ_a_region_is_none_and_any_other_code_is_one_by_itself(
    value: str, scheme: str, expected: str
) -> None:
    assert organ(value, scheme) == expected


def test_without_a_code_of_the_site_the_organ_is_not_known() -> None:
    assert organ_of(bookmark()) == ""


def test_the_regions_that_we_write_ourselves_are_no_organs() -> None:
    known = {word: organ(coded("site", word).value) for word in schemas.load("emit")["site"]}
    assert {word for word, found in known.items() if not found} == {"abdomen", "mediastinum", "soft tissue", "pelvis"}


def test_no_code_is_of_two_organs_nor_of_an_organ_and_a_region_nor_of_a_lymph_node() -> None:
    facts = schemas.load("organs")
    for scheme in ("SCT", "SRT"):
        tables = [*facts["organ"].values(), facts["region"], schemas.load("lymph_nodes")["lymph_node"]]
        codes = [code for table in tables for code in table.get(scheme, ())]
        assert [code for code, count in Counter(codes).items() if count > 1] == []
