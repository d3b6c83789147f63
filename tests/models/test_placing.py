"""Heights of a dataset's marks, from the range of slices around them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from reading_folders import flat, lesion, mined, series, write_nih

from deeplesion_miner.errors import ConfigError
from models.body_part.frames import Frames
from models.body_part.placement import Finding, Placement, place
from models.placing import COLUMNS, load_regressor, place_dataset, write_heights
from models.reading.folder import DatasetFolder
from models.volume import Volume


class Straight:
    """Scores that rise with the position, 60 cm below the vertex at the first slice: no network is needed here."""

    model_id = "straight"

    def __init__(self, direction: float = 1.0) -> None:
        self._direction = direction

    def place(self, volume: Volume) -> Placement:
        def score(framed: Frames) -> NDArray[np.float64]:
            return 60 + self._direction * framed.position_mm / 10

        return place(volume, score)


@pytest.fixture
def folder(tmp_path: Path) -> DatasetFolder:
    numbers = range(1, 22)
    positions = [5.0 * number for number in numbers]
    one = series(lesion(key=5), lesion(key=15, number=2), numbers=numbers, position_mm=positions, picture=flat)
    return mined(tmp_path / "dataset", one)


def test_every_mark_gets_the_height_of_its_own_slice(folder: DatasetFolder, tmp_path: Path) -> None:
    placed = list(place_dataset(Straight(), folder))  # type: ignore[arg-type]
    assert sum(len(one.key_slices) for one in placed) == 2
    heights = {key.slice_number: z for one in placed for key, z in zip(one.key_slices, one.z_of_key, strict=True)}
    assert heights[15] - heights[5] == pytest.approx(50 / 1270, abs=1e-6)
    assert write_heights(tmp_path / "heights.csv", placed, "m-1") == 2
    with (tmp_path / "heights.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {row["mark_id"] for row in rows} == {mark.mark_id for one in folder.key_slices for mark in one.marks}
    assert [float(row["location_z"]) for row in rows] == pytest.approx([heights[5], heights[15]], abs=1e-5)


def test_key_slices_of_a_series_of_unknown_interval_are_placed_one_by_one(tmp_path: Path) -> None:
    one = series(lesion(key=5, slice_interval_mm=None), lesion(key=15, number=2, slice_interval_mm=None),
                 numbers=range(1, 22), picture=flat)  # fmt: skip
    folder = DatasetFolder.open(write_nih(tmp_path / "dataset", one))
    placed = list(place_dataset(Straight(), folder))  # type: ignore[arg-type]
    assert [[key.slice_number for key in one.key_slices] for one in placed] == [[5], [15]]
    assert {finding for one in placed for finding in one.findings} == {Finding.TOO_SHORT}


def test_slices_that_run_the_wrong_way_are_named(folder: DatasetFolder, tmp_path: Path) -> None:
    placed = list(place_dataset(Straight(-1.0), folder))  # type: ignore[arg-type]
    assert {finding for one in placed for finding in one.findings} == {Finding.FLIPPED}
    write_heights(tmp_path / "heights.csv", placed, "m-1")
    assert "flipped" in (tmp_path / "heights.csv").read_text()


def test_a_folder_without_a_body_part_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_regressor(tmp_path / "nothing")
