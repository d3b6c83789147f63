"""What a model has found so far, kept beside the predictions until they are whole, so that the same run can go on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import Detection
from deeplesion_miner.errors import ConfigError
from models.durable import sync
from models.predictions_table import SUFFIX, read_predictions, write_predictions
from models.training.lock import held

ASKED = "asked.json"
SAVED_EVERY_S = 10.0
"""What is lost at most where the process is killed, beside what is being looked at."""


@dataclass(frozen=True, eq=False)
class Looked:
    """A part of the work that is done, a key slice or a series, and what was found there."""

    name: str
    """The same in every run."""
    slices: int
    detections: tuple[Detection, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Images that could not be looked at, by the code of the reason."""
    pixels: Mapping[int, NDArray[np.int16]] = field(default_factory=dict)
    """Key slices (rows, columns) of HU to be drawn, by position in `detections`."""


class Unfinished:
    """The parts that are done, in a folder; each file appears whole, the list of a batch's parts last."""

    def __init__(self, folder: Path) -> None:
        """Reads what is there. ConfigError where it cannot be read."""
        self._folder = folder
        self._waiting: list[Looked] = []
        self._saved_at = -SAVED_EVERY_S
        self.looked: dict[str, Looked] = {}
        """The parts that are done, by name."""
        batches = _batches(folder)
        for path in batches:
            self.looked |= {one.name: one for one in _batch(path)}
        self._next = int(batches[-1].stem) + 1 if batches else 0

    def add(self, looked: Looked) -> None:
        """Keeps one more part; on disk at once or with the parts that follow within `SAVED_EVERY_S`."""
        self.looked[looked.name] = looked
        self._waiting.append(looked)
        if time.monotonic() - self._saved_at >= SAVED_EVERY_S:
            self.save()

    def save(self) -> None:
        """Writes the parts that are not on disk yet."""
        if not self._waiting:
            return
        batch = self._folder / f"{self._next:06d}"
        write_predictions(batch.with_suffix(SUFFIX), [found for one in self._waiting for found in one.detections])
        pixels = {f"{at}-{place}": hu for at, one in enumerate(self._waiting) for place, hu in one.pixels.items()}
        if pixels:
            np.savez_compressed(batch.with_suffix(".npz"), **pixels)  # type: ignore[arg-type]
            sync(batch.with_suffix(".npz"))
        else:
            batch.with_suffix(".npz").unlink(missing_ok=True)
        parts = [
            {"name": one.name, "slices": one.slices, "detections": len(one.detections), "left_out": dict(one.left_out)}
            for one in self._waiting
        ]
        _write_json(batch.with_suffix(".json"), parts)
        self._next += 1
        self._waiting = []
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Forgets everything: the predictions are whole."""
        self._waiting = []
        # without it what is left is nobody's
        (self._folder / ASKED).unlink()
        shutil.rmtree(self._folder)


def unfinished_folder(out: Path) -> Path:
    """Where the parts of a predictions file lie until it is whole: beside it, e.g. 'predictions.unfinished'."""
    return out.with_name(f"{out.name.removesuffix(SUFFIX)}.unfinished")


def is_unfinished(predictions: Path) -> bool:
    """Whether a file holds what an interrupted run has found so far."""
    folder = unfinished_folder(predictions)
    return (folder / ASKED).exists() and bool(_batches(folder))


@contextmanager
def begun(out: Path, asked: Mapping[str, str], *, fresh: bool) -> Iterator[Unfinished]:
    """The parts of a predictions file that are done, none with `fresh`; saved at the end, unless they were removed.

    Where there is no part at the end nothing is left: a run that found nothing yet binds no later one.

    `asked` is what the predictions depend on. ConfigError where the parts that are there were asked for otherwise,
    LedgerInUse where another process works on the same file.
    """
    folder = unfinished_folder(out)
    with held(folder, "predict"):
        if is_unfinished(out) and not fresh:
            _check(folder, asked)
        else:
            _empty(folder)
            _write_json(folder / ASKED, dict(asked))
        parts = Unfinished(folder)
        try:
            yield parts
        finally:
            parts.save()
            if folder.exists() and not is_unfinished(out):
                parts.remove()


def _batches(folder: Path) -> list[Path]:
    """The lists of parts, in the order in which they were written; each makes the files beside it count."""
    return sorted(folder.glob("[0-9]*.json"))


def _check(folder: Path, asked: Mapping[str, str]) -> None:
    before = _read_json(folder / ASKED)
    differing = [name for name in {**before, **asked} if before.get(name) != asked.get(name)]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"{folder}: an interrupted run waits to go on, in which {name} was {before.get(name)}, not"
            f" {asked.get(name)}; name another --out, or --fresh to start anew"
        )


def _empty(folder: Path) -> None:
    """Removes the parts; the lock, which is held, stays."""
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


def _batch(path: Path) -> Iterator[Looked]:
    detections = iter(read_predictions(path.with_suffix(SUFFIX)))
    pixels: dict[str, NDArray[np.int16]] = {}
    if path.with_suffix(".npz").exists():
        with np.load(path.with_suffix(".npz")) as stored:
            pixels = dict(stored)
    for at, part in enumerate(_read_json(path)):
        found = tuple(next(detections) for _ in range(part["detections"]))
        drawn = {place: pixels[key] for place in range(len(found)) if (key := f"{at}-{place}") in pixels}
        yield Looked(part["name"], part["slices"], found, part["left_out"], drawn)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); start anew with --fresh") from error


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f"{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, allow_nan=False)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)
