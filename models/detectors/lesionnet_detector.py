"""lesionnet behind the port of all detectors: slices of a volume in, lesions in pixels of those slices out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models.detectors import inputs, lesionnet
from models.detectors.decoding import Decoded, decode
from models.detectors.found_masks import axes_of, crop_of
from models.detectors.lesionnet import MASK_CELL_PX, Lesionnet, Maps
from models.detectors.looking import look
from models.detectors.port import Found
from models.precision import dtype_of
from models.reading.grid import Grid
from models.reading.stack import of_volume, whole_slices
from models.recipe import Recipe
from models.volume import Volume

MEASURED_FROM_MASK = 0.1
"""From this score on RECIST axes are those of the mask; below, where hardly anybody looks, those of the net."""


@dataclass(frozen=True)
class Plane:
    """A slice under the network's grid."""

    rows: int
    columns: int
    row_spacing_mm: float
    col_spacing_mm: float
    grid: Grid


class LesionnetDetector:
    """A trained lesionnet (`port.Detector`); 'bf16' is pure bfloat16, for processors that compute in it."""

    def __init__(
        self, model: Lesionnet, recipe: Recipe, model_id: str, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        """Keeps a copy of the model. ConfigError for a precision that there is not."""
        self.model_id = model_id
        self._data = recipe.data
        self._key = inputs.key_index(recipe.data.slice_offsets_mm)
        self._device = torch.device(device)
        # converted outside inference mode, or its parameters could never be trained or exported again
        self._model = lesionnet.fused(model).to(self._device, dtype_of(precision))
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        """Lesions of each slice, best first, at most `decoding.LIMIT`."""
        _, rows, columns = volume.hu.shape
        found = []
        for hu, grid in whole_slices(of_volume(volume), indices, self._data):
            seen = look(self._model, hu.to(self._device), self._key, MEASURED_FROM_MASK)
            plane = Plane(rows, columns, volume.row_spacing_mm, volume.col_spacing_mm, grid)
            found.append(found_on(seen.lesions, seen.mask, plane))
        return tuple(found)


def model_of(recipe: Recipe) -> lesionnet.Lesionnet:
    """A lesionnet as the recipe wants it, with new weights. ConfigError for other options than 'size' and 'masks'."""
    options = dict(recipe.model)
    size, _ = options.pop("size", None), options.pop("masks", None)
    if options:
        raise ConfigError(f"recipe {recipe.name}: model.{next(iter(options))}: lesionnet knows model.size and .masks")
    return lesionnet.build(size, inputs.channel_count(len(recipe.data.slice_offsets_mm)))


def find(
    model: nn.Module, hu: Tensor, key: int, plane: Plane, device: torch.device, dtype: torch.dtype = torch.float32
) -> Found:
    """What a model in evaluation mode finds on (slices, rows, columns) HU of the plane's grid."""
    with torch.inference_mode():
        images = inputs.channels(hu[None].to(device), key)
        maps: Maps = model(images.to(dtype, memory_format=torch.channels_last))
        (decoded,) = decode(maps)
    return found_on(decoded, maps.mask[0], plane)


def found_on(decoded: Decoded, mask: Tensor | None, plane: Plane) -> Found:
    """What was decoded, in pixels of the slice; `mask` (1, H/2, W/2) are the mask logits of the slice.

    Without a mask all axes are those of the net.
    """
    grid = plane.grid
    inside = _inside(decoded.boxes, plane)
    boxes, scores, ends = (_array(part[inside]) for part in (decoded.boxes, decoded.scores, decoded.ends))
    boxes, ends = grid.to_image(boxes), grid.to_image(ends)
    if mask is not None:
        logits = mask[0].float().cpu().numpy()
        for number in np.flatnonzero(scores >= MEASURED_FROM_MASK):
            crop = mask_crop(logits, boxes[number], grid)
            axes = axes_of(crop, boxes[number], plane.row_spacing_mm, plane.col_spacing_mm)
            if axes is not None:
                ends[number] = axes
    return Found(boxes, scores, ends)


def _inside(boxes: Tensor, plane: Plane) -> Tensor:
    """(n,) bool: the centre lies on the slice, not in the grid's padding."""
    centre = plane.grid.to_image(_array((boxes[:, :2] + boxes[:, 2:]) / 2))
    return torch.from_numpy(((centre >= -0.5) & (centre < np.array([plane.columns, plane.rows]) - 0.5)).all(axis=1))


def mask_crop(logits: NDArray[np.float32], box_px: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    """(rows, columns) of `found_masks.crop_of`: logits read bilinearly between cells, the outermost ones repeated."""
    left, top, columns, rows = crop_of(box_px)
    places = grid.to_network(np.arange(max(columns, rows))[:, None] + np.array([left, top]))
    across, down = (places + 0.5).T / MASK_CELL_PX - 0.5
    return _between(_between(logits, down[:rows], axis=0), across[:columns], axis=1)


def _between(logits: NDArray[np.float32], places: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    last = logits.shape[axis] - 1
    inside = np.minimum(np.maximum(places, 0), last)
    before = inside.astype(np.intp)
    after = np.minimum(before + 1, last)
    share = np.expand_dims((inside - before).astype(np.float32), 1 - axis)
    first = logits.take(before, axis)
    read: NDArray[np.float32] = first + (logits.take(after, axis) - first) * share
    return read


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.cpu().double().numpy()
