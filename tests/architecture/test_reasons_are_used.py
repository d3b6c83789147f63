"""Codes are the stable names: what code says exists in the table, what the table says is used."""

from __future__ import annotations

import ast
import string
from typing import NamedTuple

import pytest
from source_tree import calls, modules, texts

import schemas

LEVELS = ("reject", "flag", "unreadable")


class Use(NamedTuple):
    """Where a value of a call stands, by position and by name."""

    position: int
    name: str
    level: str


USES = {
    "Rejected": Use(1, "reason", "reject"),
    "Note": Use(0, "code", "flag"),
    "Unreadable": Use(1, "why", "unreadable"),
}


def given(call: ast.Call, use: Use) -> ast.expr | None:
    """The expression that a call gives for one parameter."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == use.name]
    if named:
        return named[0]
    return call.args[use.position] if len(call.args) > use.position else None


def test_every_code_that_code_names_is_in_the_table() -> None:
    table = schemas.load("reasons")
    unknown = [
        f"{path}:{call.lineno} {value.value}"
        for path, tree in modules().items()
        for name, call in calls(tree)
        if name in USES
        and isinstance(value := given(call, USES[name]), ast.Constant)
        and value.value not in table[USES[name].level]
    ]
    assert unknown == []


@pytest.mark.parametrize("level", LEVELS)
def test_every_code_of_the_table_is_used(level: str) -> None:
    said = {text for tree in modules().values() for text in texts(tree)}
    assert [code for code in schemas.load("reasons")[level] if code not in said] == []


@pytest.mark.parametrize("level", LEVELS)
def test_every_reason_says_what_and_what_to_do(level: str) -> None:
    for code, row in schemas.load("reasons")[level].items():
        assert set(row) == {"message", "advice"}, code
        assert row["message"], code
        assert row["advice"].endswith("."), code
        fields = [name for _, name, _, _ in string.Formatter().parse(row["message"]) if name is not None]
        assert all(name.isidentifier() for name in fields), code
