"""A study's outcome as JSON text and back, without loss: NaN, whole numbers, lone surrogates included."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from cattrs import Converter
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from deeplesion_miner.studies import StudyOutcome
from deeplesion_miner.types import Fact, ImagePlane, Segment, SegmentMm, Unreadable


@cache
def _converter() -> Converter:
    """Frozen dataclasses to plain values and back; unions carry the name of their type as '_type'."""
    converter = make_converter()
    configure_tagged_union(Segment | SegmentMm, converter)
    configure_tagged_union(ImagePlane | Unreadable, converter)
    # A fact keeps the type it has: 5 and 5.0 print differently in a reason's message.
    converter.register_structure_hook(Fact, lambda value, _: value)
    converter.register_unstructure_hook(Fact, lambda value: value)
    return converter


def to_json(outcome: StudyOutcome) -> str:
    """The outcome as one line of ASCII JSON (NaN and Infinity as Python writes them)."""
    return json.dumps(_converter().unstructure(outcome, unstructure_as=StudyOutcome), separators=(",", ":"))


def from_json(text: str) -> StudyOutcome:
    """The outcome that `to_json` wrote; raises cattrs' errors on text that it did not write."""
    return _converter().structure(json.loads(text), StudyOutcome)


def facts_to_json(facts: Iterable[tuple[str, Fact]]) -> str:
    """A reason's numbers as a JSON object."""
    return json.dumps(dict(facts))


def plain(value: Any) -> Any:
    """Any frozen dataclass of ours as dictionaries, lists, numbers and strings, ready for JSON."""
    return _converter().unstructure(value)
