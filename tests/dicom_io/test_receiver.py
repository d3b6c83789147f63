from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from little_objects import ct, ct_uid, sr, sr_uid, write
from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_context

from deeplesion_miner.errors import ConfigError
from dicom_io.negotiation import SCP_SYNTAXES
from dicom_io.receiver import Receiver
from dicom_io.store import ObjectStore
from tests.waiting import PATIENCE_S


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def send(port: int, *objects: Dataset) -> list[int]:
    """The statuses of storing the objects over one association."""
    contexts = {one.SOPClassUID: build_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in objects}
    association = AE(ae_title="SENDER").associate("127.0.0.1", port, contexts=list(contexts.values()))
    assert association.is_established
    statuses = [association.send_c_store(one).Status for one in objects]
    association.release()
    return statuses


def test_what_is_sent_is_stored_with_its_bytes_and_answered_with_success(store: ObjectStore, tmp_path: Path):
    with Receiver(store, "MINER", host="127.0.0.1") as receiver:
        receiver.expect([ct_uid(1, 1), sr_uid(1)])
        assert send(receiver.port, ct(1, 1), sr(1), ct(1, 1)) == [0, 0, 0]
    path = store.path(ct_uid(1, 1))
    sent = (write(tmp_path / "sent", ct(1, 1)) / f"{ct_uid(1, 1)}.dcm").read_bytes()
    meta_end = 144 + int.from_bytes(sent[140:144], "little")
    assert path is not None and path.read_bytes().endswith(sent[meta_end:])
    assert sorted(store.uids()) == [ct_uid(1, 1), sr_uid(1)]


def test_a_second_object_that_differs_is_answered_with_success_and_noted(store: ObjectStore):
    other = sr(1)
    other.PatientID = "SOMEBODY"
    with Receiver(store, "MINER", host="127.0.0.1") as receiver:
        receiver.expect([sr_uid(1)])
        assert send(receiver.port, sr(1), other) == [0, 0]
    assert [one.why for one in store.set_aside()] == ["conflicting_copies"]


def test_what_nobody_asked_for_is_dropped_and_answered_with_success(store: ObjectStore):
    with Receiver(store, "MINER", host="127.0.0.1") as receiver:
        receiver.expect([ct_uid(1, 1)])
        assert send(receiver.port, ct(2, 1), sr(1), ct(1, 1)) == [0, 0, 0]
        assert list(store.uids()) == [ct_uid(1, 1)]
        receiver.expect([sr_uid(1) + "\0"])
        assert send(receiver.port, sr(1)) == [0]
    assert sorted(store.uids()) == [ct_uid(1, 1), sr_uid(1)]


def test_all_storage_classes_are_accepted(store: ObjectStore):
    classes = [context.abstract_syntax for context in AllStoragePresentationContexts]
    with Receiver(store, "MINER", host="127.0.0.1") as receiver:
        accepted: set[str] = set()
        for start in range(0, len(classes), 120):
            contexts = [build_context(one, uid.ExplicitVRLittleEndian) for one in classes[start : start + 120]]
            association = AE().associate("127.0.0.1", receiver.port, contexts=contexts)
            accepted.update(context.abstract_syntax for context in association.accepted_contexts)
            association.release()
    assert accepted == set(classes)


def test_all_transfer_syntaxes_of_ct_are_accepted(store: ObjectStore):
    with Receiver(store, "MINER", host="127.0.0.1") as receiver:
        contexts = [build_context(uid.CTImageStorage, syntax) for syntax in SCP_SYNTAXES]
        association = AE().associate("127.0.0.1", receiver.port, contexts=contexts)
        accepted = {context.transfer_syntax[0] for context in association.accepted_contexts}
        association.release()
    assert accepted == set(SCP_SYNTAXES)


def test_waiting_ends_when_all_is_here_and_lasts_while_objects_arrive(store: ObjectStore):
    with Receiver(store, "MINER", host="127.0.0.1") as receiver:

        def trickle() -> None:
            for number in range(1, 5):
                time.sleep(0.2)
                send(receiver.port, ct(1, number))

        receiver.expect(ct_uid(1, number) for number in range(1, 5))
        sender = threading.Thread(target=trickle)
        sender.start()
        receiver.wait_for(lambda: store.has(ct_uid(1, 4)), quiet_s=PATIENCE_S)
        assert store.has(ct_uid(1, 4))
        sender.join()


def test_waiting_for_what_does_not_come_ends(store: ObjectStore):
    with Receiver(store, "MINER", host="127.0.0.1") as receiver:
        receiver.wait_for(lambda: False, quiet_s=0.1)


def test_a_full_disk_is_refused_and_raised_to_the_one_who_waits(store: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with Receiver(store, "MINER", host="127.0.0.1") as receiver:
        receiver.expect([sr_uid(1)])
        monkeypatch.setattr("dicom_io.store.os.fsync", full)
        assert send(receiver.port, sr(1)) == [0xA700]
        with pytest.raises(OSError, match="No space left"):
            receiver.wait_for(lambda: False, quiet_s=0.1)


def test_a_port_in_use_is_refused_with_its_number(store: ObjectStore):
    with (
        Receiver(store, "MINER", host="127.0.0.1") as receiver,
        pytest.raises(ConfigError, match=str(receiver.port)),
    ):
        Receiver(store, "MINER", host="127.0.0.1", port=receiver.port)
