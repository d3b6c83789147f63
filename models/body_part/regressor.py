"""A trained body-part network, ready to place volumes."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.body_part import options
from models.body_part.frames import Frames
from models.body_part.network import BodyPartNetwork
from models.body_part.placement import Placement, place
from models.body_part.task import build_network, scores
from models.precision import dtype_of
from models.recipe import Recipe
from models.volume import Volume


class BodyPartRegressor:
    """Places volumes in the body: the same answer for the same volume."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, model_id: str, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        """Keeps a copy of the model. ConfigError for a precision that there is not."""
        self.model_id = model_id
        self._device, self._precision = torch.device(device), dtype_of(precision)
        self._model = copy.deepcopy(model).eval().to(self._device)

    def place(self, volume: Volume) -> Placement:
        """Scores, height on DeepLesion's scale, direction and findings of a volume."""
        return place(volume, self.scores)

    def scores(self, framed: Frames) -> NDArray[np.float64]:
        """(slices,) raw scores in centimetres below the vertex of a nominal adult; NaN without a body."""
        with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
            return scores(self._model, framed)


def network(recipe: Recipe) -> BodyPartNetwork:
    """The untrained network of a recipe. ConfigError for options that do not fit."""
    return build_network(options.from_recipe(recipe.model))
