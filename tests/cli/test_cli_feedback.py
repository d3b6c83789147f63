"""`mine feedback` as a person runs it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from cli_runs import Mine
from pydicom import dcmread

from dataset_builder.feedback_table import columns_of, read_feedback
from dicom_io.testbed.embedded import EmbeddedArchive
from tests.experiments.planted_edits import Planted, plant


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("edits") / "archive", 12)


def test_files_and_an_archive_become_the_same_table(mine: Mine, tmp_path: Path, planted: Planted) -> None:
    answer = mine("feedback", planted.folder, "--out", "files.parquet", "--json")
    assert answer.code == 0, answer.err
    rows = read_feedback(tmp_path / "files.parquet")
    assert Counter(row.verdict for row in rows if row.verdict != "added") == Counter(
        said.verdict for said in planted.lesions.values()
    )
    assert [one["verdict"] for one in answer.records] == [row.verdict for row in rows]
    assert {one["type"] for one in answer.records} == {"feedback"}
    assert set(answer.records[0]) - {"type", "schema_version"} == set(columns_of(rows[0]))
    assert f"{len(rows)} marks: " in answer.err
    with EmbeddedArchive(planted.folder) as archive:
        answer = mine("feedback", "--archive", archive.address, "--out", "net.parquet", "--work", tmp_path / "work")
    assert answer.code == 0, answer.err
    assert (tmp_path / "net.parquet").read_bytes() == (tmp_path / "files.parquet").read_bytes()


def test_one_study_may_be_asked_for_and_the_rest_stays_out(mine: Mine, tmp_path: Path, planted: Planted) -> None:
    study = str(dcmread(next(planted.folder.rglob("ours.dcm"))).StudyInstanceUID)
    assert mine("feedback", planted.folder, "--study", study).code == 0
    assert {row.study_instance_uid for row in read_feedback(tmp_path / "feedback.parquet")} == {study}


def test_where_nothing_of_ours_lies_nothing_matches(mine: Mine, tmp_path: Path, planted: Planted) -> None:
    answer = mine("feedback", next(planted.folder.rglob("axial")))
    assert answer.code == 4
    assert "no study with a report of ours" in answer.err
    assert not (tmp_path / "feedback.parquet").exists()


def test_what_is_missing_makes_a_partial_table(mine: Mine, tmp_path: Path, planted: Planted) -> None:
    answer = mine("feedback", *planted.folder.rglob("ours.dcm"), *planted.folder.rglob("last.dcm"))
    assert answer.code == 3
    rows = read_feedback(tmp_path / "feedback.parquet")
    assert {row.shift_mm for row in rows} == {None}
    assert "not_delivered" in answer.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((".", "--archive", "PACS@localhost:1"), 2, "not both"),
        ((".", "--out", "told.csv"), 2, "ends in .parquet"),
        ((".", "--from", "2026-02-01", "--to", "2026-01-01"), 2, "lies after"),
        ((), 2, "no archive is named"),
    ],
)
def test_what_cannot_work_is_one_line(mine: Mine, words: tuple[str, ...], code: int, said: str) -> None:
    answer = mine("feedback", *words)
    assert answer.code == code
    assert said in answer.err
    assert answer.err.count("\n") == 1
