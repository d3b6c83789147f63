"""Whether two rules can take one series: exactly, by the patterns themselves, whatever series have come so far.

Patterns know `*` and `?`, so the texts that match some of them and none of others are a regular language. Its shortest
text is searched for by following all patterns at once, letter by letter.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

from dicom_io.node.records import ReceivedSeries

if TYPE_CHECKING:
    from dicom_io.node.rules import SeriesRule

ANY_MODALITY = "CT"
"""What stands for a modality where both rules take all."""


def shared_series(one: SeriesRule, other: SeriesRule) -> ReceivedSeries | None:
    """A series that both rules take once it has images enough; None where there can be none."""
    modalities = set(one.modalities or other.modalities) & set(other.modalities or one.modalities)
    if (one.modalities or other.modalities) and not modalities:
        return None
    limits = [rule.slice_thickness_mm for rule in (one, other) if rule.slice_thickness_mm]
    least_mm, most_mm = max((low for low, _ in limits), default=None), min((high for _, high in limits), default=None)
    if least_mm is not None and most_mm is not None and least_mm > most_mm:
        return None
    nots = (*one.not_descriptions, *other.not_descriptions)
    description = common_text([one.descriptions, other.descriptions], nots)
    body_part = common_text([one.body_parts, other.body_parts], ())
    if description is None or body_part is None:
        return None
    return ReceivedSeries("", min(modalities, default=ANY_MODALITY), description, body_part, least_mm, ())


def common_text(all_of: Sequence[Sequence[str]], none_of: Sequence[str]) -> str | None:
    """A text, in lower case, that matches a pattern of each list in `all_of` and none of `none_of`.

    An empty list in `all_of` takes every text. None where there is no such text.
    """
    unwanted = [_Pattern(one) for one in none_of]
    found = (_shortest([_Pattern(one) for one in some], unwanted) for some in product(*(one for one in all_of if one)))
    return next((text for text in found if text is not None), None)


class _Pattern:
    """A pattern as a machine: a state is the set of places, as bits, up to which it may have been matched."""

    def __init__(self, pattern: str) -> None:
        self.letters = re.sub(r"\*+", "*", pattern.casefold())
        self._stars, self._any, self._end = self._places("*"), self._places("?"), 1 << len(self.letters)
        self._of = {letter: self._any | self._places(letter) for letter in self.letters}
        self.first = self._with_star(1)

    def after(self, state: int, letter: str) -> int:
        """The state after one more letter; 0 where no text that begins like this matches."""
        return self._with_star(state & self._stars | (state & self._of.get(letter, self._any)) << 1)

    def is_matched(self, state: int) -> bool:
        """Whether the text so far matches."""
        return bool(state & self._end)

    def _places(self, letter: str) -> int:
        return sum(1 << place for place, one in enumerate(self.letters) if one == letter)

    def _with_star(self, places: int) -> int:
        """A star may stand for nothing."""
        return places | (places & self._stars) << 1


def _shortest(wanted: Sequence[_Pattern], unwanted: Sequence[_Pattern]) -> str | None:
    letters = _letters([*wanted, *unwanted])
    first = tuple(one.first for one in (*wanted, *unwanted))
    waiting, seen = deque([("", first)]), {first}
    while waiting:
        text, states = waiting.popleft()
        are_wanted, are_unwanted = states[: len(wanted)], states[len(wanted) :]
        if all(map(_Pattern.is_matched, wanted, are_wanted)) and not any(
            map(_Pattern.is_matched, unwanted, are_unwanted)
        ):
            return text
        for letter in letters:
            after = tuple(map(_Pattern.after, (*wanted, *unwanted), states, letter * len(states)))
            if after not in seen and not _is_dead(after, wanted, unwanted):
                seen.add(after)
                waiting.append((text + letter, after))
    return None


def _is_dead(states: Sequence[int], wanted: Sequence[_Pattern], unwanted: Sequence[_Pattern]) -> bool:
    """Whether nothing that follows makes such a text of it."""
    if not all(states[: len(wanted)]):
        return True
    later = zip(unwanted, states[len(wanted) :], strict=True)
    return any(one.letters.endswith("*") and one.is_matched(state) for one, state in later)


def _letters(patterns: Sequence[_Pattern]) -> list[str]:
    """Those of the patterns, and one that stands for all others."""
    named = {letter for one in patterns for letter in one.letters} - {"*", "?"}
    return [*sorted(named), next(letter for letter in _others() if letter not in named)]


def _others() -> Iterator[str]:
    yield from "abcdefghijklmnopqrstuvwxyz"
    yield from map(chr, range(0x4E00, 0x9FFF))
