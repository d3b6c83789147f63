"""No password that somebody wrote into an address is shown in a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.redaction import redacted, shown_address

SCHEMES = st.sampled_from(["http://", "https://", "ftp://", "HTTP://", "http:/", "dicom+tls://"])
HOSTS = st.sampled_from(["host", "host:104", "10.0.0.5/dicom-web", "[::1]:8042/x", ""])


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("PACS@10.0.0.5:104", "PACS@10.0.0.5:104"),
        ("OUR PACS@[::1]:104", "OUR PACS@[::1]:104"),
        ("https://pacs.example.org:8443/dicom-web", "https://pacs.example.org:8443/dicom-web"),
        ("ftp://user:s3cret@host", "ftp://***@host"),
        ("https://s3cret@host/x", "https://***@host/x"),
        ("user:s3cret@host:104", "***@host:104"),
        (" http://user:s3 cr@et@host/x?token=s3cret#s3cret", "http://***@host/x"),
        ("https://host/x?token=s3cret", "https://host/x"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_password(written: str, shown: str) -> None:
    assert shown_address(written) == shown


@given(SCHEMES, st.text(), HOSTS)
def test_no_password_of_a_url_is_shown(scheme: str, password: str, host: str) -> None:
    assert shown_address(f"{scheme}user:s3cret{password}@{host}").count("s3cret") == 0


@given(SCHEMES, st.text(st.characters(exclude_categories=["Z", "C"])), HOSTS, st.text())
def test_no_password_stays_in_a_message_wherever_it_stands(scheme: str, password: str, host: str, rest: str) -> None:
    message = redacted(f"Path '{scheme}user:s3cret{password}@{host}' does not exist: {rest}")
    assert "s3cret" not in message
    assert message.startswith(f"Path '{scheme}***@")


@given(st.text(st.characters(exclude_characters="@")))
def test_a_message_without_credentials_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text
    assert redacted("to PACS@10.0.0.5:104, https://host/x") == "to PACS@10.0.0.5:104, https://host/x"
