"""From a dataset and a recipe to a model folder: what `mine train` does, without its terminal."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeplesion_miner.errors import ConfigError
from models.reading.folder import DatasetFolder
from models.recipe import Recipe
from models.training import card, curves, export, journal, lock, model_folder, registry
from models.training.environment import pick_device
from models.training.loop import Trained, train
from models.training.model_folder import ModelFolder
from models.training.places import check_out, work_folder
from models.training.progress import Progress


@dataclass(frozen=True, eq=False)
class Fitted:
    """How a training ended."""

    trained: Trained
    model: ModelFolder | None
    """None where it was interrupted, and in every process but the leading one."""


def fit(
    dataset: DatasetFolder,
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    fresh: bool = False,
    exact: bool = False,
    loaders: int = 0,
    onnx: bool = False,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Trains a recipe on a dataset and writes the model folder `out`; goes on where an earlier call stopped.

    With `onnx` the folder holds the model as ONNX, too.
    `fresh` forgets an earlier training and replaces an earlier model. ConfigError for an `out` that cannot be
    written to, a dataset without key slices to train on, and a checkpoint of another recipe or dataset (see `train`).
    """
    check_out(out, fresh)
    pick_device(device)  # what cannot work is said before the dataset is read
    if onnx:
        export.check(recipe)
    splits = _splits(dataset)
    if not any(split in splits for split in recipe.data.train_splits):
        there = ", ".join(f"{name} ({one['key_slices']} key slices)" for name, one in splits.items())
        raise ConfigError(
            f"{dataset.path}: no key slice of split {', '.join(recipe.data.train_splits)} (data.train_splits) to train"
            f" on; there are {there or 'no key slices with a picture at all'}"
            "; name others by --with \"data.train_splits=['train']\""
        )
    task = registry.task(dataset, recipe)
    leads = os.environ.get("RANK", "0") == "0"
    work = work_folder(out)
    with lock.held(work, "train") if leads else nullcontext():
        trained = train(
            task,
            recipe,
            work,
            dataset_digest=dataset.digest,
            device=device,
            resume=not fresh,
            exact=exact,
            loaders=loaders,
            progress=progress,
            should_stop=should_stop,
        )
        if trained.interrupted or not leads:
            return Fitted(trained, None)
        model = _write(out, work, _shipped(recipe), trained, {"digest": dataset.digest, "splits": splits}, onnx)
    shutil.rmtree(work)
    return Fitted(trained, model)


def _shipped(recipe: Recipe) -> Recipe:
    """The recipe without the folders of this machine, which may name people: a model travels."""
    weights = recipe.model.get("weights")
    return replace(recipe, model={**recipe.model, "weights": Path(weights).name}) if weights else recipe


def _write(
    out: Path, work: Path, recipe: Recipe, trained: Trained, dataset: Mapping[str, Any], onnx: bool
) -> ModelFolder:
    metrics = {
        "validation": {name: value if math.isfinite(value) else None for name, value in trained.figures.items()},
        "best_step": trained.step,
        "steps_done": trained.steps_done,
        "dataset": dataset,
        "environment": dict(trained.environment),
    }
    beside = [work / journal.FILE_NAME, curves.draw(work)]
    if (work / journal.TENSORBOARD).exists():
        beside.append(work / journal.TENSORBOARD)
    if onnx:
        beside.append(export.write(recipe, trained.weights, work / export.FILE_NAME))
    name = f"{recipe.name}-{model_folder.weights_digest(trained.weights)[:12]}"
    return model_folder.save(
        out,
        recipe,
        trained.weights,
        dataset_digest=dataset["digest"],
        metrics=metrics,
        card=card.text(recipe, name, metrics),
        beside=tuple(beside),
    )


def _splits(dataset: DatasetFolder) -> dict[str, dict[str, int]]:
    """Patients, key slices and marks of each split."""
    names = sorted({one.split for one in dataset.key_slices})
    by_split = {name: [one for one in dataset.key_slices if one.split == name] for name in names}
    return {
        name: {
            "patients": len({one.patient for one in slices}),
            "key_slices": len(slices),
            "marks": sum(len(one.marks) for one in slices),
        }
        for name, slices in by_split.items()
    }
