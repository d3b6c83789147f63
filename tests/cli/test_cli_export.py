"""`mine export`: what was mined or predicted becomes objects that mean the same."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest
from cli_runs import Answer, Demo, Mine

from cli.demo_results import LEAST_SCORE
from cli.emission import KINDS
from cli.export import _day
from dicom_io.emit import KINDS as EMITTED_KINDS


def ends(dataset: Path) -> list[list[float]]:
    rows = pq.read_table(dataset / "lesions.parquet").to_pylist()
    return [[*row["long_axis_px"], *row["short_axis_px"]] for row in rows]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def studies_of(folder: Path) -> set[str]:
    return {str(pydicom.dcmread(path).StudyInstanceUID) for path in folder.iterdir()}


def export_mined(mine: Mine, demo: Demo, *words: str | Path) -> Answer:
    return mine("export", "--work", demo.work, "--files", demo.archive, "--to", "dicom-sr", *words)


def test_the_kinds_of_the_command_are_those_of_the_emitters() -> None:
    assert KINDS == EMITTED_KINDS


def test_mined_bookmarks_become_reports_that_are_mined_to_the_same_points(
    mine: Mine, demo: Demo, tmp_path: Path
) -> None:
    answer = export_mined(mine, demo, "--objects", "reports", "--json")
    assert answer.code == 0, answer.err
    assert len(answer.records) == len(list((tmp_path / "reports").iterdir()))
    again = mine("import", demo.archive, "reports", "--out", "dataset", "--work", "work")
    assert "superseded" in again.out
    left = ends(tmp_path / "dataset")
    for wanted in ends(demo.dataset):
        left.remove(next(one for one in left if one == pytest.approx(wanted, abs=0.01)))
    assert left == []


def test_what_was_exported_and_mined_again_is_not_exported_again(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    export_mined(mine, demo, "--objects", "reports")
    assert mine("import", demo.archive, "reports", "--out", "dataset", "--work", "work").code == 0
    answer = mine("export", "--work", "work", "--files", demo.archive, "--to", "dicom-sr", "--objects", "again")
    assert answer.code == 4, answer.err
    assert f"left out {len(written(tmp_path / 'reports'))} results" in answer.err
    assert not (tmp_path / "again").exists() or not written(tmp_path / "again")


def test_the_same_export_writes_the_same_bytes(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    export_mined(mine, demo, "--objects", "one")
    export_mined(mine, demo, "--objects", "other")
    assert written(tmp_path / "one") == written(tmp_path / "other") != {}


def test_reports_tell_what_lesions_measured_before_where_asked(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    answer = export_mined(mine, demo, "--objects", "reports", "--follow-up")
    assert answer.code == 0, answer.err
    told = [path for path in (tmp_path / "reports").iterdir() if "Previous Finding" in str(pydicom.dcmread(path))]
    assert len(told) == 3


def test_predictions_of_a_study_become_reports_and_segmentations_in_it(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    words = ("--files", demo.folder / "newcomer", "--least-score", "0.1", "--to", "dicom", "--objects", "objects")
    answer = mine("export", demo.folder / "predictions.parquet", *words, "--json")
    assert answer.code == 0, answer.err
    assert {record["kind"] for record in answer.records} == {"dicom-sr", "volume-sr", "dicom-seg"}
    of_images = {str(pydicom.dcmread(path).StudyInstanceUID) for path in demo.folder.glob("newcomer/**/*.dcm")}
    assert studies_of(tmp_path / "objects") == of_images


def test_what_scores_too_little_for_an_object_is_counted(mine: Mine, demo: Demo) -> None:
    words = ("--files", demo.folder / "newcomer", "--least-score", "1", "--to", "dicom-sr", "--objects", "objects")
    answer = mine("export", demo.folder / "predictions.parquet", *words)
    assert answer.code == 4, answer.err
    detections = pq.read_table(demo.folder / "predictions.parquet").num_rows
    assert f"{detections} detections below --least-score 1.0 are in the table alone (the best scores 0." in answer.err


def test_the_demo_says_how_many_detections_are_not_sure_enough_to_go_back(demo: Demo) -> None:
    scores = pq.read_table(demo.folder / "predictions.parquet")["score"].to_pylist()
    surest = sum(score >= LEAST_SCORE for score in scores)
    assert f"{len(scores) - surest} detections below --least-score {LEAST_SCORE} are in the table" in demo.answer.err


def test_objects_tell_the_time_of_the_predictions_as_the_clocks_around_them_do(
    mine: Mine, demo: Demo, tmp_path: Path
) -> None:
    found = tmp_path / "found.parquet"
    found.write_bytes((demo.folder / "predictions.parquet").read_bytes())
    os.utime(found, (1_700_000_000, 1_700_000_000))  # 2023-11-14 22:13:20 UTC
    words = ("--files", demo.folder / "newcomer", "--least-score", "0.1", "--to", "dicom-sr", "--objects", "objects")
    assert mine("export", found, *words, TZ="XXX-9").code == 0
    told = [pydicom.dcmread(path) for path in (tmp_path / "objects").iterdir()]
    assert {(one.ContentDate, one.ContentTime) for one in told} == {("20231115", "071320")}


@pytest.mark.parametrize("broken", ["", "20240631", "2024", "٢٠٢٤٠١٠١"])
def test_a_study_without_a_date_does_not_end_the_export(broken: str) -> None:
    before = datetime.now(UTC)
    assert before <= _day(broken) <= datetime.now(UTC)


def test_predictions_on_a_dataset_go_home_into_the_studies_that_they_came_from(
    mine: Mine, demo: Demo, tmp_path: Path
) -> None:
    looked = mine("predict", demo.folder / "model", demo.dataset, "--out", "found.parquet", "--no-masks")
    assert looked.code == 0, looked.err
    words = ("--dataset", demo.dataset, "--work", demo.work, "--files", demo.archive, "--least-score", "0.1")
    answer = mine("export", "found.parquet", *words, "--to", "dicom-sr", "--objects", "objects")
    assert answer.code == 0, answer.err
    assert studies_of(tmp_path / "objects") <= {
        str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in demo.archive.rglob("*.dcm")
    }


def test_predictions_on_a_dataset_need_to_be_brought_home(mine: Mine, demo: Demo) -> None:
    mine("predict", demo.folder / "model", demo.dataset, "--out", "found.parquet", "--no-masks")
    answer = mine("export", "found.parquet", "--files", demo.archive, "--to", "dicom", "--objects", "objects")
    assert answer.code == 2
    assert "--dataset FOLDER and --work FOLDER bring them home" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name what to write: --to dicom"),
        (("--to", "dicom"), "--to needs a place"),
        (("--to", "dicom", "--objects", "x", "--queue", "nonsense"), "nonsense"),
    ],
)
def test_an_export_that_would_write_nothing_says_what_is_missing(
    mine: Mine, demo: Demo, words: tuple[str, ...], said: str
) -> None:
    answer = mine("export", "--work", demo.work, "--files", demo.archive, *words)
    assert answer.code == 2
    assert said in answer.err


def test_objects_that_name_patients_do_not_go_into_a_dataset(mine: Mine, demo: Demo) -> None:
    answer = export_mined(mine, demo, "--objects", demo.dataset / "reports")
    assert answer.code == 2
    assert "lies inside the dataset" in answer.err


def test_a_lesion_whose_images_are_gone_is_left_out_by_name(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ("--work", demo.work, "--files", tmp_path / "empty", "--to", "dicom-sr", "--objects", "reports")
    answer = mine("export", *words)
    assert answer.code == 3
    assert "image_missing" in answer.err
