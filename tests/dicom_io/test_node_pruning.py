"""What a node forgets: what is done, removed and long ago; and that nothing else goes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from little_objects import ct, ct_uid, study_uid
from node_under_test import PEER, UnderTest, patient_limits, running, send_all
from test_node_flow import one_lesion

from dicom_io.node import NodeRules
from dicom_io.node.journal import Journal
from dicom_io.node.journal_pruning import prune
from dicom_io.node.records import Arrival
from dicom_io.node.rules import PeerRule, SeriesRule
from tests.waiting import until

JOBS = [("lesions", ["1.1"], "digest")]
LONG_AGO, NOW = 1e6, 2e6


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def counts(journal: Journal) -> dict[str, int]:
    tables = ("study", "series", "object", "job", "result", "commitment")
    return {table: journal.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def a_study(journal: Journal, study: int, at_s: float, *, job: str = "done", freed: bool = True) -> None:
    """A study that was received, looked at and freed at a time; `job` is what became of its job."""
    uid = f"{study}"
    journal.record_arrival(Arrival(PEER, uid, f"{uid}.1", f"{uid}.1.1", "1.2", 9, "CT", "", "", None), 0.0, at_s)
    (received,) = (one for one in journal.studies_to_look_at(at_s) if one.study_instance_uid == uid)
    journal.settle(received, "whole", "", JOBS if job else [], at_s)
    if job in ("running", "done", "failed"):
        claimed = journal.claim_job(at_s)
        assert claimed is not None
        if job == "done":
            journal.job_done(claimed, 1, now_s=at_s)
        if job == "failed":
            journal.job_failed(claimed, "no such model", None, now_s=at_s)
    if freed and job not in ("queued", "running"):
        assert journal.freed(uid, 1e12)
    elif freed:  # as no node would do
        with journal.transaction() as database:
            database.execute("DELETE FROM object WHERE study_instance_uid = ?", (uid,))
            database.execute("UPDATE study SET is_freed = 1 WHERE study_instance_uid = ?", (uid,))


def a_request(journal: Journal, number: int, at_s: float, *, answered: bool | None) -> None:
    journal.record_commitment_request("PACS", f"9.{number}", [("1.2", "1.1.1")], at_s)
    (request,) = (one for one in journal.commitment_requests(at_s) if one.transaction_uid == f"9.{number}")
    if answered is True:
        journal.commitment_reported(request, now_s=at_s)
    if answered is False:
        journal.commitment_failed(request, "away", None, now_s=at_s)


def test_requests_that_were_answered_or_given_up_long_ago_are_forgotten(journal: Journal) -> None:
    a_request(journal, 1, LONG_AGO, answered=True)
    a_request(journal, 2, LONG_AGO, answered=False)
    a_request(journal, 3, LONG_AGO, answered=None)
    a_request(journal, 4, NOW, answered=True)
    assert prune(journal, NOW) == 2
    assert {uid for (uid,) in journal.rows("SELECT transaction_uid FROM commitment")} == {"9.3", "9.4"}
    a_request(journal, 1, NOW, answered=None)  # asked once more, it is answered once more


def test_a_request_that_is_asked_again_is_open_again(journal: Journal) -> None:
    a_request(journal, 1, LONG_AGO, answered=True)
    a_request(journal, 1, LONG_AGO, answered=None)
    assert prune(journal, NOW) == 0


@pytest.mark.parametrize("job", ["", "done", "failed"])
def test_studies_that_were_done_and_freed_long_ago_are_forgotten_with_their_jobs(journal: Journal, job: str) -> None:
    a_study(journal, 1, LONG_AGO, job=job)
    assert prune(journal, NOW) == 1
    assert set(counts(journal).values()) == {0}


@pytest.mark.parametrize("job", ["queued", "running"])
def test_a_study_with_a_job_to_do_is_never_forgotten(journal: Journal, job: str) -> None:
    a_study(journal, 1, LONG_AGO, job=job)
    assert prune(journal, NOW) == 0
    assert counts(journal)["job"] == 1


def test_a_study_whose_images_are_here_is_never_forgotten_nor_are_its_jobs(journal: Journal) -> None:
    a_study(journal, 1, LONG_AGO, freed=False)
    before = counts(journal)
    assert prune(journal, NOW) == 0
    assert counts(journal) == before


def test_a_study_of_which_more_came_after_it_was_freed_is_not_forgotten(journal: Journal) -> None:
    a_study(journal, 1, LONG_AGO)
    journal.record_arrival(Arrival(PEER, "1", "1.1", "1.1.2", "1.2", 9, "CT", "", "", None), 0.0, LONG_AGO + 1)
    assert prune(journal, NOW) == 0


def test_what_ended_a_short_while_ago_is_not_forgotten(journal: Journal) -> None:
    a_study(journal, 1, LONG_AGO, job="queued")
    claimed = journal.claim_job(LONG_AGO)
    assert claimed is not None
    journal.job_done(claimed, 1, now_s=NOW)  # it had waited for long
    assert prune(journal, NOW) == 0
    assert prune(journal, NOW + 1) == 1


def test_it_goes_in_small_steps(journal: Journal) -> None:
    for number in range(5):
        a_study(journal, number + 1, LONG_AGO)
    assert [prune(journal, NOW, most=2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_kill_in_the_middle_leaves_studies_whole_or_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(4):
        a_study(journal, number + 1, LONG_AGO)
    journal.close()
    script = f"""
import os
from pathlib import Path
from dicom_io.node.journal import Journal
from dicom_io.node.journal_pruning import prune
journal = Journal(Path({str(tmp_path)!r}))
prune(journal, {NOW}, most=2)
journal._database.set_trace_callback(lambda sql: os._exit(9) if sql.startswith("DELETE FROM study") else None)
prune(journal, {NOW}, most=2)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    journal = Journal(tmp_path)
    assert counts(journal) == {"study": 2, "series": 2, "object": 0, "job": 2, "result": 0, "commitment": 0}
    assert prune(journal, NOW) == 2
    journal.close()


def test_an_older_journal_is_brought_up_and_keeps_what_it_knows(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    a_study(journal, 1, LONG_AGO)
    a_study(journal, 2, LONG_AGO, job="queued")
    a_request(journal, 1, LONG_AGO, answered=True)
    path = journal.path
    journal.close()
    with sqlite3.connect(path) as database:  # as version 1 was
        database.executescript(
            "ALTER TABLE job DROP COLUMN ended_s; ALTER TABLE commitment DROP COLUMN ended_s; DROP INDEX study_freed;"
            " DROP INDEX result_by_study; CREATE INDEX result_by_study ON result (study_instance_uid);"
            " PRAGMA user_version = 1"
        )
    database.close()
    journal = Journal(tmp_path)
    assert counts(journal) == {"study": 2, "series": 2, "object": 0, "job": 2, "result": 0, "commitment": 1}
    assert prune(journal, NOW) == 0  # when they ended is not known: it begins to count now
    assert prune(journal, 1e12) == 2
    assert journal.jobs_by_state() == {"queued": 1}
    journal.close()


# --- images that come once more ----------------------------------------------------------------------------


RULES = NodeRules(
    (PeerRule(PEER, quiet_s=0.2),), (SeriesRule("lesions", Path("model"), "PACS@127.0.0.1:1", peers=(PEER,)),)
)


def settled(node: UnderTest) -> None:
    journal = node.node.journal
    until(lambda: journal.studies_by_state() == {"whole": 1} and set(journal.jobs_by_state()) <= {"done"})


def state(node: UnderTest) -> tuple[list[str], list[tuple[str, str]]]:
    """Our own results, and what the outbox holds, with the sums of the files."""
    return (
        [one.sop_instance_uid for one in node.node.journal.results()],
        [(one.sop_instance_uid, one.sha256) for one in node.outbox.parcels()],
    )


def test_a_study_that_comes_once_more_after_it_was_freed_is_taken_and_not_looked_at_again(tmp_path: Path) -> None:
    with running(tmp_path, RULES, one_lesion, limits=patient_limits(), keep_images_h=1e9) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.events("job_done"))
        before = state(node)
        node.node.journal.freed(study_uid(1), 1e12)
        node.node.store.remove(ct_uid(1, 1))
        assert send_all(node.port, [ct(1, 1)]) == [0]
        settled(node)
        assert node.node.store.has(ct_uid(1, 1))
        assert (len(node.events("job_started")), state(node)) == (1, before)


def test_a_study_that_comes_once_more_after_it_was_forgotten_makes_the_same_objects(tmp_path: Path) -> None:
    with running(tmp_path, RULES, one_lesion, limits=patient_limits(), keep_images_h=1e9) as node:
        journal = node.node.journal
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.events("job_done"))
        before = state(node)
        assert prune(journal, 1e12) == 0  # its images are here
        assert send_all(node.port, [ct(1, 1)]) == [0]
        assert journal.studies_by_state() == {"whole": 1}
        journal.freed(study_uid(1), 1e12)
        node.node.store.remove(ct_uid(1, 1))
        assert prune(journal, 1e12) == 1
        assert state(node) == before  # results stay, here and in the outbox
        assert send_all(node.port, [ct(1, 1)]) == [0]
        until(lambda: len(node.events("job_done")) == 2)
        assert state(node) == before
        assert len(before[1]) == 1


def test_a_node_forgets_when_it_starts_and_never_where_it_is_told_to_keep(tmp_path: Path) -> None:
    for days, left in ((None, 1), (30.0, 0)):
        journal = Journal(tmp_path / "node")
        if days is None:
            a_study(journal, 1, LONG_AGO)
        journal.close()
        with running(tmp_path, keep_journal_days=days) as node:
            until(lambda: node.node._studies._pruned_s > 0)
            assert counts(node.node.journal)["study"] == left
            assert [one["count"] for one in node.events("forgotten")] == [1] * (1 - left)
