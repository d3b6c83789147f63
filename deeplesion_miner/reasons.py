"""Reasons by code, from `schemas/reasons.toml`, and their messages with numbers filled in."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import schemas
from deeplesion_miner.types import Fact, Reason

LEVELS = ("reject", "flag", "unreadable")


@cache
def reasons(level: str) -> dict[str, Reason]:
    """Every reason of one level ('reject', 'flag', 'unreadable') by code, in the order of the table."""
    table = schemas.load("reasons")[level]
    return {code: Reason(code, level, row["message"], row["advice"]) for code, row in table.items()}


@cache
def vocabulary() -> frozenset[str]:
    """Every word that may stand as a fact in a public message."""
    return frozenset(word for words in schemas.load("reasons")["vocabulary"].values() for word in words)


def message(level: str, code: str, facts: Iterable[tuple[str, Fact]]) -> str:
    """The reason's text with its facts; KeyError for an unknown code or a missing fact.

    A fact that is text but no word of the vocabulary is replaced by 'other', so that nothing of the
    archive can enter a public message.
    """
    known = {name: value if not isinstance(value, str) or value in vocabulary() else "other" for name, value in facts}
    return reasons(level)[code].message.format(**known)
