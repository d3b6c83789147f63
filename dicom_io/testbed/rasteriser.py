"""Area-sampled pictures of analytic shapes: each pixel is the mean over its area, so that edges lie where they are.

The module has its own plane arithmetic on purpose: phantoms are the judge of the product's geometry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.types import Point, Vector

AIR_HU = -1000.0
SUBSAMPLES = 4
"""A pixel near an edge is the mean of this many samples squared, each with the share of itself that is inside."""


@dataclass(frozen=True)
class Grid:
    """An image plane: the centre of its first pixel, the directions of rows and columns, spacings and size."""

    origin_mm: Vector
    row_dir: Vector
    col_dir: Vector
    row_spacing_mm: float
    col_spacing_mm: float
    rows: int
    columns: int

    @property
    def normal(self) -> Vector:
        """Unit vector from row direction and column direction by the right hand rule."""
        (a, b, c), (d, e, f) = self.row_dir, self.col_dir
        return b * f - c * e, c * d - a * f, a * e - b * d

    def point_mm(self, column: float, row: float) -> Vector:
        """The patient point (LPS mm) of a pixel position, the first pixel's centre being (0, 0)."""
        x, y, z = (
            self.origin_mm[i]
            + column * self.col_spacing_mm * self.row_dir[i]
            + row * self.row_spacing_mm * self.col_dir[i]
            for i in range(3)
        )
        return x, y, z

    def position_px(self, point_mm: Vector) -> Point:
        """(column, row) of the foot of a patient point on this plane."""
        offset = [point_mm[i] - self.origin_mm[i] for i in range(3)]
        along_row = sum(offset[i] * self.row_dir[i] for i in range(3))
        along_column = sum(offset[i] * self.col_dir[i] for i in range(3))
        return along_row / self.col_spacing_mm, along_column / self.row_spacing_mm

    def above(self, x_mm: float, y_mm: float) -> Vector:
        """The point of this plane with the given patient x and y; for planes that are not parallel to z."""
        n = self.normal
        beyond = (x_mm - self.origin_mm[0]) * n[0] + (y_mm - self.origin_mm[1]) * n[1]
        return x_mm, y_mm, self.origin_mm[2] - beyond / n[2]


@dataclass(frozen=True)
class Shape:
    """A superellipsoid: sum of |distance along axis i / semi-axis i| ** exponent <= 1; the exponent is even.

    Infinite semi-axes are allowed.
    """

    centre_mm: Vector
    axes: tuple[Vector, Vector, Vector]
    """Three orthogonal unit vectors."""
    semi_axes_mm: Vector
    hu: float
    exponent: int = 2


def picture_hu(grid: Grid, shapes: tuple[Shape, ...]) -> NDArray[np.float64]:
    """CT numbers (rows, columns) of shapes painted in order over air, later ones over earlier ones."""
    hu = np.full((grid.rows, grid.columns), AIR_HU)
    for shape in shapes:
        window = _window(grid, shape)
        if window is None:
            continue
        left, top, right, bottom = window
        share = _share_inside(_linear_form(grid, shape, left, top), shape.exponent, bottom - top, right - left)
        area = hu[top:bottom, left:right]
        area += share * (shape.hu - area)
    return hu


def _window(grid: Grid, shape: Shape) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom (exclusive) of the pixels that the shape may reach; None where it reaches none."""
    reach_mm = max(shape.semi_axes_mm) * (1.0 if shape.exponent == 2 else 3 ** (0.5 - 1 / shape.exponent))
    if math.isinf(reach_mm):
        return 0, 0, grid.columns, grid.rows
    distance_mm = sum((shape.centre_mm[i] - grid.origin_mm[i]) * grid.normal[i] for i in range(3))
    if abs(distance_mm) > reach_mm:
        return None
    column, row = grid.position_px(shape.centre_mm)
    left = max(int(column - reach_mm / grid.col_spacing_mm) - 2, 0)
    top = max(int(row - reach_mm / grid.row_spacing_mm) - 2, 0)
    right = min(int(column + reach_mm / grid.col_spacing_mm) + 3, grid.columns)
    bottom = min(int(row + reach_mm / grid.row_spacing_mm) + 3, grid.rows)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _linear_form(grid: Grid, shape: Shape, left: int, top: int) -> tuple[tuple[float, float, float], ...]:
    """Per axis (constant, per column, per row): the scaled distance along that axis over the window's pixels."""
    corner = grid.point_mm(left, top)
    form = []
    for axis, semi_mm in zip(shape.axes, shape.semi_axes_mm, strict=True):
        constant = sum((corner[i] - shape.centre_mm[i]) * axis[i] for i in range(3)) / semi_mm
        per_column = sum(grid.row_dir[i] * axis[i] for i in range(3)) * grid.col_spacing_mm / semi_mm
        per_row = sum(grid.col_dir[i] * axis[i] for i in range(3)) * grid.row_spacing_mm / semi_mm
        # Rounded, so that the slices of a cylinder share one entry of the cache.
        form.append((round(constant, 9), round(per_column, 12), round(per_row, 12)))
    return tuple(form)


@lru_cache(maxsize=32)
def _share_inside(
    form: tuple[tuple[float, float, float], ...], exponent: int, rows: int, columns: int
) -> NDArray[np.float64]:
    """The share of each pixel's area that is inside, (rows, columns), 0 to 1."""
    x, y = np.arange(columns, dtype=float)[None, :], np.arange(rows, dtype=float)[:, None]
    power_sum = np.zeros((rows, columns))
    for constant, per_column, per_row in form:
        power_sum += _power(constant + per_row * y + per_column * x, exponent)
    share = (power_sum < 1.0).astype(float)
    # f = power_sum ** (1 / exponent) changes by no more than this over one and a half pixels.
    change = 1.5 * sum(math.hypot(per_column, per_row) for _, per_column, per_row in form)
    near_edge = (power_sum < (1 + change) ** exponent) & (power_sum > max(1 - change, 0.0) ** exponent)
    edge_rows, edge_columns = np.nonzero(near_edge)
    steps = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    sample_x = edge_columns[:, None, None] + steps[None, None, :]
    sample_y = edge_rows[:, None, None] + steps[None, :, None]
    distance_px, slant = _signed_distance_px(form, exponent, sample_x, sample_y)
    # Within one sample the edge is straight: its share grows linearly over the sample's width across the edge.
    inside = np.clip(0.5 - distance_px * SUBSAMPLES / slant, 0.0, 1.0)
    share[edge_rows, edge_columns] = inside.mean(axis=(1, 2))
    share.flags.writeable = False
    return share


def _signed_distance_px(
    form: tuple[tuple[float, float, float], ...], exponent: int, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance to the edge in pixels (negative inside, exact to first order) and a unit square's width across it."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    slope_x, slope_y = np.zeros_like(total), np.zeros_like(total)
    for constant, per_column, per_row in form:
        value = constant + per_column * x + per_row * y
        power = value if exponent == 2 else value * _power(value, exponent - 2)
        total += power * value
        slope_x += power * per_column
        slope_y += power * per_row
    length = np.maximum(np.hypot(slope_x, slope_y), 1e-12)
    # With f = total ** (1 / exponent): (f - 1) / |grad f|, where grad f = slope * f ** (1 - exponent).
    f = np.maximum(total, 1e-12) ** (1 / exponent)
    distance_px = (f - 1.0) * f ** (exponent - 1) / length
    return distance_px, (np.abs(slope_x) + np.abs(slope_y)) / length


def _power(value: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """An even power by repeated squaring, many times faster than `**` on arrays."""
    square = value * value
    return square if exponent == 2 else square * _power(value, exponent - 2)
