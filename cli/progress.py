"""A bar on stderr while studies are mined, and a polite answer to Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from cli.exits import Exit
from cli.output import notice

if TYPE_CHECKING:
    from deeplesion_miner.studies import StudyOutcome, StudyRef


class Bar:
    """`deeplesion_miner.ports.Progress` as a tqdm bar: studies, images/s, MB/s, ETA; silent without a terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=0, unit="study", desc="mining", file=sys.stderr, disable=None, leave=False)
        self._images = 0
        self._bytes = 0
        self._began = time.monotonic()
        self.is_mining = False
        """True once studies were found: from then on a stop waits for the current one."""

    def found(self, studies: int) -> None:
        """Sets the bar's length."""
        self.is_mining = True
        self._bar.reset(total=studies)

    def skipped(self, study: StudyRef) -> None:
        """One study on."""
        self._bar.update()

    def mined(self, outcome: StudyOutcome) -> None:
        """One study on, with what was moved for it."""
        self._images += outcome.transfers.images
        self._bytes += outcome.transfers.bytes
        seconds = max(time.monotonic() - self._began, 1e-3)
        rates = f"{self._images / seconds:.1f} images/s, {self._bytes / 1e6 / seconds:.1f} MB/s"
        self._bar.set_postfix_str(rates, refresh=False)
        self._bar.update()

    def failed(self, study: StudyRef, error: str) -> None:
        """Says what happened, without naming the study: its row is in `mine status --studies`."""
        self._bar.clear()
        notice(f"a study could not be mined now and is tried again by the next run: {error}")
        self._bar.update()

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()


@contextmanager
def counting_files() -> Iterator[Callable[[int], None]]:
    """A counter for the files that are looked at, drawn from the first one on; silent without a terminal."""
    from tqdm import tqdm

    bars: list[Any] = []

    def on_file(count: int) -> None:
        if not bars:
            bars.append(tqdm(unit="file", desc="reading headers", file=sys.stderr, disable=None, leave=False))
        bars[0].update(count - bars[0].n)

    try:
        yield on_file
    finally:
        for bar in bars:
            bar.close()


@contextmanager
def counted(total: int, unit: str, what: str) -> Iterator[Callable[[int], None]]:
    """A bar of known length that is moved on by so many; silent without a terminal."""
    from tqdm import tqdm

    bar: Any = tqdm(total=total, unit=unit, desc=what, file=sys.stderr, disable=None, leave=False)
    with closing(bar):
        yield bar.update


@contextmanager
def stopping_politely(
    is_mining: Callable[[], bool], unit: str = "study", signals: Sequence[signal.Signals] = (signal.SIGINT,)
) -> Iterator[Callable[[], bool]]:
    """Gives a function that is true after a first Ctrl-C; a second one ends the process at once.

    Before units are worked on there is nothing to finish: Ctrl-C is a KeyboardInterrupt then, as ever. Ending at
    once loses nothing: what is recorded is durable, the rest is done again. `signals` are taken as Ctrl-C.
    """
    asked = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(Exit.INTERRUPTED)
        asked = True
        if not is_mining():
            raise KeyboardInterrupt
        notice(f"\nfinishing the current {unit}; Ctrl-C again stops at once, nothing is lost either way")

    before = {one: signal.signal(one, on_interrupt) for one in signals}
    try:
        yield lambda: asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
