"""Waiting in tests: for a condition, never for a time, with patience for a machine that stands still for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 180.0
"""For what comes at once on a calm machine. It is used up only by a test that fails."""


def until(true: Callable[[], Any], otherwise: Callable[[], str] = lambda: "it did not happen") -> None:
    """Returns as soon as the condition holds; fails with what `otherwise` says where it does not come."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        # Asked once more after the end: what came while this process stood still has come.
        assert time.monotonic() < end_s or true(), otherwise()
        time.sleep(0.02)
