"""The delineator's U-Net: what it sees, learns and says; and GrabCut, from which it learns."""

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
from models import recipe as recipes
from models.delineation.delineate import delineate
from models.delineation.delineator import UNetDelineator
from models.delineation.ellipse import cross_of, ellipse_mask
from models.delineation.grabcut import GrabCutSettings, cut, grid_around, on_image
from models.delineation.mask_source import DelineatedMasks
from models.delineation.propagate import propagate
from models.delineation.task import DelineatorTask, marked_crop, network, options
from models.delineation.unet import SIDE_PX, View, label, on_grid, picture
from models.reading.folder import DatasetFolder
from models.recipe import Recipe, TrainingRecipe
from models.volume import Volume

ENDS = np.array(folders.CROSS)
RECIPE = Recipe("test", "delineator", model={"width": 4}, training=TrainingRecipe(batch=4))
SIDE = 96
DISC = np.array([(34.0, 50.0), (62.0, 50.0), (48.0, 36.0), (48.0, 64.0)])


def squared(side: int) -> NDArray[np.bool_]:
    """A superellipse through the ends of the cross: fuller than the quarter ellipses."""
    row, column = np.mgrid[:side, :side].astype(np.float64)
    along, across = cross_of(ENDS).coordinates(column, row)
    return np.abs(along) ** 4 + np.abs(across) ** 4 <= 1  # type: ignore[no-any-return]


def with_lesion(number: int) -> NDArray[np.int16]:
    """A noisy body with a bright lesion about the cross of `reading_folders`, on slice 5 alone."""
    body = np.where(folders.flat(1) > -1000, 40, -1000)
    noise = np.random.default_rng([number]).normal(0, 8, body.shape)
    return (body + noise + 80 * (squared(folders.SIDE) & (number == 5))).astype(np.int16)


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetFolder:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return folders.mined(
        tmp_path,
        series(lesion(1), picture=with_lesion),
        series(lesion(2, possibly_noisy=True), picture=with_lesion),
        series(lesion(3, split="val"), picture=with_lesion),
    )


def disc(noise_hu: float = 15.0, contrast_hu: float = 50.0) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    row, column = np.mgrid[:SIDE, :SIDE]
    true = np.hypot(column - 48, row - 50) <= 14
    hu = contrast_hu * true + np.random.default_rng([5]).normal(0, noise_hu, true.shape)
    return hu.astype(np.int16), true


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


# --- GrabCut ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(0.8, 0.8), (0.6, 1.0), (1.5, 1.5)])
def test_grabcut_finds_a_disc_whose_marks_are_shaken(spacing: tuple[float, float]) -> None:
    hu, true = disc()
    shaken = DISC + np.random.default_rng([2]).normal(0, 1.2, DISC.shape)
    grid = grid_around(cross_of(shaken), *spacing)
    found = cut(hu, grid, 1.0)
    assert found is not None
    assert dice(on_image(found, grid, SIDE, SIDE), true) > 0.97 > dice(ellipse_mask(shaken, SIDE, SIDE), true)


def test_grabcut_gives_the_same_pixels_whatever_ran_before() -> None:
    hu, _ = disc(noise_hu=40.0, contrast_hu=30.0)
    grid = grid_around(cross_of(DISC), 0.8, 0.8)
    first = cut(hu, grid, 1.0)
    cut(np.roll(hu, 9), grid, 0.8)
    again = cut(hu, grid, 1.0)
    assert first is not None and again is not None
    assert (first == again).all()


def test_grabcut_that_leaves_its_marks_says_so() -> None:
    hu, _ = disc()
    wider = GrabCutSettings(core=0.1, band=3.0, window=4.0, start=0.3)
    small = grid_around(cross_of((DISC - (48, 50)) * 0.4 + (48, 50)), 0.8, 0.8, wider)
    assert cut(hu, small, 1.0, wider) is None
    assert cut(hu, small, 1.0, replace(wider, band=99.0)) is None


def test_a_grid_point_is_where_the_image_says_it_is() -> None:
    grid = grid_around(cross_of(DISC), 0.5, 1.0)
    ramp = np.add.outer(10 * np.arange(SIDE), np.arange(SIDE)).astype(np.int16)
    inner = (grid.columns > 0) & (grid.columns < SIDE - 1) & (grid.rows > 0) & (grid.rows < SIDE - 1)
    assert grid.sampled(ramp)[inner] == pytest.approx((10 * grid.rows + grid.columns)[inner], abs=0.5)
    assert dice(on_image(grid.level <= 1, grid, SIDE, SIDE), ellipse_mask(DISC, SIDE, SIDE)) > 0.97


def test_slices_are_followed_to_the_end_of_a_lesion_and_no_farther() -> None:
    hu, _ = disc(noise_hu=8.0)
    empty = np.random.default_rng([6]).normal(0, 8, hu.shape).astype(np.int16)
    planes = np.stack([hu if 8 <= number <= 14 else empty for number in range(21)])
    volume = Volume(planes, 2.0 * np.arange(21), 0.8, 0.8, tuple(str(number) for number in range(21)))
    grid = grid_around(cross_of(DISC), 0.8, 0.8)
    key = cut(hu, grid, 1.0)
    assert key is not None
    assert sorted(propagate(volume, 10, grid, key, half_depth_mm=11.2)) == list(range(8, 15))
    ended = propagate(volume, 10, grid, key, half_depth_mm=4.0)
    assert sorted(ended) == list(range(8, 13))


# --- the net ---------------------------------------------------------------------------------------------


def test_a_picture_shows_the_lesion_at_the_size_of_its_marks() -> None:
    hu, _ = disc(noise_hu=0.0)
    small = picture(hu, grid_around(cross_of(DISC), 0.8, 0.8))
    large = picture(hu, grid_around(cross_of(DISC), 2.4, 2.4))
    assert small.shape == (4, SIDE_PX, SIDE_PX)
    assert np.abs(small[3] - large[3]).max() < 0.2
    assert ((small[3] > 0.05) <= (small[0] > 0)).all()


def test_a_label_turns_and_mirrors_with_its_picture() -> None:
    hu, true = disc(noise_hu=0.0)
    uneven = hu * np.linspace(0.6, 1, SIDE)[None, :]
    grid = grid_around(cross_of(DISC), 0.8, 0.8)
    lesion_on_grid = grid.sampled(true.astype(np.int16)) > 0.5
    view = View(turn_deg=30.0, mirror_columns=True)
    seen, answer = picture(uneven, grid, view), label(lesion_on_grid, grid, grid, view)
    assert dice(seen[0] > -0.5, answer > 0.5) > 0.95
    assert np.abs(picture(uneven, grid)[0] - seen[0]).max() > 0.1
    there = picture(uneven, grid)[0]
    assert there[32, 16] < there[32, 48]
    assert seen[0][32, 16] > seen[0][32, 48]


def test_what_is_drawn_on_a_grid_comes_back_from_its_picture() -> None:
    grid = grid_around(cross_of(DISC), 0.8, 0.8)
    there = label(grid.level <= 1, grid, grid)
    assert dice(on_grid(there, grid) > 0.5, grid.level <= 1) > 0.97


def test_a_batch_is_a_function_of_its_step_and_leaves_noisy_marks_out(dataset: DatasetFolder) -> None:
    task = DelineatorTask(dataset, RECIPE)
    batch, again, other = task.batch(2), DelineatorTask(dataset, RECIPE).batch(2), task.batch(3)
    assert {name: tuple(value.shape) for name, value in batch.items() if isinstance(value, torch.Tensor)} == {
        "pictures": (4, 4, 64, 64),
        "labels": (4, 64, 64),
        "weights": (4,),
    }
    assert all(torch.equal(batch[name], again[name]) for name in batch)  # type: ignore[arg-type]
    assert not torch.equal(batch["pictures"], other["pictures"])  # type: ignore[arg-type]
    assert set(task.names(0)) == {"000001_01_01/005.png mark 0"}


@pytest.mark.parametrize("teacher", ["grabcut", "walk"])
def test_a_mark_is_trusted_as_far_as_its_mask_agrees_with_the_ellipse(dataset: DatasetFolder, teacher: str) -> None:
    key_slice = dataset.key_slices[0]
    chosen = replace(options(RECIPE), teacher=teacher)
    good = marked_crop(dataset.hu(key_slice.file_name), key_slice, 0, chosen)
    drawn, there = label(good.lesion, good.grid, good.grid), label(good.grid.level <= 1, good.grid, good.grid)
    assert drawn.sum() > there.sum()
    strict = replace(chosen, trusted_dice=1.0, refused_dice=0.999)
    assert good.weight == 1.0
    assert marked_crop(dataset.hu(key_slice.file_name), key_slice, 0, strict).weight < 1.0


def test_a_refused_label_does_not_teach(dataset: DatasetFolder) -> None:
    task = DelineatorTask(dataset, RECIPE)
    batch = dict(task.batch(0))
    doubtful = batch | {"weights": torch.tensor([1.0, 1.0, 1.0, 0.0])}
    wrong = doubtful | {"labels": torch.cat([batch["labels"][:3], 1 - batch["labels"][3:]])}  # type: ignore[index,operator]
    model = task.build()
    assert task.losses(model, doubtful)["loss"] == task.losses(model, wrong)["loss"]


def test_a_tiny_batch_is_learnt_and_the_delineator_draws_it(dataset: DatasetFolder) -> None:
    task = DelineatorTask(dataset, RECIPE)
    model, batch = task.build(), task.batch(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = task.losses(model, batch)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    figures = task.validate(model)
    assert figures["score"] > figures["ellipse"] + 0.02
    hu = with_lesion(5)
    grid = grid_around(cross_of(ENDS), folders.SPACING_MM, folders.SPACING_MM)
    delineator = UNetDelineator(model, RECIPE, "test-0")
    shares = delineator.probability(hu, grid)
    drawn = on_image(shares, grid, folders.SIDE, folders.SIDE)
    assert dice(drawn, squared(folders.SIDE)) > dice(ellipse_mask(ENDS, *drawn.shape), squared(folders.SIDE)) + 0.02
    assert (delineator.probability(hu, grid) == shares).all()


def test_without_marks_there_is_nothing_to_learn_or_to_validate(dataset: DatasetFolder) -> None:
    empty = replace(RECIPE, data=replace(RECIPE.data, train_splits=("test",), validation_splits=("test",)))
    task = DelineatorTask(dataset, empty)
    assert task.validate(task.build()) == {}
    with pytest.raises(ConfigError, match="no mark with two axes in split test"):
        task.batch(0)


@pytest.mark.parametrize("model", [{"depth": 3}, {"width": "wide"}, {"jitter_mm": True}, {"teacher": "oracle"}])
def test_options_that_there_are_not_are_named(model: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(model))):
        options(replace(RECIPE, model=model))


@pytest.mark.parametrize("spacing_mm", [(0.5, 1.25), (1.25, 0.5)])
def test_a_picture_shows_the_whole_grid_whatever_the_pixels_are(spacing_mm: tuple[float, float]) -> None:
    grid = grid_around(cross_of(DISC), *spacing_mm)
    side = grid.level.shape[0]
    edges = np.zeros((side, side), np.bool_)
    edges[: side // 4] = edges[-(side // 4) :] = True
    assert label(edges, grid, grid).mean() == pytest.approx(0.5, abs=0.03)
    assert label(edges.T, grid, grid).mean() == pytest.approx(0.5, abs=0.03)


def test_the_recipe_that_comes_with_the_tool_builds_a_small_net() -> None:
    parameters = sum(one.numel() for one in network(recipes.load("delineator")).parameters())
    assert 50_000 <= parameters <= 100_000


def test_a_precision_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match="int8"):
        UNetDelineator(network(RECIPE), RECIPE, "test-0", precision="int8")


# --- masks for other learners ----------------------------------------------------------------------------


def test_a_marks_mask_for_a_detector_is_nearer_to_the_lesion_than_its_ellipse(dataset: DatasetFolder) -> None:
    key_slice = dataset.key_slices[0]
    source = DelineatedMasks(dataset)
    found = source.mask(key_slice, key_slice.marks[0])
    assert found is not None
    true = squared(folders.SIDE)
    assert dice(found.on_plane(*true.shape), true) > dice(ellipse_mask(ENDS, *true.shape), true)
    assert source.mask(key_slice, key_slice.marks[0]) is found


def test_a_mask_for_a_detector_is_the_delineation_whatever_the_pixels_are(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, series(lesion(1, spacing_mm=(0.5, 1.25)), picture=with_lesion))
    (key_slice,) = dataset.key_slices
    found = DelineatedMasks(dataset).mask(key_slice, key_slice.marks[0])
    alone = Volume(dataset.hu(key_slice.file_name)[None], np.zeros(1), 1.25, 0.5, ("key",))
    expected = delineate(alone, 0, key_slice.marks[0].ends_px).mask
    assert found is not None
    np.testing.assert_array_equal(found.on_plane(160, 160), expected.on_plane(160, 160))


def test_a_length_alone_or_a_mark_off_the_image_has_no_mask_for_a_detector(dataset: DatasetFolder) -> None:
    key_slice = dataset.key_slices[0]
    mark = key_slice.marks[0]
    source = DelineatedMasks(dataset)
    assert source.mask(key_slice, replace(mark, mark_id="length", short_axis_mm=None)) is None
    assert source.mask(key_slice, replace(mark, mark_id="far", ends_px=mark.ends_px + 1000)) is None
