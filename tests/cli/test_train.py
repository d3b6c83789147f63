"""`mine train`: from a dataset to a model folder, stopped and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from cli_runs import Answer, Demo, Mine, Moment, interrupted, run_mine

RECIPE = """
kind = "lesionnet"
[model]
size = "XS"
[data]
crop_px = 64
[training]
steps = 1000
batch = 2
checkpoint_every = 5
"""


def words(demo: Demo, *more: str) -> tuple[str | Path, ...]:
    recipe = demo.folder.parent / "quick.toml"
    recipe.write_text(RECIPE)
    return ("train", demo.dataset, "--recipe", recipe, "--with", "training.steps=30", "--json", *more)


JOURNAL = "model.training/metrics.jsonl"


@pytest.fixture(scope="module")
def stopped(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A training that was stopped after its first steps; tests go on with it."""
    folder = tmp_path_factory.mktemp("train")
    return folder, interrupted(words(demo), folder, Moment(signal.SIGINT, JOURNAL))


@pytest.fixture(scope="module")
def finished(demo: Demo, stopped: tuple[Path, Answer], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """The same training, gone on with elsewhere, killed, and gone on with again."""
    folder = tmp_path_factory.mktemp("finished") / "train"
    shutil.copytree(stopped[0], folder)
    size = (folder / JOURNAL).stat().st_size
    killed = interrupted(words(demo), folder, Moment(signal.SIGKILL, JOURNAL, beyond_bytes=size))
    assert killed.code == -signal.SIGKILL
    return folder, run_mine(words(demo), folder, {})


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(stopped: tuple[Path, Answer]) -> None:
    folder, answer = stopped
    assert answer.code == 130
    assert "of 30; run the same command again to go on" in answer.err
    assert not (folder / "model").exists()
    assert list((folder / "model.training" / "checkpoints").glob("step-*.pt"))


def test_a_changed_recipe_is_refused_by_a_training_under_way(demo: Demo, stopped: tuple[Path, Answer]) -> None:
    answer = run_mine(words(demo, "--seed", "7"), stopped[0], {})
    assert answer.code == 2
    assert "training.seed was 0, is 7" in answer.err


def test_the_same_command_goes_on_and_leaves_a_whole_model(demo: Demo, finished: tuple[Path, Answer]) -> None:
    folder, answer = finished
    assert answer.code == 0, answer.err
    assert "going on after step" in answer.err
    (record,) = answer.records
    assert record["type"] == "model"
    assert record["steps_done"] == 30
    manifest = json.loads((demo.dataset / "manifest.json").read_text())
    assert record["dataset_digest"] == record["dataset"]["digest"] == manifest["digest"]
    assert not (folder / "model.training").exists()
    assert {"weights.safetensors", "recipe.json", "metrics.json", "metrics.jsonl", "README.md", "curves.png"} <= {
        path.name for path in (folder / "model").iterdir()
    }
    assert record["model_id"] in (folder / "model" / "README.md").read_text()
    steps = [json.loads(line)["step"] for line in (folder / "model" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert set(steps) == set(range(1, 31))


@pytest.mark.slow
def test_the_model_is_that_of_a_training_that_nobody_stopped_or_killed(
    demo: Demo, finished: tuple[Path, Answer], mine: Mine
) -> None:
    (whole,) = mine(*words(demo)).records
    assert finished[1].records[0]["model_id"] == whole["model_id"]


def test_a_finished_model_is_not_written_over_unasked(demo: Demo, finished: tuple[Path, Answer]) -> None:
    answer = run_mine(words(demo), finished[0], {})
    assert answer.code == 2
    assert "holds a finished model" in answer.err
    assert "--fresh" in answer.err


def test_a_folder_that_holds_no_model_is_never_written_over(demo: Demo, mine: Mine, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("all my work")
    answer = mine(*words(demo, "--fresh"))
    assert answer.code == 2
    assert "holds something that is no model" in answer.err
    assert (tmp_path / "model" / "thesis.txt").read_text() == "all my work"


def test_recipes_are_listed_with_what_they_are(mine: Mine) -> None:
    answer = mine("train", "--recipes", "--json")
    assert answer.code == 0
    assert {"lesionnet-s-9", "lesionnet-xs-9"} <= {record["recipe"] for record in answer.records}
    assert all(record["meaning"] for record in answer.records)


def test_a_recipe_is_shown_whole_as_a_file_to_start_from(mine: Mine, tmp_path: Path) -> None:
    answer = mine("train", "--show-recipe", "--recipe", "lesionnet-xs-9", "--with", "training.steps=7")
    assert answer.code == 0
    (tmp_path / "own.toml").write_text(answer.out)
    again = mine("train", "--show-recipe", "--recipe", "own.toml")
    assert again.out == answer.out
    assert "steps = 7" in answer.out


def test_a_command_without_a_dataset_says_what_is_missing(mine: Mine) -> None:
    answer = mine("train")
    assert answer.code == 2
    assert "name the dataset" in answer.err


def test_a_dataset_that_is_not_there_is_named(mine: Mine) -> None:
    answer = mine("train", "nowhere")
    assert answer.code == 2
    assert "nowhere" in answer.err


def test_a_recipe_that_cannot_be_is_refused_before_the_dataset_is_read(mine: Mine) -> None:
    answer = mine("train", "nowhere", "--with", "training.steps=0")
    assert answer.code == 2
    assert "training.steps is 0" in answer.err
    assert "nowhere" not in answer.err


def test_a_dataset_without_the_recipes_splits_says_what_there_is(demo: Demo, mine: Mine) -> None:
    answer = mine(*words(demo, "--with", "data.train_splits=['autumn']"))
    assert answer.code == 2
    assert "no key slice of split autumn" in answer.err
    assert "train (" in answer.err


@pytest.fixture
def in_part(demo: Demo, tmp_path: Path) -> Path:
    """The demo's dataset in the form of NIH DeepLesion's, with its pictures but those of one series."""
    folder = tmp_path / "in_part"
    (folder / "Images_png").mkdir(parents=True)
    for series in sorted((demo.dataset / "Images_png").iterdir())[1:]:
        (folder / "Images_png" / series.name).symlink_to(series)
    (folder / "DL_info_mine.csv").write_bytes((demo.dataset / "DL_info.csv").read_bytes())
    return folder


def test_another_table_is_learnt_from_and_marks_without_a_picture_are_told(in_part: Path, mine: Mine) -> None:
    answer = mine("train", in_part)
    assert answer.code == 2
    assert "DL_info_mine.csv" in answer.err
    assert "--table" in answer.err
    answer = mine("train", in_part, "--table", "DL_info_mine.csv", "--with", "data.train_splits=['autumn']")
    assert "without a picture left out, e.g. 000001_01_01/" in answer.err
    assert "to train on; there are " in answer.err
    shutil.rmtree(in_part / "Images_png")
    answer = mine("train", in_part, "--table", "DL_info_mine.csv")
    assert answer.code == 2
    assert "none of its" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
