"""`mine evaluate`: from a mined dataset and a file of predictions to figures, page and exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Demo, Mine

from cli.exits import Exit
from deeplesion_miner.detection import Detection
from deeplesion_miner.types import Box
from models.predictions_table import write_predictions
from models.reading.folder import DatasetFolder


@pytest.fixture(scope="module")
def predictions(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every mark of the demo's dataset as a detection, and one beside it on every key slice."""
    detections = []
    for number, one in enumerate(DatasetFolder.open(demo.dataset).key_slices):
        for mark in one.marks:
            detections.append(Detection(one.file_name, Box(*mark.tight_box_px.tolist()), 0.9, "planted@1"))
        detections.append(Detection(one.file_name, Box(1, 1, 4, 4), 0.3 + number / 1000, "planted@1"))
    path = tmp_path_factory.mktemp("predictions") / "planted.parquet"
    write_predictions(path, detections)
    return path


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("predictions") / "nothing.parquet"
    write_predictions(path, [])
    return path


def test_what_was_planted_is_told_and_written(
    mine: Mine, demo: Demo, predictions: Path, nothing: Path, tmp_path: Path
) -> None:
    answer = mine("evaluate", demo.dataset, "--predictions", predictions, "--against", nothing,
                  "--split", "all", "--replicates", 50, "--out", "here")  # fmt: skip
    assert answer.code == Exit.DONE, answer.err
    assert "average  1.000 [1.000, 1.000]" in answer.out
    assert "minus nothing.parquet: average +1.000 [+1.000, +1.000]" in answer.out
    assert "look at here/evaluation.html" in answer.err
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "curves.csv", "evaluation.html", "evaluation.json", "froc.png",
    ]  # fmt: skip


def test_the_record_goes_to_stdout_as_one_line(mine: Mine, demo: Demo, predictions: Path) -> None:
    options = ("--split", "all", "--replicates", 20, "--boxes", "padded", "--iou", "0.75", "--json")
    answer = mine("evaluate", demo.dataset, "--predictions", predictions, *options)
    (told,) = answer.records
    assert told["type"] == "evaluation"
    assert told["sensitivity"]["0.5"]["estimate"] == 1.0
    assert (told["protocol"]["boxes"], told["protocol"]["threshold"]) == ("padded", 0.75)
    assert told["predictions"]["model_ids"] == ["planted@1"]


def test_predictions_of_another_dataset_are_refused_by_name(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    strange = tmp_path / "strange.parquet"
    write_predictions(strange, [Detection("777777_01_01/001.png", Box(1, 1, 4, 4), 0.5, "m")])
    answer = mine("evaluate", demo.dataset, "--predictions", strange, "--split", "all")
    assert answer.code == Exit.USAGE
    assert "777777_01_01/001.png" in answer.err
    assert not (tmp_path / "evaluation").exists()


def test_without_marks_that_count_there_is_no_result(mine: Mine, demo: Demo, predictions: Path, tmp_path: Path) -> None:
    table = tmp_path / "annotation.csv"
    names = [one.file_name for one in DatasetFolder.open(demo.dataset).key_slices]
    table.write_text("file_name,annotation\n" + "".join(f"{name},unmarked\n" for name in names), "utf-8")
    answer = mine("evaluate", demo.dataset, "--predictions", predictions, "--split", "all", "--annotation", table)
    assert answer.code == Exit.NOTHING_MATCHED
    assert "no marks in the split 'all'" in answer.err


def test_a_file_that_is_absent_is_a_usage_error(mine: Mine, demo: Demo) -> None:
    answer = mine("evaluate", demo.dataset, "--predictions", "nowhere.parquet")
    assert answer.code == Exit.USAGE
    assert "nowhere.parquet" in answer.err
