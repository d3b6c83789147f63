"""The seed detector in the training loop and behind the detectors' port."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models import recipe as recipes
from models.detectors.seed_detector import SeedDetector, find
from models.detectors.seed_network import Judged, SeedNetwork
from models.detectors.seed_options import SeedOptions
from models.detectors.seed_task import SeedTask, network, options_of
from models.detectors.seed_trunk import Vgg16
from models.reading.folder import DatasetFolder
from models.reading.grid import grid_over
from models.recipe import AugmentationRecipe, DataRecipe, Recipe, TrainingRecipe
from models.training import registry
from models.training.fit import fit
from models.training.loop import train
from models.training.model_folder import ModelFolder
from models.volume import Volume
from tests.models.reading_folders import lesion, mined, series

MODEL = {"head": "3dce", "images": 3, "width": 1 / 16, "proposals_before": (200, 200), "proposals_after": (50, 30)}
OFFSETS = tuple(2.0 * place for place in range(-4, 5))
RECIPE = Recipe(
    "test",
    "seed",
    model=MODEL,
    data=DataRecipe(pixel_mm=1.0, slice_offsets_mm=OFFSETS, crop_px=128),
    augmentation=AugmentationRecipe(shift_px=8),
    training=TrainingRecipe(steps=2, batch=2, optimizer="sgd", learning_rate=1e-3, ema_decay=0.0, warm_up=0.0),
)


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetFolder:
    return mined(tmp_path / "dataset", series(lesion(1, 5)), series(lesion(2, 4)), series(lesion(3, 6, split="val")))


def test_a_batch_holds_all_slices_and_boxes_with_the_margin(dataset: DatasetFolder) -> None:
    task = SeedTask(dataset, RECIPE)
    batch, again = task.batch(3), task.batch(3)
    hu, lesions = batch["hu"], batch["lesions"]
    assert isinstance(hu, Tensor) and isinstance(lesions, list)
    assert hu.shape == (2, 9, 128, 128) and len(lesions) == 2
    tight = task._training.training(3).boxes
    for one, other in zip(lesions, tight, strict=True):
        torch.testing.assert_close(one - other, torch.tensor([-5.0, -5, 5, 5]).expand(len(one), 4))
    assert torch.equal(hu, again["hu"])  # type: ignore[arg-type]
    assert task.names(3) and set(task.names(3)) <= {"000001_01_01/005.png", "000002_01_01/004.png"}


def test_the_loop_trains_it_by_sgd_and_validates_it_on_whole_slices(dataset: DatasetFolder, tmp_path: Path) -> None:
    task = SeedTask(dataset, RECIPE)
    torch.manual_seed(RECIPE.training.seed)
    before = task.build().state_dict()
    trained = train(task, RECIPE, tmp_path / "training")
    assert trained.steps_done == 2 and 0 <= trained.figures["score"] <= 1
    changed = [name for name, value in trained.weights.items() if not torch.equal(value, before[name])]
    assert "trunk.features.0.weight" in changed and "region_head.verdict.deltas.weight" in changed


@pytest.mark.parametrize("name", ["seed-faster-rcnn", "seed-3dce-9"])
def test_the_recipes_that_come_with_it_fit_their_network(name: str) -> None:
    recipe = recipes.load(name)
    with torch.device("meta"):
        made = network(recipe)
    assert made.options.slices == len(recipe.data.slice_offsets_mm) == 3 * made.options.images
    assert made.options.width == 1
    assert recipe.training.optimizer == "sgd" and len(recipe.training.milestones) == 2


@pytest.mark.parametrize(
    ("offsets", "images"), [((-2.0, 0.0, 2.0), 3), ((0.0, 2.0, 4.0), 1), ((-4.0, -2.0, 0.0, 2.0, 4.0), 1)]
)
def test_slices_that_are_not_images_of_three_are_refused(offsets: tuple[float, ...], images: int) -> None:
    recipe = replace(RECIPE, model={**MODEL, "images": images}, data=DataRecipe(slice_offsets_mm=offsets))
    with pytest.raises(ConfigError, match="key slice \\(0\\) in the middle"):
        options_of(recipe)


def test_a_crop_that_the_trunk_cannot_halve_thrice_is_refused(dataset: DatasetFolder) -> None:
    with pytest.raises(ConfigError, match="crop_px 100"):
        SeedTask(dataset, replace(RECIPE, data=replace(RECIPE.data, crop_px=100)))


def test_a_new_model_starts_from_the_weights_that_are_named(dataset: DatasetFolder, tmp_path: Path) -> None:
    stored = {
        name: torch.full_like(value, 0.5) for name, value in Vgg16(SeedOptions(width=1 / 16)).state_dict().items()
    }
    torch.save(stored, tmp_path / "vgg16.pth")
    recipe = replace(RECIPE, model={**MODEL, "weights": str(tmp_path / "vgg16.pth")})
    weights = SeedTask(dataset, recipe).build().state_dict()
    assert (weights["trunk.features.28.weight"] == 0.5).all()
    assert not (weights["trunk.features.0.weight"] == 0.5).any()
    # a trained model is filled from its own folder: the file may be gone by then
    (tmp_path / "vgg16.pth").unlink()
    assert isinstance(network(recipe), SeedNetwork)


def test_a_model_names_the_weights_that_it_started_from_but_not_where_they_lay(
    dataset: DatasetFolder, tmp_path: Path
) -> None:
    place = tmp_path / "home of dr who"
    place.mkdir()
    torch.save(Vgg16(SeedOptions(width=1 / 16)).state_dict(), place / "vgg16.pth")
    recipe = replace(RECIPE, model={**MODEL, "weights": str(place / "vgg16.pth")})
    model = fit(dataset, recipe, tmp_path / "model", device="cpu").model
    assert model is not None
    assert model.recipe.model["weights"] == "vgg16.pth"
    assert not [path for path in model.path.rglob("*") if path.is_file() and b"dr who" in path.read_bytes()]
    assert isinstance(registry.user(ModelFolder.load(model.path)), SeedDetector)


def a_volume() -> Volume:
    hu = np.random.default_rng([3]).normal(0, 60, (5, 90, 110)).astype(np.int16)
    return Volume(hu, np.arange(5) * 3.0, 0.8, 1.1, tuple("abcde"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_slice_gets_an_answer_best_first_with_boxes_on_the_slice(precision: str) -> None:
    torch.manual_seed(0)
    made = network(RECIPE)
    detector = SeedDetector(made, RECIPE, "seed-1", precision=precision)
    volume = a_volume()
    found = detector.detect(volume, [0, 3])
    assert detector.model_id == "seed-1" and len(found) == 2
    for one in found:
        assert len(one.boxes_px) == len(one.scores) > 0 and (np.diff(one.scores) <= 0).all()
        assert one.ends_px.shape == (len(one.scores), 4, 2) and np.isnan(one.ends_px).all()
        centre = (one.boxes_px[:, :2] + one.boxes_px[:, 2:]) / 2
        assert (centre >= -0.5).all() and (centre < [109.5, 89.5]).all()
    assert made.training and next(made.parameters()).dtype == torch.float32


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision 'int8'"):
        SeedDetector(network(RECIPE), RECIPE, "id", precision="int8")


class Sure(nn.Module):
    """Finds two given boxes, whatever it sees."""

    def __init__(self, boxes: Tensor) -> None:
        super().__init__()
        self.boxes = nn.Parameter(boxes)

    def forward(self, hu: Tensor) -> Judged:
        none, logits = torch.zeros(0), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
        return Judged(none, none, none, (self.boxes,), (), (logits,), (torch.zeros(2, 4),))


def test_boxes_come_back_to_the_slice_without_their_margin_and_none_from_the_padding() -> None:
    grid = grid_over(90, 110, 0.8, 1.1, pixel_mm=1.0)
    lesion_px = np.array([20.0, 30.0, 41.0, 52.0])
    with_margin = grid.to_network(lesion_px) + np.array([-5.0, -5, 5, 5])
    in_padding = np.array([grid.columns - 6.0, 40, grid.columns - 1, 60])
    model = Sure(torch.from_numpy(np.stack([with_margin, in_padding])).float())
    found = find(model, SeedOptions(), torch.zeros(3, grid.rows, grid.columns), grid, rows=90, columns=110)
    np.testing.assert_allclose(found.boxes_px, lesion_px[None], atol=1e-4)
    assert found.scores == pytest.approx(1 / (1 + np.exp(-1.0)))
