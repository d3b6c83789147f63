"""Where results go, as people write it: what cannot work is refused in a line before anything is queued or asked."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_server import Answer, WebServer

from deeplesion_miner.errors import ArchiveError, ConfigError
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.destination import WireSettings, checked
from dicom_io.link import Link
from dicom_io.report_listener import ReportListener
from dicom_io.web import WebAddress, WebSession, read_authorization
from dicom_io.web_inquiry import QidoInquiry

LONG_LABEL = "a" * 70


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://pacs.example.org/dicom-web/", "https://pacs.example.org/dicom-web"),
        ("https://pacs.example.org:8443/a%20b", "https://pacs.example.org:8443/a%20b"),
        ("http://[::1]:8042/dicom-web", "http://[::1]:8042/dicom-web"),
        (" PACS@pacs.example.org:0104 ", "PACS@pacs.example.org:104"),
        ("OUR PACS@10.0.0.5:104", "OUR PACS@10.0.0.5:104"),
        ("A" * 16 + "@10.0.0.5:104", "A" * 16 + "@10.0.0.5:104"),
    ],
)
def test_a_destination_is_written_in_one_way(written: str, kept: str) -> None:
    assert checked(written) == kept
    assert checked(kept) == kept


@pytest.mark.parametrize(
    "written",
    [
        "https://user:s3cret@pacs.example.org/dicom-web",
        "https://s3cret@pacs.example.org/dicom-web",
        "https://user:s3cret@",
        "https://user:s3cret@pacs.example.org:port/x",
        "https://pacs.example.org/dicom-web?token=s3cret",
        "https://pacs.example.org/dicom-web#s3cret",
        "ftp://user:s3cret@pacs.example.org",
        "ftp://user:s3cret@pacs.example.org:21",
        "ftp://u:s3cret@pacs.example.org:21",
        "http:/user:s3cret@pacs.example.org/x",
        "user:s3cret@pacs.example.org",
        "user:s3cret@pacs.example.org:port",
        "somebody:very-s3cret@pacs.example.org:104",
        "http://[::1",
        "http://pacs:99999/x",
        "http://pacs:port/x",
        "http://pa cs/x",
        "http://pacs/a b",
        "http://pacs/\N{LATIN SMALL LETTER A WITH DIAERESIS}",
        "http://pacs/\x1b[31m",
        "http://",
        "http://a..b/x",
        f"http://{LONG_LABEL}/x",
        "A" * 17 + "@10.0.0.5:104",
        "PACS@a..b:104",
        f"PACS@{LONG_LABEL}:104",
        "PACS@pa\0cs:104",
        "PACS@pa\x1b[31mcs:104",
        "PACS@10.0.0.5:70000",
    ],
)
def test_what_is_no_destination_is_refused_without_its_secrets_before_anything_is_asked(written: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(written)
    assert "s3cret" not in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.text(), st.text())
def test_any_text_is_a_destination_or_refused(start: str, rest: str) -> None:
    for one in (start, f"http://{start}/{rest}", f"https://{start}:{rest}", f"PACS@{start}:104", f"{start}@{rest}:104"):
        try:
            assert checked(checked(one)) == checked(one)
        except ConfigError:
            continue


@pytest.mark.parametrize(
    "wrong",
    [
        {"calling_ae": "SEVENTEEN_LETTERS"},
        {"calling_ae": ""},
        {"calling_ae": "A\\B"},
        {"report_port": 70000},
        {"report_port": -1},
    ],
)
def test_who_we_are_is_checked_before_anybody_is_asked(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        WireSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["a..b", LONG_LABEL, "no.such.host.example"])
def test_a_host_that_cannot_be_is_an_error_in_words(host: str) -> None:
    with pytest.raises(ArchiveError, match="is not known here") as caught:
        Link(Address("PACS", host, 104), "MINER", limits=Limits(connect_s=2.0)).echo()
    assert not caught.value.temporary or host == "no.such.host.example"
    with pytest.raises(ConfigError):
        ReportListener("MINER", lambda report: True, host=host)


@pytest.mark.parametrize("secret", ["Bearer p\N{EURO SIGN}s3cret", "Bearer s3cret\x7f"])
def test_credentials_that_no_header_can_hold_are_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_authorization(None, {"TOKEN": secret}, "TOKEN")
    assert "s3cret" not in str(caught.value)


def test_a_tls_connection_that_breaks_off_may_be_made_again() -> None:
    """A proxy that is started again: not the same as a certificate that is not trusted."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                connection.recv(5)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/dicom-web"
        with WebSession(WebAddress(url)) as session, pytest.raises(ArchiveError) as caught:
            QidoInquiry(session).identities("1.2")
    assert caught.value.temporary


def test_an_answer_that_breaks_off_may_be_asked_for_again() -> None:
    """Its length was told beforehand: half a list of studies is no list."""
    whole = b'[{"0020000D": {"vr": "UI", "Value": ["1.2"]}, "00100020": {"vr": "LO", "Value": ["P1"]}}]'
    answers = [Answer(200, whole[:40], cut_from=len(whole)), Answer(200, whole)]
    with WebServer(lambda request: answers[0]) as server, WebSession(WebAddress(server.url)) as session:
        inquiry = QidoInquiry(session)
        with pytest.raises(ArchiveError) as caught:
            inquiry.identities("1.2")
        assert caught.value.temporary
        answers.pop(0)
        assert inquiry.identities("1.2") == {("P1", "")}
