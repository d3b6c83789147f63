"""Trying again: only what `ArchiveError.temporary` allows, with growing pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from deeplesion_miner.errors import ArchiveError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Retry:
    """A patient caller: ``Retry()(operation)`` is the operation's answer, after as many attempts as allowed."""

    attempts: int = 4
    first_pause_s: float = 0.5
    growth: float = 3.0
    longest_pause_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, operation: Callable[[], Answer]) -> Answer:
        """Calls `operation` until it answers; raises its last `ArchiveError`, at once where it is permanent."""
        pause_s = self.first_pause_s
        for _ in range(self.attempts - 1):
            try:
                return operation()
            except ArchiveError as error:
                if not error.temporary:
                    raise
            self.sleep(pause_s)
            pause_s = min(pause_s * self.growth, self.longest_pause_s)
        return operation()
