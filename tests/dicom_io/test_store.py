from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_io.store import ObjectStore, Outcome, file_header

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = str(ExplicitVRLittleEndian)
BODY = bytes.fromhex("0800 1800 5549 0600") + b"1.2.3\0" + bytes.fromhex("1000 1000 504e 0400") + b"A^B "


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def test_a_stored_object_is_a_part_10_file_with_the_given_uids_and_the_very_bytes(store: ObjectStore):
    assert store.put_encoded("1.2.3", CT, EXPLICIT, BODY) is Outcome.NEW
    path = store.path("1.2.3")
    assert path is not None
    dataset = dcmread(path)
    assert dataset.SOPInstanceUID == "1.2.3"
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert dataset.file_meta.MediaStorageSOPClassUID == CT
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    content = path.read_bytes()
    assert content.endswith(BODY)
    assert content[:132] == bytes(128) + b"DICM"
    assert len(content) == 144 + dataset.file_meta.FileMetaInformationGroupLength + len(BODY)
    assert store.size_bytes("1.2.3") == len(content)


def test_the_same_object_gives_the_same_file_in_any_store(tmp_path: Path):
    stores = [ObjectStore(tmp_path / name) for name in "ab"]
    for one in stores:
        one.put_encoded("1.2.3", CT, EXPLICIT, BODY)
    first, second = (one.path("1.2.3") for one in stores)
    assert first is not None and second is not None
    assert first.read_bytes() == second.read_bytes()
    assert first.relative_to(tmp_path / "a") == second.relative_to(tmp_path / "b")


def test_what_did_not_arrive_has_no_path_and_no_size(store: ObjectStore):
    assert store.path("1.2.3") is None
    assert not store.has("1.2.3")
    with pytest.raises(KeyError):
        store.size_bytes("1.2.3")


def test_padding_of_a_uid_does_not_make_another_object(store: ObjectStore):
    store.put_encoded("1.2.3\0", CT, EXPLICIT, BODY)
    assert store.has("1.2.3")
    assert store.put_encoded("1.2.3 ", CT, EXPLICIT, BODY) is Outcome.SAME


def test_of_two_different_copies_the_first_is_kept_and_the_second_noted(store: ObjectStore):
    store.put_encoded("1.2.3", CT, EXPLICIT, BODY)
    other = BODY.replace(b"A^B", b"C^D")
    assert store.put_encoded("1.2.3", CT, EXPLICIT, other) is Outcome.CONFLICT
    path = store.path("1.2.3")
    assert path is not None and path.read_bytes().endswith(BODY)
    (problem,) = store.set_aside()
    assert (problem.source, problem.why) == ("1.2.3", "conflicting_copies")


def test_an_equal_copy_and_one_in_another_transfer_syntax_are_no_conflict(store: ObjectStore):
    store.put_encoded("1.2.3", CT, EXPLICIT, BODY)
    assert store.put_encoded("1.2.3", CT, EXPLICIT, BODY) is Outcome.SAME
    assert store.put_encoded("1.2.3", CT, str(ImplicitVRLittleEndian), BODY[:4]) is Outcome.SAME
    assert store.set_aside() == ()


def test_an_object_over_the_limit_is_not_kept_and_says_why(tmp_path: Path):
    store = ObjectStore(tmp_path / "store", max_object_bytes=len(BODY) - 1)
    assert store.put_encoded("1.2.3", CT, EXPLICIT, BODY) is Outcome.TOO_LARGE
    problem = store.kept_out("1.2.3")
    assert problem is not None and problem.why == "too_large"
    assert store.path("1.2.3") is None


def test_uids_lists_what_is_there(store: ObjectStore):
    for uid in ("1.2.3", "1.2.34", "../x"):
        store.put_encoded(uid, CT, EXPLICIT, BODY)
    assert sorted(store.uids()) == ["../x", "1.2.3", "1.2.34"]


def test_files_and_folders_are_for_the_owner_only(store: ObjectStore, tmp_path: Path):
    store.put_encoded("1.2.3", CT, EXPLICIT, BODY)
    for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_hostile_uid_never_becomes_a_path(tmp_path_factory: pytest.TempPathFactory, uid: str, sop_class: str):
    top = tmp_path_factory.mktemp("hostile")
    store = ObjectStore(top / "store")
    store.put_encoded(uid, sop_class, EXPLICIT, BODY)
    path = store.path(uid)
    assert path is not None and (top / "store") in path.resolve().parents
    assert list(top.iterdir()) == [top / "store"]
    assert path.stem.isalnum() and len(path.stem) == 64


def test_a_uid_of_any_length_fits_its_header():
    assert file_header("1" * 65, CT, EXPLICIT)[:132] == bytes(128) + b"DICM"


def test_many_threads_storing_one_object_store_it_once(store: ObjectStore):
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(store.put_encoded("1.2.3", CT, EXPLICIT, BODY)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [Outcome.NEW] + [Outcome.SAME] * 7


WRITER = """
import sys
from pathlib import Path
from dicom_io.store import ObjectStore
store = ObjectStore(Path(sys.argv[1]))
body = bytes(3_000_000)
print("ready", flush=True)
for number in range(100_000):
    store.put_encoded(f"1.2.{number}", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", body)
"""


@pytest.mark.parametrize("delay_s", [0.013, 0.05, 0.12])
def test_a_kill_in_the_middle_of_writing_leaves_only_whole_objects(tmp_path: Path, delay_s: float):
    folder = tmp_path / "store"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    time.sleep(delay_s)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    reopened = ObjectStore(folder)
    for uid in reopened.uids():
        assert reopened.size_bytes(uid) == len(file_header(uid, CT, EXPLICIT)) + 3_000_000
    assert list((folder / "incoming").iterdir()) == []


def test_opening_removes_left_overs_but_not_what_a_living_writer_holds(tmp_path: Path):
    import fcntl

    folder = tmp_path / "store"
    ObjectStore(folder)
    dead, living = folder / "incoming" / "dead.part", folder / "incoming" / "living.part"
    dead.write_bytes(b"x")
    descriptor = os.open(living, os.O_WRONLY | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        ObjectStore(folder)
        assert not dead.exists()
        assert living.exists()
    finally:
        os.close(descriptor)
