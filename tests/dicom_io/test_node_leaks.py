"""What others say of an error does not get into the node's log or pages: it may name a patient."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from little_objects import ct, ct_series_uid, ct_uid, study_uid
from node_under_test import PEER, UnderTest, associate, patient_limits, running, send_all, store
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from test_node_flow import ask_for_commitment, one_lesion
from test_node_health import page

from deeplesion_miner.errors import ArchiveError, ConfigError, MinerError
from dicom_io import commitment, negotiation
from dicom_io.emit import Emission
from dicom_io.node import JobFailed, JobRequest, NodeRules, Problem
from dicom_io.node.log import NodeLog, Overheard
from dicom_io.node.rules import PeerRule, SeriesRule
from dicom_io.outbox import Outbox
from tests.waiting import until

NAME, PATIENT = "Sikrit^Person", "ID-4711"
SHORT_UID = "2.25.4711471147114711"
SECRETS = (NAME, "Sikrit", PATIENT, SHORT_UID, study_uid(1), ct_series_uid(1), ct_uid(1, 1), "/tmp", "objects/")


def planted(study: int, number: int) -> Dataset:
    image = ct(study, number)
    image.PatientName, image.PatientID = NAME, PATIENT
    return image


def said(node: UnderTest) -> str:
    """All that the node tells without being told to tell all."""
    return node.log.getvalue() + "".join(page(node, name)[1] for name in ("health", "ready", "metrics", PATIENT))


def assert_nothing_leaks(node: UnderTest) -> None:
    text = said(node)
    assert [secret for secret in SECRETS if secret in text] == []


def with_a_runner(error: Exception) -> Any:
    def failing(request: JobRequest) -> Emission:
        raise error

    return failing


RULES = NodeRules(
    (PeerRule(PEER, quiet_s=0.2),), (SeriesRule("lesions", Path("model"), "PACS@127.0.0.1:1", peers=(PEER,)),)
)
WHO = f"{NAME} ({PATIENT}) in {study_uid(1)} and {SHORT_UID}, file /tmp/objects/{PATIENT}.dcm"
RUNNER_ERRORS = [
    (JobFailed(WHO, temporary=False), "JobFailed", str(Problem.OTHER)),
    (JobFailed(WHO, temporary=False, problem=Problem.KILLED, kind="OSError"), "OSError", str(Problem.KILLED)),
    (MinerError(WHO), "MinerError", ""),
    (ConfigError(WHO), "ConfigError", ""),
    (OSError(errno.ENOSPC, WHO, f"/tmp/{WHO}"), "OSError", os.strerror(errno.ENOSPC)),
]


@pytest.mark.parametrize(("error", "kind", "why"), RUNNER_ERRORS, ids=lambda one: type(one).__name__)
def test_what_a_runner_raises_is_told_by_its_kind(tmp_path: Path, error: Exception, kind: str, why: str) -> None:
    with running(tmp_path, RULES, with_a_runner(error), limits=patient_limits(), health_port=0) as node:
        send_all(node.port, [planted(1, 1)])
        until(lambda: node.events("job_failed"))
        (failed,) = node.events("job_failed")
        assert (failed["kind"], failed["why"]) == (kind, why)
        assert_nothing_leaks(node)
        ((reason,),) = node.node.journal.rows("SELECT reason FROM job")  # the trusted side knows
        assert PATIENT in reason


def test_a_verbose_log_tells_what_others_said(tmp_path: Path) -> None:
    """So that the other tests can fail."""
    with running(tmp_path, RULES, with_a_runner(MinerError(WHO)), limits=patient_limits(), verbose=True) as node:
        send_all(node.port, [planted(1, 1)])
        until(lambda: node.events("job_failed"))
        assert node.events("job_failed")[0]["text"] == WHO
        assert all(secret in node.log.getvalue() for secret in SECRETS[:4])


def test_an_error_that_ends_a_thread_is_told_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, RULES, with_a_runner(ValueError(WHO)), limits=patient_limits(), health_port=0) as node:
        monkeypatch.setattr(threading, "excepthook", node.node.thread_failed)
        send_all(node.port, [planted(1, 1)])
        until(lambda: node.events("thread_failed"))
        (failed,) = node.events("thread_failed")
        assert (failed["kind"], failed["thread"]) == ("ValueError", "job-0")
        until(lambda: page(node, "health")[0] == 503)
        assert_nothing_leaks(node)


def test_objects_that_cannot_be_kept_are_told_without_what_is_in_them(tmp_path: Path) -> None:
    with running(tmp_path, RULES, limits=patient_limits(), max_object_bytes=100_000, health_port=0) as node:
        association = associate(node.port)
        send = association.dimse.send_msg
        # A length far beyond the end, a value that is no number, no data set at all.
        name = NAME.encode()
        broken = [
            b"\x10\x00\x10\x00PN\xff\x7f" + name,
            b"\x18\x00\x50\x00DS" + len(name).to_bytes(2, "little") + name,
            b"\x08\x00\x16\x00UI\x0e\x00" + name,
            b"\x08\x00\x16\x00SQ\x00\x00\xff\xff\xff\xff" + name,
            name * 40,
        ]
        for content in broken:

            def instead(primitive: Any, context_id: int, content: bytes = content) -> None:
                primitive.DataSet = BytesIO(content)
                send(primitive, context_id)

            association.dimse.send_msg = instead
            assert store(association, planted(1, 1))[0] in (0xC000, 0xA900)
        association.dimse.send_msg = send
        large, homeless = planted(1, 2), planted(1, 3)
        large.PixelData = bytes(300_000)
        del homeless.StudyInstanceUID
        assert [store(association, one)[0] for one in (large, homeless, planted(1, 4), ct(1, 4))] == [
            0xC010, 0xA900, 0, 0xC020]  # fmt: skip
        association.release()
        assert len(node.events("object_refused")) == len(broken) + 3
        assert_nothing_leaks(node)


def test_a_disk_and_a_journal_that_fail_are_told_without_paths(tmp_path: Path) -> None:
    with running(tmp_path, RULES, one_lesion, limits=patient_limits(), health_port=0) as node:
        incoming = tmp_path / "node" / "objects" / "incoming"
        incoming.rmdir()
        assert send_all(node.port, [planted(1, 1)]) == [0xA700]
        incoming.mkdir()
        journal = node.node.journal
        journal._database.execute("PRAGMA query_only = ON")
        assert send_all(node.port, [planted(1, 1)]) == [0xA700]
        until(lambda: node.events("journal"))
        journal._database.execute("PRAGMA query_only = OFF")
        told = node.events("journal")[0]
        assert (told["kind"], told["why"], len(told)) == ("JournalError", "SQLITE_READONLY", 5)
        node.outbox._file._database.execute("PRAGMA query_only = ON")
        send_all(node.port, [planted(1, 1)])
        until(lambda: node.events("job_failed"))
        node.outbox._file._database.execute("PRAGMA query_only = OFF")
        assert (node.events("job_failed")[0]["kind"], node.events("job_failed")[0]["why"]) == (
            "OutboxNotWorking", "SQLITE_READONLY")  # fmt: skip
        assert_nothing_leaks(node)


@contextmanager
def talkative_archive() -> Iterator[str]:
    """An archive that refuses everything and says of whom."""
    refusal = Dataset()
    refusal.Status, refusal.ErrorComment = 0xC001, f"{NAME} {PATIENT} {SHORT_UID}"[:64]

    def refuse(event: Any) -> Any:
        yield refusal, None

    entity = AE(ae_title="TALKS")
    entity.add_supported_context(negotiation.FIND)
    entity.add_supported_context(commitment.StorageCommitmentPushModel, scu_role=True, scp_role=True)
    handlers: list[Any] = [(evt.EVT_C_FIND, refuse), (evt.EVT_N_EVENT_REPORT, lambda event: (refusal, None))]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"TALKS@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def test_what_an_archive_says_of_its_refusal_is_not_told(tmp_path: Path) -> None:
    with talkative_archive() as address:
        rules = NodeRules((PeerRule(PEER, quiet_s=0.2, archive=address, report_to=address),), RULES.rules)
        with running(tmp_path, rules, limits=patient_limits(), health_port=0) as node:
            send_all(node.port, [planted(1, 1)])
            association = associate(node.port, [commitment.StorageCommitmentPushModel])
            assert ask_for_commitment(association, SHORT_UID, ct_uid(1, 1)) == 0
            association.release()
            until(lambda: node.events("study_waits") and node.events("report_not_taken"))
            assert node.events("study_waits")[0]["why"] == f"{address}: C-FIND failed (status C001H); it may pass"
            assert_nothing_leaks(node)


@pytest.mark.parametrize(
    "error",
    [
        ArchiveError(WHO, peer="PACS", operation="C-STORE", status=0xC001, temporary=True),
        OSError(errno.EMFILE, WHO, f"/tmp/{WHO}"),
        MinerError(WHO),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_keeps_results_from_their_destination_is_told_by_its_kind(tmp_path: Path, error: Exception) -> None:
    def broken(outbox: Outbox) -> Any:
        def open_one(destination: str) -> Any:
            raise error

        return open_one

    with running(tmp_path, RULES, one_lesion, limits=patient_limits(), open_wire=broken, health_port=0) as node:
        send_all(node.port, [planted(1, 1)])
        until(lambda: node.events("not_delivered"))
        assert node.events("not_delivered")[0]["kind"] == type(error).__name__
        assert_nothing_leaks(node)


def test_uids_of_both_forms_are_told_by_their_short_names() -> None:
    stream = StringIO()
    log = NodeLog(stream, b"key")
    log.info("one", what=f"{SHORT_UID} and {study_uid(1)}, version 2.25.1")
    record = json.loads(stream.getvalue())
    assert record["what"] == f"{log.name(SHORT_UID)} and {log.name(study_uid(1))}, version 2.25.1"


@pytest.mark.parametrize("verbose", [False, True])
def test_what_other_modules_warn_of_is_a_line_of_the_log_without_its_values(
    verbose: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = StringIO()
    with Overheard(NodeLog(stream, b"key", verbose=verbose)):
        logging.getLogger("dicom_io.committing").warning("%s: asked for %s", NAME, SHORT_UID)
    (record,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (record["event"], record["module"], record["why"]) == ("warned", "dicom_io.committing", "%s: asked for %s")
    assert record.get("text") == (f"{NAME}: asked for {SHORT_UID}" if verbose else None)
    assert capfd.readouterr().err == ""


def test_a_warning_that_is_an_error_is_told_by_its_kind() -> None:
    stream = StringIO()
    with Overheard(NodeLog(stream, b"key", verbose=False)):
        logging.getLogger("dicom_io.comparison").warning("%s", OSError(errno.ENOSPC, NAME))
    (record,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (record["kind"], record["why"]) == ("OSError", "No space left on device")
    assert NAME not in stream.getvalue()
