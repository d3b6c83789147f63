"""`mine send` against an archive on loopback."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pytest
from cli_runs import Mine
from pydicom import dcmread
from servers import free_port, orthanc

from dicom_io.delivery_rules import Event, Happening
from dicom_io.outbox import Outbox
from dicom_io.testbed.embedded import EmbeddedArchive
from tests.experiments.stamped import Stamps
from tests.waiting import PATIENCE_S

STUDIES = 2
TLS = ("send", "empty", "--to", "PACS@here:104", "--set", "send.tls=true")


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Stamps:
    return Stamps.make(1, tmp_path_factory.mktemp("stamps"))


@pytest.fixture
def pacs(stamps: Stamps, tmp_path: Path) -> Iterator[EmbeddedArchive]:
    """An archive that has an image of each study."""
    folder = tmp_path / "pacs"
    folder.mkdir()
    for study in range(STUDIES):
        (folder / f"{study}.dcm").write_bytes(stamps.study_image(study))
    with EmbeddedArchive(folder) as served:
        yield served


@pytest.fixture
def results(stamps: Stamps, tmp_path: Path) -> Path:
    """Four results of two studies as files."""
    folder = tmp_path / "results"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.dcm").write_bytes(stamps.result(number % STUDIES, number).encoded)
    return folder


def quick(address: str, *, patience_h: float = 0.0, patience_s: float = PATIENCE_S) -> tuple[str, ...]:
    settings = {
        "patience_s": patience_s,
        "first_pause_s": 0.05,
        "refusal_pause_s": 0.05,
        "study_patience_h": patience_h,
    }
    return ("--to", address, *(word for name, value in settings.items() for word in ("--set", f"send.{name}={value}")))


def mismatching(stamps: Stamps, results: Path) -> Path:
    """A result of one study that names the patient of the other."""
    one = stamps.result(0, 90)
    path = results / "mismatch.dcm"
    path.write_bytes(one.encoded.replace(one.patient_id.encode(), stamps.patient(1).encode()))
    return path


def test_files_are_queued_and_delivered(mine: Mine, pacs: EmbeddedArchive, results: Path, stamps: Stamps) -> None:
    answer = mine("send", results, *quick(pacs.address))
    assert answer.code == 0, answer.err
    assert answer.out == f"{pacs.address}: 4 verified\n"
    stored = {one.sop_instance_uid: one for one in pacs.objects}
    for number in range(4):
        result = stamps.result(number % STUDIES, number)
        assert dcmread(stored[result.sop_instance_uid].path) == dcmread(BytesIO(result.encoded))


def test_what_has_arrived_is_not_sent_again_and_a_bare_command_goes_on_where_it_was(
    mine: Mine, pacs: EmbeddedArchive, results: Path
) -> None:
    mine("send", results, *quick(pacs.address))
    answer = mine("send", results, *quick(pacs.address), "--json")
    assert answer.code == 0
    assert answer.records == [
        {"type": "outbox", "schema_version": 1, "destination": pacs.address, "queued": 0, "sent": 0, "committed": 0,
         "verified": 4, "failed": 0, "dead": 0},
    ]  # fmt: skip
    assert "4 verified" in answer.err
    assert mine("send").code == 0, "the one destination that the outbox knows"


def test_a_patient_mismatch_is_a_dead_letter_with_its_reason_and_what_to_do(
    mine: Mine, pacs: EmbeddedArchive, results: Path, stamps: Stamps
) -> None:
    mismatching(stamps, results)
    answer = mine("send", results, *quick(pacs.address))
    assert answer.code == 3
    assert f"{pacs.address}: 4 verified, 1 dead" in answer.out
    assert "patient_mismatch: the archive's study belongs to another patient -> " in answer.err
    shown = mine("send", "--status", "--json")
    letter = shown.records[-1]
    assert (letter["state"], letter["reason"], letter["patient_id"]) == ("dead", "patient_mismatch", stamps.patient(1))
    assert shown.code == 3


def test_dead_letters_are_tried_again_when_the_archive_has_what_they_need(
    mine: Mine, results: Path, stamps: Stamps, tmp_path: Path
) -> None:
    folder = tmp_path / "pacs"
    folder.mkdir()
    with EmbeddedArchive(folder, port=free_port()) as empty:
        assert mine("send", results, *quick(empty.address)).code == 3
        assert "4 dead" in mine("send", "--status").out
        port = empty.port
    for study in range(STUDIES):
        (folder / f"{study}.dcm").write_bytes(stamps.study_image(study))
    with EmbeddedArchive(folder, port=port) as full:
        answer = mine("send", "--retry-dead", *quick(full.address))
        assert (answer.code, answer.out) == (0, f"{full.address}: 4 verified\n")


def test_what_is_faster_than_its_study_waits_and_the_status_says_why_and_until_when(
    mine: Mine, results: Path, stamps: Stamps, tmp_path: Path
) -> None:
    folder = tmp_path / "pacs"
    folder.mkdir()
    before_s = time.time()
    with EmbeddedArchive(folder, port=free_port()) as empty:
        port, address = empty.port, empty.address
        assert mine("send", results, *quick(empty.address, patience_h=24.0), "--set", "send.patience_s=600").code == 3
    shown = mine("send", "--status", "--json")
    assert shown.code == 3
    assert shown.records[0]["queued"] == 4
    letter = shown.records[-1]
    assert (letter["state"], letter["reason"]) == ("queued", "study_awaited")
    until_s = datetime.fromisoformat(letter["waits_until"]).timestamp()
    assert before_s + 24 * 3600 - 1 <= until_s <= time.time() + 24 * 3600
    assert "study_awaited: the archive does not have the study that the object belongs to, perhaps not yet -> " in (
        shown.err
    )
    for study in range(STUDIES):
        (folder / f"{study}.dcm").write_bytes(stamps.study_image(study))
    with EmbeddedArchive(folder, port=port):
        answer = mine("send", "--retry-dead", *quick(address, patience_h=24.0))
    assert (answer.code, answer.out) == (0, f"{address}: 4 verified\n")


def test_what_others_write_does_not_steer_the_terminal_nor_add_columns(
    mine: Mine, pacs: EmbeddedArchive, results: Path, stamps: Stamps
) -> None:
    one = stamps.result(0, 92)
    own, odd = one.patient_id.encode(), b"\x1b[31m\t\n!"
    assert len(own) == len(odd)
    (results / "odd.dcm").write_bytes(one.encoded.replace(own, odd))
    mine("send", results, *quick(pacs.address))
    shown = mine("send", "--status")
    assert "\x1b" not in shown.out + shown.err
    header, row = (line.split("\t") for line in shown.out.splitlines()[1:])
    assert len(header) == len(row)
    assert dict(zip(header, row, strict=True))["reason"] == "patient_mismatch"


def test_copies_of_what_has_arrived_can_be_deleted_and_what_was_sent_stays_known(
    mine: Mine, pacs: EmbeddedArchive, results: Path, tmp_path: Path
) -> None:
    mine("send", results, *quick(pacs.address))
    answer = mine("send", "--forget-delivered")
    assert "deleted 4 files" in answer.err
    assert list((tmp_path / "mine-work" / "outbox" / "objects").rglob("*.dcm")) == []
    assert "4 verified" in mine("send", results, *quick(pacs.address)).err


def test_an_archive_that_is_away_keeps_everything_queued(mine: Mine, pacs: EmbeddedArchive, results: Path) -> None:
    pacs.__exit__(None, None, None)
    answer = mine("send", results, *quick(pacs.address, patience_s=0.5))
    assert answer.code == 5
    assert f"{pacs.address}: 4 queued" in answer.out
    assert "nobody listens there" in answer.err.splitlines()[-1]


def test_what_is_no_object_is_told_and_the_rest_arrives(mine: Mine, pacs: EmbeddedArchive, results: Path) -> None:
    (results / "notes.txt").write_text("not an object")
    answer = mine("send", results, *quick(pacs.address))
    assert answer.code == 3
    assert "left out" in answer.err and "notes.txt" in answer.err
    assert "4 verified" in answer.out


def test_an_object_whose_header_names_another_is_left_out(
    mine: Mine, pacs: EmbeddedArchive, results: Path, stamps: Stamps
) -> None:
    one = stamps.result(0, 91)
    other = replace(one, sop_instance_uid=one.sop_instance_uid[:-1] + str((int(one.sop_instance_uid[-1]) + 1) % 10))
    broken = one.encoded.replace(one.sop_instance_uid.encode(), other.sop_instance_uid.encode(), 1)
    (results / "broken.dcm").write_bytes(broken)
    answer = mine("send", results, *quick(pacs.address))
    assert answer.code == 3
    assert "name different objects" in answer.err


def test_another_object_under_a_known_uid_is_told_and_the_first_is_kept(
    mine: Mine, pacs: EmbeddedArchive, results: Path, stamps: Stamps
) -> None:
    mine("send", results, *quick(pacs.address))
    one = stamps.result(0, 0)
    (results / "another.dcm").write_bytes(one.encoded.replace(b"Stamp^Test", b"Stamp^Tess"))
    answer = mine("send", results, *quick(pacs.address))
    assert answer.code == 3
    assert "another.dcm: the outbox has another object" in answer.err
    assert "4 verified" in answer.out


@pytest.mark.servers
def test_without_a_port_for_reports_what_was_sent_is_proven_in_the_same_run(
    mine: Mine, results: Path, stamps: Stamps, tmp_path: Path
) -> None:
    """Orthanc reports commitment to the port that it knows of us, where nobody listens."""
    images, folder = tmp_path / "images", tmp_path / "orthanc"
    images.mkdir()
    folder.mkdir()
    for study in range(STUDIES):
        (images / f"{study}.dcm").write_bytes(stamps.study_image(study))
    with orthanc(folder) as archive:
        archive.send(images)
        # after half of this a report counts as lost
        patient = mine("send", results, *quick(archive.address, patience_s=10.0))
        assert (patient.code, patient.out) == (0, f"{archive.address}: 4 verified\n"), patient.err
        port = ("--report-port", str(free_port()), "--work", "elsewhere")
        answer = mine("send", results, *quick(archive.address, patience_s=5.0), *port)
    assert (answer.code, answer.out) == (3, f"{archive.address}: 4 sent\n"), "a report may yet come to the port"
    assert "sent: the archive took them and has not confirmed them yet" in answer.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("send", ".", "--stow", "PACS@here:104"), "expected a URL"),
        (("send",), "no outbox here"),
        (("send", "--status"), "no outbox here"),
        (("send", "."), "where to?"),
        (("send", "--to", "PACS@here:104", "--stow", "http://here/dicom-web"), "give one"),
        (("send", "--to", "nowhere"), "expected AET@host:port"),
        (("send", "empty", "--to", "SEVENTEEN_LETTERS@here:104"), "17 characters"),
        (("send", "empty", "--to", "PACS@here:104", "--aet", "SEVENTEEN_LETTERS"), "17 characters"),
        (("send", "empty", "--to", "PACS@here:104", "--report-port", "70000"), "70000"),
        (("send", "empty", "--to", "PACS@he..re:104"), "name of a host"),
        (("send", "empty", "--stow", "http://here:port/x"), "Port could not be cast"),
        (("send", "--status", "."), "send nothing"),
        (("send", ".", "--to", "PACS@here:104", "--set", "send.attempts=0"), "at least 1 is needed"),
        ((*TLS, "--set", "send.tls_ca=missing.pem"), "missing.pem"),
        ((*TLS, "--report-port", "11113"), "give tls_certificate"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(mine: Mine, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    (tmp_path / "empty").mkdir()
    answer = mine(*words)
    assert answer.code == 2
    assert line in answer.err.splitlines()[-1]
    assert len([said for said in answer.err.splitlines() if said.startswith("mine:")]) == 1


@pytest.mark.parametrize("url", ["https://user:s3cret@pacs.example.org/x", "ftp://u:s3cret@h:21"])
@pytest.mark.parametrize("option", ["--to", "--stow"])
def test_a_password_in_an_address_is_refused_shown_nowhere_and_kept_nowhere(
    mine: Mine, results: Path, tmp_path: Path, url: str, option: str
) -> None:
    answer = mine("send", results, option, url, "--json")
    assert answer.code == 2
    assert "s3cret" not in answer.out + answer.err
    assert not (tmp_path / "mine-work" / "outbox").exists()


def test_what_the_archive_does_not_speak_of_is_told_one_by_one_with_what_it_said(
    mine: Mine, stamps: Stamps, tmp_path: Path
) -> None:
    """Also of what it took and does not confirm."""
    with Outbox.open(tmp_path / "mine-work" / "outbox") as outbox:
        outbox.put([stamps.result(study, 7) for study in range(STUDIES)], "PACS@here:104")
        first, second = outbox.claim("PACS@here:104", "send", 1.0, STUDIES)
        outbox.record([(first, Happening(Event.STORED))], 1.0)
        untold = Happening(Event.UNTOLD, "study_untold", "PACS@here:104: C-FIND: refused (status C001H)")
        outbox.record([(one, untold) for one in (first, second)], 2.0)
    shown = mine("send", "--status", "--json")
    letters = [one for one in shown.records if one["type"] == "letter"]
    assert [(one["state"], one["reason"], one["attempts"]) for one in letters] == [
        ("sent", "study_untold", 0),
        ("queued", "study_untold", 0),
    ]
    assert all("C001H" in one["detail"] for one in letters)
    assert "study_untold: the archive does not say whose the study is, or what it has of it -> " in shown.err


def test_the_outbox_is_private_and_lies_in_the_working_folder(
    mine: Mine, pacs: EmbeddedArchive, results: Path, tmp_path: Path
) -> None:
    mine("send", results, *quick(pacs.address))
    outbox = tmp_path / "mine-work" / "outbox"
    assert stat.S_IMODE(outbox.stat().st_mode) == 0o700
    assert stat.S_IMODE((outbox / "outbox.sqlite").stat().st_mode) == 0o600
