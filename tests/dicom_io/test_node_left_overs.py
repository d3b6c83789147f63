"""A kill while files are written or removed leaves none for ever: the next start removes what nobody answers for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from little_objects import ct, ct_uid
from node_under_test import UnderTest, patient_limits, running, send_all

from dicom_io.node import NodeRules
from dicom_io.node.journal import Journal
from dicom_io.node.rules import PeerRule
from dicom_io.node.sweeping import sweep
from dicom_io.store import ObjectStore
from tests.waiting import until

IMAGES = 4
KILLED_AT = """
import os, signal, sys, time
from io import StringIO
from pathlib import Path
from dicom_io.node import NodeRules, NodeSettings
from dicom_io.node.journal import Journal
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics
from dicom_io.node.studies import Studies
from dicom_io.store import ObjectStore

folder, instant = Path(sys.argv[1]), sys.argv[2]
journal, store = Journal(folder), ObjectStore(folder / "objects")
settings = NodeSettings(folder, "NODE", keep_images_h=0.0)
studies = Studies(journal, store, NodeRules(()), settings, None, log=NodeLog(StringIO(), b"key"), metrics=Metrics())
removed = []

def remove(uid, remove=store.remove):
    if instant == f"{len(removed)} files are removed":
        os.kill(os.getpid(), signal.SIGKILL)
    removed.append(uid)
    return remove(uid)

store.remove = remove
if instant == "an object is written and not in the journal":
    incoming = store.incoming("1.2.3", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    incoming.write(b"an object whose sender had no answer")
    incoming.keep()
    os.kill(os.getpid(), signal.SIGKILL)
studies._free()
"""


def files(node: UnderTest) -> set[str]:
    return set(node.node.store.uids())


@pytest.mark.parametrize(
    ("instant", "left"),
    [
        ("0 files are removed", IMAGES),
        (f"{IMAGES - 1} files are removed", 1),
        ("an object is written and not in the journal", 1),
    ],
)
def test_what_a_kill_leaves_is_gone_after_the_next_start_and_nothing_else_is(
    tmp_path: Path, instant: str, left: int
) -> None:
    images = [ct(1, number) for number in range(1, IMAGES + 1)]
    with running(tmp_path) as node:
        send_all(node.port, images)
        until(lambda: node.node.journal.studies_by_state() == {"whole": 1})
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, str(tmp_path / "node"), instant])
    assert killed.returncode == -signal.SIGKILL
    store = ObjectStore(tmp_path / "node" / "objects")
    journal = Journal(tmp_path / "node")
    answered_for = journal.object_uids()
    journal.close()
    assert len(set(store.uids()) - answered_for) == left
    with running(tmp_path) as node:
        until(lambda: node.node._studies.is_swept)
        assert [one["count"] for one in node.events("left_overs_removed")] == [left]
        assert files(node) == answered_for
        assert send_all(node.port, images) == [0] * IMAGES  # whether it was freed or not
        assert files(node) == node.node.journal.object_uids()


def test_a_start_after_which_nothing_was_left_says_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path) as node:
            send_all(node.port, [ct(1, 1)])
            until(lambda node=node: node.node._studies.is_swept)  # type: ignore[misc]
            assert node.events("left_overs_removed") == []
            assert files(node) == {ct_uid(1, 1)}


def test_what_a_lost_journal_answered_for_stays(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        send_all(node.port, [ct(1, 1)])
    for file in (tmp_path / "node").glob("node.sqlite*"):
        file.unlink()
    with running(tmp_path) as node:
        until(lambda: node.node._studies.is_swept)
        assert files(node) == {ct_uid(1, 1)}
        assert node.events("left_overs_removed") == []


def test_what_comes_while_left_overs_are_looked_for_stays(tmp_path: Path) -> None:
    """The journal is asked once more about each file: an object may have come again since it was listed."""
    rules = NodeRules((PeerRule("SENDER", quiet_s=3600.0),))
    with running(tmp_path, rules, limits=patient_limits()) as node:
        for number in (1, 2, 3):  # so that their folders are there
            node.node.store.put_encoded(ct_uid(1, number), "1.2", "1.2.840.10008.1.2.1", b"")
            node.node.store.remove(ct_uid(1, number))
        sweeping = sweep(node.node.journal, node.node.store, 1e12)
        assert next(sweeping) == 0  # what is known is known from here on
        assert send_all(node.port, [ct(1, 1), ct(1, 2)]) == [0, 0]
        assert sum(sweeping) == 0
        assert files(node) == {ct_uid(1, 1), ct_uid(1, 2)}


def test_a_store_names_the_objects_that_are_none_of_the_known_and_old_enough(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    for number in range(50):
        store.put_encoded(f"1.2.{number}", "1.2", "1.2.840.10008.1.2.1", b"")
    (tmp_path / "00" / "00").mkdir(parents=True, exist_ok=True)
    (tmp_path / "00" / "00" / f"{'0' * 64}.dcm").write_bytes(b"no file of ours")
    (tmp_path / "00" / "00" / f"._{'0' * 64}.dcm").write_bytes(b"what some file servers put beside a file")
    young = store.path("1.2.9")
    assert young is not None
    os.utime(young, (2e9, 2e9))
    old = store.path("1.2.8")
    assert old is not None
    os.utime(old, (9e8, 9e8))
    known = [f"1.2.{number}" for number in range(5, 50) if number not in (8, 9)]
    found = [uid for uids in store.others(known, 1e9, 1.9e9) for uid in uids]
    assert sorted(found) == [f"1.2.{number}" for number in range(5)]
