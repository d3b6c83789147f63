"""What `mine predict` does with studies that are broken, large, or about to be mixed with a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli import config
from cli.exits import Exit
from cli.finding import LONGEST_PICTURES, Finding, Predictor, in_studies
from cli.main import run
from dataset_builder.manifest import MANIFEST, manifest_of, to_json
from deeplesion_miner.detection import Detection
from deeplesion_miner.studies import StudyQuery
from deeplesion_miner.types import Box
from dicom_io.testbed.embedded import EmbeddedArchive
from dicom_io.testbed.identity import StudyIdentity
from dicom_io.testbed.newcomer import FARID, LESIONS, write_newcomer
from dicom_io.testbed.series import SeriesPlan, Size, write_series
from models.detectors.port import Found
from models.prediction import PredictionSettings
from models.unfinished import Looked
from models.volume import Volume

AXIAL = SeriesPlan("axial", 2, "Abdomen 4.0", 512, 4.0, 32)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_newcomer(tmp_path / "study", small=True).folder


@pytest.fixture
def dataset_folder(tmp_path: Path) -> Path:
    """What makes a folder a dataset."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / MANIFEST).write_bytes(to_json(manifest_of([], {}, key_token="k", box_margin_px=5.0)))
    return folder


Predicted = Callable[..., tuple[int, str]]


@pytest.fixture
def predicted(capsys: pytest.CaptureFixture[str]) -> Predicted:
    """`mine predict` in this process: its exit code and what it said."""

    def predicted(*words: str | Path) -> tuple[int, str]:
        code = run(["predict", *map(str, words), "--no-masks"])
        return code, capsys.readouterr().err

    return predicted


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_key_slices_are_kept_for_the_surest_alone_which_are_drawn() -> None:
    finding = Finding("nothing")
    for number in range(LONGEST_PICTURES + 2):
        found = Detection("7", Box(1, 1, 3, 3), number / 100, "model")
        kept = finding.add(Looked(str(number), 1, (found,), pixels={0: np.zeros((8, 8), np.int16)}))
        assert set(kept.pixels) == {0}, "surer than those before"
    assert sorted(finding.pixels) == list(range(2, LONGEST_PICTURES + 2)), "the surest"
    least = finding.add(Looked("last", 1, (Detection("7", Box(1, 1, 3, 3), 0.0, "model"),), pixels={0: np.eye(8)}))
    assert not least.pixels, "an unsure one need not be kept on disk"


class TakesTheArchiveAway:
    """A detector during whose first look the archive goes down."""

    model_id = "untidy"

    def __init__(self, archive: EmbeddedArchive) -> None:
        self.archive = archive

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        self.archive.__exit__(None, None, None)
        return tuple(Found(np.array([[9.0, 9, 19, 19]]), np.array([0.9]), np.full((1, 4, 2), np.nan)) for _ in indices)


def test_what_was_found_before_the_archive_went_away_is_kept(tmp_path: Path) -> None:
    for number in (0, 1):
        study = StudyIdentity(FARID, number, "20240318", "101500", f"newcomer/{number}")
        write_series(study, AXIAL, LESIONS, Size(True), tmp_path / "files" / str(number))
    archive = EmbeddedArchive(tmp_path / "files").__enter__()
    settings = config.load({}, None, {}).settings
    settings = replace(
        settings,
        archive=replace(settings.archive, address=archive.address),
        run=replace(settings.run, work=tmp_path / "work"),
    )
    predictor = Predictor(TakesTheArchiveAway(archive), None, PredictionSettings(masks=False), "", ())
    found = in_studies(predictor, settings, (), StudyQuery(measured=False))
    assert len(found.detections) == 1
    assert found.looked_at == 12
    assert found.away is not None
    assert all(hu.base is None for hu in found.pixels.values()), "views keep whole volumes in memory"


def test_a_study_that_the_archive_does_not_list_is_named(
    predicted: Predicted, untrained: Path, study: Path, tmp_path: Path
) -> None:
    with EmbeddedArchive(study) as archive:
        asked = ("--archive", archive.address, "--work", tmp_path / "work", "--out", tmp_path / "p.parquet")
        uid = archive.objects[0].keys["StudyInstanceUID"]
        code, said = predicted(untrained, *asked, "--study", uid, "--study", "1.2.3.4")
        assert code == Exit.PARTIAL
        assert "study 1.2.3.4: the archive lists no such study; check the UID and the archive" in said
        code, said = predicted(untrained, *asked, "--study", "1.2.3.4")
        assert code == Exit.NOTHING_MATCHED
        assert "study 1.2.3.4: " in said


def test_a_study_of_which_every_image_is_broken_is_partial_and_says_so(
    predicted: Predicted, untrained: Path, study: Path, tmp_path: Path
) -> None:
    for path in files_of(study):
        cut_off(path)
    code, said = predicted(untrained, study, "--out", tmp_path / "p.parquet")
    assert code == Exit.PARTIAL
    assert "left out: 12 images, truncated" in said


def test_files_that_belong_to_no_study_are_told_and_broken_ones_make_it_partial(
    predicted: Predicted, untrained: Path, study: Path, tmp_path: Path
) -> None:
    (study / "notes.txt").write_text("not an image")
    code, said = predicted(untrained, study, "--out", tmp_path / "p.parquet")
    assert code == Exit.DONE, said
    assert "left out: 1 file, not_dicom" in said
    first = files_of(study)[0]
    first.write_bytes(first.read_bytes()[:400])
    code, said = predicted(untrained, study, "--out", tmp_path / "p.parquet")
    assert code == Exit.PARTIAL, said


@pytest.mark.parametrize("flag", ["--out", "--pictures"])
def test_what_is_found_in_a_study_never_lies_in_a_dataset(
    predicted: Predicted, untrained: Path, study: Path, dataset_folder: Path, tmp_path: Path, flag: str
) -> None:
    places = {"--out": tmp_path / "p.parquet", "--pictures": tmp_path / "seen"} | {
        flag: dataset_folder / ("p.parquet" if flag == "--out" else "seen")
    }
    code, said = predicted(untrained, study, *(word for pair in places.items() for word in pair))
    assert code == Exit.USAGE
    assert "identifies patients" in said
    assert not places[flag].exists()
