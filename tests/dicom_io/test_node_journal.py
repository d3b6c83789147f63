"""The journal: what it remembers, also of what was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_io.node.journal import Journal
from dicom_io.node.records import Arrival, StoredResult

JOBS = [("lesions", ["1.1"], "digest")]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def arrival(study: int, number: int, series: int = 1) -> Arrival:
    uid = f"{study}.{series}.{number}"
    return Arrival("PACS", f"{study}", f"{study}.{series}", uid, "1.2", 100, "CT", "Thorax", "CHEST", 1.0)


def test_a_study_is_looked_at_after_its_silence_and_an_arrival_starts_it_anew(journal: Journal) -> None:
    assert journal.record_arrival(arrival(1, 1), 10.0, 100.0)
    assert journal.studies_to_look_at(109.0) == []
    assert journal.record_arrival(arrival(1, 2), 10.0, 105.0)
    assert journal.studies_to_look_at(111.0) == []
    (study,) = journal.studies_to_look_at(115.0)
    assert (study.study_instance_uid, study.first_arrival_s, study.last_arrival_s) == ("1", 100.0, 105.0)


def test_the_same_object_again_is_no_arrival(journal: Journal) -> None:
    journal.record_arrival(arrival(1, 1), 10.0, 100.0)
    (study,) = journal.studies_to_look_at(110.0)
    journal.settle(study, "whole", "", [], 110.0)
    assert not journal.record_arrival(arrival(1, 1), 10.0, 120.0)
    assert journal.studies_to_look_at(200.0) == []


def test_what_arrives_while_a_study_is_looked_at_keeps_it_from_being_settled(journal: Journal) -> None:
    journal.record_arrival(arrival(1, 1), 10.0, 100.0)
    (study,) = journal.studies_to_look_at(110.0)
    journal.record_arrival(arrival(1, 2), 10.0, 110.5)
    assert journal.settle(study, "whole", "", JOBS, 111.0) is None
    journal.look_again(study, "missing", 1e9)
    (again,) = journal.studies_to_look_at(121.0)
    assert journal.settle(again, "whole", "", JOBS, 121.0) == 1


def test_the_same_objects_make_a_job_once_and_more_objects_make_another(journal: Journal) -> None:
    for number, digest, queued in ((1, "a", 1), (2, "a", 0), (3, "b", 1)):
        journal.record_arrival(arrival(1, number), 0.0, 100.0 + number)
        (study,) = journal.studies_to_look_at(200.0)
        assert journal.settle(study, "whole", "", [("lesions", ["1.1"], digest)], 200.0) == queued
    assert journal.jobs_by_state() == {"queued": 2}


def test_a_job_runs_once_at_a_time_and_an_interrupted_one_runs_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record_arrival(arrival(1, 1), 0.0, 100.0)
    journal.settle(journal.studies_to_look_at(100.0)[0], "whole", "", JOBS, 101.0)
    job = journal.claim_job(102.0)
    assert job is not None
    assert (job.study_instance_uid, job.rule, job.series_instance_uids, job.attempts) == ("1", "lesions", ("1.1",), 1)
    assert journal.claim_job(103.0) is None
    journal.close()
    journal = Journal(tmp_path)
    assert journal.requeue_interrupted() == 1
    again = journal.claim_job(104.0)
    assert again is not None
    assert (again.attempts, again.made_s) == (2, job.made_s)  # the same result, whenever it is made
    journal.job_done(again, 3, now_s=105.0)
    assert journal.requeue_interrupted() == 0
    assert journal.jobs_by_state() == {"done": 1}
    journal.close()


def test_a_failed_job_waits_for_its_time_or_for_a_person(journal: Journal) -> None:
    journal.record_arrival(arrival(1, 1), 0.0, 100.0)
    journal.settle(journal.studies_to_look_at(100.0)[0], "whole", "", JOBS, 101.0)
    job = journal.claim_job(102.0)
    assert job is not None
    journal.job_failed(job, "no memory", 200.0, now_s=103.0)
    assert journal.claim_job(199.0) is None
    job = journal.claim_job(200.0)
    assert job is not None
    journal.job_interrupted(job)
    job = journal.claim_job(200.0)
    assert job is not None
    assert job.attempts == 2  # a stop is no attempt
    journal.job_failed(job, "no such model", None, now_s=200.0)
    assert journal.claim_job(1e9) is None
    assert journal.failures() == [("1", "lesions", 2, "no such model")]


def test_jobs_of_a_rule_run_in_the_order_of_a_study_s_images_also_where_an_older_one_is_to_be_tried_again(
    journal: Journal,
) -> None:
    for number, rule in ((1, "lesions"), (2, "lesions"), (3, "other")):
        journal.record_arrival(arrival(1, 1, series=number), 0.0, 100.0 + number)
        (study,) = journal.studies_to_look_at(110.0)
        series = [one.series_instance_uid for one in journal.series_of("1")]
        journal.settle(study, "whole", "", [(rule, series, f"digest {number}")], 110.0)
    older = journal.claim_job(110.0)
    assert older is not None
    journal.job_failed(older, "no memory", 140.0, now_s=110.0)
    other = journal.claim_job(111.0)
    assert other is not None
    assert other.rule == "other"  # its reports are others
    journal.job_done(other, 1, now_s=112.0)
    assert journal.claim_job(139.0) is None  # the report of the older one would correct that of the newer one
    for series_count in (1, 2):
        job = journal.claim_job(140.0)
        assert job is not None
        assert len(job.series_instance_uids) == series_count
        journal.job_done(job, 1, now_s=141.0)


def test_open_studies_are_those_that_something_is_still_to_be_done_for(journal: Journal) -> None:
    for study in (1, 2, 3):
        journal.record_arrival(arrival(study, 1), 0.0, 100.0)
    one, two, _ = journal.studies_to_look_at(100.0)
    journal.settle(one, "whole", "", [], 100.0)
    journal.settle(two, "whole", "", JOBS, 100.0)
    assert journal.open_studies() == 2
    assert journal.open_studies(besides="3") == 1
    assert journal.studies_by_state() == {"receiving": 1, "whole": 2}


def test_freed_studies_are_no_longer_answered_for(journal: Journal) -> None:
    for study in (1, 2):
        journal.record_arrival(arrival(study, 1), 0.0, 100.0 * study)
    for study_ in journal.studies_to_look_at(1000.0):
        journal.settle(study_, "whole", "", JOBS if study_.study_instance_uid == "2" else [], 1000.0)
    assert journal.to_free(1000.0) == ["1"]  # the other one has a job to do
    assert journal.freed("2", 1000.0) == ()
    assert journal.freed("1", 1000.0) == ("1.1.1",)
    assert journal.has_object("1.1.1", "1.2") is False
    assert journal.to_free(1000.0) == []


def test_a_study_to_which_something_is_added_while_it_is_to_be_freed_stays(journal: Journal) -> None:
    journal.record_arrival(arrival(1, 1), 0.0, 100.0)
    journal.settle(journal.studies_to_look_at(100.0)[0], "whole", "", [], 100.0)
    assert journal.to_free(1000.0) == ["1"]
    journal.record_arrival(arrival(1, 2), 0.0, 100.0)
    assert journal.freed("1", 1000.0) == ()
    assert journal.object_uids() == {"1.1.1", "1.1.2"}


def test_a_commitment_request_that_is_asked_again_while_it_is_reported_is_reported_again(journal: Journal) -> None:
    for number, ends in enumerate((journal.commitment_reported, journal.commitment_failed)):
        journal.record_commitment_request("PACS", f"9.{number}", [("1.2", "1.1.1")], 100.0)
        (request,) = journal.commitment_requests(100.0)
        journal.record_commitment_request("PACS", f"9.{number}", [("1.2", "1.1.2")], 101.0)
        if ends == journal.commitment_failed:
            journal.commitment_failed(request, "the association has ended", None, now_s=102.0)
        else:
            journal.commitment_reported(request, now_s=102.0)
        (again,) = journal.commitment_requests(200.0)
        assert again.items == (("1.2", "1.1.2"),)
        journal.commitment_reported(again, now_s=201.0)


def test_an_object_is_here_under_its_own_class_only(journal: Journal) -> None:
    journal.record_arrival(arrival(1, 1), 0.0, 100.0)
    keys = {"StudyInstanceUID": "1", "SeriesInstanceUID": "1.9"}
    journal.record_results([StoredResult("1.9.1", "1.3", "1.2.840.10008.1.2.1", keys)])
    assert journal.has_object("1.1.1", "1.2") is True
    assert journal.has_object("1.1.1", "1.3") is None
    assert journal.has_object("1.9.1", "1.3") is True
    assert journal.has_object("9", "1.2") is False
    assert [one.sop_instance_uid for one in journal.results(["1"])] == ["1.9.1"]
    assert journal.results(["2"]) == []


def test_a_commitment_request_is_reported_until_it_was_taken(journal: Journal) -> None:
    items = [("1.2", "1.1.1")]
    journal.record_commitment_request("PACS", "9.9", items, 100.0)
    assert journal.commitment_requests(99.0) == []
    (request,) = journal.commitment_requests(100.0)
    assert (request.peer, request.items, request.attempts) == ("PACS", (("1.2", "1.1.1"),), 0)
    journal.commitment_failed(request, "away", 200.0, now_s=100.0)
    assert journal.commitment_requests(199.0) == []
    (request,) = journal.commitment_requests(200.0)
    assert request.attempts == 1
    journal.commitment_reported(request, now_s=200.0)
    assert journal.commitment_requests(1e9) == []
    journal.record_commitment_request("PACS", "9.9", items, 300.0)  # asked once more, answered once more
    assert len(journal.commitment_requests(300.0)) == 1


def test_the_key_of_the_log_stays_the_same(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    key = journal.log_key()
    assert len(key) == 32
    journal.close()
    journal = Journal(tmp_path)
    assert journal.log_key() == key
    journal.close()
    assert (tmp_path / "node.sqlite").stat().st_mode & 0o077 == 0
