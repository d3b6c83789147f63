"""A lesion through time: one reader's marks are linked by tracking UID or label, and the response follows from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from core_factories import header, image_ref, lesion

from deeplesion_miner.follow_up import FollowUp, TimedStudy, follow
from deeplesion_miner.response import Response
from deeplesion_miner.results import of_bookmarks
from deeplesion_miner.types import Kept


def mark(study: str, name: str, long_axis_mm: float, *, label: str = "", tracking_uid: str = "") -> Kept:
    at = header(image_ref(study=study))
    found = lesion(at, f"{study}.9#{name}", long_axis_mm)
    source = replace(found.bookmark.source, study_instance_uid=study, sop_instance_uid=f"{study}.9")
    return Kept(replace(found, bookmark=replace(found.bookmark, source=source, label=label, tracking_uid=tracking_uid)))


def study(
    uid: str, day: str, *kept: Kept, patient: str = "P", reader: str = "", issuer: str = "HOSPITAL"
) -> TimedStudy:
    return TimedStudy(patient, reader, day, uid, kept, issuer)


def followed(*studies: TimedStudy) -> FollowUp:
    return follow(studies)


def test_a_lesion_is_known_again_by_its_tracking_uid() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7")),
        study("2", "20240301", mark("2", "1", 30.0, tracking_uid="7", label="other word")),
    )
    prior = found.priors["2.9#1"]
    assert (prior.study_date, prior.long_axis_mm, prior.short_axis_mm) == ("20240101", 20.0, 9.6)
    assert prior.report is not None
    assert prior.report.sop_instance_uid == "1.9"
    assert found.responses == {("2", ""): Response.PROGRESSIVE}


def test_a_lesion_is_known_again_by_a_label_that_nothing_else_has() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, label="liver 4a")),
        study("2", "20240301", mark("2", "1", 10.0, label="liver 4a")),
    )
    assert found.priors.keys() == {"2.9#1"}
    assert found.responses == {("2", ""): Response.PARTIAL}


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
    assert found.responses == {("2", ""): Response.STABLE, ("3", ""): Response.STABLE}


def test_a_new_lesion_is_no_target_and_has_no_prior() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7")),
        study("2", "20240301", mark("2", "1", 20.0, tracking_uid="7"), mark("2", "2", 9.0, tracking_uid="8")),
    )
    assert found.responses == {("2", ""): Response.STABLE}
    assert found.priors.keys() == {"2.9#1"}


def test_a_target_that_nobody_measured_again_leaves_the_response_open() -> None:
    found = followed(
        study("1", "20240101", mark("1", "1", 20.0, tracking_uid="7"), mark("1", "2", 20.0, tracking_uid="8")),
        study("2", "20240301", mark("2", "1", 20.0, tracking_uid="7")),
    )
    assert found.responses == {("2", ""): Response.NOT_EVALUABLE}


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
