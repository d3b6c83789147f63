"""The folder in which a model travels: whole, checked when read, and able to be used."""

from __future__ import annotations

import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from toy_task import ToyTask, recipe

from deeplesion_miner.errors import ConfigError, LedgerInUse, MinerError
from models import recipe as recipes
from models.recipe import Recipe
from models.training import card, curves, export, journal, lock, places, registry
from models.training.loop import train
from models.training.model_folder import METRICS, RECIPE, WEIGHTS, ModelFolder, save, weights_digest

FACTS = {
    "validation": {"score": 0.5},
    "best_step": 3,
    "steps_done": 4,
    "dataset": {"digest": "d" * 64, "splits": {"train": {"patients": 2, "key_slices": 3, "marks": 1234}}},
    "environment": {"torch": "2.0", "device": "cpu"},
}
SMALL = {
    "lesionnet": ("lesionnet-xs-9", ()),
    "seed": ("seed-faster-rcnn", ("model.width=0.02",)),
    "delineator": ("delineator", ()),
    "body-part": ("body-part", ()),
}
"""A recipe of each kind that is built in a moment."""


def saved(path: Path, plan: Recipe, network: nn.Module, card_text: str = "card\n") -> ModelFolder:
    return save(path, plan, network.state_dict(), dataset_digest="d" * 64, metrics=FACTS, card=card_text)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    torch.manual_seed(0)
    plan = recipe()
    return saved(tmp_path_factory.mktemp("models") / "toy", plan, ToyTask(plan).build())


@pytest.fixture
def copied(toy: ModelFolder, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    shutil.copytree(toy.path, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_model_comes_back_as_it_was_saved(toy: ModelFolder) -> None:
    torch.manual_seed(0)
    expected = ToyTask(recipe()).build().state_dict()
    read = ModelFolder.load(toy.path)
    assert read.recipe == recipe()
    assert read.dataset_digest == "d" * 64
    assert read.metrics == FACTS
    assert weights_digest(read.weights) == weights_digest(expected)


def test_a_model_is_named_by_its_recipe_and_its_weights(toy: ModelFolder, tmp_path: Path) -> None:
    assert toy.model_id == f"toy-{weights_digest(toy.weights)[:12]}"
    torch.manual_seed(1)
    assert saved(tmp_path / "other", recipe(), ToyTask(recipe()).build()).model_id != toy.model_id


def test_weights_of_any_memory_format_have_one_digest_and_one_folder(toy: ModelFolder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ToyTask(recipe()).build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert saved(tmp_path / "other", recipe(), network).model_id == toy.model_id


@pytest.mark.parametrize("change", ["value", "type", "name", "shape"])
def test_the_digest_of_weights_sees_every_change(change: str) -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    others = {
        "value": weights | {"a": torch.tensor([[0, 0, 0], [0, 0, 1e-40]])},
        "type": weights | {"b": torch.ones(1, dtype=torch.int32)},
        "name": {"a": weights["a"], "c": weights["b"]},
        "shape": weights | {"a": torch.zeros(3, 2)},
    }
    assert weights_digest(others[change]) != weights_digest(weights)


def test_the_weights_say_by_themselves_where_they_come_from(toy: ModelFolder) -> None:
    with safetensors.safe_open(toy.path / WEIGHTS, "pt") as file:
        facts = file.metadata()
    assert (facts["kind"], facts["dataset_digest"]) == ("toy", "d" * 64)


def test_saving_again_replaces_the_model_and_leaves_nothing_beside_it(copied: Path) -> None:
    (copied.parent / f".{copied.name}.writing").mkdir()
    torch.manual_seed(1)
    again = saved(copied, recipe(), ToyTask(recipe()).build())
    assert ModelFolder.load(copied).model_id == again.model_id
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


@pytest.mark.parametrize("name", [WEIGHTS, RECIPE, METRICS])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ConfigError, match=f"holds no {name}"):
        ModelFolder.load(copied)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        ModelFolder.load(tmp_path / "absent")


def test_another_recipe_beside_the_weights_is_refused(copied: Path) -> None:
    values = json.loads((copied / RECIPE).read_text())
    values["data"]["pixel_mm"] = 2.0
    (copied / RECIPE).write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="not the recipe"):
        ModelFolder.load(copied)


def test_a_changed_weight_is_found(copied: Path) -> None:
    content = bytearray((copied / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copied / WEIGHTS).write_bytes(content)
    with pytest.raises(ConfigError, match="not those that were written"):
        ModelFolder.load(copied)


def test_on_a_full_disk_the_model_before_stays_and_the_disk_is_blamed(toy: ModelFolder, copied: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((copied / WEIGHTS).stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            saved(copied, toy.recipe, ToyTask(toy.recipe).build())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ModelFolder.load(copied).model_id == toy.model_id


def test_weights_that_were_cut_off_are_found(copied: Path) -> None:
    (copied / WEIGHTS).write_bytes((copied / WEIGHTS).read_bytes()[:-10])
    with pytest.raises(ConfigError, match="cannot be read"):
        ModelFolder.load(copied)


def test_weights_of_somebody_else_are_refused(copied: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, copied / WEIGHTS)
    with pytest.raises(ConfigError, match="model format unknown"):
        ModelFolder.load(copied)


def test_json_that_is_none_is_named(copied: Path) -> None:
    (copied / METRICS).write_text("{")
    with pytest.raises(ConfigError, match=r"metrics\.json: not JSON"):
        ModelFolder.load(copied)


def test_weights_are_put_into_a_network_of_the_same_recipe(toy: ModelFolder) -> None:
    torch.manual_seed(5)
    network = toy.fill(ToyTask(recipe()).build())
    assert weights_digest(network.state_dict()) == weights_digest(toy.weights)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_weights_that_do_not_fit_a_network_are_named(toy: ModelFolder) -> None:
    with pytest.raises(ConfigError, match=r"0\.weight is \(4, 2, 3, 3\) where \(5, 2, 3, 3\) is needed"):
        toy.fill(nn.Sequential(nn.Conv2d(2, 5, 3)))
    with pytest.raises(ConfigError, match=r"belongs nowhere.* and \d+ more"):
        toy.fill(nn.Sequential(nn.Conv2d(2, 4, 3)))
    with pytest.raises(ConfigError, match=r"7\.weight is missing"):
        toy.fill(nn.Sequential(*nn.ModuleList(ToyTask(recipe()).build().children()), nn.Linear(1, 1)))


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_model_of_every_kind_can_be_built_saved_and_used(tmp_path: Path, kind: str) -> None:
    name, overrides = SMALL[kind]
    plan = recipes.load(name, overrides)
    assert plan.kind == kind
    model = saved(tmp_path / kind, plan, registry.network(plan))
    used = registry.user(ModelFolder.load(tmp_path / kind))
    assert used.model_id == model.model_id


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="lesionnet, seed, delineator, body-part"):
        registry.network(recipe())


def test_the_card_says_what_the_model_is_for_and_what_it_was_trained_on() -> None:
    text = card.text(recipe(), "toy-0123", FACTS)
    assert "not for diagnosis" in text
    assert "| train | 2 | 3 | 1,234 |" in text
    assert "d" * 64 in text
    assert "| score | 0.5 |" in text
    assert "| training.steps | 12 |" in text


def test_the_card_of_a_model_that_was_never_validated_says_so() -> None:
    assert "Nothing was validated" in card.text(recipe(), "toy-0123", FACTS | {"validation": {}})


def test_the_curves_are_drawn_from_the_journal(tmp_path: Path) -> None:
    train(ToyTask(recipe()), recipe(), tmp_path)
    with Image.open(curves.draw(tmp_path)) as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_the_curves_of_a_training_that_was_never_validated_are_drawn(tmp_path: Path) -> None:
    journal.Journal(tmp_path, 0).close()
    assert curves.draw(tmp_path).exists()


def test_tensorboard_can_read_the_same_figures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(ToyTask(recipe()), recipe(), tmp_path, should_stop=lambda: True)
    train(ToyTask(recipe()), recipe(), tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / journal.TENSORBOARD)).Reload()
    told = [(one.step, pytest.approx(one.value)) for one in events.Scalars("step/loss")]
    lines = journal.read(tmp_path / journal.FILE_NAME)
    assert told == [(one["step"], one["loss"]) for one in lines if one["event"] == "step"]


def test_logs_for_tensorboard_travel_without_the_name_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("socket.gethostname", lambda: "ct1.stjohns.example")
    train(ToyTask(recipe()), recipe(), tmp_path, should_stop=lambda: True)
    train(ToyTask(recipe()), recipe(), tmp_path)
    logs = sorted((tmp_path / journal.TENSORBOARD).iterdir())
    assert len(logs) == 2, "both runs left a log"
    assert not any("stjohns" in path.name or b"stjohns" in path.read_bytes() for path in logs)


def test_a_finished_model_is_replaced_only_on_request(copied: Path) -> None:
    with pytest.raises(ConfigError, match="holds a finished model"):
        places.check_out(copied, fresh=False)
    places.check_out(copied, fresh=True)


def test_a_training_that_was_allowed_to_replace_a_model_may_go_on(copied: Path) -> None:
    checkpoint = places.work_folder(copied) / places.CHECKPOINTS / "step-00000001-0123456789ab.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    places.check_out(copied, fresh=False)


def test_a_file_and_a_folder_of_other_things_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="holds something that is no model"):
            places.check_out(out, fresh=True)
    places.check_out(tmp_path / "new", fresh=False)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    again = lock.held(tmp_path, "train")
    with lock.held(tmp_path, "train"), pytest.raises(LedgerInUse, match="another `mine train`"), again:
        pass
    with lock.held(tmp_path, "train"):
        pass


@pytest.fixture(scope="module")
def trained_net() -> tuple[Recipe, nn.Module]:
    """An XS lesionnet whose statistics and weights are not those of a new one."""
    plan = recipes.load("lesionnet-xs-9", ["data.slice_offsets_mm=[-3, 0, 3]"])
    torch.manual_seed(0)
    network = registry.network(plan)
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(2, 4, 64, 64))
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return plan, network.eval()


@pytest.mark.slow
def test_a_lesionnet_as_onnx_says_what_torch_says(tmp_path: Path, trained_net: tuple[Recipe, nn.Module]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    plan, network = trained_net
    path = export.write(plan, network.state_dict(), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["centre", "sides", "ends", "mask"]
    assert recipes.from_json(json.loads(session.get_modelmeta().custom_metadata_map["recipe"])) == plan
    hu = np.random.default_rng(0).normal(0, 300, (3, 3, 96, 160)).astype(np.float32)
    with torch.no_grad():
        expected = export.FromHu(network, 1)(torch.from_numpy(hu))
    for one, other in zip(session.run(None, {"hu": hu}), expected, strict=True):
        assert np.abs(other.numpy()).max() > 0.1
        assert np.abs(one - other.numpy()).max() < 1e-4


def test_an_onnx_file_that_differs_from_torch_is_not_kept(
    tmp_path: Path, trained_net: tuple[Recipe, nn.Module]
) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    names = ("centre", "sides", "ends", "mask")
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["hu"], [name]) for name in names],
        "wrong",
        [helper.make_tensor_value_info("hu", kind, [None, None, None, None])],
        [helper.make_tensor_value_info(name, kind, None) for name in names],
    )
    path = tmp_path / "wrong.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)

    class Same(nn.Module):
        def forward(self, hu: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return hu, hu, hu + 2e-4, hu

    with pytest.raises(MinerError, match=r"'ends' differs from torch by 0\.0002"):
        export.compare(Same(), path, torch.zeros(1, 3, 4, 4))
    assert not path.exists()


def test_a_kind_that_cannot_be_onnx_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match="only 'lesionnet' can be exported"):
        export.check(replace(recipe(), kind="delineator"))
