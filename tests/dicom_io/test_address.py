from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.errors import ConfigError
from dicom_io.address import Address, ae_title


def test_an_address_is_title_host_and_port():
    assert Address.parse("PACS@10.0.0.5:104") == Address("PACS", "10.0.0.5", 104)


def test_case_and_inner_spaces_of_a_title_are_kept_and_outer_spaces_are_not():
    assert Address.parse(" My pacs @ris.example:11112 ") == Address("My pacs", "ris.example", 11112)


def test_a_title_may_hold_an_at_sign():
    assert Address.parse("A@B@host:104") == Address("A@B", "host", 104)


def test_an_ipv6_host_stands_in_brackets():
    address = Address.parse("PACS@[::1]:104")
    assert address.host == "::1"
    assert str(address) == "PACS@[::1]:104"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected AET@host:port"),
        ("host:104", "expected AET@host:port"),
        ("PACS@host", "expected AET@host:port"),
        ("PACS@host:", "port ''"),
        ("PACS@host:0", "port '0'"),
        ("PACS@host:65536", "port '65536'"),
        ("PACS@host:١٠٤", "port"),
        ("PACS@:104", "host ''"),
        ("PACS@my host:104", "host 'my host'"),
        ("@host:104", "0 characters"),
        ("A_TITLE_TOO_LONG_X@host:104", "18 characters"),
        ("PA\\CS@host:104", "backslash"),
        ("PÄCS@host:104", "ASCII"),
    ],
)
def test_what_is_no_address_is_refused_with_what_was_found(text: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint.replace("\\", "\\\\")):
        Address.parse(text)


TITLES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16)


@given(TITLES, st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True), st.integers(1, 65535))
def test_an_address_written_and_parsed_is_the_same(title: str, host: str, port: int):
    address = Address(title, host, port)
    assert Address.parse(str(address)) == address
    assert ae_title(title) == title
