"""Detections survive the way through a file bit for bit; a file that is not one is refused in words."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.types import Box, ImageRef, Segment
from models.predictions_table import (
    ReferenceMask,
    read_predictions,
    read_reference_masks,
    volumes_path,
    write_predictions,
    write_reference_masks,
)

numbers = st.floats(-1e4, 1e4)
points = st.tuples(numbers, numbers)
names = st.text(st.characters(codec="utf-8"), max_size=12)
images = st.one_of(names, st.builds(ImageRef, names, names, names, st.integers(1, 900)))
masks = st.builds(
    PixelMask,
    st.integers(-9, 600),
    st.integers(-9, 600),
    arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=13)),
)
detections = st.builds(
    Detection,
    image=images,
    box=st.builds(Box, numbers, numbers, numbers, numbers),
    score=st.floats(0, 1),
    model_id=names,
    label=names,
    long_axis=st.none() | st.builds(Segment, points, points),
    short_axis=st.none() | st.builds(Segment, points, points),
    long_axis_mm=st.none() | numbers,
    short_axis_mm=st.none() | numbers,
    mask=st.none() | masks,
    volume=st.lists(st.tuples(images, masks), max_size=3).map(tuple),
    volume_mm3=st.none() | numbers,
)


def mask_words(mask: PixelMask | None) -> object:
    return None if mask is None else (mask.first_column, mask.first_row, mask.bits.shape, mask.bits.tolist())


def words(one: Detection) -> object:
    """All fields as values that compare."""
    plain = {name: value for name, value in vars(one).items() if name not in ("mask", "volume")}
    return plain, mask_words(one.mask), [(image, mask_words(mask)) for image, mask in one.volume]


@settings(deadline=None, max_examples=60)
@given(st.lists(detections, max_size=5))
def test_what_is_written_is_read_again(given_ones: list[Detection]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        assert write_predictions(path, given_ones) == len(given_ones)
        assert [words(one) for one in read_predictions(path)] == [words(one) for one in given_ones]
        assert volumes_path(path).exists() == any(one.volume for one in given_ones)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(names, names, masks), max_size=4))
def test_reference_masks_are_read_again(given_ones: list[tuple[str, str, PixelMask]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "masks.parquet"
        write_reference_masks(path, [ReferenceMask(*one) for one in given_ones])
        read = [(one.mark_id, one.file_name, mask_words(one.mask)) for one in read_reference_masks(path)]
    assert read == [(mark, name, mask_words(mask)) for mark, name, mask in given_ones]


def detection(**facts: object) -> Detection:
    known: dict[str, object] = {"image": "a/1.png", "box": Box(1, 2, 3, 4), "score": 0.5, "model_id": "m"}
    return Detection(**(known | facts))  # type: ignore[arg-type]


def test_volumes_of_an_earlier_file_do_not_stay_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    one_pixel = PixelMask(0, 0, np.ones((1, 1), np.bool_))
    write_predictions(path, [detection(volume=(("a/1.png", one_pixel),))])
    write_predictions(path, [detection()])
    assert read_predictions(path)[0].volume == ()


@pytest.mark.parametrize("facts", [{"score": 1.5}, {"score": float("nan")}, {"box": Box(0, 0, float("inf"), 1)}])
def test_a_broken_detection_is_refused_and_leaves_no_file(tmp_path: Path, facts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a/1\.png"):
        write_predictions(tmp_path / "a.parquet", [detection(**facts)])
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.parquet"):
        write_predictions(tmp_path / "a.csv", [])


def test_a_file_that_is_no_table_of_predictions_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(ConfigError, match=r"a\.parquet: not a readable Parquet file"):
        read_predictions(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match=r"a\.parquet: not a readable Parquet file"):
        read_predictions(path)
    pq.write_table(pa.table({"score": [0.5]}), path)
    with pytest.raises(ConfigError, match=r"not a table of detections.*another type are file_name, .* more"):
        read_predictions(path)


def test_volumes_of_another_file_are_noticed(tmp_path: Path) -> None:
    one, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    one_pixel = PixelMask(0, 0, np.ones((1, 1), np.bool_))
    write_predictions(one, [detection(), detection(volume=(("a/1.png", one_pixel),))])
    write_predictions(other, [detection()])
    volumes_path(one).rename(volumes_path(other))
    with pytest.raises(ConfigError, match=r"b\.volumes\.parquet: names detection 1"):
        read_predictions(other)
