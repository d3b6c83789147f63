"""Pseudonyms: keyed, stable, not linkable without the key."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.pseudonyms import LEAST_SHIFT_DAYS, MOST_SHIFT_DAYS, Pseudonyms

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def test_a_short_key_is_refused_and_the_message_says_how_to_make_one() -> None:
    with pytest.raises(ConfigError, match="head -c 32"):
        Pseudonyms(b"short")


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_same_key_gives_the_same_token_and_another_key_another_one(kind: str, text: str) -> None:
    assert Pseudonyms(KEY).token(kind, text) == Pseudonyms(KEY).token(kind, text)
    assert Pseudonyms(KEY).token(kind, text) != Pseudonyms(OTHER).token(kind, text)


def test_moving_a_letter_between_parts_changes_the_token() -> None:
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.token("x", "ab", "c") != pseudonyms.token("x", "a", "bc")
    assert pseudonyms.token("x", "ab") != pseudonyms.token("y", "ab")


def test_padding_does_not_make_another_patient_but_an_issuer_does() -> None:
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.patient("PAT1 ") == pseudonyms.patient("PAT1")
    assert pseudonyms.patient("PAT1", "A") != pseudonyms.patient("PAT1", "B")


@given(st.text(alphabet="0123456789.", min_size=1, max_size=64))
def test_a_remapped_uid_is_valid_and_fits(uid: str) -> None:
    mapped = Pseudonyms(KEY).uid(uid)
    assert mapped.startswith("2.25.")
    assert len(mapped) <= 64
    assert mapped != uid


days = st.dates(min_value=date(1900, 1, 1), max_value=date(2100, 1, 1))


@given(days, days, st.text(max_size=10))
def test_intervals_between_the_dates_of_a_patient_are_kept(first: date, second: date, patient: str) -> None:
    pseudonyms = Pseudonyms(KEY)
    one = date.fromisoformat(pseudonyms.shifted_date(first.strftime("%Y%m%d"), patient))
    other = date.fromisoformat(pseudonyms.shifted_date(second.strftime("%Y%m%d"), patient))
    assert second - first == other - one
    assert LEAST_SHIFT_DAYS <= (first - one).days < MOST_SHIFT_DAYS


@pytest.mark.parametrize("written", ["", "2019", "20191301", "2019-03-14", "abcdefgh", "00010101"])
def test_what_is_no_usable_date_gives_no_date(written: str) -> None:
    assert Pseudonyms(KEY).shifted_date(written, "p") == ""


def test_the_old_form_of_dates_is_read() -> None:
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.shifted_date("1999.05.24", "p") == pseudonyms.shifted_date("19990524", "p") != ""
