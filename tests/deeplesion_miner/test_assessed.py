"""RECIST 1.1 over days of marks: what is followed, what is not evaluable, and what only may be a new lesion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import pytest
from core_factories import axial_plane, header, image_ref, lesion
from hypothesis import given
from hypothesis import strategies as st

import schemas
from deeplesion_miner.assessed import Assessed
from deeplesion_miner.follow_up import follow
from deeplesion_miner.follow_up_words import response_basis, response_notes
from deeplesion_miner.overall import NonTargetResponse, Overall, Standing
from deeplesion_miner.response import Response
from deeplesion_miner.results import of_bookmarks
from deeplesion_miner.same_lesion import TimedStudy
from deeplesion_miner.types import Code, Kept

NODE = Code("59441001", "SCT", "Lymph node")
LIVER = Code("10200004", "SCT", "Liver")
LUNG = Code("39607008", "SCT", "Lung")


@dataclass(frozen=True)
class Marked:
    """A lesion as a reader marks it; the label is what it is known again by."""

    label: str
    long_axis_mm: float
    short_axis_mm: float | None = 6.0
    site: Code | None = None
    tracking_uid: str = ""
    thickness_mm: float | None = None


def node(label: str, short_axis_mm: float | None) -> Marked:
    """Of a long axis that must not count."""
    return Marked(label, 40.0, short_axis_mm, NODE)


def kept(study: str, number: int, one: Marked) -> Kept:
    plane = replace(axial_plane(), slice_thickness_mm=one.thickness_mm)
    found = lesion(header(image_ref(study=study), plane), f"{study}.9#{number}", one.long_axis_mm)
    said = replace(found.bookmark, label=one.label, finding_site=one.site, tracking_uid=one.tracking_uid)
    return Kept(replace(found, bookmark=said, short_axis_mm=one.short_axis_mm))


def course(*days: list[Marked]) -> Assessed:
    """The last of the days, 20240101 and on, as it is assessed."""
    studies = [
        TimedStudy("P", "", f"202401{day:02}", str(day), tuple(kept(str(day), k, one) for k, one in enumerate(marks)))
        for day, marks in enumerate(days, start=1)
    ]
    return follow(studies).responses[str(len(days)), ""]


def target_response(found: Assessed) -> Response | None:
    return found.assessment.response if found.assessment else None


# --- targets and the sum ---------------------------------------------------------------------------------


def test_five_targets_make_the_sum_and_the_sixth_is_a_non_target_lesion() -> None:
    marks = [Marked(f"lesion {mm}", mm) for mm in (11, 12, 13, 14, 15, 16)]
    found = course(marks, marks)
    assert found.assessment is not None
    assert found.assessment.sum_mm == 12 + 13 + 14 + 15 + 16
    (sixth,) = found.non_targets
    assert (sixth.label, sixth.reason, sixth.standing) == ("lesion 11", "five_in_all", Standing.PRESENT)


def test_the_third_lesion_of_an_organ_is_a_non_target_lesion_even_where_it_grows() -> None:
    before = [Marked("a", 40, site=LIVER), Marked("b", 30, site=LIVER), Marked("c", 20, site=LIVER)]
    found = course(before, [*before[:2], Marked("c", 90, site=LIVER)])
    assert [one.label for one in found.targets] == ["a", "b"]
    assert target_response(found) is Response.STABLE, "that a non-target lesion has progressed, a reader says"
    assert [(one.label, one.reason) for one in found.non_targets] == [("c", "two_of_organ")]


def test_lymph_nodes_of_three_stations_are_one_organ() -> None:
    stations = [Code("62683002", "SCT", "Mediastinal"), Code("68171009", "SCT", "Axillary"), NODE]
    marks = [replace(node(site.meaning, 20.0 - k), site=site) for k, site in enumerate(stations)]
    assert [one.reason for one in course(marks, marks).lesions] == ["", "", "two_of_organ"]


def test_a_code_that_comes_later_has_the_baseline_read_again_with_it() -> None:
    before = [Marked("a", 30, 12.0), Marked("b", 20)]
    assert [one.label for one in course(before, before).targets] == ["a", "b"]
    found = course(before, before, [node("a", 12.0), before[1]])
    assert ([one.label for one in found.targets], [one.reason for one in found.non_targets]) == (
        ["b"], ["node_below_15_mm"],
    )  # fmt: skip


def test_the_same_targets_are_followed_though_others_are_larger_by_then() -> None:
    before = [Marked("a", 40, site=LIVER), Marked("b", 30, site=LIVER), Marked("c", 20, site=LIVER)]
    small = [Marked("a", 11, site=LIVER), Marked("b", 11, site=LIVER), Marked("c", 80, site=LIVER)]
    for days in ((before, small), (before, small, small)):
        assert [one.label for one in course(*days).targets] == ["a", "b"]


def test_a_target_without_a_mark_is_not_evaluable_and_so_is_the_response() -> None:
    found = course([Marked("a", 30), Marked("b", 20)], [Marked("a", 10)])
    assert target_response(found) is Response.NOT_EVALUABLE
    gone = found.targets[1]
    assert (gone.label, gone.now, gone.not_evaluable) == ("b", None, "not_marked")
    basis = response_basis(found)
    assert "10.00 mm without 1 of 2 target lesions, which were not measured; baseline 50.00 mm on 20240101" in basis
    assert "%" not in basis, "a part of the lesions has no change from the sum of all"
    assert "'b' long axis 20.00 mm, not evaluable now (no mark now, which does not say that it is gone)" in str(
        response_notes(found)
    )


def test_targets_without_a_mark_are_no_complete_response() -> None:
    found = course([Marked("a", 30), Marked("b", 8)], [Marked("b", 8)])
    assert (target_response(found), found.overall(False)) == (Response.NOT_EVALUABLE, Overall.NOT_EVALUABLE)


def test_on_thick_slices_a_mass_below_twice_the_thickness_is_a_non_target_lesion() -> None:
    marks = [Marked("a", 14, thickness_mm=8.0), Marked("b", 16, thickness_mm=8.0)]
    assert [one.reason for one in course(marks, marks).non_targets] == ["mass_below_two_slices"]


# --- non-target lesions ----------------------------------------------------------------------------------


def test_nodes_of_10_to_15_mm_are_non_target_lesions_and_smaller_ones_none_at_all() -> None:
    marks = [Marked("a", 30), node("b", 14.9), node("c", 10.0), node("d", 9.9)]
    found = course(marks, marks)
    assert {one.label: one.reason for one in found.non_targets} == dict.fromkeys("bc", "node_below_15_mm")
    assert [one.label for one in found.normal_nodes] == ["d"]
    assert "no lesions: 'd' short axis 9.90 mm." in response_notes(found)[2]


def test_a_non_target_lesion_without_a_mark_is_not_evaluable_never_absent() -> None:
    found = course([Marked("a", 30), Marked("b", 8)], [Marked("a", 20)])
    assert [one.standing for one in found.non_targets] == [Standing.NOT_EVALUABLE]
    assert found.non_target_response is NonTargetResponse.NOT_EVALUABLE
    assert found.overall(has_new_lesion=False) is Overall.PARTIAL, "table 1: PR, not all evaluated, no new lesion"


def test_the_response_is_complete_where_target_and_non_target_nodes_are_below_10_mm_alike() -> None:
    before = [node("a", 20), node("b", 12)]
    assert course(before, [node("a", 9.9), node("b", 9.9)]).overall(False) is Overall.COMPLETE
    assert course(before, [node("a", 9.9), node("b", 10)]).overall(False) is Overall.PARTIAL
    assert course(before, [node("a", 9.9)]).overall(False) is Overall.PARTIAL
    assert course(before, [node("a", 9.9), node("b", None)]).overall(False) is Overall.PARTIAL


def test_without_targets_table_2_holds() -> None:
    found = course([Marked("a", 9)], [Marked("a", 9)])
    assert (found.assessment, found.overall(False)) == (None, Overall.PERSISTING)
    assert course([Marked("a", 9)], [Marked("b", 9)]).overall(False) is Overall.NOT_EVALUABLE
    assert response_notes(found)[-1] == (
        "Overall response by RECIST 1.1, table 2: neither complete response nor progression (non-CR/non-PD) if there is"
        " no new lesion (no mark is a candidate), and no non-target lesion has progressed unequivocally, else"
        " progressive disease (PD). A reader must decide; marks cannot."
    )


def test_a_node_that_was_first_drawn_without_its_short_axis_is_followed_as_a_non_target_lesion() -> None:
    found = course([Marked("a", 30), node("b", None)], [Marked("a", 30), node("b", 18)])
    (one,) = found.non_targets
    assert (one.before, one.reason, one.standing) == (None, "node_without_short_axis", Standing.PRESENT)
    assert "'b' without a short axis, now 18.00 mm, present" in response_notes(found)[1]


# --- candidates for new lesions --------------------------------------------------------------------------


def test_what_the_baseline_has_no_mark_of_is_a_candidate_and_no_progression_by_itself() -> None:
    found = course([Marked("a", 30)], [Marked("a", 30), Marked("b", 12)])
    (one,) = found.candidates
    assert (one.label, one.reason, one.since.study_date) == ("b", "not_marked_before", "20240102")
    assert target_response(found) is Response.STABLE
    assert (found.overall(False), found.overall(True)) == (Overall.STABLE, Overall.PROGRESSIVE)
    assert response_notes(found)[-1] == (
        "Overall response by RECIST 1.1, table 1: stable disease (SD) if the candidate is no new lesion, else"
        " progressive disease (PD). A reader must decide; marks cannot."
    )


def test_no_report_calls_a_disease_progressive_for_a_candidate_alone() -> None:
    found = course([Marked("a", 30)], [Marked("a", 20), Marked("b", 50), Marked("c", 50)])
    for said in (response_basis(found), *response_notes(found)):
        assert "PD" not in said or "if none of the 2 candidates is a new lesion, else progressive disease (PD)" in said


def test_a_candidate_stays_one_with_the_day_on_which_it_was_first_marked_also_where_it_has_no_mark_any_more() -> None:
    days = [[Marked("a", 30)], [Marked("a", 30), Marked("b", 12)], [Marked("a", 30), Marked("b", 20)]]
    (later,) = course(*days).candidates
    assert (later.since.study_date, later.is_marked_now) == ("20240102", True)
    assert later.size is not None
    assert later.size.long_axis_mm == 12
    gone = course(*days, [Marked("a", 30)])
    assert [one.is_marked_now for one in gone.candidates] == [False]
    assert "'b' long axis 12.00 mm on 20240102, not marked now [" in response_notes(gone)[1]


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        ([], [Marked("b", 12)], "not_marked_before"),
        ([Marked("b", 12), Marked("b", 14)], [Marked("b", 12)], "label_of_several"),
        ([Marked("b", 12)], [Marked("b", 12), Marked("b", 14)], "label_of_several"),
        ([], [Marked("", 12)], "no_label"),
        ([], [Marked("", 12, tracking_uid="7")], "no_label"),
        ([node("b", 9)], [node("b", 11)], "node_was_normal"),
        ([], [node("b", None)], "not_marked_before"),
    ],
)
def test_a_candidate_says_why_nothing_ties_it_to_an_earlier_lesion(
    before: list[Marked], now: list[Marked], reason: str
) -> None:
    found = course([Marked("a", 30), *before], [Marked("a", 30), *now])
    assert {one.reason for one in found.candidates} == {reason}
    assert schemas.load("follow_up")["candidate"][reason] in str(response_notes(found))


def test_a_lymph_node_of_normal_size_is_no_candidate_until_it_grows() -> None:
    days = [[Marked("a", 30)], [Marked("a", 30), node("b", 9)], [Marked("a", 30), node("b", 12)]]
    assert course(*days[:2]).candidates == ()
    (one,) = course(*days).candidates
    assert (one.reason, one.since.study_date) == ("node_was_normal", "20240103")


def test_progression_by_the_sum_needs_no_decision_about_candidates() -> None:
    found = course([Marked("a", 30)], [Marked("a", 40), Marked("b", 12)])
    assert response_notes(found)[-1] == (
        "Overall response by RECIST 1.1, table 1: progressive disease (PD) by the target lesions alone, whether or not"
        " a lesion is new."
    )


def test_without_a_candidate_the_overall_response_still_depends_on_what_nobody_marked() -> None:
    notes = response_notes(course([Marked("a", 30)], [Marked("a", 9)]))
    assert "partial response (PR) if there is no new lesion (no mark is a candidate), else" in notes[-1]


# --- the same lesion -------------------------------------------------------------------------------------


def test_a_lesion_that_only_a_study_in_between_ties_to_the_baseline_is_no_candidate() -> None:
    found = course(
        [Marked("a", 30, tracking_uid="7")],
        [Marked("left lung", 30, tracking_uid="7")],
        [Marked("left lung", 40, tracking_uid="9")],
    )
    assert (found.candidates, target_response(found)) == ((), Response.PROGRESSIVE)


def test_the_baseline_decides_before_a_study_in_between_does() -> None:
    found = course(
        [Marked("a", 30)],
        [Marked("a", 30, tracking_uid="7")],
        [Marked("a", 20), Marked("b", 50, tracking_uid="7")],
    )
    assert target_response(found) is Response.PARTIAL
    assert [(one.label, one.reason) for one in found.candidates] == [("b", "uid_of_another")]


def test_two_marks_of_one_tracking_uid_are_one_lesion() -> None:
    found = course(
        [Marked("a", 30, tracking_uid="7"), Marked("", 28, tracking_uid="7")],
        [Marked("b", 30, tracking_uid="8"), Marked("c", 20, tracking_uid="7"), Marked("", 30, tracking_uid="8")],
    )
    assert (len(found.targets), len(found.candidates)) == (1, 1)


# --- what reports say ------------------------------------------------------------------------------------


def test_each_measurement_says_what_its_lesion_is() -> None:
    days = [[Marked("a", 30), Marked("b", 8)], [Marked("a", 30), Marked("b", 9), Marked("c", 12)]]
    studies = [
        TimedStudy("P", "", f"2024010{n}", str(n), tuple(kept(str(n), k, one) for k, one in enumerate(marks)))
        for n, marks in enumerate(days, start=1)
    ]
    first, second = of_bookmarks([one for study in studies for one in study.kept], datetime(2024, 5, 1))
    found = follow(studies)
    assert found.told(first) is first, "there is nothing to compare the baseline with"
    lesions = found.told(second).lesions
    assert [one.lesion_type and one.lesion_type.meaning for one in lesions] == [
        "Target Lesion at Baseline", "Non-Target Lesion at Baseline", None,
    ]  # fmt: skip
    assert [one.prior_note.split(":")[0] for one in lesions] == [
        "", "", "Candidate for a new lesion since 20240102, not confirmed",
    ]  # fmt: skip
    assert len(found.candidates) == 1


def test_the_report_says_of_how_many_targets_no_code_names_the_organ() -> None:
    known = [Marked("a", 30, site=LIVER), Marked("b", 30, site=LUNG)]
    three = [*known, Marked("c", 30)]
    notes = response_notes(course(three, three))
    assert notes[0].endswith("No code names the organ of 1 of them: more than 2 may be of one organ.")
    assert "No code" not in response_notes(course(known, known))[0]


def test_every_reason_has_its_words() -> None:
    facts = schemas.load("follow_up")
    assert all(one["message"] and one["advice"] for one in facts["no_target"].values())
    assert all(facts["not_evaluable"].values())
    assert all(facts["candidate"].values())


# --- a second reading of the rules -----------------------------------------------------------------------

BASELINE_MM = st.integers(6, 40).map(float)
LATER_MM = st.one_of(st.none(), st.integers(1, 60).map(float))


@st.composite
def courses(draw: st.DrawFn) -> tuple[list[tuple[bool, Code | None]], list[list[float | None]]]:
    """Whether each lesion is a node and its site, and the diameters that count, day by day; None without a mark."""
    sites = st.sampled_from([None, LIVER, LUNG])
    kinds = [(True, NODE) if draw(st.booleans()) else (False, draw(sites)) for _ in range(draw(st.integers(1, 7)))]
    days: list[list[float | None]] = [[draw(BASELINE_MM) for _ in kinds]]
    days += [[draw(LATER_MM) for _ in kinds] for _ in range(draw(st.integers(0, 2)))]
    last: list[float | None] = [draw(LATER_MM) for _ in kinds]
    return kinds, [*days, last]


def marks_of(kinds: list[tuple[bool, Code | None]], diameters: list[float | None]) -> list[Marked]:
    return [
        node(str(number), mm) if is_node else Marked(str(number), mm, 1.0, site)
        for number, ((is_node, site), mm) in enumerate(zip(kinds, diameters, strict=True))
        if mm is not None
    ]


def read_by_hand(kinds: list[tuple[bool, Code | None]], days: list[list[float | None]]) -> tuple[str | None, str]:
    """Response of the targets and overall response without new lesions, as one reads the paper with a pencil."""
    first, now = days[0], days[-1]
    targets: list[int] = []
    for k in sorted(range(len(kinds)), key=lambda k: (-(first[k] or 0), f"1.9#{k}")):
        is_node, site = kinds[k]
        same_organ = sum(kinds[other][1] == site for other in targets) if site else 0
        if (first[k] or 0) >= (15 if is_node else 10) and len(targets) < 5 and same_organ < 2:
            targets.append(k)
    others = [k for k in range(len(kinds)) if k not in targets and not (kinds[k][0] and (first[k] or 0) < 10)]
    of_targets = _targets_by_hand(kinds, days, targets) if targets else None
    if not others:
        of_others = "CR" if targets else "NE"
    elif any(now[k] is None for k in others):
        of_others = "NE"
    else:
        of_others = "CR" if all(kinds[k][0] and (now[k] or 0) < 10 for k in others) else "non-CR/non-PD"
    if of_targets is None:
        return None, of_others
    return of_targets, "PR" if of_targets == "CR" and of_others != "CR" else of_targets


def _targets_by_hand(kinds: list[tuple[bool, Code | None]], days: list[list[float | None]], targets: list[int]) -> str:
    def sum_of(day: list[float | None]) -> float:
        return sum(day[k] or 0 for k in targets)

    now, complete = days[-1], [day for day in days[:-1] if all(day[k] is not None for k in targets)]
    nadir, sum_now = min(map(sum_of, complete)), sum_of(now)
    is_missing = any(now[k] is None for k in targets)
    if not is_missing and all(kinds[k][0] and (now[k] or 0) < 10 for k in targets):
        return "CR"
    if 10 * sum_now >= 12 * nadir and sum_now - nadir >= 5:
        return "PD"
    was_complete = any(all(kinds[k][0] and (day[k] or 0) < 10 for k in targets) for day in complete)
    if was_complete and any(not kinds[k][0] and now[k] for k in targets):
        return "PD"
    if is_missing:
        return "NE"
    return "PR" if 10 * sum_now <= 7 * sum_of(days[0]) else "SD"


@given(courses())
def test_two_readings_of_the_paper_agree(
    found: tuple[list[tuple[bool, Code | None]], list[list[float | None]]],
) -> None:
    kinds, days = found
    days = [day for day in days[:-1] if any(mm is not None for mm in day)] + days[-1:]
    if all(mm is None for mm in days[-1]) or len(days) < 2:
        return
    assessed = course(*(marks_of(kinds, day) for day in days))
    response = target_response(assessed)
    assert (response and response.value, assessed.overall(False).value) == read_by_hand(kinds, days)
    assert assessed.overall(True) is Overall.PROGRESSIVE
    assert {one.reason for one in assessed.candidates} <= {"node_was_normal"}, "no other mark is without a baseline"


@given(courses())
def test_every_lesion_of_the_baseline_is_told_of_and_none_without_a_mark_has_a_size(
    found: tuple[list[tuple[bool, Code | None]], list[list[float | None]]],
) -> None:
    kinds, days = found
    if all(mm is None for mm in days[-1]):
        return
    assessed = course(marks_of(kinds, days[0]), marks_of(kinds, days[-1]))
    told = {one.label: one for one in (*assessed.lesions, *assessed.normal_nodes)}
    assert told.keys() == {str(number) for number in range(len(kinds))}
    for number, mm in enumerate(days[-1]):
        one = told[str(number)]
        assert (one.now is None) == (mm is None) == bool(one.not_evaluable)
        assert one.now is None or one.now.diameter_mm == mm
