"""Objects go out as the bytes of their files, each gets an answer, and no bad day of an archive loses one."""

from __future__ import annotations

import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hostile_archive import ABORT, SILENT, STRAY, VANISH, HostileArchive
from hypothesis import given
from hypothesis import strategies as st
from little_objects import ct, pr, sr, study_objects
from placed import place
from pydicom import dcmread, dcmwrite, uid
from pydicom.dataset import Dataset
from servers import LOOPBACK, Server, free_port

import schemas
from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.comparison import GetFetch, differs
from dicom_io.object_file import ObjectFile
from dicom_io.reencoding import encoded_as
from dicom_io.sending import StoreSender
from dicom_io.store_status import StoreAnswer, Verdict, judge
from tests.waiting import PATIENCE_S, until

SHORT = Limits(idle_s=2.0)
"""For archives that fall silent: ten times what an answer takes."""
EXPLICIT, IMPLICIT = str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian)
DEFLATED, RLE = str(uid.DeflatedExplicitVRLittleEndian), str(uid.RLELossless)
STORESCP = Path("/usr/bin/storescp")


def as_file(dataset: Dataset, transfer_syntax: str = EXPLICIT) -> ObjectFile:
    """The object, encoded so."""
    dataset.file_meta.TransferSyntaxUID = uid.UID(transfer_syntax)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return ObjectFile.read(buffer.getvalue())


@pytest.fixture
def objects() -> list[ObjectFile]:
    return [as_file(one) for one in (*study_objects(1, 3), pr(1))]


def sent(archive: HostileArchive, objects: list[ObjectFile], limits: Limits | None = None) -> list[StoreAnswer]:
    with StoreSender(archive.address, "MINER", limits=limits) as sender:
        return list(sender.send(objects))


def test_what_arrives_is_what_lies_in_the_files_byte_for_byte(objects: list[ObjectFile]) -> None:
    with HostileArchive(syntaxes=[EXPLICIT, IMPLICIT]) as archive:
        answers = sent(archive, objects)
    assert [(one.sop_instance_uid, one.verdict, one.transfer_syntax) for one in answers] == [
        (one.sop_instance_uid, Verdict.STORED, EXPLICIT) for one in objects
    ]
    assert archive.stored == {one.sop_instance_uid: (EXPLICIT, one.data_set_bytes()) for one in objects}
    assert archive.associations == 1, "one association for all, and it is released"
    until(lambda: archive.released == 1)


@pytest.mark.servers
def test_real_archives_take_every_object(target: Server, tmp_path: Path) -> None:
    objects = [as_file(one) for one in (*study_objects(61, 3), pr(61))]
    paths = [tmp_path / one.sop_instance_uid for one in objects]
    for path, one in zip(paths, objects, strict=True):
        path.write_bytes(one.file_bytes())
    with StoreSender(Address.parse(target.address), "MINER") as sender:
        first = list(sender.send(map(ObjectFile.read, paths)))
        again = list(sender.send(objects))
    assert {one.verdict for one in (*first, *again)} == {Verdict.STORED}, "to send an object again does no harm"


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Address]:
    """DCMTK's storescp, which writes data sets as they came."""
    if not STORESCP.exists():
        pytest.skip("storescp is not installed (apt-get install dcmtk)")
    port = free_port()
    process = subprocess.Popen([STORESCP, "+B", "-od", folder, *options, "-aet", "STORE", str(port)])
    try:
        until(lambda: _takes_no_commitment(Address("STORE", LOOPBACK, port)))
        yield Address("STORE", LOOPBACK, port)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def _takes_no_commitment(address: Address) -> bool:
    """False, too, where nobody listens yet."""
    try:
        with StoreSender(address, "MINER") as sender:
            return not sender.takes_commitment
    except ArchiveError:
        return False


@pytest.mark.servers
def test_a_strict_receiver_that_writes_what_it_gets_has_the_files_bytes(
    objects: list[ObjectFile], tmp_path: Path
) -> None:
    with storescp(tmp_path) as address, StoreSender(address, "MINER") as sender:
        assert {one.verdict for one in sender.send(objects)} == {Verdict.STORED}
    received = {one.sop_instance_uid: one for one in map(ObjectFile.read, sorted(tmp_path.iterdir()))}
    assert {uid: one.data_set_bytes() for uid, one in received.items()} == {
        one.sop_instance_uid: one.data_set_bytes() for one in objects
    }


# --- transfer syntaxes -----------------------------------------------------------------------------------


def test_a_deflated_object_goes_out_deflated_where_it_is_taken() -> None:
    deflated = as_file(sr(1), DEFLATED)
    with HostileArchive(syntaxes=[DEFLATED, EXPLICIT, IMPLICIT]) as archive:
        (answer,) = sent(archive, [deflated])
    assert answer == StoreAnswer(deflated.sop_instance_uid, Verdict.STORED, "stored", 0, DEFLATED)
    assert archive.stored[deflated.sop_instance_uid] == (DEFLATED, deflated.data_set_bytes())


def test_a_deflated_object_is_inflated_to_the_bytes_that_were_deflated_and_the_answer_says_so() -> None:
    deflated, plain = as_file(sr(1), DEFLATED), as_file(sr(1), EXPLICIT)
    with HostileArchive(syntaxes=[EXPLICIT, IMPLICIT]) as archive:
        (answer,) = sent(archive, [deflated])
    assert answer.accepted
    assert answer.transfer_syntax == EXPLICIT
    assert "sent as Explicit VR Little Endian, since Deflated Explicit VR Little Endian is refused" in answer.text
    assert archive.stored[deflated.sop_instance_uid] == (EXPLICIT, plain.data_set_bytes())


def test_run_lengths_are_decoded_to_the_same_pixels_where_they_are_refused() -> None:
    image = ct(1, 1)
    pixels = np.arange(256, dtype="<i2").reshape(16, 16)
    image.PixelData = pixels.tobytes()
    plain = as_file(image)
    image.compress(uid.RLELossless, generate_instance_uid=False)
    packed = as_file(image, RLE)
    with HostileArchive(syntaxes=[EXPLICIT]) as archive:
        (answer,) = sent(archive, [packed])
    assert answer.accepted
    assert archive.stored[packed.sop_instance_uid] == (EXPLICIT, plain.data_set_bytes())


def test_an_archive_that_takes_implicit_vr_only_gets_the_same_values() -> None:
    report = as_file(sr(1))
    with HostileArchive(syntaxes=[IMPLICIT]) as archive:
        (answer,) = sent(archive, [report])
    assert answer.transfer_syntax == IMPLICIT
    syntax, encoded = archive.stored[report.sop_instance_uid]
    arrived = dcmread(BytesIO(encoded), force=True)
    assert syntax == IMPLICIT
    assert arrived == dcmread(BytesIO(report.file_bytes()))


@pytest.mark.servers
def test_what_real_archives_make_of_deflated_and_run_length_coded_objects_says_the_same(target: Server) -> None:
    address, mask = Address.parse(target.address), ct(62, 1)
    mask.SOPClassUID = uid.SegmentationStorage
    mask.PixelData = np.arange(256, dtype="<i2").tobytes()
    mask.compress(uid.RLELossless, generate_instance_uid=False)
    datasets = {DEFLATED: sr(62), RLE: mask}
    with StoreSender(address, "MINER") as sender, GetFetch(address, "MINER") as fetch:
        for syntax, dataset in datasets.items():
            item = as_file(dataset, syntax)
            (answer,) = sender.send([item])
            assert answer.accepted
            assert answer.transfer_syntax == (syntax if target.name == "orthanc" else EXPLICIT)
            assert differs(fetch, place(dataset), item) is False


def test_a_syntax_that_cannot_be_turned_into_another_one_without_loss_is_refused_by_name() -> None:
    jpeg = replace(as_file(ct(1, 1)), transfer_syntax_uid=str(uid.JPEGBaseline8Bit))
    with HostileArchive(syntaxes=[EXPLICIT]) as archive:
        (answer,) = sent(archive, [jpeg])
    assert answer.verdict is Verdict.PERMANENT
    assert answer.text == "the archive takes CT Image Storage as Explicit VR Little Endian, not as JPEG Baseline " \
                          "(Process 1)"  # fmt: skip
    assert archive.arrivals == []
    with pytest.raises(ValueError, match="is not turned into"):
        encoded_as(jpeg, EXPLICIT)


def test_a_class_that_is_refused_is_named_and_does_not_keep_the_others_back(objects: list[ObjectFile]) -> None:
    label_map = replace(as_file(ct(2, 1)), sop_class_uid="1.2.840.10008.5.1.4.1.1.66.7")
    with HostileArchive(classes={one.sop_class_uid for one in objects}) as archive:
        first, *others = sent(archive, [label_map, *objects])
    assert (first.verdict, first.status) == (Verdict.PERMANENT, None)
    assert first.text == "the archive takes no objects of the class Label Map Segmentation"
    assert {one.verdict for one in others} == {Verdict.STORED}


def test_more_kinds_of_objects_than_an_association_has_contexts_take_several() -> None:
    classes = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in (1, 2, 4, 6, 7, 11, 12, 20, 30, 66, 67, 77, 88, 104)]
    classes = [f"{one}.{number}" for one in classes for number in range(1, 8)]
    base = as_file(ct(1, 1))
    objects = [replace(base, sop_class_uid=one, sop_instance_uid=f"1.2.3.{i}") for i, one in enumerate(classes)]
    with HostileArchive() as archive:
        answers = sent(archive, objects)
    known = {one for one in classes if one in {str(a) for a in _storage_classes()}}
    assert [one.sop_instance_uid for one in answers] == [one.sop_instance_uid for one in objects]
    assert sum(one.accepted for one in answers) == len(known) > 20
    assert archive.associations > 1


def _storage_classes() -> list[str]:
    from pynetdicom import AllStoragePresentationContexts

    return [str(one.abstract_syntax) for one in AllStoragePresentationContexts]


# --- what archives answer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0xB000, Verdict.WARNING),
        (0xB006, Verdict.WARNING),
        (0xB007, Verdict.WARNING),
        (0x0111, Verdict.THERE),
        (0xA700, Verdict.TEMPORARY),
        (0x0213, Verdict.TEMPORARY),
        (0xC000, Verdict.TEMPORARY),
        (0xA900, Verdict.PERMANENT),
        (0x0122, Verdict.PERMANENT),
        (0x0124, Verdict.PERMANENT),
    ],
)
def test_an_answer_says_whether_the_object_is_there_and_whether_to_try_again(status: int, verdict: Verdict) -> None:
    report = as_file(sr(1))
    with HostileArchive({report.sop_instance_uid: [status]}) as archive:
        (answer,) = sent(archive, [report])
    assert (answer.status, answer.verdict) == (status, verdict)
    assert answer.text
    assert answer.accepted == (verdict in (Verdict.STORED, Verdict.WARNING, Verdict.THERE))
    assert answer.temporary == (verdict is Verdict.TEMPORARY)
    assert archive.arrivals == [report.sop_instance_uid], "what was answered is not sent again"


@given(st.integers(0, 0xFFFF))
def test_every_status_has_a_verdict_and_only_success_and_warnings_are_taken_for_stored(status: int) -> None:
    verdict, text = judge(status)
    assert text
    warnings = {0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)}
    assert (verdict in (Verdict.STORED, Verdict.WARNING)) == (status == 0 or status in warnings)


def test_no_row_of_the_table_of_statuses_is_hidden_by_an_earlier_one() -> None:
    rows = schemas.load("store_status")["status"]
    for row in rows:
        within = range(int(row["first"], 16), int(row["last"], 16) + 1)
        assert any(judge(status) == (Verdict(row["verdict"]), row["text"]) for status in within), row
    with pytest.raises(ValueError, match="is no status"):
        judge(0x10000)


def test_answers_come_one_by_one_so_that_a_kill_loses_the_knowledge_of_one_object_only(
    objects: list[ObjectFile],
) -> None:
    with HostileArchive() as archive, StoreSender(archive.address, "MINER") as sender:
        answers = sender.send(objects)
        for number, one in enumerate(objects, start=1):
            assert next(answers).sop_instance_uid == one.sop_instance_uid
            assert len(archive.arrivals) == number


# --- bad days --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", [ABORT, VANISH, SILENT, STRAY])
def test_an_object_whose_association_is_lost_goes_out_again_and_none_is_forgotten(
    objects: list[ObjectFile], fate: str
) -> None:
    unlucky = objects[1].sop_instance_uid
    with HostileArchive({unlucky: [fate]}) as archive:
        answers = sent(archive, objects, SHORT if fate == SILENT else None)
    assert [one.verdict for one in answers] == [Verdict.STORED] * len(objects)
    assert set(archive.stored) == {one.sop_instance_uid for one in objects}
    assert archive.arrivals.count(unlucky) == 2
    assert archive.associations == 2


@pytest.mark.parametrize("fate", [ABORT, VANISH, SILENT])
def test_an_object_that_the_archive_dies_of_is_left_for_later_and_the_others_arrive(
    objects: list[ObjectFile], fate: str
) -> None:
    poison = objects[1].sop_instance_uid
    with HostileArchive({poison: [fate] * 9}) as archive:
        answers = {one.sop_instance_uid: one for one in sent(archive, objects, SHORT if fate == SILENT else None)}
    assert answers.pop(poison).verdict is Verdict.TEMPORARY
    assert {one.verdict for one in answers.values()} == {Verdict.STORED}
    assert archive.arrivals.count(poison) == 2


def test_an_association_that_the_archive_ended_while_it_was_idle_is_made_anew(objects: list[ObjectFile]) -> None:
    with HostileArchive() as archive, StoreSender(archive.address, "MINER") as sender:
        assert all(one.accepted for one in sender.send(objects[:2]))
        archive.hang_up()
        assert all(one.accepted for one in sender.send(objects[2:]))
    assert set(archive.stored) == {one.sop_instance_uid for one in objects}
    assert archive.associations == 2


def test_nobody_listening_is_an_error_that_may_pass(objects: list[ObjectFile]) -> None:
    with pytest.raises(ArchiveError, match="nobody listens there") as caught:
        next(StoreSender(Address("PACS", LOOPBACK, free_port()), "MINER").send(objects))
    assert caught.value.temporary


def test_an_unknown_host_is_named(objects: list[ObjectFile]) -> None:
    with pytest.raises(ArchiveError, match=r"the host no-such-host\.invalid is not known here"):
        next(StoreSender(Address("PACS", "no-such-host.invalid", 104), "MINER").send(objects))


@pytest.mark.servers
def test_a_rejection_says_whose_title_is_wrong(target: Server, objects: list[ObjectFile]) -> None:
    if target.name != "dcmqrscp":
        pytest.skip("Orthanc answers to any title")
    address = replace(Address.parse(target.address), ae_title="WRONG")
    with pytest.raises(ArchiveError, match="association rejected: its AE title is not WRONG") as caught:
        next(StoreSender(address, "MINER").send(objects))
    assert not caught.value.temporary


def test_an_archive_that_stops_reading_does_not_hold_us_for_ever() -> None:
    import socket as sockets

    large = ct(1, 1)
    large.Rows = large.Columns = 4096
    large.PixelData = bytes(2 * 4096 * 4096)
    item = as_file(large)
    with HostileArchive() as archive:
        real = sockets.create_server((LOOPBACK, 0))
        done = threading.Event()
        through = threading.Thread(target=_pass_on_a_little, args=(real, archive.address.port, done), daemon=True)
        through.start()
        address = replace(archive.address, port=real.getsockname()[1])
        with pytest.raises(ArchiveError), StoreSender(address, "MINER", limits=SHORT) as sender:
            list(sender.send([item]))
        assert not done.is_set()
        done.set()
        real.close()


def _pass_on_a_little(server: object, port: int, done: threading.Event) -> None:
    """Passes the negotiation of one association on, then reads no more; a second connection is closed at once."""
    import socket as sockets

    assert isinstance(server, sockets.socket)
    near, _ = server.accept()
    server.close()
    with near, sockets.create_connection((LOOPBACK, port)) as far:
        far.sendall(near.recv(65536))
        near.sendall(far.recv(65536))
        done.wait()


def test_an_object_that_is_broken_or_gone_here_is_answered_and_the_others_go(tmp_path: Path) -> None:
    whole = as_file(sr(1))
    deflated = as_file(sr(2), DEFLATED)
    broken = replace(deflated, content=deflated.file_bytes()[:-20])
    gone = replace(as_file(sr(3)), content=tmp_path / "gone.dcm")
    no_dicom = replace(as_file(sr(4)), content=b"no DICOM" * 100)
    with HostileArchive() as archive:
        answers = sent(archive, [broken, gone, no_dicom, whole])
    assert [one.verdict for one in answers] == [
        Verdict.PERMANENT, Verdict.TEMPORARY, Verdict.PERMANENT, Verdict.STORED,
    ]  # fmt: skip
    assert "ends early" in answers[0].text
    assert "gone.dcm" in answers[1].text
    assert "no DICOM file" in answers[2].text
    assert list(archive.stored) == [whole.sop_instance_uid]


def test_what_is_deflated_to_a_bomb_is_not_inflated_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_io.reencoding.MAX_INFLATED_BYTES", 1000)
    head = as_file(sr(1), DEFLATED)
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = squeezer.compress(bytes(100_000)) + squeezer.flush()
    whole = head.file_bytes()
    item = replace(head, content=whole[: len(whole) - len(head.data_set_bytes())] + bomb)
    with pytest.raises(ConfigError, match="too large"):
        encoded_as(item, EXPLICIT)


# --- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no DICOM" * 50, bytes(128) + b"DICM" + bytes(200)])
def test_a_file_that_is_no_dicom_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"letter\.txt: it is no DICOM file"):
        ObjectFile.read(path)


def test_a_file_without_a_class_is_named() -> None:
    whole = as_file(sr(1)).file_bytes()
    tag = b"\x02\x00\x02\x00UI"
    with pytest.raises(ConfigError, match="lacks MediaStorageSOPClassUID"):
        ObjectFile.read(whole.replace(tag, b"\x02\x00\x04\x00UI", 1))
