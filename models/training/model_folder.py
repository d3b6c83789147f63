"""The folder in which a model travels: weights, recipe, figures, card; whole or not there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models import recipe as recipes
from models.durable import sync
from models.recipe import Recipe
from models.training.places import WEIGHTS

RECIPE = "recipe.json"
METRICS = "metrics.json"
CARD = "README.md"
FORMAT = "1"
"""Of the folder; another one is not read."""


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """A trained model as it lies on disk, checked."""

    path: Path
    recipe: Recipe
    weights: Mapping[str, Tensor]
    model_id: str
    """The recipe's name and the start of the weights' SHA-256, e.g. 'lesionnet-s-9-0123456789ab'."""
    dataset_digest: str
    """Of the dataset that it was trained on."""
    metrics: Mapping[str, Any]
    """What its training measured; see `metrics.json`."""

    @classmethod
    def load(cls, path: Path | str) -> ModelFolder:
        """The model in a folder, its tensors on the CPU.

        ConfigError for a folder without a model, a missing or damaged file, and files that do not belong together.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; name a model that `mine train` wrote")
        for name in (WEIGHTS, RECIPE, METRICS):
            if not (folder / name).is_file():
                raise ConfigError(f"{folder}: holds no {name}, so it is no whole model; copy it again or train it anew")
        values = _read_json(folder / RECIPE)
        recipe = recipes.from_json(values)
        facts, weights = _read_weights(folder / WEIGHTS)
        if facts.get("recipe_sha256") != recipe_digest(values):
            raise ConfigError(
                f"{folder / RECIPE}: not the recipe that {WEIGHTS} was trained by; copy the folder again, unchanged"
            )
        model_id = f"{recipe.name}-{facts['weights_sha256'][:12]}"
        return cls(folder, recipe, weights, model_id, facts["dataset_digest"], _read_json(folder / METRICS))

    def fill(self, module: nn.Module) -> nn.Module:
        """Puts the weights into a module built by the same recipe and returns it, ready for inference.

        ConfigError names the weights that do not fit.
        """
        own = module.state_dict()
        wrong = [
            f"{name} is {tuple(self.weights[name].shape)} where {tuple(one.shape)} is needed"
            for name, one in own.items()
            if name in self.weights and self.weights[name].shape != one.shape
        ]
        wrong += [f"{name} is missing" for name in own if name not in self.weights]
        wrong += [f"{name} belongs nowhere" for name in self.weights if name not in own]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ConfigError(
                f"{self.path / WEIGHTS}: does not fit a {self.recipe.kind} of its recipe: {'; '.join(wrong[:3])}{more};"
                " it was written by another version of mine: use that one, or train again"
            )
        module.load_state_dict(dict(self.weights))
        return module.eval().requires_grad_(False)


def save(
    path: Path,
    recipe: Recipe,
    weights: Mapping[str, Tensor],
    *,
    dataset_digest: str,
    metrics: Mapping[str, Any],
    card: str,
    beside: tuple[Path, ...] = (),
) -> ModelFolder:
    """Writes a model folder, whole or not at all, with copies of the files and folders `beside`.

    It is built next to `path` and moved there when every file is on the disk; a model that was there goes away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.parent / f".{path.name}.writing"
    if building.exists():
        shutil.rmtree(building)
    building.mkdir()
    plain = {name: one.detach().cpu().contiguous() for name, one in weights.items()}
    facts = {
        "format": FORMAT,
        "kind": recipe.kind,
        "recipe_sha256": recipe_digest(recipe.to_json()),
        "dataset_digest": dataset_digest,
        "weights_sha256": weights_digest(plain),
    }
    # save_file tells of a full disk by an error of its own
    (building / WEIGHTS).write_bytes(safetensors.torch.save(plain, facts))
    (building / RECIPE).write_text(_json(recipe.to_json()), encoding="utf-8")
    (building / METRICS).write_text(_json(metrics), encoding="utf-8")
    (building / CARD).write_text(card, encoding="utf-8")
    for one in beside:
        if one.is_dir():
            shutil.copytree(one, building / one.name)
        else:
            shutil.copyfile(one, building / one.name)
    for written in building.rglob("*"):
        sync(written)
    old = path.parent / f".{path.name}.old"
    if path.exists():
        path.rename(old)
    building.rename(path)
    sync(path.parent)
    if old.exists():
        shutil.rmtree(old)
    return ModelFolder.load(path)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of all tensors, their names, types and shapes; equal where all weights are equal to the bit."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return sha.hexdigest()


def recipe_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of a recipe as `Recipe.to_json` gives it or `recipe.json` holds it."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _read_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = dict(file.metadata() or {})
        if facts.get("format") != FORMAT:
            raise ConfigError(
                f"{path}: model format {facts.get('format', 'unknown')}, this version reads {FORMAT};"
                " name a model that `mine train` wrote"
            )
        weights = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); copy it again or train anew") from error
    if facts.get("weights_sha256") != weights_digest(weights):
        raise ConfigError(f"{path}: its weights are not those that were written; copy it again or train anew")
    return facts, weights


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); copy it again or train anew") from error


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"
