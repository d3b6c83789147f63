"""A model's report, a reader's edit of it, a corrected report: mining and feedback read whose each of them is.

The edits are genuine files of the viewer (tests/feedback_samples); the corrected report follows what lies beside it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest

from cli.main import run
from deeplesion_miner.feedback import feedback
from deeplesion_miner.feedback_rows import FeedbackRow
from deeplesion_miner.results import Result
from deeplesion_miner.studies import StudyQuery
from dicom_io.emit.from_archive import emit_from
from dicom_io.feedback_reading import study_reports
from dicom_io.opening import ArchiveOpener, ArchiveSettings
from tests.browser.phantom import newcomer

SAMPLES = Path(__file__).parents[1] / "feedback_samples"
AFTERWARDS = datetime(2027, 1, 1, 12, 0)
"""Later than the reader's saves."""
LESIONS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    case = newcomer(tmp_path_factory.mktemp("corrected") / "study", small=True)
    return case.paths[0].parents[1], replace(case.result, made_at=AFTERWARDS)


@pytest.fixture
def study(world: tuple[Path, Result], tmp_path: Path) -> Path:
    """The images and the first report."""
    folder = tmp_path / "study"
    shutil.copytree(world[0], folder)
    shutil.copy(SAMPLES / "ours.dcm", folder)
    return folder


def correct(study: Path, result: Result) -> list[str]:
    """Adds the corrected report, which has lost a lesion; what it names as predecessors."""
    said = replace(result, lesions=result.lesions[: LESIONS - 1])
    with ArchiveOpener(ArchiveSettings(paths=(study,))) as opener, closing(opener.open()) as archive:
        emission = emit_from(archive, said, ["dicom-sr"])
    (study / "corrected.dcm").write_bytes(emission.objects[0].encoded)
    return list(emission.corrects)


def told(study: Path) -> dict[str, list[FeedbackRow]]:
    """Rows of feedback by the file that they speak of."""
    with ArchiveOpener(ArchiveSettings(paths=(study,))) as opener, closing(opener.open()) as archive:
        (found,) = study_reports(archive, StudyQuery())
    files = {str(pydicom.dcmread(path).SOPInstanceUID): path.name for path in study.glob("*.dcm")}
    rows: dict[str, list[FeedbackRow]] = {}
    for row in feedback(found.reports, found.notes, found.planes).rows:
        rows.setdefault(files[row.sop_instance_uid], []).append(row)
    return rows


def mined(study: Path, folder: Path, *words: str) -> Counter[tuple[str, str]]:
    """How many bookmarks of which writer have which verdict or reason."""
    given = ["import", study, "--out", folder / "dataset", "--work", folder / "work", *words]
    assert run([str(word) for word in given]) == 0
    rows = pq.read_table(folder / "dataset" / "bookmarks.parquet").to_pylist()
    return Counter((row["writer"], row["reason"] or row["verdict"]) for row in rows)


@pytest.mark.parametrize("version", ["3.13.2", "3.11.1"])
def test_a_readers_edit_stays_the_readers_and_an_answer_to_the_report_that_was_edited(
    world: tuple[Path, Result], study: Path, tmp_path: Path, version: str
) -> None:
    shutil.copy(SAMPLES / f"resized_{version}.dcm", study)
    ours = str(pydicom.dcmread(study / "ours.dcm").SOPInstanceUID)
    assert correct(study, world[1]) == [ours], "a report of the model, not the reader's edit of it"
    rows = told(study)
    assert Counter(row.verdict for row in rows["ours.dcm"]) == {"kept": LESIONS - 1, "resized": 1}
    assert Counter(row.verdict for row in rows["corrected.dcm"]) == {"unreviewed": LESIONS - 1}
    assert mined(study, tmp_path) == {
        ("deeplesion_miner", "by_algorithm"): 2 * LESIONS - 1,
        ("ohif", "kept"): LESIONS,
    }


def test_a_report_that_nobody_has_seen_is_corrected_by_us(world: tuple[Path, Result], study: Path) -> None:
    correct(study, world[1])
    rows = told(study)
    assert {(row.verdict, row.reason) for row in rows["ours.dcm"]} == {("unreviewed", "corrected_by_us")}
    assert {(row.verdict, row.reason) for row in rows["corrected.dcm"]} == {("unreviewed", "")}


def test_where_results_of_models_are_mined_the_corrected_report_replaces_the_first_whole(
    world: tuple[Path, Result], study: Path, tmp_path: Path
) -> None:
    correct(study, world[1])
    assert mined(study, tmp_path, "--set", "rules.keep_algorithms=true") == {
        ("deeplesion_miner", "superseded"): LESIONS,
        ("deeplesion_miner", "kept"): LESIONS - 1,
    }
