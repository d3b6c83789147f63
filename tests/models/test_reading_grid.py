"""Pixel centres map to pixel centres, and what is resampled lies where the points say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.reading.context import by_distance
from models.reading.grid import AIR_HU, MULTIPLE_PX, Grid, grid_over, inverse, moved, resample
from models.volume import Volume

spacings = st.floats(0.28, 2.0)
sides = st.integers(1, 700)


@given(sides, sides, spacings, spacings, st.floats(0.5, 3.0))
def test_a_grid_covers_its_image_and_maps_there_and_back(
    rows: int, columns: int, row_mm: float, col_mm: float, pixel_mm: float
) -> None:
    grid = grid_over(rows, columns, row_mm, col_mm, pixel_mm)
    # the outer corners of the image's first and last pixel
    boxes = np.array([[-0.5, -0.5, columns - 0.5, rows - 0.5]])
    on_network = grid.to_network(boxes)
    np.testing.assert_allclose(on_network[0, :2], -0.5, atol=1e-9)
    np.testing.assert_allclose(on_network[0, 2:] + 0.5, (columns * col_mm / pixel_mm, rows * row_mm / pixel_mm))
    assert (on_network[0, 2:] <= (grid.columns - 0.5 + 1e-5, grid.rows - 0.5 + 1e-5)).all()
    assert grid.rows % MULTIPLE_PX == grid.columns % MULTIPLE_PX == 0
    assert grid.columns - MULTIPLE_PX < columns * col_mm / pixel_mm, "no more padding than needed"
    np.testing.assert_allclose(grid.to_image(on_network), boxes, atol=1e-6)
    points = np.array([[3.25, 7.5], [0, 0]])
    np.testing.assert_allclose(moved(grid.to_network(points), grid.to_image_matrix), points, atol=1e-9)


def test_a_millimetre_is_a_millimetre_on_the_grid() -> None:
    grid = grid_over(512, 512, 0.8, 0.8, 1.6)
    np.testing.assert_allclose(grid.to_network(np.array([[0.5, 2.5]])), [[0.0, 1.0]])
    assert (grid.rows, grid.columns) == (256, 256)


matrices = st.builds(
    lambda angle, size, ratio, mirror, x, y: np.column_stack(
        [
            np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            @ np.diag([size * mirror, size * ratio]),
            (x, y),
        ]
    ),
    st.floats(-4, 4),
    st.floats(0.4, 4.5),
    st.floats(0.7, 1.4),
    st.sampled_from([-1, 1]),
    st.floats(90, 110),
    st.floats(80, 120),
)


@settings(max_examples=60)
@given(matrices, st.booleans())
def test_a_slope_of_ct_numbers_stays_a_slope_under_every_affine(matrix: np.ndarray, smooth: bool) -> None:
    row, column = np.mgrid[:200, :200]
    slope = (3 * column - 2 * row).astype(np.int16)
    seen = resample([slope], matrix, 24, 24, smooth=smooth)[0]
    y, x = np.mgrid[:24, :24]
    places = moved(np.stack([x, y], axis=-1), matrix)
    inside = ((places > 8) & (places < 191)).all(axis=-1)
    expected = places @ (3, -2)
    np.testing.assert_allclose(seen[inside], expected[inside], atol=0.2)


@settings(max_examples=60)
@given(matrices)
def test_a_dot_is_found_where_its_point_moves_to(matrix: np.ndarray) -> None:
    row, column = np.mgrid[:200, :200]
    matrix[:, 2] = (97.3, 104.8) - matrix[:, :2] @ (40.3, 39.6)
    spread_px = 2 * max(1.0, *np.hypot(matrix[0, :2], matrix[1, :2]))
    dot = 1000 * np.exp(-((column - 97.3) ** 2 + (row - 104.8) ** 2) / (2 * spread_px**2))
    seen = resample([dot.astype(np.float32)], matrix, 80, 80, outside=0.0)[0]
    y, x = np.mgrid[:80, :80]
    found = np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum()
    np.testing.assert_allclose(found, (40.3, 39.6), atol=0.1)


@pytest.mark.parametrize("step", [1.3, 1.9, 2.6, 3.07, 4.4])
def test_no_pixel_falls_between_the_points_of_a_coarse_grid(step: float) -> None:
    """A bright pixel leaves about the same sum behind wherever it lies."""
    matrix = np.array([[step, 0, 3.3], [0, step, 2.7]])
    sums = []
    for shift in range(12):
        image = np.zeros((120, 120), np.float32)
        image[40 + shift, 40 + (5 * shift) % 12] = 1000
        sums.append(resample([image], matrix, 64, 64, outside=0.0).sum() * step**2)
    assert min(sums) > 750 and max(sums) < 1250
    np.testing.assert_allclose(np.mean(sums), 1000, rtol=0.1)


def test_noise_of_many_pixels_is_averaged_on_a_coarse_grid() -> None:
    noise = np.random.default_rng(0).normal(0, 30, (400, 400)).astype(np.int16)
    matrix = np.array([[3.0, 0, 1.0], [0, 3.0, 1.0]])
    assert resample([noise], matrix, 128, 128)[0].std() < 15
    assert resample([noise], matrix, 128, 128, smooth=False)[0].std() > 25


def test_what_lies_outside_the_image_is_air() -> None:
    water = np.zeros((50, 60), np.int16)
    seen = resample([water], np.array([[1.0, 0, -20], [0, 1.0, -10]]), 128, 128)[0]
    assert (seen[10:60, 20:80] == 0).all()
    assert (seen[:9] == AIR_HU).all() and (seen[:, 82:] == AIR_HU).all()
    assert (resample([water], np.array([[1.0, 0, 500], [0, 1.0, 0]]), 8, 8) == AIR_HU).all()


def test_the_same_grid_gives_the_same_pixels() -> None:
    image = np.random.default_rng(1).integers(-1000, 1000, (64, 96)).astype(np.int16)
    same = Grid(64, 96, (1.0, 1.0), (0.0, 0.0))
    np.testing.assert_array_equal(resample([image], same.to_image_matrix, 64, 96)[0], image)


@given(matrices)
def test_an_affine_is_undone_by_its_inverse(matrix: np.ndarray) -> None:
    points = np.array([[[3.0, -7.5], [np.nan, np.nan]], [[100.0, 0.25], [1e3, -1e3]]])
    np.testing.assert_allclose(moved(moved(points, matrix), inverse(matrix)), points, atol=1e-8)


@given(
    st.lists(st.floats(0.3, 12), min_size=0, max_size=10),
    st.integers(0, 10),
    st.lists(st.floats(-40, 40), min_size=1, max_size=9),
)
def test_context_by_distance_is_the_volume_s_own_on_any_spacing(
    gaps: list[float], at: int, offsets_mm: list[float]
) -> None:
    positions = np.cumsum([5.0, *gaps])
    at = min(at, len(gaps))
    hu = np.random.default_rng(0).integers(-1000, 1000, (len(positions), 3, 4)).astype(np.int16)
    volume = Volume(hu, positions, 1.0, 1.0, tuple(map(str, range(len(positions)))))
    seen = by_distance(positions, at, offsets_mm)
    mixed = seen.mix(hu[list(seen.slices)].astype(np.float32))
    np.testing.assert_allclose(mixed, volume.context(at, offsets_mm), atol=0.01)
    np.testing.assert_allclose(seen.shares.sum(axis=1), 1, atol=1e-6)
    assert (seen.shares.max(axis=0) > 0).all(), "no slice is read for nothing"
