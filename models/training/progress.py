"""What a training tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Hears of every step; only the leading process of several tells."""

    def began(self, steps_done: int, steps: int) -> None:
        """Training goes on after `steps_done` of `steps`."""

    def stepped(self, steps_done: int, losses: Mapping[str, float]) -> None:
        """One step more."""

    def validated(self, steps_done: int, figures: Mapping[str, float], is_best: bool) -> None:
        """The averaged weights were validated."""

    def noticed(self, text: str) -> None:
        """Something a person should know."""


class Silent:
    """A `Progress` that says nothing."""

    def began(self, steps_done: int, steps: int) -> None:
        """Says nothing."""

    def stepped(self, steps_done: int, losses: Mapping[str, float]) -> None:
        """Says nothing."""

    def validated(self, steps_done: int, figures: Mapping[str, float], is_best: bool) -> None:
        """Says nothing."""

    def noticed(self, text: str) -> None:
        """Says nothing."""
