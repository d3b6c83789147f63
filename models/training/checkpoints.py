"""Checkpoints: whole or not there, the last two kept, named by step and content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deeplesion_miner.errors import ConfigError
from models.durable import sync
from models.recipe import Recipe
from models.training.environment import differences

KEPT = 2
"""A crash while one is written leaves the one before."""
FORMAT = 1
"""Of a checkpoint's content; another number is not read."""
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{12})\.pt")
_CHUNK_BYTES = 1 << 20


def save(folder: Path, steps_done: int, content: Mapping[str, Any]) -> Path:
    """Writes one checkpoint (temporary file, fsync, rename), then removes all but the last `KEPT`.

    OSError where it cannot be written, e.g. on a full disk: those before stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".writing.pt"
    with temporary.open("wb") as file:
        try:
            torch.save({"format": FORMAT, **content}, file)
        except RuntimeError as error:
            # torch closes its archive after a failed write and tells of that instead
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())
    path = folder / f"step-{steps_done:08d}-{_digest(temporary)}.pt"
    temporary.replace(path)
    sync(folder)  # makes the rename itself durable
    for old in found(folder)[KEPT:]:
        old.unlink()
    return path


def found(folder: Path) -> tuple[Path, ...]:
    """The checkpoints of a folder, latest first; what was only half written is not among them."""
    if not folder.is_dir():
        return ()
    return tuple(sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True))


def remove_all(folder: Path) -> None:
    """Forgets an earlier training."""
    for path in found(folder):
        path.unlink()


def is_whole(path: Path) -> bool:
    """Whether a checkpoint holds what was written: its name tells the start of its SHA-256."""
    named = _NAME.fullmatch(path.name)
    return named is not None and named[2] == _digest(path)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content, tensors on the CPU; only tensors and plain values are read, never code.

    ConfigError for a file that another version of the format wrote.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: checkpoint format {content.get('format')}, this version reads {FORMAT}; train afresh (--fresh)"
        )
    return dict(content)


def check_same_training(path: Path, stored: Mapping[str, Any], recipe: Recipe, dataset_digest: str) -> None:
    """ConfigError naming every value of recipe or dataset that is not what the checkpoint was trained with."""
    changed = differences(_flat(stored["recipe"]), _flat(recipe.to_json()))
    if stored["dataset_digest"] != dataset_digest:
        changed += (f"dataset digest was {stored['dataset_digest']}, is {dataset_digest}",)
    if changed:
        raise ConfigError(
            f"{path}: this checkpoint is of another training: {'; '.join(changed)};"
            " give what was given before, another folder, or --fresh to start anew"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """'training.steps' -> '1500'; what the recipe says about itself in words is left out."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif prefix + name != "meaning":
            flat[prefix + name] = repr(list(value) if isinstance(value, tuple) else value)
    return flat


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()[:12]
