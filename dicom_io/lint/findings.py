"""Findings: a rule, where it is broken, what was found there, and what each version of the viewer does about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import schemas

TABLE = "ohif_rules"
SEVERITIES = ("fails_whole", "drops_item", "shows_wrong", "invalid", "advice")
"""The worst first; only 'advice' leaves an object good."""
WHOLE = frozenset({"fails", "text"})
"""Effects on the whole object."""
MISSING = frozenset({"drops", "read_only"})
"""Effects by which a measurement cannot be edited."""
SHOWN_CHARACTERS = 64


@dataclass(frozen=True)
class Outcome:
    """What one version of the viewer does."""

    version: str
    effect: str
    """A word of `schemas/ohif_rules.toml`: fails, text, drops, read_only, wrong or fine."""
    sees: str
    """What a reader sees, in words."""


@dataclass(frozen=True)
class Finding:
    """One rule, broken at one place."""

    rule: str
    case: str
    """In which way it is broken: `rule` and `case` name an entry of `schemas/ohif_rules.toml`."""
    path: str
    """The content item: 1-based positions from the root's children on, '5.1.3'; '' = the object."""
    group: str
    """Path of the measurement group that is concerned; '' = the object."""
    found: str
    severity: str
    """One of `SEVERITIES`."""
    sure: str
    """measured, read (in the viewer's source), or tools."""
    advice: str
    outcomes: tuple[Outcome, ...]

    @property
    def is_advice(self) -> bool:
        """True where the object is good all the same."""
        return self.severity == "advice"

    def effect(self, version: str) -> str:
        """What that version does, in a word; KeyError for another version."""
        return {one.version: one.effect for one in self.outcomes}[version]


@dataclass(frozen=True)
class Outlook:
    """What becomes of an object in one version of the viewer."""

    version: str
    opens: str
    """editable | read_only | text | overlay | nothing | fails."""
    measurements: int = 0
    """So many can be edited."""


def _versions() -> tuple[str, ...]:
    return tuple(schemas.load(TABLE)["versions"])


VERSIONS = _versions()
"""Of the viewer, newest first."""


def concept(name: str) -> str:
    """The code value of a concept that the viewer looks up; KeyError for a word that the table lacks."""
    return str(schemas.load(TABLE)["concept"][name][0])


def meaning(name: str) -> str:
    """The code meaning of a concept that the viewer looks up."""
    return str(schemas.load(TABLE)["concept"][name][2])


def word(name: str) -> str:
    """A text that the viewer looks for, by its name in the table's section 'concept'."""
    return str(schemas.load(TABLE)["concept"][name])


def limit(name: str) -> float:
    """A limit of the table; its unit is the end of its name."""
    return float(schemas.load(TABLE)["limits"][name])


def placing() -> tuple[tuple[str, str, bool], ...]:
    """Cases that leave a group without a place: rule, case, and whether in the older version only."""
    return tuple((rule, case, older) for rule, case, older in schemas.load(TABLE)["placing"]["unplaced"])


def tool_of(tracking_identifier: str) -> str:
    """The viewer's tool that a Tracking Identifier names, '' for one that is not the viewer's."""
    table = schemas.load(TABLE)["tracking"]
    for tool in table["tools"]:
        if any(tracking_identifier.startswith(prefix + tool) for prefix in table["prefixes"]):
            return str(tool)
        if any(tracking_identifier == whole + tool for whole in table["whole"]):
            return str(tool)
    return ""


def quoted(value: str) -> str:
    """Text of an object as one that is safe to print: quoted, escaped, cut."""
    shown = ascii(value[:SHOWN_CHARACTERS])
    return f"{shown} ..." if len(value) > SHOWN_CHARACTERS else shown


def finding(rule: str, case: str, path: str = "", group: str = "", **facts: Any) -> Finding:
    """The finding of a rule's case, with the facts in its words. KeyError for a case that the table lacks."""
    entry = schemas.load(TABLE)["rule"][rule]["case"][case]
    outcomes = tuple(Outcome(version, *entry["does"][version]) for version in VERSIONS)
    found = entry["found"].format(**facts)
    return Finding(rule, case, path, group, found, entry["severity"], entry["sure"], entry["advice"], outcomes)


def fate(version: str, findings: Iterable[Finding], groups: Iterable[str]) -> Outlook:
    """What becomes of a report with these measurement groups (their paths) and findings."""
    lost: set[str] = set()
    drawn: set[str] = set()
    for one in findings:
        effect = one.effect(version)
        if effect in WHOLE:
            return Outlook(version, effect)
        if effect in MISSING:
            lost.add(one.group)
        if effect == "read_only":
            drawn.add(one.group)
    left = [group for group in groups if group not in lost]
    if left:
        return Outlook(version, "editable", len(left))
    return Outlook(version, "read_only" if drawn else "nothing")
