"""lesionnet as the training loop sees it: batches of crops, their losses, FROC on whole key slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models.delineation.mask_source import DelineatedMasks
from models.detectors import inputs
from models.detectors.lesionnet import DEEPEST_PX
from models.detectors.lesionnet_detector import Plane, find, model_of
from models.detectors.losses import losses
from models.detectors.port import Found
from models.detectors.targets import Lesions, Targets, draw
from models.evaluation.froc import count, curve, pool
from models.evaluation.froc_reading import average_to_eight, published_average, sensitivity_at
from models.marks import KeySlice
from models.reading.folder import DatasetFolder
from models.reading.samples import Samples
from models.reading.targets import MaskSource
from models.recipe import Recipe
from models.training.task import Batch

HIT_IOU = 0.5
ELLIPSE, DELINEATED = "ellipse", "delineated"
"""What the mask head learns (`model.masks`): the quarter ellipses of each cross, or what the image shows of it."""


class LesionnetTask:
    """Learning to detect the lesions of a dataset's key slices (`training.task.Task`)."""

    def __init__(self, dataset: DatasetFolder, recipe: Recipe, masks: MaskSource | None = None) -> None:
        """`masks` overrides what the recipe says. ConfigError for a crop or options that the net cannot take.

        Delineated masks far from the ellipse of their cross weigh less (`reading.targets`).
        """
        if recipe.data.crop_px % DEEPEST_PX:
            raise ConfigError(f"data.crop_px {recipe.data.crop_px}: lesionnet takes multiples of {DEEPEST_PX}")
        learnt = recipe.model.get("masks", ELLIPSE)
        if learnt not in (ELLIPSE, DELINEATED):
            raise ConfigError(f"model.masks {learnt!r}: write {ELLIPSE!r} or {DELINEATED!r}")
        if masks is None and learnt == DELINEATED:
            masks = DelineatedMasks(dataset)
        self._recipe = recipe
        self._training = Samples(dataset, recipe, recipe.data.train_splits, masks)
        self._validation = Samples(dataset, recipe, recipe.data.validation_splits)

    def build(self) -> nn.Module:
        """A new lesionnet."""
        return model_of(self._recipe)

    def batch(self, step: int) -> Batch:
        """Input channels ('images') and what the maps should be, by the names of `targets.Targets`."""
        drawn = self._training.training(step)
        crops = [Lesions(*parts) for parts in zip(drawn.boxes, drawn.ends, drawn.masks, drawn.mask_weight, strict=True)]
        images = inputs.channels(drawn.hu, drawn.key_index)
        return {"images": images, **draw(crops, *drawn.hu.shape[-2:]).as_batch()}

    def names(self, step: int) -> tuple[str, ...]:
        """File names of the key slices in that batch."""
        return self._training.names(step)

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """The parts of `losses.losses` and their sum."""
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        images = tensors.pop("images")
        return losses(model(images), Targets(**tensors))

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """FROC at IoU >= 0.5 on the whole key slices of the validation splits; {} where there are none."""
        return validated(model, self._validation.key_slices, self._find)

    def _find(self, model: nn.Module, key_slice: KeySlice) -> Found:
        whole = self._validation.whole(key_slice)
        spacing_mm = key_slice.row_spacing_mm, key_slice.col_spacing_mm
        plane = Plane(key_slice.rows, key_slice.columns, *spacing_mm, whole.grid)
        weights = next(model.parameters())
        return find(model, whole.hu, whole.key_index, plane, weights.device, weights.dtype)


def validated(
    model: nn.Module, key_slices: tuple[KeySlice, ...], find_on: Callable[[nn.Module, KeySlice], Found]
) -> dict[str, float]:
    """`froc_figures` of a model in evaluation mode; {} where there are no key slices. Leaves the mode as it was."""
    if not key_slices:
        return {}
    training = model.training
    model.eval()
    found = [find_on(model, one) for one in key_slices]
    model.train(training)
    return froc_figures(key_slices, found)


def froc_figures(key_slices: tuple[KeySlice, ...], found: list[Found]) -> dict[str, float]:
    """'score', the mean sensitivity at 0.5, 1, 2, 4 and 8 false positives a slice, and what lies behind it.

    A mark's box is the tight box of its ends, as detectors give it.
    """
    marked = [np.array([mark.tight_box_px for mark in one.marks]).reshape(-1, 4) for one in key_slices]
    froc = curve(count(pool(marked, [_rows(one) for one in found]), HIT_IOU))
    return {
        "score": average_to_eight(froc),
        "published_average": published_average(froc),
        "sensitivity_at_4": float(sensitivity_at(froc, (4.0,))[0]),
    }


def _rows(found: Found) -> NDArray[np.float64]:
    """(n, 5) boxes with their score last."""
    return np.concatenate([found.boxes_px, found.scores[:, None]], axis=1)
