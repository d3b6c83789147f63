"""Reasons: each has a message that can be filled in, and nothing of the archive gets into it."""

from __future__ import annotations

import string

import pytest

from deeplesion_miner.reasons import LEVELS, message, reasons, vocabulary


@pytest.mark.parametrize("level", LEVELS)
def test_every_reason_has_a_message_and_an_advice(level: str) -> None:
    for code, reason in reasons(level).items():
        assert reason.code == code
        assert reason.level == level
        assert reason.message
        assert reason.advice


def test_numbers_are_filled_into_the_message() -> None:
    assert "12.5 degrees" in message("reject", "non_axial", (("tilt_deg", 12.54), ("limit_deg", 10.0)))


def test_a_missing_fact_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        message("reject", "non_axial", ())


def test_an_unknown_code_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        message("reject", "no such reason", ())


def test_text_that_is_no_word_of_the_vocabulary_does_not_reach_a_public_message() -> None:
    assert "Smith" not in message("reject", "not_ct", (("modality", "Smith"),))
    assert "MR" in message("reject", "not_ct", (("modality", "MR"),))


def test_formats_of_text_facts_have_no_number_format() -> None:
    for level in LEVELS:
        for reason in reasons(level).values():
            for _, name, spec, _ in string.Formatter().parse(reason.message):
                assert name != ""
                assert not (spec or "").startswith("{")
    assert "CT" in vocabulary()
