"""The seed detector behind the port of all detectors: slices of a volume in, boxes in pixels of those slices out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.detectors import seed_options
from models.detectors.port import Found
from models.detectors.seed_network import Judged, found_boxes, with_margin
from models.detectors.seed_options import SeedOptions
from models.precision import dtype_of
from models.reading.grid import Grid
from models.reading.stack import of_volume, whole_slices
from models.recipe import Recipe
from models.volume import Volume


class SeedDetector:
    """A trained seed network (`port.Detector`): boxes alone, without RECIST axes and masks."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, model_id: str, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        """Keeps a copy of the model. ConfigError for a precision that there is not."""
        self.model_id = model_id
        self._data = recipe.data
        self._options = seed_options.read(recipe.model)
        self._model = copy.deepcopy(model).eval().to(torch.device(device), dtype_of(precision))
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        """Lesions of each slice, best first, at most `SeedOptions.found_most`."""
        _, rows, columns = volume.hu.shape
        return tuple(
            find(self._model, self._options, hu, grid, rows, columns)
            for hu, grid in whole_slices(of_volume(volume), indices, self._data)
        )


def find(model: nn.Module, options: SeedOptions, hu: Tensor, grid: Grid, rows: int, columns: int) -> Found:
    """What a model in evaluation mode finds on (slices, rows, columns) HU of the network's grid.

    Boxes lose the margin that the model has learnt; those whose centre lies off the image of `rows` x `columns`
    pixels are left out.
    """
    with torch.inference_mode():
        judged: Judged = model(hu[None].to(next(model.parameters()).device))
        (found,) = found_boxes(judged, hu.shape[1], hu.shape[2], options)
        tight = with_margin(found.boxes, -options.margin_px)
    boxes_px = grid.to_image(tight.cpu().double().numpy())
    centre = (boxes_px[:, :2] + boxes_px[:, 2:]) / 2
    inside = ((centre >= -0.5) & (centre < np.array([columns, rows]) - 0.5)).all(axis=1)
    scores = found.scores.cpu().double().numpy()
    return Found(boxes_px[inside], scores[inside], np.full((int(inside.sum()), 4, 2), np.nan))
