"""lesionnet under the training loop: batches from a dataset folder, losses, FROC of whole key slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reading_folders as folders
import torch
from numpy.typing import NDArray
from reading_folders import lesion, series

from deeplesion_miner.errors import ConfigError
from models.detectors.lesionnet_task import LesionnetTask, froc_figures
from models.detectors.port import Found
from models.reading.folder import DatasetFolder
from models.recipe import AugmentationRecipe, DataRecipe, Recipe, TrainingRecipe

RECIPE = Recipe(
    "test",
    "lesionnet",
    model={"size": "XS"},
    data=DataRecipe(slice_offsets_mm=(-5.0, 0.0, 5.0), crop_px=96, lesion_share=1.0),
    augmentation=AugmentationRecipe(key_slice_jitter=0.0, shift_px=8.0),
    training=TrainingRecipe(batch=2),
)


def with_lesion(number: int) -> NDArray[np.int16]:
    """A body of soft tissue with a bright ellipse at the cross of `reading_folders`, on slice 5 alone."""
    row, column = np.mgrid[: folders.SIDE, : folders.SIDE]
    hu = np.where(folders.flat(1) > -1000, 40, -1000)
    inside = ((column - 78) / 18) ** 2 + ((row - 73) / 11) ** 2 < 1
    return np.where(inside & (number == 5), 120, hu).astype(np.int16)


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetFolder:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return folders.mined(
        tmp_path,
        series(lesion(1), picture=with_lesion),
        series(lesion(2, split="val"), picture=with_lesion),
    )


def test_a_batch_holds_channels_and_targets_and_is_a_function_of_its_step(dataset: DatasetFolder) -> None:
    task = LesionnetTask(dataset, RECIPE)
    batch, again, other = task.batch(3), LesionnetTask(dataset, RECIPE).batch(3), task.batch(4)
    assert {name: tuple(value.shape) for name, value in batch.items() if isinstance(value, torch.Tensor)} == {
        "images": (2, 4, 96, 96),
        "centre": (2, 1, 24, 24),
        "sides": (2, 4, 24, 24),
        "ends": (2, 8, 24, 24),
        "shape_weight": (2, 1, 24, 24),
        "mask": (2, 1, 48, 48),
        "mask_weight": (2, 1, 48, 48),
    }
    for name, value in batch.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(again[name]))
    assert not torch.equal(torch.as_tensor(batch["images"]), torch.as_tensor(other["images"]))
    assert task.names(3) == ("000001_01_01/005.png",) * 2


def test_the_mask_head_may_learn_what_the_image_shows_of_a_cross(dataset: DatasetFolder) -> None:
    delineated = replace(RECIPE, model={"size": "XS", "masks": "delineated"})
    plain, shown = (LesionnetTask(dataset, one).batch(0) for one in (RECIPE, delineated))
    for name in ("images", "centre", "sides"):
        assert torch.equal(torch.as_tensor(plain[name]), torch.as_tensor(shown[name]))
    ellipse, seen = torch.as_tensor(plain["mask"]), torch.as_tensor(shown["mask"])
    assert not torch.equal(ellipse, seen)
    assert 2 * torch.minimum(ellipse, seen).sum() / (ellipse.sum() + seen.sum()) > 0.8


def test_masks_of_another_kind_are_refused(dataset: DatasetFolder) -> None:
    with pytest.raises(ConfigError, match=r"model\.masks 'drawn'"):
        LesionnetTask(dataset, replace(RECIPE, model={"size": "XS", "masks": "drawn"}))


def test_a_few_steps_find_the_lesion_of_a_patient_that_was_not_trained_on(dataset: DatasetFolder) -> None:
    task = LesionnetTask(dataset, RECIPE)
    model = task.build()
    before = task.validate(model)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(60):
        parts = task.losses(model, task.batch(step))
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
    after = task.validate(model)
    assert before["score"] < 1 and after["score"] == 1 and after["published_average"] == 1
    assert model.training


def test_without_a_validation_split_there_are_no_figures(dataset: DatasetFolder) -> None:
    recipe = Recipe("test", "lesionnet", model={"size": "XS"}, data=DataRecipe(validation_splits=()))
    task = LesionnetTask(dataset, recipe)
    assert task.validate(task.build()) == {}


def test_a_detection_counts_where_it_overlaps_by_half_and_each_false_one_costs(dataset: DatasetFolder) -> None:
    hit = dataset.key_slices[0].marks[0].tight_box_px
    no_ends = np.full((2, 4, 2), np.nan)
    found = Found(np.array([hit + 100, hit + 1]), np.array([0.9, 0.8]), no_ends)
    figures = froc_figures(dataset.key_slices[:1], [found])
    # one false positive comes before the hit: nothing is found at 0.5 a slice, all from 1 on
    assert figures["score"] == pytest.approx(0.8)
    assert figures["sensitivity_at_4"] == 1


def test_a_crop_that_the_strides_do_not_divide_is_refused_by_name(dataset: DatasetFolder) -> None:
    with pytest.raises(ConfigError, match="crop_px 100"):
        LesionnetTask(dataset, Recipe("test", "lesionnet", model={"size": "XS"}, data=DataRecipe(crop_px=100)))
