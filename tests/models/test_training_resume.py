"""A training that was stopped or killed and resumed ends as one that was not, to the bit."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_task import ToyTask, recipe

from deeplesion_miner.errors import ConfigError
from models.recipe import Recipe
from models.training import checkpoints, journal
from models.training.batches import batches
from models.training.distributed import World
from models.training.loop import NonFiniteLoss, Trained, train
from models.training.model_folder import weights_digest
from models.training.places import CHECKPOINTS
from models.training.task import Batch

HERE = Path(__file__).resolve().parent


class After:
    """Asks for a stop once so many steps were taken."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __call__(self) -> bool:
        self._left -= 1
        return self._left == 0


class Heard:
    """A `Progress` that remembers what it was told."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.began_after = -1
        self.steps: list[int] = []

    def began(self, steps_done: int, steps: int) -> None:
        self.began_after = steps_done

    def stepped(self, steps_done: int, losses: Any) -> None:
        self.steps.append(steps_done)

    def validated(self, steps_done: int, figures: Any, is_best: bool) -> None:
        pass

    def noticed(self, text: str) -> None:
        self.notices.append(text)


def run(folder: Path, plan: Recipe | None = None, **how: Any) -> Trained:
    plan = plan or recipe()
    return train(ToyTask(plan), plan, folder, **how)


def last_state(folder: Path) -> dict[str, Any]:
    """The latest checkpoint, without its generator's state."""
    return checkpoints.load(checkpoints.found(folder / CHECKPOINTS)[0])


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_training_stopped_after_any_step_and_resumed_ends_in_the_same_state(
    whole: tuple[Path, Trained], tmp_path: Path, stop: int
) -> None:
    folder, trained = whole
    first = run(tmp_path, should_stop=After(stop))
    assert (first.steps_done, first.interrupted) == (stop, True)
    second = run(tmp_path)
    assert not second.interrupted
    assert weights_digest(second.weights) == weights_digest(trained.weights)
    assert (second.step, second.figures) == (trained.step, trained.figures)
    for part in ("model", "averaged", "optimizer", "scaler", "torch_generator", "best", "steps_done"):
        assert is_same(last_state(tmp_path)[part], last_state(folder)[part]), part
    assert (tmp_path / journal.FILE_NAME).read_text() == (folder / journal.FILE_NAME).read_text()


@pytest.mark.parametrize(
    "training",
    [{"optimizer": "sgd"}, {"precision": "bf16"}, {"ema_decay": 0.0}, {"milestones": (0.5,)}, {"channels_last": False}],
    ids=str,
)
def test_other_recipes_resume_to_the_bit_too(tmp_path: Path, training: dict[str, Any]) -> None:
    plan = recipe(**training)
    trained = run(tmp_path / "whole", plan)
    run(tmp_path / "halves", plan, should_stop=After(5))
    assert weights_digest(run(tmp_path / "halves", plan).weights) == weights_digest(trained.weights)


@pytest.mark.parametrize("part", ["optimizer", "averaged", "model"])
def test_a_checkpoint_without_one_of_its_parts_would_end_elsewhere(
    whole: tuple[Path, Trained], tmp_path: Path, part: str
) -> None:
    """Guards the test above: each part matters."""
    run(tmp_path, should_stop=After(5))
    fresh = tmp_path / "fresh"
    run(fresh, should_stop=After(1))
    content = last_state(tmp_path)
    content[part] = last_state(fresh)[part]
    del content["format"]
    checkpoints.save(tmp_path / CHECKPOINTS, 6, content)
    assert weights_digest(run(tmp_path).weights) != weights_digest(whole[1].weights)


def test_batches_made_by_other_processes_change_nothing(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    assert weights_digest(run(tmp_path, loaders=2).weights) == weights_digest(whole[1].weights)


class TellsWhatItIgnores(ToyTask):
    """Its batches say whether the process that makes them ignores Ctrl-C and a request to end."""

    def batch(self, step: int) -> Batch:
        asked = (signal.SIGINT, signal.SIGTERM)
        return {"ignores": torch.tensor([signal.getsignal(one) is signal.SIG_IGN for one in asked])}


@pytest.mark.parametrize("loaders", [0, 1])
def test_processes_that_make_batches_leave_stopping_to_the_training(loaders: int) -> None:
    world = World(rank=0, size=1, device=torch.device("cpu"))
    (batch,) = batches(TellsWhatItIgnores(recipe()), world, range(1), loaders)
    ignores = batch["ignores"]
    assert isinstance(ignores, torch.Tensor)
    assert ignores.tolist() == [loaders > 0] * 2


def test_another_seed_ends_elsewhere(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    assert weights_digest(run(tmp_path, recipe(seed=1)).weights) != weights_digest(whole[1].weights)


def test_what_a_kill_left_half_written_is_not_taken(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    run(tmp_path, should_stop=After(7))
    folder = tmp_path / CHECKPOINTS
    (folder / ".writing.pt").write_bytes(checkpoints.found(folder)[0].read_bytes()[:1000])
    heard = Heard()
    trained = run(tmp_path, progress=heard)
    assert heard.began_after == 7
    assert weights_digest(trained.weights) == weights_digest(whole[1].weights)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    whole: tuple[Path, Trained], tmp_path: Path, damage: str
) -> None:
    run(tmp_path, should_stop=After(7))
    latest, before = checkpoints.found(tmp_path / CHECKPOINTS)
    content = bytearray(latest.read_bytes())
    content[len(content) // 2] ^= 1
    latest.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    heard = Heard()
    trained = run(tmp_path, progress=heard)
    assert heard.began_after == 6
    assert "step-00000006" in before.name
    assert any(latest.name in notice and "damaged" in notice for notice in heard.notices)
    assert weights_digest(trained.weights) == weights_digest(whole[1].weights)


def test_on_a_full_disk_the_checkpoints_before_stay_and_the_disk_is_blamed(
    whole: tuple[Path, Trained], tmp_path: Path
) -> None:
    folder = tmp_path / CHECKPOINTS
    shutil.copytree(whole[0] / CHECKPOINTS, folder)
    before = checkpoints.found(folder)
    content = checkpoints.load(before[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before[0].stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save(folder, content["steps_done"] + 1, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.found(folder) == before


def test_the_last_two_checkpoints_are_kept(whole: tuple[Path, Trained]) -> None:
    names = [path.name[:13] for path in checkpoints.found(whole[0] / CHECKPOINTS)]
    assert names == ["step-00000012", "step-00000009"]


def test_a_finished_training_is_not_trained_again(whole: tuple[Path, Trained]) -> None:
    heard = Heard()
    again = run(whole[0], progress=heard)
    assert heard.steps == []
    assert weights_digest(again.weights) == weights_digest(whole[1].weights)


def test_fresh_forgets_what_was_there(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    run(tmp_path, recipe(seed=3), should_stop=After(11))
    trained = run(tmp_path, resume=False, should_stop=After(2))
    assert trained.steps_done == 2
    assert [path.name[:13] for path in checkpoints.found(tmp_path / CHECKPOINTS)] == ["step-00000002"]
    assert weights_digest(run(tmp_path).weights) == weights_digest(whole[1].weights)


def test_another_recipe_is_refused_with_each_difference(tmp_path: Path) -> None:
    run(tmp_path, should_stop=After(2))
    changed = recipe(learning_rate=0.5)
    changed = replace(changed, model={"size": "M"}, meaning="other words")
    with pytest.raises(ConfigError) as refused:
        run(tmp_path, changed)
    assert "training.learning_rate was 0.01, is 0.5" in str(refused.value)
    assert "model.size was not stored, is 'M'" in str(refused.value)
    assert "meaning" not in str(refused.value)
    assert "--fresh" in str(refused.value)


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    run(tmp_path, should_stop=After(2), dataset_digest="aaaa")
    with pytest.raises(ConfigError, match="dataset digest was aaaa, is bbbb"):
        run(tmp_path, dataset_digest="bbbb")


def tampered_environment(folder: Path, part: str) -> None:
    """As if the checkpoint came from another machine."""
    content = last_state(folder)
    content["environment"][part] = "1.0.0"
    del content["format"]
    checkpoints.save(folder / CHECKPOINTS, content["steps_done"] + 1, content)


def test_another_environment_is_told(tmp_path: Path) -> None:
    run(tmp_path, should_stop=After(2))
    tampered_environment(tmp_path, "torch")
    heard = Heard()
    run(tmp_path, progress=heard)
    assert any(f"torch was 1.0.0, is {torch.__version__}" in notice for notice in heard.notices)


@pytest.mark.parametrize("part", ["torch", "numpy", "opencv", "cpu capability"])
def test_another_environment_is_refused_where_exactness_is_asked_for(tmp_path: Path, part: str) -> None:
    run(tmp_path, should_stop=After(2))
    tampered_environment(tmp_path, part)
    with pytest.raises(ConfigError, match=rf"{part} was 1\.0\.0, is (?!not known)"):
        run(tmp_path, exact=True)


def test_the_same_environment_is_exact(tmp_path: Path) -> None:
    run(tmp_path, should_stop=After(2))
    heard = Heard()
    assert run(tmp_path, exact=True, progress=heard).steps_done == 12
    assert [notice for notice in heard.notices if "bits" in notice] == []


def test_a_checkpoint_holds_no_code(whole: tuple[Path, Trained]) -> None:
    torch.load(checkpoints.found(whole[0] / CHECKPOINTS)[0], weights_only=True)


def test_lines_written_beyond_the_checkpoint_do_not_stand_twice(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    """A kill at step 8 leaves the checkpoint of step 6 and eight lines, the last one cut off."""
    run(tmp_path, should_stop=After(6))
    path = tmp_path / journal.FILE_NAME
    lines = (whole[0] / journal.FILE_NAME).read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:9]) + lines[9][:20])
    run(tmp_path)
    assert path.read_text() == "".join(lines)


def test_threads_and_kernels_are_put_back_as_they_were(tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    run(tmp_path, recipe(threads=2, steps=1))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_a_loss_that_is_not_finite_stops_with_its_batch_named_and_the_checkpoint_before_it(tmp_path: Path) -> None:
    plan = recipe()
    with pytest.raises(NonFiniteLoss) as stopped:
        train(ToyTask(plan, poisoned_step=7), plan, tmp_path)
    assert "step 7" in str(stopped.value)
    assert all(f"image 7-{number}" in str(stopped.value) for number in range(4))
    (latest, _) = checkpoints.found(tmp_path / CHECKPOINTS)
    assert latest.name.startswith("step-00000006")
    assert str(latest) in str(stopped.value)
    assert all(bool(one.isfinite().all()) for one in checkpoints.load(latest)["model"].values())


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    class SteepTask(ToyTask):
        def losses(self, model: torch.nn.Module, batch: Any) -> Any:
            losses = super().losses(model, batch)
            return losses | {"loss": (losses["loss"] - losses["loss"].detach()).sqrt()}  # finite, its slope is not

    plan = recipe()
    with pytest.raises(NonFiniteLoss, match="gradient"):
        train(SteepTask(plan), plan, tmp_path)


def test_training_stops_when_validations_no_longer_gain(tmp_path: Path) -> None:
    class WorseAndWorse(ToyTask):
        scores = iter([0.5, 0.7, 0.6, 0.7, 0.9, 1.0])

        def validate(self, model: torch.nn.Module) -> dict[str, float]:
            return {"score": next(self.scores)}

    plan = recipe(steps=30, validate_every=2, patience=2)
    trained = train(WorseAndWorse(plan), plan, tmp_path)
    assert (trained.steps_done, trained.step, trained.figures) == (8, 4, {"score": 0.7})
    assert not trained.interrupted
    assert train(WorseAndWorse(plan), plan, tmp_path).steps_done == 8


def test_without_a_validation_split_the_last_averaged_weights_are_kept(tmp_path: Path) -> None:
    plan = recipe()
    trained = train(ToyTask(plan, validates=False), plan, tmp_path)
    assert (trained.step, trained.figures) == (12, {})
    assert is_same(dict(trained.weights), last_state(tmp_path)["averaged"])


def test_half_precision_with_scaling_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fp16"):
        run(tmp_path, recipe(precision="fp16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        run(tmp_path, device="cuda")
    assert run(tmp_path, device="auto").environment["device"] == "cpu"


@pytest.mark.slow
def test_two_processes_end_with_equal_weights_and_see_batches_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", "2", str(HERE / "toy_ranks.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1)]
    assert is_same(ranks[0]["parameters"], ranks[1]["parameters"])
    assert ranks[0]["resumed"] == ranks[0]["whole"]
    seen = [set(one["batches"]) for one in ranks]
    assert seen == [set(range(0, 24, 2)), set(range(1, 24, 2))]
    # A thread of gloo's that is left when the interpreter ends may abort the process after its work is done.
    assert [name for one in ranks for name in one["threads"] if "gloo" in name] == []


def test_averaged_weights_follow_slowly(whole: tuple[Path, Trained]) -> None:
    state = last_state(whole[0])
    weight = "0.weight"
    assert not torch.equal(state["averaged"][weight], state["model"][weight])
    assert np.isclose(state["averaged"][weight].numpy(), state["model"][weight].numpy(), atol=0.1).all()
