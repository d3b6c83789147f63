"""A `mine` that ends itself by SIGKILL at a named instant.

    python -m tests.experiments.killed_training INSTANT NUMBER train ...

The product has no hooks for this; the calls of the operating system are wrapped from outside.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

INSTANTS = (
    "checkpoint written by half",
    "checkpoint written, not renamed",
    "checkpoint renamed, old ones there",
    "model folder built, not moved",
    "model folder moved, working folder there",
)


def end() -> None:
    """As a crash does: nothing is closed, flushed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(instant: str, number: int) -> None:
    """Makes the `number`-th occurrence of an instant the last."""
    counts = dict.fromkeys(INSTANTS, 0)

    def at(name: str) -> bool:
        counts[name] += 1
        return name == instant and counts[name] == number

    def wrapped(call: Callable[..., Any], before: Callable[[Path], None], after: Callable[[Path], None]) -> Any:
        def replacement(path: Path, *more: Any) -> Any:
            before(path)
            done = call(path, *more)
            after(path)
            return done

        return replacement

    def before_replace(path: Path) -> None:
        if path.name == ".writing.pt" and at("checkpoint written by half"):
            os.truncate(path, path.stat().st_size // 2)
            end()
        if path.name == ".writing.pt" and at("checkpoint written, not renamed"):
            end()

    def after_replace(path: Path) -> None:
        if path.name == ".writing.pt" and at("checkpoint renamed, old ones there"):
            end()

    def before_rename(path: Path) -> None:
        if path.name.endswith(".writing") and at("model folder built, not moved"):
            end()

    def after_rename(path: Path) -> None:
        if path.name.endswith(".writing") and at("model folder moved, working folder there"):
            end()

    setattr(Path, "replace", wrapped(Path.replace, before_replace, after_replace))  # noqa: B010
    setattr(Path, "rename", wrapped(Path.rename, before_rename, after_rename))  # noqa: B010


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    from cli.main import run

    sys.exit(run(sys.argv[3:]))
