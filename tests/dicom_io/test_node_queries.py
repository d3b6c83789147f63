"""C-FIND at the node: as many results as there are, at the pace of who reads them, until who asked has enough."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_under_test import LOOPBACK, UnderTest, associate, association_request, read_pdu, running
from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import C_FIND_RQ
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from dicom_io import negotiation
from dicom_io.catalogue import LEVEL_KEYS, StoredObject, entities
from dicom_io.node.journal import PAGE, Journal
from dicom_io.node.outgoing import BATCH
from dicom_io.node.records import StoredResult
from dicom_io.node.result_rows import result_rows
from tests.waiting import until

SR, SEG = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT = "1.2.840.10008.1.2.1"
FIND = str(negotiation.FIND)


def result(study: int, series: int, number: int, sop_class: str = SR) -> StoredResult:
    keys = dict.fromkeys(LEVEL_KEYS["IMAGE"], "")
    keys |= {"StudyInstanceUID": f"1.2.{study}", "SeriesInstanceUID": f"1.2.{study}.{series}",
             "SOPInstanceUID": f"1.2.{study}.{series}.{number}", "SOPClassUID": sop_class,
             "Modality": "SR" if sop_class == SR else "SEG", "PatientID": f"P{study}",
             "StudyDescription": "a description of some length", "ReferringPhysicianName": "Referring^Physician",
             "SeriesDescription": "what a model found in a series", "AccessionNumber": "A1"}  # fmt: skip
    return StoredResult(keys["SOPInstanceUID"], sop_class, EXPLICIT, keys)


def in_order(results: list[StoredResult]) -> list[StoredResult]:
    return sorted(results, key=lambda one: [one.keys[f"{name}InstanceUID"] for name in ("Study", "Series", "SOP")])


def plant(under_test: UnderTest, results: list[StoredResult]) -> None:
    """Results that no job had to make: rows, and files that are never opened."""
    under_test.node.journal.record_results(results)
    for one in results:
        target = under_test.node._own_results._store._target(one.sop_instance_uid)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def identifier(level: str, **keys: str) -> Dataset:
    wanted = Dataset()
    wanted.QueryRetrieveLevel = level
    for key in LEVEL_KEYS[level]:
        setattr(wanted, key, keys.get(key))
    return wanted


@given(st.lists(st.tuples(*[st.integers(1, 3)] * 3, st.sampled_from([SR, SEG])), unique_by=lambda one: one[:3]))
@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_rows_that_are_counted_on_the_way_are_those_of_a_catalogue_that_has_all_at_hand(
    level: str, made: list[tuple[int, int, int, str]]
) -> None:
    results = [result(*one) for one in made]
    whole = entities([StoredObject(Path(), EXPLICIT, one.keys) for one in in_order(results)], level)
    assert list(result_rows(in_order(results), level)) == list(whole)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def test_results_are_read_in_pages_each_once_and_in_order(journal: Journal) -> None:
    results = [result(study, number % 3, number) for study in (1, 2, 3) for number in range(PAGE // 2)]
    journal.record_results(results)
    pages = list(journal.result_pages())
    assert [len(page) for page in pages] == [PAGE, PAGE // 2]
    assert [one for page in pages for one in page] == in_order(results)
    assert [one for page in journal.result_pages(["1.2.3", "1.2.1", "1.2.9", "1.2.1"]) for one in page] == [
        one for one in in_order(results) if one.keys["PatientID"] != "P2"]  # fmt: skip


def test_a_page_is_found_without_looking_at_the_results_before_it(journal: Journal) -> None:
    statements: list[str] = []
    journal._database.set_trace_callback(statements.append)
    list(journal.result_pages())
    list(journal.result_pages(["1.2"]))
    journal._database.set_trace_callback(None)
    for one in statements:
        plan = [row[3] for row in journal.rows("EXPLAIN QUERY PLAN " + one)]
        assert plan[0].startswith("SEARCH result USING INDEX result_by_study"), plan
        assert len(plan) == 1  # nothing is sorted


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_memory_does_not_grow_with_the_number_of_results(journal: Journal, level: str) -> None:
    def peak_bytes() -> int:
        results = (one for page in journal.result_pages() for one in page)
        tracemalloc.start()
        for _ in result_rows(results, level):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    journal.record_results(result(1, 1, number) for number in range(2 * PAGE))
    few = peak_bytes()
    journal.record_results(result(1, series, number) for series in (1, 2) for number in range(10 * PAGE))
    assert peak_bytes() < 1.5 * few


def test_a_query_without_a_study_finds_all_results(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        plant(node, [result(study, 1, number) for study in (1, 2) for number in range(PAGE)])
        association = associate(node.port, [FIND])
        answers = list(association.send_c_find(identifier("IMAGE"), negotiation.FIND))
        assert [status.Status for status, _ in answers] == [0xFF00] * 2 * PAGE + [0]
        assert len({row.SOPInstanceUID for _, row in answers if row is not None}) == 2 * PAGE
        answers = list(association.send_c_find(identifier("STUDY"), negotiation.FIND))
        assert [row.PatientID for _, row in answers if row is not None] == ["P1", "P2"]
        association.release()


def test_a_cancel_ends_a_query(tmp_path: Path) -> None:
    count = 20 * PAGE
    with running(tmp_path) as node:
        plant(node, [result(1, 1, number) for number in range(count)])
        association = associate(node.port, [FIND])
        statuses = []
        for status, _ in association.send_c_find(identifier("IMAGE"), negotiation.FIND, msg_id=7):
            statuses.append(status.Status)
            if len(statuses) == 1:
                association.send_c_cancel(7, None, negotiation.FIND)
        assert statuses[-1] == 0xFE00
        assert len(statuses) < count
        association.release()


def find_request(wanted: Dataset) -> bytes:
    """P-DATA-TF PDUs of a C-FIND-RQ."""
    request = C_FIND()
    request.MessageID, request.Priority, request.AffectedSOPClassUID = 1, 2, FIND
    encoded = encode(wanted, False, True)
    assert encoded is not None
    request.Identifier = BytesIO(encoded)
    message = C_FIND_RQ()
    message.primitive_to_message(request)
    pdus = b""
    for primitive in message.encode_msg(1, 16382):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        pdus += pdu.encode()
    return pdus


@contextmanager
def unread_query(node: UnderTest) -> Iterator[Queue[Any]]:
    """A peer that asks for very much and reads nothing; gives what waits to be sent to it."""
    plant(node, [result(1, 1, number) for number in range(20 * PAGE)])
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((LOOPBACK, node.port))
        connection.sendall(association_request(abstract_syntax=FIND))
        assert read_pdu(connection)[0] == 2
        (association,) = node.node._associations
        association.dul.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(find_request(identifier("IMAGE")))
        yield association.dul.to_provider_queue


def test_answers_wait_for_a_peer_that_does_not_read_and_end_with_it(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        longest = 0
        with unread_query(node) as queue:
            until(lambda: queue.qsize() >= BATCH)
            for _ in range(200):
                longest = max(longest, queue.qsize())
                threading.Event().wait(0.002)
        assert longest <= 2 * BATCH  # a response is a command and a data set
        until(lambda: node.node._admission.inside() == 0)
