"""`mine predict`, interrupted: what was found until then is kept, whole, and the same command goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runs import STDERR, Moment, interrupted

from cli import config
from cli.exits import Exit
from cli.finding import DatasetWork, Finding, Predictor, Run, in_dataset, in_studies
from cli.main import run
from deeplesion_miner.studies import StudyQuery
from dicom_io.testbed.identity import StudyIdentity
from dicom_io.testbed.newcomer import FARID, LESIONS
from dicom_io.testbed.series import SeriesPlan, Size, write_series
from models.detectors.port import Found
from models.prediction import PredictionSettings
from models.predictions_table import read_predictions, write_predictions
from models.unfinished import Unfinished, begun, unfinished_folder
from models.volume import Volume
from tests.models.reading_folders import lesion, series, write_mined

AXIAL = SeriesPlan("axial", 2, "Abdomen 4.0", 512, 4.0, 32)
STUDIES = 3
KEY_SLICES = 6


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small studies of one axial series each."""
    folder = tmp_path_factory.mktemp("studies")
    for number in range(STUDIES):
        study = StudyIdentity(FARID, number, "20240318", "101500", f"newcomer/{number}")
        write_series(study, AXIAL, LESIONS, Size(True), folder / str(number))
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients with one key slice each, all in the training split."""
    each = [series(lesion(patient, key=patient + 1)) for patient in range(1, 1 + KEY_SLICES)]
    return write_mined(tmp_path_factory.mktemp("dataset") / "dataset", *each)


class FindsBrightest:
    """A detector that always finds the same: a box around the brightest pixel, as sure as it is bright."""

    model_id = "brightest"
    looked_at = 0

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        self.looked_at += len(indices)
        return tuple(self._found(volume.hu[index]) for index in indices)

    def _found(self, hu: np.ndarray) -> Found:
        row, column = np.unravel_index(int(hu.argmax()), hu.shape)
        box = np.array([[column - 5, row - 4, column + 5, row + 4]], np.float64)
        score = np.array([float(hu.max()) % 97 / 97])
        return Found(box, score, np.full((1, 4, 2), np.nan))


def looked(out: Path, find: Callable[[Predictor, Run], Finding], parts: int) -> tuple[Finding, int]:
    """A run that is asked to stop after so many parts; how many slices it had to look at."""
    detector = FindsBrightest()
    predictor = Predictor(detector, None, PredictionSettings(least_score=0))
    with begun(out, predictor.asked, fresh=False) as unfinished:
        before = len(unfinished.looked)
        found = find(predictor, Run(unfinished, lambda: len(unfinished.looked) - before >= parts))
        write_predictions(out, found.detections)
        if found.is_whole:
            unfinished.remove()
    return found, detector.looked_at


def kept(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.parent.glob("*.parquet"))]


@pytest.mark.parametrize("kind", ["dataset", "studies"])
def test_a_run_that_was_stopped_again_and_again_gives_the_same_bytes_and_looks_at_nothing_twice(
    kind: str, dataset: Path, studies: Path, tmp_path: Path
) -> None:
    def find(predictor: Predictor, run: Run) -> Finding:
        if kind == "dataset":
            return in_dataset(predictor, DatasetWork.of(dataset), run)
        settings = config.load({}, None, {}).settings
        settings = replace(settings, run=replace(settings.run, work=tmp_path / "work"))
        return in_studies(predictor, settings, (studies,), StudyQuery(measured=False), run)

    whole, slices = looked(tmp_path / "whole" / "p.parquet", find, 1000)
    out = tmp_path / "stopped" / "p.parquet"
    step = 1 if kind == "studies" else 2
    rounds = total = 0
    found: Finding | None = None
    while found is None or not found.is_whole:
        found, more = looked(out, find, step)
        rounds, total = rounds + 1, total + more
        assert len(read_predictions(out)) == len(found.detections), "readable after every stop"
    assert rounds > 2
    assert total == slices
    assert found.looked_at == whole.looked_at
    assert kept(out) == kept(tmp_path / "whole" / "p.parquet")
    assert {at: hu.tolist() for at, hu in found.pixels.items()} == {at: hu.tolist() for at, hu in whole.pixels.items()}
    assert not unfinished_folder(out).exists()


FIRST_PART = "predictions.unfinished/0*.json"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_or_killed_process_keeps_what_it_found_and_the_same_command_goes_on(
    number: signal.Signals,
    untrained: Path,
    studies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (untrained, studies, "--least-score", "0", "--most", "5", "--no-masks")
    answer = interrupted(("predict", *words), tmp_path, Moment(number, FIRST_PART))
    if number is signal.SIGKILL:
        assert answer.code == -number
        assert not (tmp_path / "predictions.parquet").exists()
    else:
        assert answer.code == Exit.INTERRUPTED, answer.err
        assert "predictions.parquet holds what was found so far; run the same command again to go on" in answer.err
        assert read_predictions(tmp_path / "predictions.parquet")
    monkeypatch.chdir(tmp_path)
    assert run(["predict", *map(str, words)]) == Exit.DONE
    assert "going on after" in capsys.readouterr().err
    assert run(["predict", *map(str, words), "--out", "whole/predictions.parquet"]) == Exit.DONE
    assert kept(tmp_path / "predictions.parquet") == kept(tmp_path / "whole" / "predictions.parquet")
    assert not (tmp_path / "predictions.unfinished").exists()


def test_who_uses_predictions_of_an_interrupted_run_is_told(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.parquet"
    looked(out, lambda predictor, going: in_dataset(predictor, DatasetWork.of(dataset), going), 2)
    run(["evaluate", str(dataset), "--predictions", str(out), "--split", "test", "--out", str(tmp_path / "page")])
    assert f"{out}: of an interrupted run" in capsys.readouterr().err
    run(["export", str(out), "--files", str(dataset), "--to", "dicom-sr", "--objects", str(tmp_path / "objects")])
    assert f"{out}: of an interrupted run" in capsys.readouterr().err


def test_slices_without_marks_are_looked_at_where_a_table_says_that_somebody_did(dataset: Path, tmp_path: Path) -> None:
    table = tmp_path / "looked_at.csv"
    table.write_text(
        "file_name,annotation\n000002_01_01/003.png,complete\n000002_01_01/007.png,complete\n"
        "000001_01_01/001.png,unmarked\n000004_01_01/009.png,partial\n"
    )
    marked = [one.file_name for one in DatasetWork.of(dataset).slices]
    work = DatasetWork.of(dataset, annotation=table)
    names = [one.file_name for one in work.slices]
    assert names == sorted([*marked, "000002_01_01/007.png", "000004_01_01/009.png"])
    assert work.asked != DatasetWork.of(dataset).asked
    found = in_dataset(Predictor(FindsBrightest(), None, PredictionSettings(least_score=0, masks=False)), work)
    assert [one.image for one in found.detections] == names
    assert not DatasetWork.of(dataset, ("test",), annotation=table).slices


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing_that_was_written(
    untrained: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # a hundred lesions on a slice take seconds to delineate
    words = ("predict", untrained, dataset, "--least-score", "0", "--most", "100")
    moments = (Moment(signal.SIGINT, FIRST_PART), Moment(signal.SIGINT, STDERR, "finishing the current slice"))
    answer = interrupted(words, tmp_path, *moments)
    assert answer.code == Exit.INTERRUPTED
    assert "stopped after" not in answer.err
    assert not (tmp_path / "predictions.parquet").exists()
    left = Unfinished(tmp_path / "predictions.unfinished").looked
    assert 0 < len(left) < KEY_SLICES
    assert all(one.detections for one in left.values())
    monkeypatch.chdir(tmp_path)
    assert run(["predict", str(untrained), str(dataset), "--least-score", "0", "--most", "5"]) == Exit.USAGE
    assert "most was 100, not 5" in capsys.readouterr().err
