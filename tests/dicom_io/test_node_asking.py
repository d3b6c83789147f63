"""A report of storage commitment on the association of its request: the peer goes on with what it does meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from little_objects import ct, ct_uid
from node_under_test import CT, UnderTest, associate, patient_limits, running, store
from pynetdicom.association import Association
from test_node_flow import ask_for_commitment

from dicom_io import commitment
from tests.waiting import PATIENCE_S, until

ECHO = "1.2.840.10008.1.1"
MODEL = commitment.StorageCommitmentPushModel


@contextmanager
def a_report_that_is_not_answered_yet(node: UnderTest) -> Iterator[tuple[Association, threading.Event]]:
    """The association of a peer that has got a report, and the event at which it answers."""
    came, answer = threading.Event(), threading.Event()

    def keep(report: commitment.CommitmentReport) -> bool:
        came.set()
        return answer.wait(PATIENCE_S)

    association = associate(node.port, [MODEL, CT, ECHO], evt_handlers=[commitment.handler(keep)])
    assert ask_for_commitment(association, "9.1", ct_uid(1, 1)) == 0
    assert came.wait(PATIENCE_S)
    try:
        yield association, answer
    finally:
        answer.set()


def test_what_a_peer_sends_before_it_answers_a_report_is_served(tmp_path: Path, patient: Any) -> None:
    with running(tmp_path) as node:
        with a_report_that_is_not_answered_yet(node) as (association, answer):
            assert store(association, ct(1, 1))[0] == 0
            assert association.send_c_echo().Status == 0
            answer.set()
            until(lambda: node.events("report_taken") or node.events("report_not_taken"))
        assert len(node.events("report_taken")) == 1
        assert store(association, ct(1, 2))[0] == 0  # it goes on as before
        association.release()


def test_a_peer_that_releases_instead_of_answering_a_report_is_let_go_at_once(tmp_path: Path, patient: Any) -> None:
    limits = patient_limits(idle_s=10 * PATIENCE_S)
    with running(tmp_path, limits=limits) as node, a_report_that_is_not_answered_yet(node) as (association, _):
        association.release()
        assert association.is_released
        until(lambda: node.events("report_not_taken"))
        until(lambda: node.node._admission.inside() == 0)


def test_a_peer_that_goes_instead_of_answering_a_report_is_let_go_at_once(tmp_path: Path, patient: Any) -> None:
    limits = patient_limits(idle_s=10 * PATIENCE_S)
    with running(tmp_path, limits=limits) as node, a_report_that_is_not_answered_yet(node) as (association, _):
        association.abort()
        until(lambda: node.events("report_not_taken"))
        until(lambda: node.node._admission.inside() == 0)


def test_a_peer_that_does_not_answer_a_report_in_time_keeps_its_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_io.node.commitments._ANSWER_S", 0.1)
    with running(tmp_path) as node, a_report_that_is_not_answered_yet(node) as (association, _):
        until(lambda: node.events("report_not_taken"))
        assert node.events("report_not_taken")[0]["again"] is False  # the peer asks again if it must know
        assert node.node.journal.commitment_requests(1e12) == []
        assert store(association, ct(1, 1))[0] == 0
        assert association.send_c_echo().Status == 0
        association.release()
        assert association.is_released


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer may take as long to answer as this process stands still."""
    monkeypatch.setattr("dicom_io.node.commitments._ANSWER_S", 10 * PATIENCE_S)
