"""What a training writes down while it runs: one JSON object a line, and TensorBoard's files where it is installed."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE_NAME = "metrics.jsonl"
TENSORBOARD = "tensorboard"
_EVENTS = re.compile(r"events\.out\.tfevents\.\d+")


class Journal:
    """Figures by step; continues after `steps_done`, dropping what a killed run wrote beyond its checkpoint."""

    def __init__(self, folder: Path, steps_done: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        kept = [one for one in read(path) if one["step"] <= steps_done] if path.exists() else []
        temporary = folder / f".{FILE_NAME}"
        temporary.write_text("".join(_line(one) for one in kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._board_folder = folder / TENSORBOARD
        self._board = _board(self._board_folder, steps_done)
        self.has_board = self._board is not None
        """False where TensorBoard is not installed."""

    def write(self, event: str, steps_done: int, figures: Mapping[str, float]) -> None:
        """One line: 'step' or 'validation' with its figures."""
        self._file.write(_line({"event": event, "step": steps_done, **figures}))
        self._file.flush()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(f"{event}/{name}", value, steps_done)

    def sync(self) -> None:
        """Makes durable what was written: called before a checkpoint counts on it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
            _forget_machine(self._board_folder)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal; a last line that was cut off by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def _line(record: Mapping[str, Any]) -> str:
    plain = {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in record.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _board(folder: Path, steps_done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=steps_done + 1)


def _forget_machine(folder: Path) -> None:
    """Takes the name of the machine, which may name a hospital, out of the names of TensorBoard's files.

    They keep the time that orders them; a model folder travels with them.
    """
    for number, path in enumerate(sorted(folder.iterdir())):
        if began := _EVENTS.match(path.name):
            path.rename(folder / f"{began[0]}.{number}")


class NoJournal:
    """The journal of a process that leaves writing to the leading one."""

    has_board = True

    def write(self, event: str, steps_done: int, figures: Mapping[str, float]) -> None:
        """Writes nothing."""

    def sync(self) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Writes nothing."""
