"""STOW-RS: each object gets its answer, whatever the server makes of the request as a whole."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_objects import ct, sr, study_objects
from placed import Place
from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset
from servers import LOOPBACK, Server, free_port
from web_server import Answer, Request, WebServer

from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io import dicom_json
from dicom_io.comparison import differs
from dicom_io.object_file import ObjectFile
from dicom_io.store_status import StoreAnswer, Verdict
from dicom_io.stow import StowSender
from dicom_io.web import WebAddress, WebSession, read_authorization
from dicom_io.web_inquiry import QidoInquiry, WadoFetch

EXPLICIT, DEFLATED = str(uid.ExplicitVRLittleEndian), str(uid.DeflatedExplicitVRLittleEndian)


def as_file(dataset: Dataset, transfer_syntax: str = EXPLICIT) -> ObjectFile:
    dataset.file_meta.TransferSyntaxUID = uid.UID(transfer_syntax)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return ObjectFile.read(buffer.getvalue())


@pytest.fixture
def objects() -> list[ObjectFile]:
    return [as_file(one) for one in study_objects(1, 4)]


def sent(server: WebServer, objects: Sequence[ObjectFile], **sizes: int) -> list[StoreAnswer]:
    with StowSender(WebSession(WebAddress(server.url)), **sizes) as sender:
        return list(sender.send(objects))


def parts(request: Request) -> list[bytes]:
    """The files of a request, taken apart by its own boundary (RFC 2046 5.1)."""
    boundary = re.search(r"boundary=(\S+)", request.headers["Content-Type"])
    assert boundary is not None
    pieces = request.body.split(b"--" + boundary[1].encode())
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    heads = [one.partition(b"\r\n\r\n") for one in pieces[1:-1]]
    assert {head for head, _, _ in heads} == {b"\r\nContent-Type: application/dicom"}
    return [body.removesuffix(b"\r\n") for _, _, body in heads]


def uids(request: Request) -> list[str]:
    return [ObjectFile.read(one).sop_instance_uid for one in parts(request)]


def said(
    stored: Sequence[str] = (), failed: dict[str, int] | None = None, warned: dict[str, int] | None = None
) -> bytes:
    """A body as PS3.18 table 10.5.3-2 has it."""

    def item(one: str, tag: str = "", reason: int = 0) -> dict[str, object]:
        named: dict[str, object] = {"00081155": {"vr": "UI", "Value": [one]}}
        return {**named, tag: {"vr": "US", "Value": [reason]}} if tag else named

    referenced = [item(one) for one in stored]
    referenced += [item(one, "00081196", reason) for one, reason in (warned or {}).items()]
    failures = [item(one, "00081197", reason) for one, reason in (failed or {}).items()]
    body = {"00081199": {"vr": "SQ", "Value": referenced}, "00081198": {"vr": "SQ", "Value": failures}}
    return json.dumps(body).encode()


def all_stored(request: Request) -> Answer:
    return Answer(200, said(uids(request))) if request.body else Answer(200)


# --- a real server ---------------------------------------------------------------------------------------


@pytest.mark.servers
def test_orthanc_stores_every_object_and_the_broken_one_is_named(orthanc_web: Server) -> None:
    files = [as_file(one) for one in study_objects(91, 12)]
    broken = replace(files[0], sop_instance_uid="1.2.3", content=files[0].file_bytes()[:140])
    with StowSender(WebSession(WebAddress(orthanc_web.web))) as sender:
        answers = {one.sop_instance_uid: one for one in sender.send([*files[:3], broken, *files[3:]])}
    assert answers.pop("1.2.3").verdict is Verdict.PERMANENT
    assert {one.verdict for one in answers.values()} == {Verdict.STORED}
    assert set(answers) == {one.sop_instance_uid for one in files}


@pytest.mark.servers
def test_an_older_object_that_orthanc_silently_keeps_is_found_out_by_comparison(orthanc_web: Server) -> None:
    first, second = sr(92), sr(92)
    second.ContentSequence[0].TextValue = "something to see"
    place = Place(first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    with WebSession(WebAddress(orthanc_web.web)) as session:
        sender, fetch = StowSender(session), WadoFetch(session)
        answers = [*sender.send([as_file(first)]), *sender.send([as_file(second)])]
        assert [one.verdict for one in answers] == [Verdict.STORED] * 2, "the archive says the same of both"
        assert differs(fetch, place, as_file(first)) is False
        assert differs(fetch, place, as_file(second)) is True


# --- what goes out ---------------------------------------------------------------------------------------


def test_a_request_holds_whole_files_unchanged(objects: list[ObjectFile]) -> None:
    with WebServer(all_stored) as server:
        answers = sent(server, objects, objects_per_request=3)
    assert [one.accepted for one in answers] == [True] * len(objects)
    assert [parts(one) for one in server.requests] == [
        [one.file_bytes() for one in objects[:3]],
        [one.file_bytes() for one in objects[3:]],
    ]
    assert {(one.method, one.path) for one in server.requests} == {("POST", "/dicom-web/studies")}


def test_large_objects_go_out_alone(objects: list[ObjectFile]) -> None:
    with WebServer(all_stored) as server:
        sent(server, objects, bytes_per_request=objects[0].size_bytes() + 1)
    assert [len(parts(one)) for one in server.requests] == [1] * len(objects)


def test_a_file_that_is_gone_is_answered_and_the_others_go(objects: list[ObjectFile], tmp_path: Path) -> None:
    gone = replace(as_file(sr(7)), content=tmp_path / "gone.dcm")
    with WebServer(all_stored) as server:
        answers = {one.sop_instance_uid: one for one in sent(server, [gone, *objects])}
    assert answers.pop(gone.sop_instance_uid).verdict is Verdict.TEMPORARY
    assert all(one.accepted for one in answers.values())


# --- what comes back -------------------------------------------------------------------------------------


def test_failures_and_warnings_are_told_object_by_object(objects: list[ObjectFile]) -> None:
    a, b, c, d, e = (one.sop_instance_uid for one in objects)
    body = said([a], failed={b: 0xA700, c: 0xA900}, warned={d: 0xB000, e: 0xB007})
    with WebServer(lambda request: Answer(202, body)) as server:
        answers = sent(server, objects)
    assert [(one.verdict, one.status) for one in answers] == [
        (Verdict.STORED, 0),
        (Verdict.TEMPORARY, 0xA700),
        (Verdict.PERMANENT, 0xA900),
        (Verdict.WARNING, 0xB000),
        (Verdict.WARNING, 0xB007),
    ]


@pytest.mark.parametrize(("reason", "verdict"), [(0xB000, Verdict.TEMPORARY), (0x0111, Verdict.THERE)])
def test_what_is_named_as_failed_is_not_stored_whatever_the_reason_means_elsewhere(
    objects: list[ObjectFile], reason: int, verdict: Verdict
) -> None:
    with WebServer(lambda request: Answer(202, said(failed={objects[0].sop_instance_uid: reason}))) as server:
        (answer,) = sent(server, objects[:1])
    assert answer.verdict is verdict


def test_an_answer_in_xml_is_read_too(objects: list[ObjectFile]) -> None:
    item = '<Item number="1"><DicomAttribute tag="00081155" vr="UI"><Value number="1">{}</Value></DicomAttribute>{}' \
           "</Item>"  # fmt: skip
    reason = '<DicomAttribute tag="00081197" vr="US"><Value number="1">43264</Value></DicomAttribute>'
    body = (
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        f'<DicomAttribute tag="00081199" vr="SQ">{item.format(objects[0].sop_instance_uid, "")}</DicomAttribute>'
        f'<DicomAttribute tag="00081198" vr="SQ">{item.format(objects[1].sop_instance_uid, reason)}</DicomAttribute>'
        "</NativeDicomModel>"
    )
    with WebServer(lambda request: Answer(202, body.encode(), "application/dicom+xml")) as server:
        answers = sent(server, objects[:2])
    assert [one.verdict for one in answers] == [Verdict.STORED, Verdict.PERMANENT]


def test_an_object_that_is_named_as_stored_and_as_failed_is_not_stored(objects: list[ObjectFile]) -> None:
    one = objects[0]
    with WebServer(lambda request: Answer(202, said([one.sop_instance_uid], {one.sop_instance_uid: 0xA700}))) as server:
        (answer,) = sent(server, [one])
    assert answer.verdict is Verdict.TEMPORARY


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"", Verdict.WARNING),
        (200, b"{}", Verdict.WARNING),
        (202, b"", Verdict.TEMPORARY),
        (409, b"", Verdict.PERMANENT),
        (400, b"", Verdict.PERMANENT),
        (413, b"", Verdict.PERMANENT),
        (415, b"", Verdict.PERMANENT),
        (500, b"<html>", Verdict.TEMPORARY),
    ],
)
def test_an_object_of_which_the_server_says_nothing_is_judged_by_the_status(
    objects: list[ObjectFile], status: int, body: bytes, verdict: Verdict
) -> None:
    with WebServer(lambda request: Answer(status, body)) as server:
        answers = sent(server, objects[:2])
    assert {one.verdict for one in answers} == {verdict}
    assert all(str(status) in one.text for one in answers)


def test_an_answer_that_names_the_others_only_leaves_an_object_for_later(objects: list[ObjectFile]) -> None:
    named = [one.sop_instance_uid for one in objects[1:]]
    with WebServer(lambda request: Answer(200, said(named))) as server:
        first, *others = sent(server, objects)
    assert first.verdict is Verdict.TEMPORARY
    assert {one.verdict for one in others} == {Verdict.STORED}


def test_what_is_refused_together_goes_out_one_by_one(objects: list[ObjectFile]) -> None:
    poison = objects[2].sop_instance_uid

    def answer(request: Request) -> Answer:
        if not request.body:
            return Answer(200)
        return Answer(500) if poison in uids(request) else all_stored(request)

    with WebServer(answer) as server:
        answers = {one.sop_instance_uid: one.verdict for one in sent(server, objects)}
    assert answers.pop(poison) is Verdict.TEMPORARY
    assert set(answers.values()) == {Verdict.STORED}


@pytest.mark.parametrize("refusal", ["reason", "status"])
def test_a_syntax_that_is_refused_goes_out_once_more_without_compression(refusal: str) -> None:
    deflated = as_file(sr(1), DEFLATED)

    def answer(request: Request) -> Answer:
        if not request.body:
            return Answer(200)
        (file,) = parts(request)
        if ObjectFile.read(file).transfer_syntax_uid == EXPLICIT:
            return all_stored(request)
        if refusal == "status":
            return Answer(415)
        return Answer(409, said(failed={deflated.sop_instance_uid: 0xC122}))

    with WebServer(answer) as server:
        (given,) = sent(server, [deflated])
    assert (given.verdict, given.transfer_syntax) == (Verdict.STORED, EXPLICIT)
    assert "since Deflated Explicit VR Little Endian is refused" in given.text
    (file,) = parts(server.requests[-1])
    assert ObjectFile.read(file).data_set_bytes() == as_file(sr(1)).data_set_bytes()


# --- servers that are away, busy or shut -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "temporary", "words"),
    [
        (401, False, "credentials"),
        (403, False, "credentials"),
        (404, False, "does not store at this address"),
        (405, False, "does not store at this address"),
        (301, False, "elsewhere"),
        (429, True, "busy"),
        (503, True, "busy"),
    ],
)
def test_a_server_that_takes_nothing_is_an_error_that_says_whether_to_come_back(
    objects: list[ObjectFile], status: int, temporary: bool, words: str
) -> None:
    with WebServer(lambda request: Answer(status)) as server, pytest.raises(ArchiveError, match=words) as caught:
        sent(server, objects[:1])
    assert caught.value.temporary == temporary
    assert f"HTTP {status}" in str(caught.value)


def test_nobody_listening_may_pass(objects: list[ObjectFile]) -> None:
    session = WebSession(WebAddress(f"http://{LOOPBACK}:{free_port()}"))
    with pytest.raises(ArchiveError, match="no answer") as caught:
        list(StowSender(session).send(objects))
    assert caught.value.temporary


def test_a_kept_connection_that_the_server_has_closed_is_made_anew(objects: list[ObjectFile]) -> None:
    hang_up = iter([False, True, False])

    def answer(request: Request) -> Answer:
        if not request.body:
            return Answer(200)
        return Answer(0) if next(hang_up) else all_stored(request)

    with WebServer(answer) as server:
        answers = sent(server, objects[:2], objects_per_request=1)
    assert [one.accepted for one in answers] == [True, True]
    assert len(server.requests) == 3


def test_a_server_that_refuses_a_body_before_it_has_read_it_is_heard() -> None:
    large = ct(1, 1)
    large.Rows = large.Columns = 2048
    large.PixelData = bytes(2 * 2048 * 2048)
    with WebServer(lambda request: Answer(413, unread=True)) as server:
        try:
            (answer,) = sent(server, [as_file(large)])
        except ArchiveError as error:  # the answer may be lost with the connection: then it may pass
            assert error.temporary
        else:
            assert answer.verdict is Verdict.PERMANENT


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"[1, 2]", b"\xff\xfe"])
def test_an_answer_that_nobody_can_read_is_not_taken_for_success(objects: list[ObjectFile], body: bytes) -> None:
    with WebServer(lambda request: Answer(200, body)) as server, pytest.raises(ArchiveError) as caught:
        sent(server, objects)
    assert caught.value.temporary


# --- who we are ------------------------------------------------------------------------------------------


def test_credentials_are_sent_and_shown_nowhere(objects: list[ObjectFile], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("miner:s3cret\n")
    authorization = read_authorization(file, {}, "MINE_SEND_AUTHORIZATION")
    with WebServer(all_stored) as server:
        address = WebAddress(server.url, authorization)
        list(StowSender(WebSession(address)).send(objects[:1]))
    assert server.requests[0].headers["Authorization"] == "Basic " + base64.b64encode(b"miner:s3cret").decode()
    assert "s3cret" not in repr(address) + str(address)
    assert authorization.removeprefix("Basic ") not in repr(address)


@pytest.mark.parametrize(
    ("secret", "header"),
    [
        ("", ""),
        ("a.b.c", "Bearer a.b.c"),
        ("Bearer a.b.c", "Bearer a.b.c"),
        ("u:p", "Basic dTpw"),
        ("Basic dTpw", "Basic dTpw"),
    ],
)
def test_credentials_come_from_the_environment_in_any_form(secret: str, header: str) -> None:
    assert read_authorization(None, {"TOKEN": secret}, "TOKEN") == header
    assert read_authorization(None, {}, "TOKEN") == ""


@pytest.mark.parametrize("content", [None, "", "two\nlines", "a\0b"])
def test_credentials_that_cannot_be_used_are_named_and_not_repeated(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_authorization(file, {}, "TOKEN")
    assert "two" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["pacs.example.org/dicom-web", "ftp://pacs", "http://", "http://user:pw@pacs/x", "https://pacs/x?y=1"]
)
def test_an_address_that_cannot_be_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WebAddress(url)
    assert "pw" not in str(caught.value)


def test_who_writes_a_password_into_an_address_is_told_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match=r"\[send\] credentials.*MINE_WEB_CREDENTIALS"):
        WebAddress("https://user:pw@pacs.example.org/x")


def test_credentials_do_not_travel_unencrypted() -> None:
    with pytest.raises(ConfigError, match="unencrypted"):
        WebAddress("http://pacs.example.org/dicom-web", "Bearer x")
    for url in ("https://pacs.example.org/dicom-web", "http://127.0.0.1/x", "http://[::1]/x", "http://localhost/x"):
        assert WebAddress(url, "Bearer x").url == url


# --- questions -------------------------------------------------------------------------------------------


def rows(names: Sequence[str]) -> bytes:
    return json.dumps([{"00080018": {"vr": "UI", "Value": [one]}} for one in names]).encode()


def listed(answer: Callable[[Request], Answer]) -> frozenset[str]:
    with WebServer(answer) as server, WebSession(WebAddress(server.url)) as session:
        return QidoInquiry(session).listed("1.2", "1.3", "")


def test_pages_are_turned_until_none_brings_anything_new() -> None:
    names = [f"1.2.{number}" for number in range(10)]

    def paged(request: Request) -> Answer:
        offset = int(re.findall(r"offset=(\d+)", request.path)[0])
        return Answer(200, rows(names[offset : offset + 4]))

    assert listed(paged) == set(names)
    assert listed(lambda request: Answer(200, rows(names[:4]))) == set(names[:4]), "an offset that is ignored ends it"


@pytest.mark.parametrize(("status", "fails"), [(204, False), (404, False), (500, True), (400, True)])
def test_nothing_found_is_told_from_a_failure(status: int, fails: bool) -> None:
    if fails:
        with pytest.raises(ArchiveError):
            listed(lambda request: Answer(status))
    else:
        assert listed(lambda request: Answer(status)) == frozenset()


def test_a_server_without_the_service_is_not_one_without_the_study() -> None:
    with (
        WebServer(lambda request: Answer(404)) as server,
        WebSession(WebAddress(server.url)) as session,
        pytest.raises(ArchiveError, match=r"404.*name it up to before /studies"),
    ):
        QidoInquiry(session).identities("1.2")


@settings(max_examples=60)
@given(st.binary(max_size=60), st.sampled_from(["application/dicom+json", "application/dicom+xml", ""]))
def test_any_answer_is_read_or_refused(body: bytes, content_type: str) -> None:
    try:
        found = dicom_json.data_sets(body, content_type)
    except ConfigError:
        return
    for one in found:
        assert dicom_json.text(one, "00080018") == ""
        assert dicom_json.integer(one, "00081197") is None
        assert dicom_json.items(one, "00081199") == []


@pytest.mark.parametrize(
    ("content_type", "body", "given"),
    [
        ("application/dicom", b"file", b"file"),
        (
            'multipart/related; type="application/dicom"; boundary="x y"',
            b"--x y\r\nA: b\r\n\r\nfile\r\n--x y--",
            b"file",
        ),
        ("multipart/related; boundary=x", b"pre\r\n--x\r\n\r\nfi\r\nle\r\n--x\r\n\r\nsecond\r\n--x--", b"fi\r\nle"),
    ],
)
def test_an_object_is_taken_out_of_its_envelope(content_type: str, body: bytes, given: bytes) -> None:
    with (
        WebServer(lambda request: Answer(200, body, content_type)) as server,
        WebSession(WebAddress(server.url)) as session,
    ):
        assert WadoFetch(session)(Place("1", "2", "3")) == given


def test_an_envelope_without_an_object_is_an_error() -> None:
    with (
        WebServer(lambda request: Answer(200, b"hello", "text/html")) as server,
        WebSession(WebAddress(server.url)) as session,
        pytest.raises(ArchiveError, match="text/html"),
    ):
        WadoFetch(session)(Place("1", "2", "3"))
