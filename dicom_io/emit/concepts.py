"""Coded concepts as highdicom takes them: those of `schemas/emit.toml`, and those that a result brings along."""

from __future__ import annotations

from functools import cache

from highdicom.sr import CodedConcept

import schemas
from deeplesion_miner.types import Code
from dicom_io.emit.wording import LONG_STRING, one_line


@cache
def concept(table: str, word: str) -> CodedConcept:
    """The concept of a word of `schemas/emit.toml`. KeyError for a word that the table does not hold."""
    value, scheme, meaning = schemas.load("emit")[table][word]
    return CodedConcept(value, scheme, meaning)


def brought(code: Code | None) -> CodedConcept | None:
    """A concept that a result brings along; None for a viewer's free text and for what is no whole code (PS3.3 8.8).

    Viewers that read free text as a code title a measurement with it, and validators refuse it.
    """
    if code is None:
        return None
    meaning = one_line(code.meaning, LONG_STRING)
    is_whole = code.value and code.scheme and meaning
    if not is_whole or not _is_one_value(code.value) or not _is_one_value(code.scheme):
        return None
    free_text = schemas.load("emit")["free_text"]
    if code.scheme in free_text["schemes"] or code.value in free_text["values"]:
        return None
    return CodedConcept(code.value, code.scheme, meaning)


def _is_one_value(text: str) -> bool:
    """False for control characters and backslashes, which split a value into several (PS3.5 6.2)."""
    return one_line(text, len(text)) == text
