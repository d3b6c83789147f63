"""A trained U-Net that says how likely each point around a cross belongs to the marked lesion."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.delineation.grabcut import Grid
from models.delineation.unet import on_grid, picture
from models.precision import dtype_of
from models.recipe import Recipe


class UNetDelineator:
    """A `delineate.Delineator`: the same answer for the same image and grid."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, model_id: str, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        """Keeps a copy of the model. ConfigError for a precision that there is not."""
        self.model_id = model_id
        self._device, self._dtype = torch.device(device), dtype_of(precision)
        self._model = copy.deepcopy(model).eval().to(self._device, self._dtype)

    def probability(self, hu: NDArray[np.generic], grid: Grid) -> NDArray[np.float32]:
        """(side, side) 0 to 1 at the grid's points, for an image (rows, columns) of HU."""
        with torch.inference_mode():
            pictures = torch.from_numpy(picture(hu, grid))[None].to(self._device, self._dtype)
            shares = torch.sigmoid(self._model(pictures).float())[0].cpu().numpy()
        return on_grid(shares, grid)
