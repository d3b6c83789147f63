"""The seed detector as the training loop sees it: batches of crops, their losses, FROC on whole key slices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models.detectors import inputs, seed_options
from models.detectors.lesionnet_task import validated
from models.detectors.port import Found
from models.detectors.seed_detector import find
from models.detectors.seed_losses import losses
from models.detectors.seed_network import SeedNetwork, with_margin
from models.detectors.seed_options import SeedOptions
from models.detectors.seed_trunk import STRIDE_PX, load_weights
from models.marks import KeySlice
from models.reading.folder import DatasetFolder
from models.reading.samples import Samples
from models.recipe import Recipe
from models.training.task import Batch


class SeedTask:
    """Learning to detect the lesions of a dataset's key slices (`training.task.Task`)."""

    def __init__(self, dataset: DatasetFolder, recipe: Recipe) -> None:
        """ConfigError for a crop, slices or options that the network cannot take."""
        if recipe.data.crop_px % STRIDE_PX:
            raise ConfigError(f"data.crop_px {recipe.data.crop_px}: the seed takes multiples of {STRIDE_PX}")
        self._options = options_of(recipe)
        self._training = Samples(dataset, recipe, recipe.data.train_splits)
        self._validation = Samples(dataset, recipe, recipe.data.validation_splits)

    def build(self) -> nn.Module:
        """A new network, with the trunk of `model.weights` where a file is named."""
        made = SeedNetwork(self._options)
        if self._options.weights:
            load_weights(made.trunk, Path(self._options.weights))
        return made

    def batch(self, step: int) -> Batch:
        """'hu' (B, slices, crop, crop) and 'lesions', (k, 4) boxes with their margin for each sample."""
        drawn = self._training.training(step)
        return {"hu": drawn.hu, "lesions": [with_margin(tight, self._options.margin_px) for tight in drawn.boxes]}

    def names(self, step: int) -> tuple[str, ...]:
        """File names of the key slices in that batch."""
        return self._training.names(step)

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """The parts of `seed_losses.losses` and their sum; anchors and regions are sampled by torch's generator."""
        hu, lesions = batch["hu"], batch["lesions"]
        assert isinstance(hu, Tensor) and isinstance(lesions, list)
        return losses(model(hu, lesions), lesions, hu.shape[2], hu.shape[3], self._options)

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """FROC at IoU >= 0.5 on the whole key slices of the validation splits; {} where there are none."""
        return validated(model, self._validation.key_slices, self._find)

    def _find(self, model: nn.Module, key_slice: KeySlice) -> Found:
        whole = self._validation.whole(key_slice)
        return find(model, self._options, whole.hu, whole.grid, key_slice.rows, key_slice.columns)


def network(recipe: Recipe) -> SeedNetwork:
    """A network as the recipe wants it, all its weights new. ConfigError for options that do not fit."""
    return SeedNetwork(options_of(recipe))


def options_of(recipe: Recipe) -> SeedOptions:
    """The recipe's options. ConfigError also where its slices are not the options' images of three."""
    options, offsets = seed_options.read(recipe.model), recipe.data.slice_offsets_mm
    if len(offsets) != options.slices or inputs.key_index(offsets) != options.slices // 2:
        raise ConfigError(
            f"recipe {recipe.name}: data.slice_offsets_mm {list(offsets)}: model.images = {options.images} takes "
            f"{options.slices} slices, the key slice (0) in the middle"
        )
    return options
