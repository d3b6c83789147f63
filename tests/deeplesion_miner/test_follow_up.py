"""A lesion through time: one reader's marks are linked by tracking UID or label, and the response follows from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from core_factories import header, image_ref, lesion

import schemas
from deeplesion_miner.follow_up import FollowUp, follow
from deeplesion_miner.follow_up_words import advice, response_basis
from deeplesion_miner.response import Response
from deeplesion_miner.results import of_bookmarks
from deeplesion_miner.same_lesion import TimedStudy
from deeplesion_miner.types import Code, Kept

NODE = Code("59441001", "SCT", "Lymph node")


def mark(
    study: str,
    name: str,
    long_axis_mm: float,
    *,
    label: str = "",
    tracking_uid: str = "",
    short_axis_mm: float | None = 9.6,
    site: Code | None = None,
    finding: Code | None = None,
) -> Kept:
    at = header(image_ref(study=study))
    found = replace(lesion(at, f"{study}.9#{name}", long_axis_mm), short_axis_mm=short_axis_mm)
    source = replace(found.bookmark.source, study_instance_uid=study, sop_instance_uid=f"{study}.9")
    said = replace(found.bookmark, source=source, label=label, tracking_uid=tracking_uid)
    return Kept(replace(found, bookmark=replace(said, finding_site=site, finding=finding)))


def node(study: str, name: str, short_axis_mm: float | None, site: Code | None = NODE) -> Kept:
    """Of a long axis of 40 mm, which must not count; the same name is the same lesion."""
    return mark(study, name, 40.0, tracking_uid=f"7.{name}", short_axis_mm=short_axis_mm, site=site)


def study(
    uid: str, day: str, *kept: Kept, patient: str = "P", reader: str = "", issuer: str = "HOSPITAL"
) -> TimedStudy:
    return TimedStudy(patient, reader, day, uid, kept, issuer)


def followed(*studies: TimedStudy) -> FollowUp:
    return follow(studies)


def responses(found: FollowUp) -> dict[tuple[str, str], Response]:
    return {key: one.assessment.response for key, one in found.responses.items() if one.assessment}


def one_node(before_mm: float, now_mm: float, *between_mm: float) -> FollowUp:
    sizes = (before_mm, *between_mm, now_mm)
    return followed(*(study(str(k), f"2024010{k}", node(str(k), "1", mm)) for k, mm in enumerate(sizes, start=1)))


def test_a_lesion_is_known_again_by_its_tracking_uid() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7")),
        study("2", "20240301", mark("2", "1", 30.0, tracking_uid="7", label="other word")),
    )
    prior = found.priors["2.9#1"]
    assert (prior.study_date, prior.long_axis_mm, prior.short_axis_mm) == ("20240101", 20.0, 9.6)
    assert prior.report is not None
    assert prior.report.sop_instance_uid == "1.9"
    assert responses(found) == {("2", ""): Response.PROGRESSIVE}


def test_a_lesion_is_known_again_by_a_label_that_nothing_else_has() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, label="liver 4a")),
        study("2", "20240301", mark("2", "1", 10.0, label="liver 4a")),
    )
    assert found.priors.keys() == {"2.9#1"}
    assert responses(found) == {("2", ""): Response.PARTIAL}


def test_a_label_that_two_lesions_share_links_nothing() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, label="node"), mark("1", "2", 12.0, label="node")),
        study("2", "20240301", mark("2", "1", 10.0, label="node")),
    )
    assert found.priors == {}


def test_the_prior_is_the_latest_one_and_the_order_of_studies_is_that_of_their_dates() -> None:
    found = followed(
        study("3", "20240501", mark("3", "1", 21.0, tracking_uid="7")),
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7")),
        study("2", "20240301", mark("2", "1", 19.0, tracking_uid="7")),
    )
    assert found.priors["3.9#1"].study_date == "20240301"
    assert responses(found) == {("2", ""): Response.STABLE, ("3", ""): Response.STABLE}


def test_what_the_baseline_has_no_mark_of_is_no_target_and_has_no_prior() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7")),
        study("2", "20240301", mark("2", "1", 20.0, tracking_uid="7"), mark("2", "2", 9.0, tracking_uid="8")),
    )
    assert responses(found) == {("2", ""): Response.STABLE}
    assert found.priors.keys() == {"2.9#1"}


def test_a_target_that_nobody_measured_again_leaves_the_response_open() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7"), mark("1", "2", 20.0, tracking_uid="8")),
        study("2", "20240301", mark("2", "1", 20.0, tracking_uid="7")),
    )
    assert responses(found) == {("2", ""): Response.NOT_EVALUABLE}


def test_readers_and_patients_are_followed_apart_and_what_has_no_date_is_not_followed() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7"), reader="Doe"),
        study("2", "20240301", mark("2", "1", 20.0, tracking_uid="7"), reader="Roe"),
        study("3", "20240301", mark("3", "1", 20.0, tracking_uid="7"), patient="Q", reader="Doe"),
        study("4", "", mark("4", "1", 20.0, tracking_uid="7"), reader="Doe"),
        study("5", "20240401", reader="Doe"),
    )
    assert (found.priors, found.responses) == ({}, {})


def test_results_tell_what_is_known_of_earlier_studies() -> None:
    before, now = mark("1", "1", 20.0, tracking_uid="7"), mark("2", "1", 30.0, tracking_uid="7")
    found = followed(study("1", "20240101", before), study("2", "20240301", now))
    first, second = (found.told(one) for one in of_bookmarks([before, now], datetime(2024, 5, 1)))
    assert (first.response, first.lesions[0].prior) == (None, None)
    assert second.response == Response.PROGRESSIVE.code
    assert second.lesions[0].prior == found.priors["2.9#1"]


def test_patients_of_two_hospitals_that_share_an_id_are_two() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7", label="node"), issuer="NORTH"),
        study("2", "20240301", mark("2", "1", 30.0, tracking_uid="7", label="node"), issuer="SOUTH"),
    )
    assert found == FollowUp({}, {})


def test_a_label_links_no_lesion_that_a_tracking_uid_ties_to_another() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7", label="a")),
        study("2", "20240301", mark("2", "1", 21.0, tracking_uid="7", label="b"), mark("2", "2", 12.0, label="a")),
    )
    assert found.priors.keys() == {"2.9#1"}


# --- lymph nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before_mm", "now_mm", "expected"),
    [
        (15.0, 9.99, Response.COMPLETE),
        (15.0, 10.0, Response.PARTIAL),
        (15.0, 10.5, Response.PARTIAL),
        (15.0, 10.6, Response.STABLE),
        (15.0, 19.9, Response.STABLE),
        (15.0, 20.0, Response.PROGRESSIVE),
        (30.0, 35.9, Response.STABLE),
        (30.0, 36.0, Response.PROGRESSIVE),
    ],
)
def test_a_node_counts_by_its_short_axis_at_the_very_thresholds(
    before_mm: float, now_mm: float, expected: Response
) -> None:
    assert responses(one_node(before_mm, now_mm)) == {("2", ""): expected}


def test_a_node_below_15_mm_at_baseline_is_no_target_and_says_so() -> None:
    found = one_node(14.99, 30.0)
    assert (responses(found), found.no_targets) == ({}, frozenset({("1.9#1", "node_below_15_mm")}))
    (told,) = (found.told(one) for one in of_bookmarks([node("2", "1", 30.0)], datetime(2024, 5, 1)))
    assert (told.response, told.response_basis) == (None, "")
    assert told.response_notes[0] == "Target lesions: none, since no lesion of the baseline is measurable."


def test_a_mass_below_10_mm_at_baseline_is_no_target_and_says_so() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 9.99, tracking_uid="7"), mark("1", "2", 10.0, tracking_uid="8")),
        study("2", "20240301", mark("2", "1", 90.0, tracking_uid="7"), mark("2", "2", 10.0, tracking_uid="8")),
    )
    assert responses(found) == {("2", ""): Response.STABLE}
    assert found.no_targets == {("1.9#1", "mass_below_10_mm")}
    assert found.priors.keys() == {"2.9#1", "2.9#2"}, "its prior is told all the same"


def test_a_node_without_a_short_axis_at_baseline_is_no_target_and_one_later_was_not_measured() -> None:
    first = followed(study("1", "20240101", node("1", "1", None)), study("2", "20240301", node("2", "1", 20.0)))
    assert (responses(first), first.no_targets) == ({}, frozenset({("1.9#1", "node_without_short_axis")}))
    later = followed(study("1", "20240101", node("1", "1", 20.0)), study("2", "20240301", node("2", "1", None)))
    assert responses(later) == {("2", ""): Response.NOT_EVALUABLE}
    (target,) = later.responses["2", ""].targets
    assert (target.now, target.not_evaluable) == (None, "node_without_short_axis")


def test_what_no_code_calls_a_node_counts_by_its_long_axis_and_the_report_says_so() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7", label="lymph node"), node("1", "2", 20.0)),
        study("2", "20240301", mark("2", "1", 20.0, tracking_uid="7", label="lymph node"), node("2", "2", 20.0)),
    )
    one = found.responses["2", ""]
    assert one.assessment is not None
    assert (len(one.targets), one.nodes, one.assessment.sum_mm) == (2, 1, 40.0)
    assert response_basis(one).endswith(
        "Of 2 target lesions 1 count by the short axis, as lymph nodes by their codes, and 1 by the long axis, since no"
        " code says that they are nodes."
    )


@pytest.mark.parametrize(
    "code",
    [
        NODE,
        Code("62683002", "SCT", "Mediastinal lymph node"),
        Code("T-C4000", "SRT", "Lymph node"),
        Code("T-C4000", "SNM3", "Lymph node"),
        Code("30746006", "SCT", "Lymphadenopathy"),
    ],
)
def test_nodes_are_known_by_codes_of_site_or_finding(code: Code) -> None:
    for site, finding in ((code, None), (None, code)):
        before, now = (
            mark(uid, "1", 40.0, tracking_uid="7", short_axis_mm=16.0, site=site, finding=finding) for uid in ("1", "2")
        )
        assert followed(study("1", "20240101", before), study("2", "20240301", now)).responses["2", ""].nodes == 1


@pytest.mark.parametrize(
    "code",
    [None, Code("39607008", "SCT", "Lung"), Code("59441001", "99LOCAL", "Lymph node"), Code("x", "SCT", "Lymph node"),
     Code("110550009", "SCT", "Lung and tracheobronchial lymph nodes")],
)  # fmt: skip
def test_other_codes_make_no_node(code: Code | None) -> None:
    found = followed(
        study("1", "20240101", node("1", "1", 16.0, code)), study("2", "20240301", node("2", "1", 16.0, code))
    )
    assert found.responses["2", ""].nodes == 0


def test_a_code_in_any_study_so_far_makes_the_lesion_a_node_and_a_later_one_changes_no_earlier_report() -> None:
    found = followed(
        study("1", "20240101", node("1", "1", 16.0, None)),
        study("2", "20240301", node("2", "1", 24.0, None)),
        study("3", "20240501", node("3", "1", 24.0)),
    )
    assert responses(found) == {("2", ""): Response.STABLE, ("3", ""): Response.PROGRESSIVE}


# --- against which study ---------------------------------------------------------------------------------


def test_the_response_says_against_which_studies_it_was_computed() -> None:
    found = one_node(40.0, 30.0, 20.0, 22.0)
    assert response_basis(found.responses["2", ""]).startswith(
        "RECIST 1.1, target lesions only: sum of diameters 20.00 mm; baseline 40.00 mm on 20240101 (study 1), -50.0 %; "
        "nadir 40.00 mm on 20240101 (study 1), -50.0 %."
    )
    last = found.responses["4", ""]
    assert response_basis(last).startswith(
        "RECIST 1.1, target lesions only: sum of diameters 30.00 mm; baseline 40.00 mm on 20240101 (study 1), -25.0 %; "
        "nadir 20.00 mm on 20240102 (study 2), +50.0 %."
    )
    (told,) = (found.told(one) for one in of_bookmarks([node("4", "1", 30.0)], datetime(2024, 5, 1)))
    assert (told.response, told.response_basis) == (Response.PROGRESSIVE.code, response_basis(last))


def test_two_studies_of_one_day_are_one_time_point_and_both_are_named() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7")),
        study("2", "20240101", mark("2", "1", 20.0, tracking_uid="8")),
        study("3", "20240301", mark("3", "1", 20.0, tracking_uid="7")),
    )
    one = found.responses["3", ""]
    assert one.baseline.study_instance_uids == ("1", "2")
    assert "20.00 mm without 1 of 2 target lesions, which were not measured; baseline 40.00 mm" in response_basis(one)
    assert "(study 1, 2)" in response_basis(one)


def test_every_reason_has_words_and_advice() -> None:
    for reason in schemas.load("follow_up")["no_target"]:
        assert "; " in advice(reason)
