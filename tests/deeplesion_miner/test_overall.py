"""Tables 1 and 2 of RECIST 1.1, row by row as the paper prints them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.overall import NonTargetResponse, Overall, Standing, non_target_response, overall
from deeplesion_miner.response import Response

TABLE_1 = """
CR               | CR                           | No        | CR
CR               | Non-CR/non-PD                | No        | PR
CR               | Not evaluated                | No        | PR
PR               | Non-PD or not all evaluated  | No        | PR
SD               | Non-PD or not all evaluated  | No        | SD
Not all evaluated| Non-PD                       | No        | NE
PD               | Any                          | Yes or No | PD
Any              | PD                           | Yes or No | PD
Any              | Any                          | Yes       | PD
"""
TABLE_2 = """
CR                | No        | CR
Non-CR/non-PD     | No        | Non-CR/non-PD
Not all evaluated | No        | NE
Unequivocal PD    | Yes or No | PD
Any               | Yes       | PD
"""
TARGETS = {
    "CR": {Response.COMPLETE}, "PR": {Response.PARTIAL}, "SD": {Response.STABLE}, "PD": {Response.PROGRESSIVE},
    "Not all evaluated": {Response.NOT_EVALUABLE}, "Any": set(Response),
}  # fmt: skip
NON_TARGETS = {
    "CR": {NonTargetResponse.COMPLETE},
    "Non-CR/non-PD": {NonTargetResponse.PERSISTING},
    "Not evaluated": {NonTargetResponse.NOT_EVALUABLE},
    "Not all evaluated": {NonTargetResponse.NOT_EVALUABLE},
    "Non-PD": {NonTargetResponse.COMPLETE, NonTargetResponse.PERSISTING},
    "Non-PD or not all evaluated": set(NonTargetResponse) - {NonTargetResponse.PROGRESSIVE},
    "PD": {NonTargetResponse.PROGRESSIVE},
    "Unequivocal PD": {NonTargetResponse.PROGRESSIVE},
    "Any": set(NonTargetResponse),
}
NEW = {"No": {False}, "Yes": {True}, "Yes or No": {False, True}}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


@pytest.mark.parametrize(("targets", "others", "new"), list(product(Response, NonTargetResponse, (False, True))))
def test_table_1_is_what_the_paper_prints(targets: Response, others: NonTargetResponse, new: bool) -> None:
    rows = {
        answer.upper()
        for of_targets, of_others, of_new, answer in cells(TABLE_1)
        if targets in TARGETS[of_targets] and others in NON_TARGETS[of_others] and new in NEW[of_new]
    }
    if (targets, others, new) == (Response.NOT_EVALUABLE, NonTargetResponse.NOT_EVALUABLE, False):
        assert rows == set(), "the paper has no row where neither was evaluated"
        rows = {"NE"}
    assert {overall(targets, others, new).value.upper()} == rows


@pytest.mark.parametrize(("others", "new"), list(product(NonTargetResponse, (False, True))))
def test_table_2_is_what_the_paper_prints(others: NonTargetResponse, new: bool) -> None:
    rows = {
        answer.upper()
        for of_others, of_new, answer in cells(TABLE_2)
        if others in NON_TARGETS[of_others] and new in NEW[of_new]
    }
    assert {overall(None, others, new).value.upper()} == rows


@pytest.mark.parametrize("targets", Response)
def test_without_non_target_lesions_the_targets_say_it_unless_a_lesion_is_new(targets: Response) -> None:
    assert overall(targets, None, False).value == targets.value
    assert overall(targets, None, True) is Overall.PROGRESSIVE


def test_without_any_lesion_at_baseline_a_new_one_alone_says_something() -> None:
    assert (overall(None, None, False), overall(None, None, True)) == (Overall.NOT_EVALUABLE, Overall.PROGRESSIVE)


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        ([], None),
        ([Standing.NORMAL, Standing.NORMAL], NonTargetResponse.COMPLETE),
        ([Standing.NORMAL, Standing.PRESENT], NonTargetResponse.PERSISTING),
        ([Standing.PRESENT, Standing.NOT_EVALUABLE], NonTargetResponse.NOT_EVALUABLE),
        ([Standing.NORMAL, Standing.NOT_EVALUABLE], NonTargetResponse.NOT_EVALUABLE),
    ],
)
def test_non_target_lesions_respond_completely_where_all_are_nodes_of_normal_size(
    standings: list[Standing], expected: NonTargetResponse | None
) -> None:
    assert non_target_response(standings) is expected


@given(st.lists(st.sampled_from(Standing)))
def test_what_marks_say_of_non_target_lesions_is_never_progression(standings: list[Standing]) -> None:
    assert non_target_response(standings) is not NonTargetResponse.PROGRESSIVE


def test_every_response_has_its_words() -> None:
    assert [one.words for one in Overall if f"({one.value})" not in one.words] == []
