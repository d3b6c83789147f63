"""Starts that fail and stops at a bad moment: nothing stays running, nothing is lost, nobody is waited for."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from little_objects import ct, ct_uid
from node_under_test import (
    PEER,
    TITLE,
    associate,
    association_request,
    nothing_found,
    patient_limits,
    raw,
    read_pdu,
    running,
    send_all,
)
from pynetdicom import AE, evt
from pynetdicom.dul import DULServiceProvider
from servers import free_port
from test_node_flow import ask_for_commitment, one_lesion
from test_node_pruning import RULES
from test_node_queries import unread_query

from dicom_io import commitment, negotiation
from dicom_io.emit import Emission
from dicom_io.node import JobRequest, Node, NodeRules, NodeSettings
from dicom_io.node.journal import Journal, JournalError
from dicom_io.node.outgoing import BATCH
from dicom_io.node.records import CommitmentRequest
from dicom_io.node.rules import PeerRule
from dicom_io.outbox import Outbox
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@contextmanager
def silent_archive(service: Any, context: str) -> Iterator[tuple[str, threading.Event]]:
    """An archive that takes requests and never answers them; its address, and whether one has come."""
    asked, released = threading.Event(), threading.Event()

    def say_nothing(event: Any) -> Any:
        asked.set()
        released.wait(PATIENCE_S)
        return iter(()) if service is evt.EVT_C_FIND else (0x0110, None)

    entity = AE(ae_title="SILENT")
    entity.add_supported_context(context, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(service, say_nothing)])
    try:
        yield f"SILENT@127.0.0.1:{server.server_address[1]}", asked
    finally:
        released.set()
        server.shutdown()


# --- stops -------------------------------------------------------------------------------------------------


def test_a_stop_does_not_wait_for_an_archive_that_does_not_answer_and_the_study_is_looked_at_again(
    tmp_path: Path,
) -> None:
    with silent_archive(evt.EVT_C_FIND, negotiation.FIND) as (address, asked):
        rules = NodeRules((PeerRule(PEER, archive=address, quiet_s=0.2),), RULES.rules)
        with running(tmp_path, rules, limits=patient_limits()) as node:
            send_all(node.port, [ct(1, 1)])
            assert asked.wait(PATIENCE_S)
            assert node.node.stop() is True  # the archive would have a minute
            assert node.events("study_waits") == []
    journal = Journal(tmp_path / "node")
    (study,) = journal.studies_to_look_at(1e12)
    assert study.looks == 0
    journal.close()


def test_a_stop_does_not_wait_for_a_peer_that_does_not_take_its_report_which_is_sent_after_a_restart(
    tmp_path: Path,
) -> None:
    with silent_archive(evt.EVT_N_EVENT_REPORT, commitment.StorageCommitmentPushModel) as (address, asked):
        rules = NodeRules((PeerRule(PEER, report_to=address),))
        with running(tmp_path, rules, limits=patient_limits()) as node:
            association = associate(node.port, [commitment.StorageCommitmentPushModel])
            assert ask_for_commitment(association, "9.1", ct_uid(1, 1)) == 0
            association.release()
            assert asked.wait(PATIENCE_S)
            assert node.node.stop() is True
    journal = Journal(tmp_path / "node")
    (request,) = journal.commitment_requests(1e12)
    assert (request.transaction_uid, request.attempts) == ("9.1", 0)
    journal.close()


def test_a_peer_that_reads_none_of_its_answers_does_not_keep_the_node(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    limits = patient_limits(stop_s=0.1, idle_s=10 * PATIENCE_S)
    with running(tmp_path, limits=limits) as node, unread_query(node) as queue:
        until(lambda: queue.qsize() >= BATCH)
        assert node.node.stop() is False
        until(lambda: set(threading.enumerate()) <= before)


def test_who_stops_a_node_that_is_stopping_waits_until_it_has_stopped(tmp_path: Path) -> None:
    with running(tmp_path, limits=patient_limits()) as node:
        association = associate(node.port)
        ended: list[bool] = []
        first = threading.Thread(target=lambda: ended.append(node.node.stop()))
        first.start()
        until(lambda: node.events("stopping"))
        second = threading.Thread(target=lambda: ended.append(node.node.stop()))
        second.start()
        second.join(0.5)
        assert second.is_alive()
        association.release()
        first.join()
        second.join()
        assert ended == [True, True]


def test_a_job_that_ends_after_the_stop_disturbs_nobody_and_runs_again(tmp_path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(request: JobRequest) -> Emission:
        begun.set()
        release.wait(PATIENCE_S)
        return one_lesion(request)

    with running(tmp_path, RULES, slow, limits=patient_limits(stop_s=0.1)) as node:
        send_all(node.port, [ct(1, 1)])
        assert begun.wait(PATIENCE_S)
        assert node.node.stop() is False
    release.set()  # journal and outbox are closed by now
    for thread in node.node._jobs._threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert node.events("stopped")
    assert node.events("journal") == node.events("job_failed") == []  # nothing that a person had to look at
    with running(tmp_path, RULES, one_lesion, limits=patient_limits()) as node:
        until(lambda: node.node.journal.jobs_by_state() == {"done": 1})
        assert len(node.outbox.parcels()) == len(node.node.journal.results()) == 1


def test_a_job_that_ends_while_the_node_stops_is_done(tmp_path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(request: JobRequest) -> Emission:
        begun.set()
        release.wait(PATIENCE_S)
        return one_lesion(request)

    with running(tmp_path, RULES, slow, limits=patient_limits()) as node:
        send_all(node.port, [ct(1, 1), ct(2, 1)])
        assert begun.wait(PATIENCE_S)
        stopping = threading.Thread(target=node.node.stop)
        stopping.start()
        until(lambda: node.node._jobs._stopping.is_set())
        release.set()
        stopping.join()
        assert len(node.events("job_done")) == len(node.events("job_started")) == 1  # the other study waits
    journal = Journal(tmp_path / "node")
    assert journal.jobs_by_state()["done"] == 1
    journal.close()


def test_a_page_that_is_asked_for_while_the_journal_closes_is_answered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path, health_port=0) as node:
        node.node.journal.close()
        for name in ("metrics", "ready"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://127.0.0.1:{node.node.health_port}/{name}", timeout=PATIENCE_S)
            assert (caught.value.code, "JournalError" in caught.value.read().decode()) == (503, True)
    assert capfd.readouterr().err == ""


# --- starts ------------------------------------------------------------------------------------------------


def test_a_start_that_fails_leaves_nothing_running_and_gives_back_ports_and_folder(tmp_path: Path) -> None:
    port, health_port = free_port(), free_port()
    before = set(threading.enumerate())
    with Outbox.open(tmp_path / "outbox") as outbox:
        settings = NodeSettings(tmp_path / "node", TITLE, port=port, health_port=health_port)
        node = Node(settings, RULES, outbox, nothing_found, log_to=StringIO())
        node.journal._database.execute("PRAGMA query_only = ON")  # as on a full disk
        with pytest.raises(JournalError), node:
            pass
    until(lambda: set(threading.enumerate()) <= before)
    with running(tmp_path, RULES, port=port, health_port=health_port) as under_test:
        assert send_all(under_test.port, [ct(1, 1)]) == [0]


def test_a_node_that_cannot_be_made_holds_no_journal(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "results").write_text("no folder")
    for _ in range(2):
        with pytest.raises(FileExistsError), running(tmp_path):
            pass


# --- between a request and its record ----------------------------------------------------------------------


def test_a_peer_for_whom_no_thread_can_be_started_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(provider: DULServiceProvider) -> None:
        raise RuntimeError("can't start new thread")

    with running(tmp_path) as node:
        monkeypatch.setattr(threading, "excepthook", node.node.thread_failed)
        monkeypatch.setattr(DULServiceProvider, "start", no_thread)
        with raw(node.port) as connection:
            connection.settimeout(PATIENCE_S)
            connection.sendall(association_request())
            assert read_pdu(connection) == b""
        until(lambda: node.node._admission.inside() == 0)
        assert [one["kind"] for one in node.events("thread_failed")] == ["RuntimeError"]


class Hasty(Journal):
    """A journal whose requests are looked at before the one who recorded them goes on."""

    looked_at: threading.Event

    def commitment_requests(self, now_s: float, most: int = 8) -> list[CommitmentRequest]:
        found = super().commitment_requests(now_s, most)
        if found:
            self.looked_at.set()
        return found

    def record_commitment_request(self, *arguments: Any) -> None:
        super().record_commitment_request(*arguments)
        assert self.looked_at.wait(PATIENCE_S)
        threading.Event().wait(0.2)  # what the reporter needs to see on which association it was asked


def test_a_request_that_is_reported_before_its_answer_has_gone_out_knows_its_association(tmp_path: Path) -> None:
    reports: list[commitment.CommitmentReport] = []

    def keep(report: commitment.CommitmentReport) -> bool:
        reports.append(report)
        return True

    with running(tmp_path) as node:
        journal = node.node.journal
        journal.__class__ = Hasty
        assert isinstance(journal, Hasty)
        journal.looked_at = threading.Event()
        association = associate(
            node.port, [commitment.StorageCommitmentPushModel], evt_handlers=[commitment.handler(keep)]
        )
        assert ask_for_commitment(association, "9.1", ct_uid(1, 1)) == 0
        until(lambda: node.events("report_taken") or node.events("report_not_taken"))
        association.release()  # not before its answer has gone out, which pynetdicom cannot send after a release
    assert [one.transaction_uid for one in reports] == ["9.1"]


def test_nothing_of_a_stopped_node_is_left(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with running(tmp_path, RULES, one_lesion, health_port=0) as node:
        send_all(node.port, [ct(1, 1)])
        until(lambda: node.events("job_done"))
        assert node.node.stop()
        assert node.node.stop()
    until(lambda: set(threading.enumerate()) <= before)
