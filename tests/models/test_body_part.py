"""Body-part regression: losses, training on phantoms, placing, and series that run the wrong way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from reading_folders import lesion, mined, series

from deeplesion_miner.errors import ConfigError
from models import recipe as recipes
from models.body_part import losses
from models.body_part.frames import FRAME_COLUMNS, FRAME_ROWS, Frames
from models.body_part.network import VIEW_COLUMNS
from models.body_part.phantom import nominal_mm, volume
from models.body_part.placement import Finding, by_network, normalized_z, place
from models.body_part.profile import frames
from models.body_part.sampling import disturbed
from models.body_part.task import BodyPartTask, scores, volumes_of
from models.recipe import AugmentationRecipe
from models.training import model_folder, registry
from models.volume import Volume

QUICK = ("model.width=8", "model.phantoms=2", "training.batch=4", "training.seed=7")


@pytest.fixture(scope="module")
def trunk() -> Frames:
    return frames(volume(40, 250, 950, step_mm=10))


def test_a_group_is_shifted_by_no_more_frame_pixels_than_the_recipe_says() -> None:
    how = AugmentationRecipe(0, 0, 0, rotate_deg=0, scale=0, shift_px=5, hu_shift=0, hu_scale=0, noise_hu=0)
    frame = np.full((8, FRAME_ROWS, FRAME_COLUMNS), -1000, np.float32)
    frame[:, FRAME_ROWS // 2, FRAME_COLUMNS // 2] = 1000
    farthest = 0.0
    for seed in range(30):
        views, _ = disturbed(frame, how, np.random.default_rng(seed))
        bright = views.numpy() + 1000
        mass = bright.sum(axis=(1, 2))
        if (mass > 1900).all():  # wholly in view
            column = (bright.sum(axis=1) * np.arange(VIEW_COLUMNS)).sum(axis=1) / mass
            farthest = max(farthest, float(np.abs(column - (VIEW_COLUMNS - 1) / 2 - 0.5).max()))
    # all slices alike, and each by a third of that on its own
    assert 3 < farthest <= 1.3 * 5 + 0.01


def test_order_loss_is_minus_log_sigmoid_of_the_rise() -> None:
    rising = torch.tensor([[0.0, 1.0, 3.0]])
    expected = (-math.log(1 / (1 + math.exp(-1))) - math.log(1 / (1 + math.exp(-2)))) / 2
    assert losses.order_loss(rising).tolist() == pytest.approx([expected])
    assert losses.order_loss(-rising) > 1.5 > losses.order_loss(rising)


def test_distance_loss_is_the_smooth_l1_of_second_differences() -> None:
    found = losses.distance_loss(torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.5, 7.0]]))
    # Second differences 0, 0 and 0.5, 3: smooth L1 is 0.5 d^2 below 1 and d - 0.5 above.
    assert found.tolist() == pytest.approx([0.0, (0.125 + 2.5) / 2])


def test_slope_loss_is_nothing_where_scores_follow_the_millimetres() -> None:
    position = torch.tensor([[0.0, 2.0, 4.0]])
    assert losses.slope_loss(position + 31, position).item() == 0
    assert losses.slope_loss(2 * position, position).item() == pytest.approx(1.5)


def test_place_loss_counts_only_slices_whose_height_is_known() -> None:
    found = torch.tensor([[10.0, 20.0, 30.0], [1.0, 2.0, 3.0]], requires_grad=True)
    known = torch.tensor([[12.0, math.nan, 30.0], [math.nan] * 3])
    loss = losses.place_loss(found, known)
    assert loss.tolist() == pytest.approx([(1.5 + 0) / 2, 0.0])
    loss.sum().backward()
    assert found.grad is not None
    assert torch.isfinite(found.grad).all()


def test_the_same_step_gives_the_same_batch_and_another_step_another() -> None:
    one, other = (BodyPartTask.of_volumes({}, {}, recipes.load("body-part", QUICK)) for _ in range(2))
    first, again, later = one.batch(5), other.batch(5), one.batch(6)
    assert one.names(5) == other.names(5)
    for name, value in first.items():
        assert isinstance(value, torch.Tensor)
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(again[name]))
    assert not torch.equal(first["hu"], later["hu"])


def test_half_of_what_is_learned_from_are_the_hardest_candidates() -> None:
    task = BodyPartTask.of_volumes(
        {}, {}, recipes.load("body-part", [*QUICK, "model.candidates=3.0", "model.singles=0"])
    )
    model = task.build().eval()
    batch = task.batch(0)
    assert isinstance(batch["hu"], torch.Tensor)
    assert len(batch["hu"]) == 12
    kept = task.losses(model, batch)["loss"].item()
    each = [task.losses(model, {name: value[n : n + 1] for name, value in batch.items()})["loss"].item()
            for n in range(12)]  # fmt: skip
    assert kept == pytest.approx(np.mean([*each[:2], *sorted(each[2:])[-2:]]), rel=1e-4)


def test_a_few_steps_on_one_phantom_put_its_slices_in_order(trunk: Frames) -> None:
    recipe = recipes.load("body-part", QUICK)
    task = BodyPartTask.of_volumes({"one": trunk}, {"one": trunk}, recipe)
    torch.manual_seed(0)
    model = task.build()
    before = task.validate(model)["score"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(50):
        optimizer.zero_grad()
        task.losses(model, task.batch(step))["loss"].backward()
        optimizer.step()
    assert task.validate(model)["score"] > max(0.9, before)
    slices = volume(40, 250, 950, step_mm=10)
    assert place(slices, by_network(model)).findings == ()
    turned = Volume(slices.hu[::-1], slices.position_mm, slices.row_spacing_mm, slices.col_spacing_mm, slices.images)
    assert Finding.FLIPPED in place(turned, by_network(model)).findings


def test_no_volumes_and_no_phantoms_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="set model"):
        BodyPartTask.of_volumes({}, {}, recipes.load("body-part", ["model.phantoms=0"]))


def test_an_option_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="breadth"):
        BodyPartTask.of_volumes({}, {}, recipes.load("body-part", ["model.breadth=3"]))


def test_slices_without_a_body_have_no_score(trunk: Frames) -> None:
    empty = Volume(np.full((3, 60, 60), -1000, np.int16), np.arange(3.0), 2.0, 2.0, ("a", "b", "c"))
    model = BodyPartTask.of_volumes({"one": trunk}, {}, recipes.load("body-part", QUICK)).build()
    assert np.isnan(scores(model, frames(empty))).all()
    placed = place(empty, by_network(model))
    assert placed.findings == (Finding.TOO_SHORT,)
    assert np.isnan(placed.normalized_z).all()


def test_a_perfect_score_gives_back_the_place_on_the_public_scale() -> None:
    slices = volume(41, 300, 900, step_mm=10)
    truth = nominal_mm(41, slices) / 10
    placed = place(slices, lambda _: truth)
    assert placed.is_plausible
    assert placed.normalized_z == pytest.approx(normalized_z(truth), abs=0.03)
    # DeepLesion's medians: lungs at 0.489, pelvis at 0.801.
    assert normalized_z(np.array([44.0, 83.5])) == pytest.approx([0.489, 0.801], abs=0.005)


@pytest.mark.parametrize(
    ("scale", "finding"), [(-1.0, Finding.FLIPPED), (4.0, Finding.WRONG_SLOPE), (0.1, Finding.WRONG_SLOPE)]
)
def test_implausible_slopes_are_named(trunk: Frames, scale: float, finding: Finding) -> None:
    slices = volume(40, 250, 950, step_mm=10)
    placed = place(slices, lambda framed: framed.position_mm / 10 * scale + 60)
    assert placed.findings == (finding,)
    assert not placed.is_plausible
    assert finding.message
    assert finding.advice


def test_scores_without_order_are_named() -> None:
    slices = volume(40, 250, 950, step_mm=10)
    jumping = np.random.default_rng(0).permutation(len(slices.hu)) * 1.0
    assert place(slices, lambda _: jumping).findings == (Finding.NOT_MONOTONOUS,)


def test_a_model_folder_places_as_the_model_that_was_saved(tmp_path: Path, trunk: Frames) -> None:
    recipe = recipes.load("body-part", QUICK)
    torch.manual_seed(3)
    model = BodyPartTask.of_volumes({"one": trunk}, {}, recipe).build()
    saved = model_folder.save(
        tmp_path / "model", recipe, model.state_dict(), dataset_digest="", metrics={}, card="A card."
    )
    regressor = registry.user(saved)
    slices = volume(40, 250, 950, step_mm=10)
    expected = place(slices, by_network(model))
    placed = regressor.place(slices)
    assert np.array_equal(placed.scores_cm, expected.scores_cm)
    assert np.array_equal(placed.normalized_z, expected.normalized_z)
    with pytest.raises(ConfigError, match="int4"):
        registry.user(saved, precision="int4")


def test_a_dataset_folder_trains_and_validates_by_its_splits_each_range_once(tmp_path: Path) -> None:
    numbers = range(1, 21)
    dataset = mined(
        tmp_path,
        series(lesion(1, 5), lesion(1, 9), numbers=numbers),
        series(lesion(2, 5, split="val"), numbers=numbers),
    )
    assert list(volumes_of(dataset, ("train",), 300.0)) == ["000001_01_01/001.png..000001_01_01/020.png"]
    task = BodyPartTask(dataset, recipes.load("body-part", [*QUICK, "model.phantom_share=0.0"]))
    assert set(task.names(0)) == {"000001_01_01/001.png..000001_01_01/020.png"}
    figures = task.validate(task.build())
    assert figures.keys() == {"score", "least"}
    assert -1 <= figures["least"] <= figures["score"] <= 1
