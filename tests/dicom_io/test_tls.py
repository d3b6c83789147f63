"""Nothing goes out to who is not who they say they are, and the reason of a failed handshake is told."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from certificates import make_certificates
from hostile_archive import HostileArchive
from little_objects import sr, study_objects
from placed import place
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from servers import LOOPBACK, Server, free_port, orthanc
from web_server import Answer, WebServer

from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io.address import Address
from dicom_io.commitment import CommitmentReport
from dicom_io.committing import Committer
from dicom_io.comparison import GetFetch, differs
from dicom_io.link import Link
from dicom_io.object_file import ObjectFile
from dicom_io.proof import FindInquiry, prove
from dicom_io.report_listener import ReportListener
from dicom_io.sending import StoreSender
from dicom_io.stow import StowSender
from dicom_io.tls import client_context, handshake_failure, server_context
from dicom_io.web import WebAddress, WebSession
from tests.waiting import PATIENCE_S


def as_file(dataset: Dataset) -> ObjectFile:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return ObjectFile.read(buffer.getvalue())


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def ours(papers: Path) -> ssl.SSLContext:
    return client_context(papers / "ca.crt", papers / "client.crt", papers / "client.key")


@pytest.fixture(scope="module")
def secure_orthanc(papers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with orthanc(tmp_path_factory.mktemp("secure"), certificates=papers) as server:
        yield server


# --- a real archive --------------------------------------------------------------------------------------


@pytest.mark.servers
def test_orthanc_is_sent_to_asked_and_reports_over_tls(
    secure_orthanc: Server, papers: Path, ours: ssl.SSLContext
) -> None:
    address, came = Address.parse(secure_orthanc.address), threading.Event()
    reports: list[CommitmentReport] = []

    def take(report: CommitmentReport) -> bool:
        reports.append(report)
        came.set()
        return True

    listening = server_context(papers / "ca.crt", papers / "client.crt", papers / "client.key")
    objects = [*study_objects(95, 3)]
    files = [as_file(one) for one in objects]
    with (
        ReportListener("MINER", take, host=LOOPBACK, port=secure_orthanc.move_port, tls_context=listening),
        StoreSender(address, "MINER", tls_context=ours) as sender,
    ):
        assert all(one.accepted for one in sender.send(files))
        assert Committer(sender).request("2.25.95", [(one.sop_class_uid, one.sop_instance_uid) for one in files])
        assert came.wait(PATIENCE_S)
    assert set(reports[0].committed) == {one.sop_instance_uid for one in files}
    link = Link(address, "MINER", tls_context=ours)
    assert prove(FindInquiry(link), map(place, objects)) == {one.sop_instance_uid for one in files}
    link.close()
    with GetFetch(address, "MINER", tls_context=ours) as fetch:
        assert differs(fetch, place(objects[-1]), files[-1]) is False


@pytest.mark.servers
def test_orthanc_says_why_it_does_not_let_us_in(secure_orthanc: Server, papers: Path) -> None:
    nobody = client_context(papers / "ca.crt", None, None)
    rogue = client_context(papers / "ca.crt", papers / "rogue.crt", papers / "rogue.key")
    for context in (nobody, rogue):
        error = refusal(Address.parse(secure_orthanc.address), context)
        assert "the archive does not trust our certificate, or asks for one" in str(error)
        assert not error.temporary
    assert "nobody listens there, or the connection was aborted" in str(
        refusal(Address.parse(secure_orthanc.address), None)
    )


def refusal(address: Address, context: ssl.SSLContext | None) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught, StoreSender(address, "MINER", tls_context=context) as one:
        list(one.send([as_file(sr(1))]))
    return caught.value


# --- who they are ----------------------------------------------------------------------------------------


@contextmanager
def speaking(context: ssl.SSLContext) -> Iterator[int]:
    """A port behind which somebody makes handshakes, and reads what comes."""
    server = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.settimeout(0.2)
                    secure.recv(1)
            except OSError:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rogue", "the archive's certificate is not trusted: self-signed certificate"),
        ("elsewhere", "the archive's certificate is not trusted: IP address mismatch"),
    ],
)
def test_an_archive_that_is_not_who_it_says_gets_nothing(
    papers: Path, ours: ssl.SSLContext, name: str, words: str
) -> None:
    with speaking(server_context(None, papers / f"{name}.crt", papers / f"{name}.key")) as port:
        error = refusal(Address("PACS", LOOPBACK, port), ours)
    assert words in str(error)
    assert not error.temporary


def test_a_host_name_is_compared_with_the_certificate(papers: Path, ours: ssl.SSLContext) -> None:
    with speaking(server_context(papers / "ca.crt", papers / "server.crt", papers / "server.key")) as port:
        assert handshake_failure(LOOPBACK, port, ours, PATIENCE_S) == ""
        assert handshake_failure("localhost", port, ours, PATIENCE_S) == ""
    with speaking(server_context(None, papers / "elsewhere.crt", papers / "elsewhere.key")) as port:
        assert "Hostname mismatch" in handshake_failure("localhost", port, ours, PATIENCE_S)


def test_an_archive_without_tls_is_told_from_one_that_is_away(ours: ssl.SSLContext) -> None:
    with HostileArchive() as archive:
        error = refusal(archive.address, ours)
    assert "no association" in str(error)
    away = refusal(Address("PACS", LOOPBACK, free_port()), ours)
    assert "nobody listens there" in str(away)
    assert away.temporary


def test_versions_that_are_broken_are_not_spoken(papers: Path, ours: ssl.SSLContext) -> None:
    old = server_context(None, papers / "server.crt", papers / "server.key")
    assert ours.minimum_version == old.minimum_version == ssl.TLSVersion.TLSv1_2
    assert ours.check_hostname
    assert ours.verify_mode == ssl.CERT_REQUIRED


def test_who_must_show_a_certificate_and_who_need_not(papers: Path) -> None:
    paths = (papers / "server.crt", papers / "server.key")
    assert server_context(papers / "ca.crt", *paths).verify_mode == ssl.CERT_REQUIRED
    assert server_context(None, *paths).verify_mode == ssl.CERT_NONE


# --- the web ---------------------------------------------------------------------------------------------


def test_the_web_is_spoken_to_over_tls_and_only_with_who_is_trusted(papers: Path, ours: ssl.SSLContext) -> None:
    def answer(request: object) -> Answer:
        return Answer(200)

    context = server_context(papers / "ca.crt", papers / "server.crt", papers / "server.key")
    with WebServer(answer, context) as server:
        address = WebAddress(server.url, "Bearer a.b.c")
        (stored,) = StowSender(WebSession(address, tls_context=ours)).send([as_file(sr(1))])
        assert stored.accepted
        elsewhere = replace(address, url=server.url.replace(LOOPBACK, "localhost"))
        assert len(list(StowSender(WebSession(elsewhere, tls_context=ours)).send([as_file(sr(1))]))) == 1
        heard = len(server.requests)
        strangers = client_context(papers / "rogue.crt", papers / "client.crt", papers / "client.key")
        with pytest.raises(ArchiveError, match="the server's certificate is not trusted") as caught:
            list(StowSender(WebSession(address, tls_context=strangers)).send([as_file(sr(1))]))
    assert not caught.value.temporary
    assert len(server.requests) == heard, "not even a header goes out"


# --- files -----------------------------------------------------------------------------------------------


def test_what_is_no_certificate_is_named(papers: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.pem"
    letter.write_text("Dear archive,\n")
    gone = tmp_path / "gone.pem"
    certificate, key = papers / "client.crt", papers / "client.key"
    for ca in (letter, gone):
        with pytest.raises(ConfigError, match=f"{ca.name}: no certificate authority"):
            client_context(ca, None, None)
    with pytest.raises(ConfigError, match=r"gone\.pem: there is no such file"):
        client_context(papers / "ca.crt", gone, key)
    with pytest.raises(ConfigError, match=r"letter\.pem and .*client\.key are no certificate with its private key"):
        client_context(papers / "ca.crt", letter, key)
    with pytest.raises(ConfigError, match="are no certificate with its private key"):
        server_context(None, certificate, papers / "server.key")
    with pytest.raises(ConfigError, match="both a certificate and its private key"):
        client_context(papers / "ca.crt", certificate, None)


def test_a_key_under_a_password_is_refused_and_nobody_is_asked_for_it(papers: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    words = ["openssl", "rsa", "-aes256", "-passout", "pass:x1y2", "-in", papers / "client.key", "-out", locked]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(ConfigError, match="unencrypted"):
        client_context(papers / "ca.crt", papers / "client.crt", locked)
