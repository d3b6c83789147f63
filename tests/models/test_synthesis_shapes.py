"""Shapes of synthetic lesions: one piece, of known size, as lobulated as the mask they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.mask_recist import recist_of_mask
from models.synthesis.shapes import REACH, SAMPLES, Shape, lobulated_ellipsoid, sampled, shape_of_mask, shapes_of_masks

STEP = 2 * REACH / (SAMPLES - 1)


def ellipsoid_bits(semi_px: tuple[float, float, float], size: tuple[int, int, int]) -> NDArray[np.bool_]:
    axes = [np.arange(length) - (length - 1) / 2 for length in size]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.asarray((z / semi_px[0]) ** 2 + (y / semi_px[1]) ** 2 + (x / semi_px[2]) ** 2 <= 1)


def key_section(shape: Shape, samples: int = 151) -> NDArray[np.bool_]:
    at = np.linspace(-REACH, REACH, samples)
    y, x = np.meshgrid(at, at, indexing="ij")
    return sampled(shape, 0.0, y, x) < 0


def long_axis_of(shape: Shape) -> float:
    long_axis, _ = recist_of_mask(key_section(shape), 1, 1)
    return long_axis.length_px * 2 * REACH / 150


@given(seed=st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_a_lobulated_ellipsoid_is_one_piece_with_a_long_axis_of_two_and_its_largest_section_in_the_middle(
    seed: int,
) -> None:
    shape = lobulated_ellipsoid(np.random.default_rng(seed), "made")
    inside = shape.distance < 0
    areas = inside.sum(axis=(1, 2))
    assert ndimage.label(inside)[1] == 1
    assert long_axis_of(shape) == pytest.approx(2, abs=0.06)
    assert areas[SAMPLES // 2] >= 0.97 * areas.max()
    assert not inside[0].any() and not inside[-1].any(), "the shape must end within its field"


def test_a_mask_keeps_its_proportions_whatever_its_voxels() -> None:
    # semi-axes of 10 x 7 mm in the plane
    bits = ellipsoid_bits((3, 7 / 0.7, 10 / 0.9), (7, 25, 27))
    shape = shape_of_mask("made", bits, (4.0, 0.7, 0.9))
    assert shape is not None
    long_axis, short_axis = recist_of_mask(key_section(shape), 1, 1)
    assert short_axis.length_px / long_axis.length_px == pytest.approx(0.7, abs=0.05)
    (x1, y1), (x2, y2) = long_axis.start, long_axis.end
    assert abs(x2 - x1) > 5 * abs(y2 - y1), "the long axis ran along the columns"


def test_a_notch_in_a_mask_is_a_notch_in_its_shape() -> None:
    bits = ellipsoid_bits((3, 12, 12), (7, 31, 31))
    bits[:, 15:, 12:19] = False
    shape = shape_of_mask("made", bits, (3.0, 1.0, 1.0))
    assert shape is not None
    section = key_section(shape)
    rows = np.arange(len(section))
    below = [section[row] for row in rows if section[row].any() and row > 85]
    assert any(ndimage.label(row)[1] == 2 for row in below)


def test_of_several_pieces_the_largest_is_the_shape() -> None:
    bits = np.zeros((7, 40, 60), np.bool_)
    bits[:, 5:30, 5:32] = ellipsoid_bits((3, 10, 12), (7, 25, 27))
    alone = shape_of_mask("made", bits, (3.0, 1.0, 1.0))
    bits[2:4, 33:37, 50:56] = True
    with_another = shape_of_mask("made", bits, (3.0, 1.0, 1.0))
    assert alone is not None and with_another is not None
    np.testing.assert_allclose(alone.distance, with_another.distance, atol=1e-5)


@pytest.mark.parametrize("size", [0, 5])
def test_a_mask_of_few_pixels_has_no_shape(size: int) -> None:
    bits = np.zeros((3, 12, 12), np.bool_)
    bits[1, :size, :size] = True
    assert shape_of_mask("made", bits, (3.0, 1.0, 1.0)) is None


def test_packed_masks_are_read_by_their_index(tmp_path: Path) -> None:
    bits = ellipsoid_bits((2, 6, 8), (5, 15, 19))
    np.savez(tmp_path / "uls23_deeplesion3d_visible.npz", **{"000007_01_01_020": np.packbits(bits)})
    (tmp_path / "uls23_deeplesion3d_visible_index.csv").write_text(
        'name,n_slices,n_rows,n_cols,Spacing_mm_px_\n000007_01_01_020,5,15,19,"0.8, 0.7, 2"\n', encoding="utf-8"
    )
    (shape,) = shapes_of_masks(tmp_path)
    expected = shape_of_mask("000007_01_01_020", bits, (2.0, 0.7, 0.8))
    assert expected is not None and shape.source == expected.source
    np.testing.assert_array_equal(shape.distance, expected.distance)


def test_a_folder_without_masks_is_refused_with_the_files_that_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"uls23_deeplesion3d_visible\.npz"):
        shapes_of_masks(tmp_path)
