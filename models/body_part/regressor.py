"""A trained body-part model, ready for use: built from its recipe, it places volumes."""

from __future__ import annotations

import torch
from torch import nn

from deeplesion_miner.errors import ConfigError
from models.body_part import options
from models.body_part.network import BodyPartNetwork
from models.body_part.placement import Placement, by_network, place
from models.body_part.task import build_network
from models.recipe import Recipe
from models.volume import Volume


class BodyPartRegressor:
    """Says where in the body the slices of a volume lie, by a trained network."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, model_id: str, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        """ConfigError for a precision other than 'fp32': the network is small, and what halves cost is not known."""
        if precision != "fp32":
            raise ConfigError(f"precision {precision!r}: a body-part model computes in fp32")
        self.model_id = model_id
        self._score = by_network(model.to(torch.device(device)).eval())

    def place(self, volume: Volume) -> Placement:
        """Where the slices of a volume lie."""
        return place(volume, self._score)


def network(recipe: Recipe) -> BodyPartNetwork:
    """The network of a recipe, its weights new. ConfigError for options that do not fit."""
    return build_network(options.from_recipe(recipe.model))
