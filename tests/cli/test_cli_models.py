"""What models say on the command line: the demo's own training, prediction on a dataset, on files, on an archive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from cli_runs import Demo, Mine
from pydicom import dcmread

from cli.exits import Exit
from dicom_io.testbed.embedded import EmbeddedArchive
from models import recipe as recipes
from models.predictions_table import read_predictions
from models.reading.folder import DatasetFolder
from models.training import registry
from models.training.model_folder import save


def test_the_demo_finds_the_lesions_of_a_patient_whom_nobody_measured(demo: Demo) -> None:
    (said,) = [record for record in demo.answer.records if record["type"] == "findings"]
    assert said["lesions"] == 4
    assert said["found"] >= 3
    assert len(list((demo.folder / "findings").glob("*.png"))) == said["found"] + said["others"]


def test_the_demo_brings_what_it_found_back_to_the_archive(demo: Demo) -> None:
    (outbox,) = [record for record in demo.answer.records if record["type"] == "outbox"]
    written = {path.name for path in (demo.folder / "results").iterdir()}
    assert outbox["verified"] == len(written) == 3
    stored = {read.SOPInstanceUID for read in map(dcmread, demo.folder.glob("newcomer/*.dcm"))}
    assert {name.partition("-2.25.")[2] for name in written} == {f"{uid}.dcm".removeprefix("2.25.") for uid in stored}


def test_what_the_detector_found_is_never_mined_as_a_readers_bookmark(demo: Demo, mine: Mine) -> None:
    answer = mine("import", demo.folder / "newcomer", "--out", "again", "--work", "work", "--json")
    (run,) = [record for record in answer.records if record["type"] == "run"]
    assert run["bookmarks_kept"] == 0
    assert run["rejected"]["by_algorithm"] >= 1


def test_a_dataset_is_predicted_key_slice_by_key_slice(demo: Demo, mine: Mine, tmp_path: Path) -> None:
    answer = mine("predict", demo.folder / "model", demo.dataset, "--out", "p.parquet", "--no-masks", "--json")
    assert answer.code == Exit.DONE, answer.err
    detections = read_predictions(tmp_path / "p.parquet")
    key_slices = {one.file_name for one in DatasetFolder.open(demo.dataset).key_slices}
    assert {one.image for one in detections} <= key_slices
    assert [record["score"] for record in answer.records] == sorted((one.score for one in detections), reverse=True)
    assert answer.records[0]["score"] > 0.3
    assert f"learnt from {len(key_slices)} slices of these {len(key_slices)}" in answer.err


@pytest.mark.slow
def test_a_study_of_an_archive_is_predicted_with_masks_and_pictures(
    demo: Demo, mine: Mine, archive: EmbeddedArchive, tmp_path: Path
) -> None:
    listed = mine("find", archive.address, "--json")
    study = listed.records[0]["study_instance_uid"]
    where = ("--archive", archive.address, "--study", study)
    answer = mine("predict", demo.folder / "model", *where, "--pictures", "seen", "--most", "3")
    assert answer.code == Exit.DONE, answer.err
    detections = read_predictions(tmp_path / "predictions.parquet")
    assert 0 < len(detections) <= 9
    assert {one.image.study_instance_uid for one in detections if not isinstance(one.image, str)} == {study}
    assert any(one.volume for one in detections)
    assert len(list((tmp_path / "seen").glob("*.png"))) == len(detections)


def test_what_was_not_looked_at_is_told_with_its_reason(demo: Demo, mine: Mine) -> None:
    answer = mine("predict", demo.folder / "model", demo.archive / "anna", "--no-masks", "--most", "1")
    assert answer.code == Exit.DONE, answer.err
    assert "localizer" in answer.err
    assert "non_axial" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "x"), "no such folder"),
        (("{dataset}", "{dataset}"), "holds no weights.safetensors"),
        (("{model}", "{dataset}", "--archive", "A@b:1"), "not both"),
        (("{model}", "{dataset}", "--out", "p.csv"), "ends in .parquet"),
        (("{model}", "{dataset}", "--out", "{dataset}/README.md/p.parquet"), "no folder that may be written to"),
        (("{model}", "{dataset}", "--pictures", "{dataset}/README.md"), "no folder that may be written to"),
        (("{model}",), "no archive is named"),
        (("{model}", "{archive}", "--split", "test"), "--split is for datasets"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(
    demo: Demo, mine: Mine, words: tuple[str, ...], said: str
) -> None:
    places = {"dataset": demo.dataset, "model": demo.folder / "model", "archive": demo.archive}
    answer = mine("predict", *(word.format(**places) for word in words))
    assert answer.code == Exit.USAGE
    assert said in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_split_that_is_not_there_is_answered_with_those_that_are(demo: Demo, mine: Mine, tmp_path: Path) -> None:
    (tmp_path / "all_train").mkdir()
    (tmp_path / "all_train" / "Images_png").symlink_to(demo.dataset / "Images_png")
    header, *rows = (demo.dataset / "DL_info.csv").read_text().splitlines()
    in_train = [f"{row.rpartition(',')[0]},1" for row in rows]
    (tmp_path / "all_train" / "DL_info.csv").write_text("\n".join([header, *in_train]) + "\n")
    answer = mine("predict", demo.folder / "model", "all_train", "--split", "test")
    assert answer.code == Exit.NOTHING_MATCHED
    assert "no key slices in test; there are train (" in answer.err


def test_a_broken_picture_takes_nothing_from_the_other_slices(demo: Demo, mine: Mine, tmp_path: Path) -> None:
    shutil.copytree(demo.dataset, tmp_path / "broken")
    first, *others = DatasetFolder.open(tmp_path / "broken").key_slices
    (tmp_path / "broken" / "Images_png" / first.file_name).write_bytes(b"\x89PNG")
    answer = mine("predict", demo.folder / "model", "broken", "--no-masks", "--least-score", "0", "--most", "1")
    assert answer.code == Exit.PARTIAL
    assert f"{first.file_name} left out: " in answer.err
    seen = {one.image for one in read_predictions(tmp_path / "predictions.parquet")}
    assert first.file_name not in seen
    assert len(seen & {one.file_name for one in others}) > len(others) // 2


def test_lesions_of_a_dataset_are_placed_by_a_body_part_model_alone(demo: Demo, mine: Mine, tmp_path: Path) -> None:
    plan = recipes.load("body-part")
    torch.manual_seed(0)
    untrained = registry.network(plan).state_dict()
    save(tmp_path / "body", plan, untrained, dataset_digest="d", metrics={"validation": {}}, card="card\n")
    answer = mine("place", "body", demo.dataset, "--json")
    assert answer.code == Exit.DONE, answer.err
    assert {record["type"] for record in answer.records} == {"placement"}
    marks = sum(len(one.marks) for one in DatasetFolder.open(demo.dataset).key_slices)
    assert len((tmp_path / "heights.csv").read_text().splitlines()) == 1 + marks
    refused = mine("place", demo.folder / "model", demo.dataset)
    assert refused.code == Exit.USAGE
    assert "does not place" in refused.err
