"""Where a training writes: the model folder and, until it is whole, a working folder beside it."""

from __future__ import annotations

from pathlib import Path

from deeplesion_miner.errors import ConfigError

WEIGHTS = "weights.safetensors"
CHECKPOINTS = "checkpoints"


def work_folder(out: Path) -> Path:
    """Where checkpoints and journal lie until the model is whole: beside it, e.g. 'model.training'."""
    return out.parent / f"{out.name}.training"


def check_out(out: Path, fresh: bool) -> None:
    """ConfigError where a model must not be written: over a finished one without `fresh`, over anything else.

    Checkpoints beside a finished model belong to a training that was allowed to replace it, and may go on.
    """
    if not out.exists():
        return
    is_model = (out / WEIGHTS).exists()
    if not is_model and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds something that is no model; name a new folder")
    if is_model and not fresh and not any((work_folder(out) / CHECKPOINTS).glob("*")):
        raise ConfigError(f"--out {out}: holds a finished model; name another folder, or --fresh to replace it")
