"""GrabCut around a RECIST cross (Rother et al. 2004), tuned for CT: one slice at a time, the same answer every time.

What the tuning is: grey values from the lesion's own neighbourhood instead of a fixed window; a bilateral filter
against noise; a grid finer than the image's, in mm; a narrow band in which pixels are free, from the quarter
ellipses' core to a little beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.delineation.ellipse import LEAST_AGREEMENT, Cross, Floats, Mask


@dataclass(frozen=True)
class GrabCutSettings:
    """Numbers of one GrabCut; levels are multiples of the distance of the ends in the frame of the cross."""

    core: float = 0.7
    """Within this level everything is lesion."""
    band: float = 1.25
    """Beyond this level nothing is lesion."""
    start: float = 1.0
    """Between core and band what lies within this level starts as lesion."""
    window: float = 1.6
    """Grey values span those within this level ..."""
    window_percentiles: tuple[float, float] = (1.0, 99.0)
    """... between these percentiles."""
    grid_mm: float = 0.5
    """Distance of the fine grid's points; larger for lesions that would need more than `largest_grid_px`."""
    largest_grid_px: int = 160
    """Side of the fine grid, at most."""
    bilateral_grey: float = 25.0
    """Grey values (of 255) that the filter mixes."""
    bilateral_mm: float = 1.5
    """Distance over which it mixes them."""
    iterations: int = 2
    least_agreement: float = LEAST_AGREEMENT


DEFAULT = GrabCutSettings()


@dataclass(frozen=True, eq=False)
class Grid:
    """A square grid in mm around a cross, where a lesion of any size has about as many points."""

    cross: Cross
    """At the middle of the grid."""
    columns: NDArray[np.float32]
    """(side, side) place of each point in pixels of the image."""
    rows: NDArray[np.float32]
    level: Floats
    """(side, side) distance of each point in the frame of the cross: 1 on the quarter ellipses."""
    step_mm: float
    column_step_px: float
    """Distance of neighbours along a row, in pixels of the image."""
    row_step_px: float

    def sampled(self, hu: NDArray[np.generic]) -> NDArray[np.float32]:
        """(side, side) the image (rows, columns) at the grid's points, linearly; its border repeats outside."""
        points: NDArray[np.float32] = cv2.remap(
            hu.astype(np.float32), self.columns, self.rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return points


def grid_around(
    cross: Cross, row_spacing_mm: float, col_spacing_mm: float, settings: GrabCutSettings = DEFAULT, level: float = 1.0
) -> Grid:
    """The grid that holds a cross's quarter ellipses, times `level`, out to the window of the settings."""
    reach = max(settings.window, settings.band + 0.1)
    ends_x, ends_y = _ends_from_centre_mm(cross, row_spacing_mm, col_spacing_mm)
    half_mm = reach * level * float(np.hypot(ends_x, ends_y).max()) + 2 * settings.grid_mm
    step_mm = max(settings.grid_mm, 2 * half_mm / (settings.largest_grid_px - 1))
    points_mm = np.arange(-int(half_mm / step_mm), int(half_mm / step_mm) + 1) * step_mm
    columns, rows = np.meshgrid(
        cross.centre[0] + points_mm / col_spacing_mm, cross.centre[1] + points_mm / row_spacing_mm
    )
    distance = np.hypot(*cross.coordinates(columns, rows))
    return Grid(
        cross,
        columns.astype(np.float32),
        rows.astype(np.float32),
        distance,
        step_mm,
        step_mm / col_spacing_mm,
        step_mm / row_spacing_mm,
    )


def cut(hu: NDArray[np.generic], grid: Grid, level: float, settings: GrabCutSettings = DEFAULT) -> Mask | None:
    """(side, side) the lesion on a grid, held together by its core and without holes; None where the cut ran away.

    `hu` is the image (rows, columns); `level` shrinks the ellipses on slices off the key slice.
    """
    distance = grid.level / level
    if not (distance <= settings.core).any() or (distance <= settings.band).all():
        return None
    grey = _grey(grid.sampled(hu), distance <= settings.window, grid.step_mm, settings)
    labels = np.select(
        [distance <= settings.core, distance <= settings.start, distance <= settings.band],
        [cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD],
        cv2.GC_BGD,
    ).astype(np.uint8)
    # the mixtures' k-means draws from OpenCV's own generator
    cv2.setRNGSeed(0)
    cv2.grabCut(
        cv2.merge([grey] * 3),
        labels,
        None,
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        settings.iterations,
        cv2.GC_INIT_WITH_MASK,
    )
    lesion = joined(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)), distance <= settings.core)
    ellipse = distance <= 1
    agreement = 2 * int((lesion & ellipse).sum()) / (int(lesion.sum()) + int(ellipse.sum()))
    return lesion if agreement >= settings.least_agreement else None


def joined(mask: Mask, core: Mask) -> Mask:
    """The parts of a mask that touch its core, their holes filled."""
    parts, _ = ndimage.label(mask)
    kept = np.unique(parts[core & mask])
    filled: Mask = ndimage.binary_fill_holes(np.isin(parts, kept[kept > 0]))
    return filled


def on_image(lesion: NDArray[np.generic], grid: Grid, rows: int, columns: int) -> Mask:
    """(rows, columns) pixels of the image whose centre lies in a lesion of a grid (a mask, or shares from 0 to 1)."""
    mask = np.zeros((rows, columns), np.bool_)
    column_0, row_0 = float(grid.columns[0, 0]), float(grid.rows[0, 0])
    column = np.arange(max(int(column_0), 0), min(int(grid.columns[0, -1]) + 2, columns))
    row = np.arange(max(int(row_0), 0), min(int(grid.rows[-1, 0]) + 2, rows))
    if row.size and column.size:
        at_column, at_row = np.meshgrid((column - column_0) / grid.column_step_px, (row - row_0) / grid.row_step_px)
        shares = cv2.remap(
            lesion.astype(np.float32),
            at_column.astype(np.float32),
            at_row.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        mask[row[0] : row[-1] + 1, column[0] : column[-1] + 1] = shares > 0.5
    return mask


def _grey(hu: NDArray[np.float32], near: Mask, step_mm: float, settings: GrabCutSettings) -> NDArray[np.uint8]:
    """Grey values of the lesion's neighbourhood, 0 to 255, without noise."""
    low, high = np.percentile(hu[near], settings.window_percentiles)
    grey = np.clip((hu - low) / max(high - low, 1.0) * 255, 0, 255).astype(np.float32)
    if settings.bilateral_grey > 0:
        grey = cv2.bilateralFilter(grey, -1, settings.bilateral_grey, settings.bilateral_mm / step_mm)
    rounded: NDArray[np.uint8] = grey.round().astype(np.uint8)
    return rounded


def _ends_from_centre_mm(cross: Cross, row_spacing_mm: float, col_spacing_mm: float) -> tuple[Floats, Floats]:
    halves = np.array([*cross.long_halves_px, *cross.short_halves_px])
    directions = np.array([cross.long_direction] * 2 + [cross.short_direction] * 2)
    vectors = halves[:, None] * directions * (col_spacing_mm, row_spacing_mm)
    return vectors[:, 0], vectors[:, 1]
