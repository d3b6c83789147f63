"""What can be trained: each kind of recipe with its task, its network and what uses it, imported when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from deeplesion_miner.errors import ConfigError
from models.reading.folder import DatasetFolder
from models.recipe import Recipe
from models.training.model_folder import ModelFolder
from models.training.task import Task


@dataclass(frozen=True)
class Kind:
    """Where a kind's parts are, as 'module:name'."""

    task: str
    """Class, called with (DatasetFolder, Recipe)."""
    network: str
    """Function of a recipe that gives the untrained network."""
    user: str
    """Class, called with (network, Recipe, model id, device, precision): a `Detector` where the kind detects."""


KINDS = {
    "lesionnet": Kind(
        "models.detectors.lesionnet_task:LesionnetTask",
        "models.detectors.lesionnet_detector:model_of",
        "models.detectors.lesionnet_detector:LesionnetDetector",
    ),
    "seed": Kind(
        "models.detectors.seed_task:SeedTask",
        "models.detectors.seed_task:network",
        "models.detectors.seed_detector:SeedDetector",
    ),
    "delineator": Kind(
        "models.delineation.task:DelineatorTask",
        "models.delineation.task:network",
        "models.delineation.delineator:UNetDelineator",
    ),
    "body-part": Kind(
        "models.body_part.task:BodyPartTask",
        "models.body_part.regressor:network",
        "models.body_part.regressor:BodyPartRegressor",
    ),
}


def task(dataset: DatasetFolder, recipe: Recipe) -> Task:
    """What a recipe trains on a dataset. ConfigError for a kind that is not known."""
    made: Task = _part(kind(recipe).task)(dataset, recipe)
    return made


def network(recipe: Recipe) -> nn.Module:
    """The untrained network of a recipe. ConfigError for a kind that is not known."""
    made: nn.Module = _part(kind(recipe).network)(recipe)
    return made


def user(model: ModelFolder, device: str = "cpu", precision: str = "fp32") -> Any:
    """A trained model, ready for use: a `Detector`, or what delineates or places. ConfigError where it does not fit."""
    made = _part(kind(model.recipe).user)
    return made(model.fill(network(model.recipe)), model.recipe, model.model_id, device, precision)


def kind(recipe: Recipe) -> Kind:
    """The parts of a recipe's kind. ConfigError for a kind that is not known."""
    if recipe.kind not in KINDS:
        raise ConfigError(f"recipe {recipe.name}: kind is {recipe.kind!r}; write one of {', '.join(KINDS)}")
    return KINDS[recipe.kind]


def _part(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
