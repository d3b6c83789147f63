"""DeepLesion replay: rows of the public kind, written as reports by an independent writer, come back as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.experiments import handwritten
from tests.experiments.replay import Comparison, replay, series_of
from tests.experiments.replay_rows import made_up_rows, public_rows, sample_of

SHARE = 120
"""Every so many-th patient of the public file, and one for each kind of hard row; `make experiments` takes all."""


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return replay(made_up_rows(12, seed=1), tmp_path_factory.mktemp("made-up"))


def test_made_up_rows_come_back_equal(made_up: Comparison) -> None:
    assert made_up.problems() == [], made_up.table()


def test_made_up_rows_are_all_kept(made_up: Comparison) -> None:
    assert made_up.rejected == {}
    assert made_up.found == made_up.rows > 40


@pytest.mark.real
def test_a_sample_of_public_rows_comes_back_equal(real_data: Path, tmp_path: Path) -> None:
    rows = sample_of(public_rows(real_data / "deeplesion"), SHARE)
    assert any(row.name.startswith("003247_02_01") for row in rows), "the series with two intervals is in the sample"
    result = replay(rows, tmp_path)
    assert result.problems() == [], result.table()


@pytest.mark.parametrize("columns", [1, 127, 128, 129, 257, 512])
def test_our_own_rle_frames_decode_to_water_everywhere(columns: int, tmp_path: Path) -> None:
    row = replace(made_up_rows(1)[0], size=(columns, 3))
    series = series_of(row, 0, 0)
    handwritten.write_slice(handwritten.ct_header(series), series, 1, tmp_path / "slice.dcm", None)
    pixels = dcmread(tmp_path / "slice.dcm").pixel_array
    assert pixels.shape == (3, columns)
    assert set(pixels.flat) == {handwritten.WATER_HU - handwritten.INTERCEPT_HU}
