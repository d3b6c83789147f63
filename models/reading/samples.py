"""Training samples and whole slices of a dataset folder, on the network's grid.

A sample is a pure function of the seeds, the step and its place in the batch: nothing is remembered between
calls, so a resumed training sees what an uninterrupted one sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplesion_miner.deeplesion import BODY_ABOVE_HU, body_box
from deeplesion_miner.errors import ConfigError
from models.delineation.ellipse import SHORT_OVER_LONG
from models.detectors.inputs import key_index
from models.marks import KeySlice, Mark
from models.reading import augmentation
from models.reading.folder import DatasetFolder
from models.reading.grid import Grid
from models.reading.order import numbers_of
from models.reading.stack import PUBLIC, of_folder, whole_slices
from models.reading.targets import MaskSource, Targets, targets
from models.recipe import Recipe

SAMPLE = 1
"""Stream of random numbers below a seed: one sample. `order.ORDER` is another."""


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Crops with their lesions; pixels are those of the crop (column, row)."""

    hu: Tensor
    """(B, slices, crop, crop) float32."""
    boxes: list[Tensor]
    """Per sample (k, 4) tight x_min, y_min, x_max, y_max, not clipped to the crop."""
    ends: list[Tensor]
    """Per sample (k, 4, 2) long axis, then short axis; NaN where no short axis was drawn."""
    masks: list[Tensor]
    """Per sample (k, crop, crop), 0 to 1."""
    mask_weight: list[Tensor]
    """Per sample (k,), 0 to 1: how far each mask can be trusted."""
    key_index: int
    """Which slice is the key slice."""
    names: tuple[str, ...]
    """File name of each sample's key slice."""

    def as_batch(self) -> dict[str, Tensor | list[Tensor]]:
        """The tensors by name, as the training loop moves them to a device."""
        parts: dict[str, Tensor | list[Tensor]] = {"hu": self.hu}
        return parts | {name: getattr(self, name) for name in ("boxes", "ends", "masks", "mask_weight")}


@dataclass(frozen=True, eq=False)
class WholeSlice:
    """A key slice with its context, whole, on the network's grid; nothing is disturbed."""

    key_slice: KeySlice
    hu: Tensor
    """(slices, rows, columns) float32, padded with AIR_HU at the bottom and the right."""
    grid: Grid
    key_index: int


class Samples:
    """The key slices of some splits as a network takes them under one recipe."""

    def __init__(
        self, folder: DatasetFolder, recipe: Recipe, splits: Sequence[str], masks: MaskSource | None = None
    ) -> None:
        """ConfigError for settings that cannot work together; an empty split is none until it is asked for samples."""
        _check(recipe)
        self._folder = folder
        self._recipe = recipe
        self._masks = masks
        self._splits = tuple(splits)
        drop_noisy = recipe.data.drop_noisy or recipe.data.protocol == PUBLIC
        self.key_slices = tuple(
            counted for one in folder.key_slices if one.split in splits and (counted := _counted(one, drop_noisy)).marks
        )
        """Those with a mark that counts, only such marks among theirs, sorted by file name."""
        self.key_index = key_index(recipe.data.slice_offsets_mm)

    def training(self, step: int) -> TrainingBatch:
        """The batch of a step (from 0): crops that hold a lesion, and others anywhere in the body.

        Every key slice comes once before any comes again, so slices weigh as in the pooled FROC that judges the
        model. MinerError for a picture that cannot be read.
        """
        picked = self._picked(step)
        made = [self._sample(step, place, key_slice) for place, key_slice in enumerate(picked)]
        parts = [one for _, one in made]
        return TrainingBatch(
            hu=torch.from_numpy(np.stack([hu for hu, _ in made])),
            boxes=[torch.from_numpy(one.boxes) for one in parts],
            ends=[torch.from_numpy(one.ends) for one in parts],
            masks=[torch.from_numpy(one.masks) for one in parts],
            mask_weight=[torch.from_numpy(one.mask_weight) for one in parts],
            key_index=self.key_index,
            names=tuple(one.file_name for one in picked),
        )

    def names(self, step: int) -> tuple[str, ...]:
        """File names of the key slices in the batch of a step; reads no pixels."""
        return tuple(one.file_name for one in self._picked(step))

    def whole(self, key_slice: KeySlice) -> WholeSlice:
        """The whole key slice with its context, for validation and inference."""
        stack, at = of_folder(self._folder, key_slice)
        hu, grid = next(whole_slices(stack, [at], self._recipe.data))
        return WholeSlice(key_slice, hu, grid, self.key_index)

    def _picked(self, step: int) -> tuple[KeySlice, ...]:
        count, batch = len(self.key_slices), self._recipe.training.batch
        if not count:
            raise ConfigError(
                f"{self._folder.path}: no marked key slice in split {' or '.join(self._splits)}; "
                "name other splits in the recipe (data.train_splits) or mine more patients"
            )
        return tuple(self.key_slices[number] for number in numbers_of(count, batch, step, self._recipe.training.seed))

    def _sample(self, step: int, place: int, key_slice: KeySlice) -> tuple[NDArray[np.float32], Targets]:
        recipe = self._recipe
        data = recipe.data
        random = np.random.default_rng([recipe.training.seed, SAMPLE, step, place])
        move = augmentation.draw(random, recipe.augmentation)
        centre = self._centre(random, key_slice)
        stack, key = of_folder(self._folder, key_slice)
        at = self._beside(random, key_slice, stack.position_mm, key)
        matrix = augmentation.to_image(move, key_slice, centre, stack.pixel_mm(key, data), data.crop_px)
        hu = stack.crop(stack.seen(at, data, mirrored=move.mirror_slices), matrix, data)
        augmentation.disturb(hu, random, recipe.augmentation)
        return hu, targets(key_slice, key_slice.marks, matrix, data.crop_px, self._masks)

    def _beside(
        self, random: np.random.Generator, key_slice: KeySlice, position_mm: NDArray[np.float64], key: int
    ) -> int:
        """The slice that takes the key slice's place: one that the smallest lesion still reaches."""
        reach_mm = self._recipe.augmentation.key_slice_jitter * min(map(_radius_mm, key_slice.marks))
        return int(random.choice(np.flatnonzero(np.abs(position_mm - position_mm[key]) <= reach_mm)))

    def _centre(self, random: np.random.Generator, key_slice: KeySlice) -> tuple[float, float]:
        """(column, row) on the image: a lesion's centre, or a point of the body."""
        on_lesion = random.random() < self._recipe.data.lesion_share
        mark = key_slice.marks[int(random.integers(len(key_slice.marks)))]
        spot = random.random(2)
        if on_lesion:
            x_min, y_min, x_max, y_max = mark.tight_box_px.tolist()
            return (x_min + x_max) / 2, (y_min + y_max) / 2
        return body_point(self._folder.checked_hu(key_slice, key_slice.file_name), spot)


def body_point(hu: NDArray[np.int16], spot: NDArray[np.float64]) -> tuple[float, float]:
    """(column, row) of a point of the body, evenly spread over it; `spot` is two numbers from 0 to 1.

    The body is what lies between its first and last pixel in each row, lungs included; the whole image where there
    is none.
    """
    box = body_box(hu)
    if box is None:
        rows, columns = hu.shape
        return float(spot[0] * columns - 0.5), float(spot[1] * rows - 0.5)
    left, top, right, bottom = box
    mask = hu[top : bottom + 1, left : right + 1] > BODY_ABOVE_HU
    first, last = mask.argmax(axis=1), mask.shape[1] - mask[:, ::-1].argmax(axis=1)
    widths = np.where(mask.any(axis=1), last - first, 0)
    row = int(np.searchsorted(np.cumsum(widths), spot[1] * widths.sum(), "right"))
    return float(left + first[row] + spot[0] * widths[row] - 0.5), float(top + row)


def _counted(key_slice: KeySlice, drop_noisy: bool) -> KeySlice:
    kept = tuple(mark for mark in key_slice.marks if not (drop_noisy and mark.possibly_noisy))
    return key_slice if len(kept) == len(key_slice.marks) else replace(key_slice, marks=kept)


def _radius_mm(mark: Mark) -> float:
    short_mm = SHORT_OVER_LONG * mark.long_axis_mm if mark.short_axis_mm is None else mark.short_axis_mm
    return short_mm / 2


def _check(recipe: Recipe) -> None:
    data = recipe.data
    if data.protocol == PUBLIC and key_index(data.slice_offsets_mm) * 2 + 1 != len(data.slice_offsets_mm):
        raise ConfigError(
            f"data.slice_offsets_mm {list(data.slice_offsets_mm)}: the public protocol has as many slices before the "
            "key slice as behind it"
        )
    if recipe.augmentation.shift_px * 2 >= recipe.data.crop_px:
        raise ConfigError(
            f"augmentation.shift_px {recipe.augmentation.shift_px}: a crop of {recipe.data.crop_px} px would lose its "
            "lesion; keep it below half of data.crop_px"
        )
