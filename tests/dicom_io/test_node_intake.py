"""What the node does with objects: it keeps them before it says so, or says why not."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from little_objects import ct, ct_uid, sr, study_uid
from node_under_test import (
    CT,
    PEER,
    associate,
    association_request,
    echoes,
    kept,
    patient_limits,
    raw,
    read_pdu,
    running,
    send_all,
    store,
)
from pydicom.dataset import Dataset
from pynetdicom import _config
from pynetdicom.dimse_messages import C_STORE_RQ

from deeplesion_miner.errors import ConfigError, LedgerInUse
from dicom_io import part10
from dicom_io.node import NodeRules
from dicom_io.node.intake import Intake
from dicom_io.node.journal import Journal
from dicom_io.node.pace import Paces
from dicom_io.node.rules import PeerRule
from tests.waiting import PATIENCE_S, until


def test_an_object_that_was_answered_with_success_is_in_the_store_and_in_the_journal(tmp_path: Path) -> None:
    with running(tmp_path) as under_test:
        assert send_all(under_test.port, [ct(1, 1), ct(1, 2), sr(1)]) == [0, 0, 0]
        assert all(kept(under_test, one) for one in (ct(1, 1), ct(1, 2), sr(1)))
        path = under_test.node.store.path(ct_uid(1, 1))
        assert path is not None
        read = part10.read(path)
        assert isinstance(read, Dataset)
        assert (read.SOPInstanceUID, read.PixelData) == (ct_uid(1, 1), ct(1, 1).PixelData)
        assert path.stat().st_mode & 0o077 == 0
        assert under_test.parts() == []


def test_what_is_sent_twice_is_kept_once_and_answered_twice(tmp_path: Path) -> None:
    with running(tmp_path) as under_test:
        assert send_all(under_test.port, [ct(1, 1), ct(1, 1)]) == [0, 0]
        assert send_all(under_test.port, [ct(1, 1)]) == [0]
        assert len(under_test.node.journal.object_uids()) == 1


def test_another_object_under_a_known_uid_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    other = ct(1, 1)
    other.PatientName = "Else^Somebody"
    with running(tmp_path) as under_test:
        assert send_all(under_test.port, [ct(1, 1), other]) == [0, 0xC020]
        path = under_test.node.store.path(ct_uid(1, 1))
        assert path is not None
        read = part10.read(path)
        assert isinstance(read, Dataset)
        assert read.PatientName == ct(1, 1).PatientName
        assert under_test.parts() == []


def test_an_object_beyond_the_size_limit_is_heard_out_refused_and_leaves_nothing(tmp_path: Path) -> None:
    large = ct(1, 1)
    large.PixelData = bytes(300_000)
    with running(tmp_path, max_object_bytes=100_000) as under_test:
        association = associate(under_test.port)
        status, comment = store(association, large)
        assert status == 0xC010
        assert "bytes are more than is taken" in comment
        assert store(association, ct(1, 2))[0] == 0  # the association goes on
        association.release()
        assert not under_test.node.store.has(ct_uid(1, 1))
        assert under_test.parts() == []


def test_an_object_that_is_not_what_the_request_says_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as under_test:
        association = associate(under_test.port)
        request = association.dimse.send_msg

        def other_uid(primitive: object, context_id: int) -> None:
            primitive.AffectedSOPInstanceUID = "1.2.3.4"  # type: ignore[attr-defined]
            request(primitive, context_id)

        association.dimse.send_msg = other_uid
        assert store(association, ct(1, 1))[0] == 0xA900
        association.release()
        assert under_test.node.journal.object_uids() == frozenset()
        assert under_test.parts() == []


def test_an_object_without_study_is_refused(tmp_path: Path) -> None:
    homeless = ct(1, 1)
    del homeless.StudyInstanceUID
    with running(tmp_path) as under_test:
        association = associate(under_test.port)
        status, comment = store(association, homeless)
        assert (status, "0020,000D" in comment) == (0xA900, True)
        association.release()


def test_a_full_disk_refuses_with_out_of_resources_and_the_readiness_page_tells(tmp_path: Path) -> None:
    with running(tmp_path, limits=patient_limits(free_bytes=1 << 60), health_port=0) as under_test:
        assert send_all(under_test.port, [ct(1, 1)]) == [0xA700]
        assert "disk" in under_test.node.readiness_problems()
        assert echoes(under_test.port)


def test_a_disk_that_fails_while_an_object_comes_refuses_it(tmp_path: Path) -> None:
    with running(tmp_path) as under_test:
        incoming = tmp_path / "node" / "objects" / "incoming"
        incoming.rmdir()
        assert send_all(under_test.port, [ct(1, 1)]) == [0xA700]
        incoming.mkdir()
        assert send_all(under_test.port, [ct(1, 1)]) == [0]


def test_a_journal_that_cannot_be_written_refuses_although_the_object_is_on_disk(tmp_path: Path) -> None:
    with running(tmp_path) as under_test:
        journal = under_test.node.journal
        journal._database.execute("PRAGMA query_only = ON")
        assert send_all(under_test.port, [ct(1, 1)]) == [0xA700]
        journal._database.execute("PRAGMA query_only = OFF")
        assert send_all(under_test.port, [ct(1, 1)]) == [0]
        assert kept(under_test, ct(1, 1))


def test_too_many_open_studies_refuse_new_ones_but_let_open_ones_be_completed(tmp_path: Path) -> None:
    rules = NodeRules((PeerRule(PEER, quiet_s=60),))
    with running(tmp_path, rules, limits=patient_limits(open_studies=2)) as under_test:
        assert send_all(under_test.port, [ct(1, 1), ct(2, 1), ct(3, 1), ct(2, 2)]) == [0, 0, 0xA700, 0]
        assert "studies" in under_test.node.readiness_problems()


def test_an_association_that_ends_in_the_middle_of_an_object_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as under_test:
        with raw(under_test.port) as connection:
            connection.sendall(association_request())
            assert read_pdu(connection)[0] == 2
            connection.sendall(_command_of(ct_uid(1, 1)))
            value = struct.pack(">LBB", 1002, 1, 0) + bytes(1000)
            connection.sendall(struct.pack(">BBL", 4, 0, len(value)) + value)
            until(lambda: len(under_test.parts()) == 1)
        until(lambda: under_test.parts() == [])
        until(lambda: under_test.node._admission.inside() == 0)


def _command_of(uid: str) -> bytes:
    """A P-DATA-TF with the command set of a C-STORE-RQ."""
    from io import BytesIO

    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.pdu import P_DATA_TF

    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, uid
    request.DataSet = BytesIO(b"\0" * 10)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdu = P_DATA_TF()
    pdu.from_primitive(next(iter(message.encode_msg(1, 16382))))
    return bytes(pdu.encode())


def test_a_sender_that_does_not_wait_for_answers_fills_its_own_buffers_not_ours(tmp_path: Path) -> None:
    data = struct.pack(">LBB", 60_002, 1, 2) + bytes(60_000)
    whole = struct.pack(">BBL", 4, 0, len(data)) + data
    sent = 0
    with running(tmp_path, limits=patient_limits(messages=2)) as under_test:
        held = threading.Event()
        under_test.node._intake._paces.wait = lambda peer: bool(held.wait(PATIENCE_S))  # type: ignore[method-assign]
        with raw(under_test.port) as connection:
            connection.sendall(association_request())
            assert read_pdu(connection)[0] == 2
            connection.settimeout(1.0)
            with pytest.raises(TimeoutError):
                for number in range(2000):
                    connection.sendall(_command_of(f"1.2.3.{number}") + whole)
                    sent += 1
            assert len(under_test.parts()) <= 4
        held.set()
        until(lambda: under_test.parts() == [])
    assert sent < 2000


def test_pynetdicoms_own_way_of_writing_objects_to_disk_is_off(tmp_path: Path) -> None:
    """It would write to the system's folder for temporary files, without a limit."""
    assert _config.STORE_RECV_CHUNKED_DATASET is False


def test_a_fast_peer_is_slowed_down_and_the_others_are_not() -> None:
    import time

    paces = Paces({"SLOW": 600.0, "FREE": None})
    began_s = time.monotonic()
    assert all(paces.wait("FREE") for _ in range(1000))
    assert all(paces.wait("SLOW") for _ in range(55))  # fifty at once, then ten a second
    assert time.monotonic() - began_s > 0.3


def test_a_peer_that_is_far_too_fast_is_told_so_at_once() -> None:
    paces = Paces({"SLOW": 1.0})
    assert paces.wait("SLOW")
    assert not paces.wait("SLOW")  # a minute is longer than a sender waits


def test_a_folder_has_one_node_at_a_time(tmp_path: Path) -> None:
    with running(tmp_path), pytest.raises(LedgerInUse):
        Journal(tmp_path / "node")


def test_what_is_no_journal_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "node.sqlite").write_bytes(b"no database at all" * 100)
    for _ in range(2):  # what could not be opened is not held
        with pytest.raises(ConfigError, match=r"node\.sqlite: not a journal"):
            Journal(tmp_path / "node")


def test_after_a_restart_what_was_answered_is_there_and_the_study_goes_on(tmp_path: Path) -> None:
    slow = NodeRules((PeerRule(PEER, quiet_s=0.5),))
    with running(tmp_path, slow) as under_test:
        assert send_all(under_test.port, [ct(1, 1)]) == [0]
    with running(tmp_path, slow) as under_test:
        assert kept(under_test, ct(1, 1))
        assert send_all(under_test.port, [ct(1, 2)]) == [0]
        until(lambda: under_test.node.journal.studies_by_state() == {"whole": 1})
        (series,) = under_test.node.journal.series_of(study_uid(1))
        assert len(series.sop_instance_uids) == 2


def test_a_stop_waits_for_open_associations_and_rejects_new_ones_for_now(tmp_path: Path) -> None:
    with running(tmp_path) as under_test:
        association = associate(under_test.port)
        assert store(association, ct(1, 1))[0] == 0
        stopped: list[bool] = []
        stopping = threading.Thread(target=lambda: stopped.append(under_test.node.stop()))
        stopping.start()
        until(lambda: under_test.events("stopping"))
        late = associate(under_test.port)
        assert late.is_rejected
        assert late.acceptor.primitive.result == 2
        assert store(association, ct(1, 2))[0] == 0
        association.release()
        stopping.join()
        assert stopped == [True]
    journal = Journal(tmp_path / "node")
    assert journal.object_uids() == {ct_uid(1, 1), ct_uid(1, 2)}
    journal.close()


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with running(tmp_path, limits=patient_limits(stop_s=0.5)) as under_test:
        association = associate(under_test.port)
        assert association.is_established
        assert under_test.node.stop() is False
        until(lambda: not association.is_established)


def test_threads_that_have_ended_leave_no_memory_behind_in_arenas_of_their_own() -> None:
    script = """
import sys, threading
from pathlib import Path
from typing import Any
from dicom_io.node.allocator import limit_arenas
if not limit_arenas():
    sys.exit(0)  # another C library
def work():
    barrier.wait()
    blocks = [bytearray(20_000) for _ in range(50)]
    barrier.wait()
barrier = threading.Barrier(12)
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
starts = [line.split("-")[0] for line in Path("/proc/self/maps").read_text().splitlines() if "rw-p" in line]
arenas = sum(int(start, 16) % (64 << 20) == 0 for start in starts)
sys.exit(arenas > 2)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_the_disk_is_not_full_while_another_thread_looks_at_it_for_the_first_time(tmp_path: Path) -> None:
    seen: list[int] = []

    class SharedAtEachStep(Intake):
        """Whenever one thread has changed something, another one looks."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if is_made:
                seen.append(self.free_bytes())

    is_made = False
    given: dict[str, Any] = dict.fromkeys(("quiet_s", "paces", "log", "metrics"))
    store: Any = None
    intake = SharedAtEachStep(store, tmp_path, store, patient_limits(), **given)
    is_made = True
    assert intake.free_bytes() > 0
    assert seen
    assert all(seen)
