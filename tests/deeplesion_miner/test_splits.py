"""Train, validation and test by a patient's hash."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from deeplesion_miner.splits import split_of


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def test_the_shares_are_seventy_fifteen_fifteen() -> None:
    counts = Counter(split_of(digest(number)) for number in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.70, abs=0.01)
    assert counts["val"] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert counts["test"] / 20_000 == pytest.approx(0.15, abs=0.01)


def test_bytes_and_their_hex_text_give_the_same_split() -> None:
    assert all(split_of(digest(number)) == split_of(digest(number).hex()) for number in range(200))


def test_only_the_first_eight_bytes_decide() -> None:
    assert split_of(digest(7)) == split_of(digest(7)[:8])


@pytest.mark.parametrize(("percent", "before", "at"), [(70, "train", "val"), (85, "val", "test")])
def test_the_borders_are_exact(percent: int, before: str, at: str) -> None:
    border = -(-percent * 2**64 // 100)
    assert split_of((border - 1).to_bytes(8, "big")) == before
    assert split_of(border.to_bytes(8, "big")) == at


def test_the_lowest_and_the_highest_hash_have_a_split() -> None:
    assert split_of(bytes(8)) == "train"
    assert split_of(b"\xff" * 8) == "test"


def test_a_hash_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        split_of(b"1234567")
