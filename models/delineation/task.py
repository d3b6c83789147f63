"""The delineator's U-Net as the training loop sees it: learnt from masks of a teacher, tried with shaken marks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models.delineation.ellipse import Floats, Mask, completed, cross_of
from models.delineation.grabcut import Grid, cut, grid_around
from models.delineation.unet import UNet, View, label, picture
from models.delineation.walk import lesion_of, walk, walk_grid
from models.marks import KeySlice
from models.reading.folder import DatasetFolder
from models.reading.order import numbers_of
from models.recipe import Recipe
from models.training.task import Batch

SAMPLE, VALIDATION = 1, 2
"""Streams of random numbers below a seed: one sample, one mark of the validation. `order.ORDER` is another."""
REMEMBERED = 4096
"""Marks whose pixels and mask stay in memory: about 30 kB each."""
TEACHERS = ("grabcut", "walk")
CROP_LEVEL = 2.5
"""Pixels are kept around a mark so far, in multiples of its ends' distance: room for shaken ends."""


@dataclass(frozen=True)
class Options:
    """What a delineator's recipe says in [model]."""

    width: int = 12
    """Channels of the finest level; 12 gives 0.07 million parameters."""
    teacher: str = "grabcut"
    """What makes the masks that are learnt from: 'grabcut' or 'walk'."""
    jitter_mm: float = 1.0
    """Standard deviation by which each end is shaken, as readers differ ..."""
    jitter_share: float = 0.06
    """... but no more than this share of the long axis."""
    trusted_dice: float = 0.75
    """A mask that agrees so well with the quarter ellipses counts fully ..."""
    refused_dice: float = 0.5
    """... and one that agrees no better than this not at all; between the two in proportion."""


@dataclass(frozen=True, eq=False)
class Marked:
    """Pixels around a mark, and what the teacher makes of it."""

    hu: NDArray[np.int16]
    """(rows, columns) of a crop."""
    ends_px: Floats
    """(4, 2) in the crop."""
    grid: Grid
    lesion: Mask
    """(side, side) on the grid."""
    weight: float
    """0 to 1: how far it agrees with the quarter ellipses."""


class DelineatorTask:
    """Learning the mask of a marked lesion from its marks alone (`training.task.Task`)."""

    def __init__(self, dataset: DatasetFolder, recipe: Recipe) -> None:
        """ConfigError for unknown options."""
        self._dataset = dataset
        self._recipe = recipe
        self._options = options(recipe)
        self._training = tuple(_marks(dataset, recipe, recipe.data.train_splits))
        self._validation = tuple(_marks(dataset, recipe, recipe.data.validation_splits))
        self._remembered: OrderedDict[tuple[str, int], Marked] = OrderedDict()

    def build(self) -> nn.Module:
        """A new U-Net."""
        return network(self._recipe)

    def batch(self, step: int) -> Batch:
        """'pictures' (B, 4, 64, 64), 'labels' (B, 64, 64) in 0..1 and 'weights' (B,)."""
        random_of = self._recipe.training.seed
        pictures, labels, weights = [], [], []
        for place, (key_slice, number) in enumerate(self._picked(step)):
            random = np.random.default_rng([random_of, SAMPLE, step, place])
            marked = self._marked(key_slice, number)
            drawn, answer = self._drawn(marked, key_slice, random)
            pictures.append(drawn)
            labels.append(answer)
            weights.append(marked.weight)
        return {
            "pictures": torch.from_numpy(np.stack(pictures)),
            "labels": torch.from_numpy(np.stack(labels)),
            "weights": torch.tensor(weights, dtype=torch.float32),
        }

    def names(self, step: int) -> tuple[str, ...]:
        """File names of the key slices in that batch, with the number of the mark."""
        return tuple(f"{key_slice.file_name} mark {number}" for key_slice, number in self._picked(step))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Cross entropy and Dice loss, each weighted by how far the label is trusted."""
        pictures, labels, weights = (batch[name] for name in ("pictures", "labels", "weights"))
        assert isinstance(pictures, Tensor) and isinstance(labels, Tensor) and isinstance(weights, Tensor)
        logits = model(pictures).float()
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=(1, 2))
        shares = torch.sigmoid(logits)
        common, both = (shares * labels).sum(dim=(1, 2)), shares.sum(dim=(1, 2)) + labels.sum(dim=(1, 2))
        dice = 1 - (2 * common + 1) / (both + 1)
        # a batch of nothing but refused labels teaches nothing, and must not divide by zero
        total = weights.sum().clamp(min=1e-6)
        parts = {"entropy": (entropy * weights).sum() / total, "dice": (dice * weights).sum() / total}
        return {"loss": parts["entropy"] + parts["dice"], **parts}

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """'score': mean Dice with the teacher's trusted masks when the marks are shaken, and of shaken ellipses."""
        training = model.training
        model.eval()
        found, ellipses = [], []
        for number, (key_slice, mark) in enumerate(self._validation):
            marked = self._marked(key_slice, mark)
            if marked.weight == 1:
                random = np.random.default_rng([self._recipe.training.seed, VALIDATION, number])
                grid = self._shaken(marked, key_slice, random)
                answer = label(marked.lesion, marked.grid, grid) > 0.5
                seen = picture(marked.hu, grid)
                with torch.inference_mode():
                    logits = model(torch.from_numpy(seen)[None].to(next(model.parameters()).device))[0]
                found.append(_dice(logits.cpu().numpy() > 0, answer))
                ellipses.append(_dice(seen[3] >= 0, answer))
        model.train(training)
        return {"score": float(np.mean(found)), "ellipse": float(np.mean(ellipses))} if found else {}

    def _picked(self, step: int) -> tuple[tuple[KeySlice, int], ...]:
        count, batch = len(self._training), self._recipe.training.batch
        if not count:
            raise ConfigError(
                f"{self._dataset.path}: no mark with two axes in split {' or '.join(self._recipe.data.train_splits)}; "
                "name other splits in the recipe (data.train_splits) or mine more patients"
            )
        return tuple(self._training[number] for number in numbers_of(count, batch, step, self._recipe.training.seed))

    def _marked(self, key_slice: KeySlice, number: int) -> Marked:
        name = (key_slice.file_name, number)
        if name in self._remembered:
            self._remembered.move_to_end(name)
            return self._remembered[name]
        marked = marked_crop(self._dataset.hu(key_slice.file_name), key_slice, number, self._options)
        self._remembered[name] = marked
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return marked

    def _drawn(
        self, marked: Marked, key_slice: KeySlice, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        augment = self._recipe.augmentation
        grid = self._shaken(marked, key_slice, random)
        view = View(
            float(random.uniform(-augment.rotate_deg, augment.rotate_deg)),
            bool(random.random() < augment.mirror_columns),
            bool(random.random() < augment.mirror_rows),
        )
        hu = marked.hu * random.uniform(1 - augment.hu_scale, 1 + augment.hu_scale)
        hu = hu + random.uniform(-augment.hu_shift, augment.hu_shift)
        hu = hu + random.uniform(0, augment.noise_hu) * random.standard_normal(hu.shape)
        return picture(hu, grid, view), label(marked.lesion, marked.grid, grid, view)

    def _shaken(self, marked: Marked, key_slice: KeySlice, random: np.random.Generator) -> Grid:
        spacing = np.array([key_slice.col_spacing_mm, key_slice.row_spacing_mm])
        long_mm = float(np.hypot(*((marked.ends_px[1] - marked.ends_px[0]) * spacing)))
        spread_mm = min(self._options.jitter_mm, self._options.jitter_share * long_mm)
        ends = marked.ends_px + random.normal(0, spread_mm, (4, 2)) / spacing
        return grid_around(cross_of(ends), key_slice.row_spacing_mm, key_slice.col_spacing_mm)


def network(recipe: Recipe) -> UNet:
    """The untrained U-Net of a recipe. ConfigError for unknown options."""
    return UNet(options(recipe).width)


def options(recipe: Recipe) -> Options:
    """The [model] part of a recipe. ConfigError names an option that there is not, or a value of another type."""
    known = {name: type(value) for name, value in vars(Options()).items()}
    for name, value in recipe.model.items():
        if name not in known:
            raise ConfigError(f"recipe {recipe.name}: model.{name}: a delineator knows {', '.join(known)}")
        fits = isinstance(value, known[name]) or (known[name] is float and isinstance(value, int))
        if isinstance(value, bool) or not fits:
            raise ConfigError(f"recipe {recipe.name}: model.{name} is {value!r}; write a {known[name].__name__}")
    found = replace(Options(), **dict(recipe.model))
    if found.teacher not in TEACHERS:
        raise ConfigError(f"recipe {recipe.name}: model.teacher {found.teacher!r}; write one of {', '.join(TEACHERS)}")
    return found


def marked_crop(hu: NDArray[np.int16], key_slice: KeySlice, number: int, chosen: Options) -> Marked:
    """A mark of a key slice with the pixels around it, and the mask from which it is learnt.

    Where the teacher runs away the quarter ellipses stand, with no weight.
    """
    spacing = (key_slice.row_spacing_mm, key_slice.col_spacing_mm)
    ends = completed(key_slice.marks[number].ends_px, *spacing)
    cross = cross_of(ends)
    reach = CROP_LEVEL * max(*cross.long_halves_px, *cross.short_halves_px) + 4
    left, top = (max(int(centre - reach), 0) for centre in cross.centre)
    crop = hu[top : int(cross.centre[1] + reach) + 2, left : int(cross.centre[0] + reach) + 2].copy()
    moved = ends - (left, top)
    if chosen.teacher == "walk":
        grid = walk_grid(cross_of(moved), *spacing)
        shares = walk(grid.sampled(crop)[None], grid, np.zeros(1), np.zeros(0))
        lesion: Mask | None = lesion_of(shares, grid.level[None])[0]
    else:
        grid = grid_around(cross_of(moved), *spacing)
        lesion = cut(crop, grid, 1.0)
    if lesion is None:
        return Marked(crop, moved, grid, grid.level <= 1, 0.0)
    agreement = _dice(lesion, grid.level <= 1)
    weight = (agreement - chosen.refused_dice) / (chosen.trusted_dice - chosen.refused_dice)
    return Marked(crop, moved, grid, lesion, min(max(weight, 0.0), 1.0))


def _marks(dataset: DatasetFolder, recipe: Recipe, splits: tuple[str, ...]) -> Iterator[tuple[KeySlice, int]]:
    """Marks with two axes on the image, in the order of the dataset."""
    for key_slice in dataset.key_slices:
        if key_slice.split in splits:
            for number, mark in enumerate(key_slice.marks):
                wanted = mark.short_axis_mm is not None and not (recipe.data.drop_noisy and mark.possibly_noisy)
                column, row = mark.ends_px[:2].mean(axis=0)
                if wanted and 0 <= column < key_slice.columns and 0 <= row < key_slice.rows:
                    yield key_slice, number


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 0.0
