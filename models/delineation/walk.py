"""A random walker with priors (Grady, CVPR 2005) around a RECIST cross, on one slice or through all of them.

Each point has a prior: how likely it is lesion by its distance in the frame of the cross and along the patient, and
by its CT number beside those of the core and of a ring around it. A walker leaves a point for its neighbours, rarely
across an edge in the image, or stops by the point's own prior; the lesion is where it stops as lesion more often
than not. Where core and ring look alike the CT numbers hardly count, and what is left is the prior's shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from models.delineation.ellipse import Cross, Floats, Mask
from models.delineation.grabcut import Grid, joined


@dataclass(frozen=True)
class WalkSettings:
    """Numbers of the walk, found on synthetic lesions in real CT of training patients."""

    edge_level: float = 0.08
    """Width of the prior's edge in the plane, in multiples of the ends' distance ..."""
    edge_depth: float = 0.4
    """... and along the patient, in multiples of the expected semi-axis: marks on one slice say little of it."""
    core: float = 0.58
    """Within this distance CT numbers are the lesion's."""
    ring: tuple[float, float] = (1.2, 1.8)
    """Between these levels they are those of what surrounds it ..."""
    ring_depth: float = 0.8
    """... on slices no farther than this."""
    grey_weight: float = 1.4
    """What CT numbers say against what the shape says, where core and ring have nothing in common ..."""
    grey_trust: float = 0.4
    """... and less by this power of what they have not in common."""
    grey_limit: float = 2.5
    """Of a logarithm of a likelihood ratio: one pixel proves nothing."""
    least_bin_hu: float = 18.0
    """Blur of the distributions of CT numbers."""
    edge_weight: float = 30.0
    """How strongly a step in CT numbers, as a share of their range, holds the walker back."""
    stop: float = 0.65
    """How soon a walker stops by the prior of where it is; small makes smooth."""
    farthest: float = 2.3
    """Slices beyond this multiple of the expected semi-axis are not looked at."""
    level: float = 2.0
    """How far the grid reaches, in multiples of the ends' distance."""
    side: int = 72
    """Points along a side of the grid, about and at most."""


DEFAULT_WALK = WalkSettings()
_STEEPEST = 6.0
"""Of the prior's logarithm of odds: nothing is certain."""
_LEAST_DENSITY = 1e-3
_STRONGEST_LINK = 1000.0
"""Of slices, beside 1 for points a step apart: slices that all but coincide would keep the walk from settling."""


def walk_grid(
    cross: Cross, row_spacing_mm: float, col_spacing_mm: float, settings: WalkSettings = DEFAULT_WALK
) -> Grid:
    """The grid of a walk: the image's own pixels around a cross, every second or further one for large lesions."""
    halves = np.array([*cross.long_halves_px, *cross.short_halves_px])
    directions = np.array([cross.long_direction] * 2 + [cross.short_direction] * 2)
    # a quarter ellipse lies in the box of its two half axes
    column_reach, row_reach = settings.level * np.abs(halves[:, None] * directions).max(axis=0) + 2
    step_mm = max(
        row_spacing_mm,
        col_spacing_mm,
        2 * max(column_reach * col_spacing_mm, row_reach * row_spacing_mm) / settings.side,
    )
    column_step, row_step = max(int(step_mm / col_spacing_mm), 1), max(int(step_mm / row_spacing_mm), 1)
    column, row = round(cross.centre[0]), round(cross.centre[1])
    columns, rows = np.meshgrid(
        column + column_step * np.arange(-int(column_reach / column_step) - 1, int(column_reach / column_step) + 2),
        row + row_step * np.arange(-int(row_reach / row_step) - 1, int(row_reach / row_step) + 2),
    )
    level = np.hypot(*cross.coordinates(columns.astype(np.float64), rows.astype(np.float64)))
    return Grid(
        cross,
        columns.astype(np.float32),
        rows.astype(np.float32),
        level,
        (column_step * col_spacing_mm + row_step * row_spacing_mm) / 2,
        float(column_step),
        float(row_step),
    )


def walk(
    hu: NDArray[np.float32], grid: Grid, depth: Floats, gap_mm: Floats, settings: WalkSettings = DEFAULT_WALK
) -> NDArray[np.float64]:
    """(slices, side, side) how often a walker from each point of a grid stops as lesion, 0 to 1.

    `hu` (slices, side, side) are CT numbers at the points, `depth` (slices,) the distance of each slice from the key
    slice in multiples of the expected semi-axis, `gap_mm` (slices - 1,) the distance of neighbouring slices.
    """
    distance = np.sqrt(grid.level[None] ** 2 + depth[:, None, None] ** 2)
    odds = _shape_odds(grid.level, depth, distance, settings)
    inside = hu[distance <= settings.core]
    ring = (grid.level > settings.ring[0]) & (grid.level <= settings.ring[1])
    outside = hu[depth < settings.ring_depth][:, ring]
    if inside.size and outside.size:
        low, high = np.percentile(np.concatenate([inside.ravel(), outside.ravel()]), (1, 99))
        odds += _grey_odds(hu, inside, outside, (float(low), float(high)), settings)
        spread = float(high - low) + 1.0
    else:
        spread = float(np.ptp(hu)) + 1.0
    prior = 1 / (1 + np.exp(-odds))
    between = np.minimum((grid.step_mm / gap_mm) ** 2, _STRONGEST_LINK)
    return _stopped(hu / spread, prior, between, settings)


def lesion_of(shares: NDArray[np.float64], distance: Floats, settings: WalkSettings = DEFAULT_WALK) -> Mask:
    """(slices, side, side) where walkers stop as lesion: the parts that touch the core, holes of slices filled."""
    whole = joined(shares > 0.5, distance <= settings.core)
    filled: Mask = np.stack([ndimage.binary_fill_holes(plane) for plane in whole])
    return filled


def _shape_odds(level: Floats, depth: Floats, distance: Floats, settings: WalkSettings) -> Floats:
    across, along = settings.edge_level * level[None], settings.edge_depth * depth[:, None, None]
    width = np.maximum(np.hypot(across, along) / np.maximum(distance, 1e-6), settings.edge_level)
    odds: Floats = np.clip((1 - distance) / width, -_STEEPEST, _STEEPEST)
    return odds


def _grey_odds(
    hu: NDArray[np.float32],
    inside: NDArray[np.float32],
    outside: NDArray[np.float32],
    bounds: tuple[float, float],
    settings: WalkSettings,
) -> Floats:
    """What CT numbers add to the odds, by their blurred distributions inside and outside."""
    low, high = bounds
    blur = max(settings.least_bin_hu, (high - low) / 32)
    edges = np.arange(low - 4 * blur, high + 4 * blur + blur / 4, blur / 4)
    lesion, other = (_density(part, edges) for part in (inside, outside))
    common = float(np.sqrt(lesion / lesion.sum() * other / other.sum()).sum())
    trust = settings.grey_weight * max(1 - common, 0.0) ** settings.grey_trust
    ratio = np.clip(np.log(lesion / other), -settings.grey_limit, settings.grey_limit)
    added: Floats = trust * ratio[np.clip(np.digitize(hu, edges) - 1, 0, len(ratio) - 1)]
    return added


def _density(hu: NDArray[np.float32], edges: Floats) -> Floats:
    counts, _ = np.histogram(np.clip(hu, edges[0], edges[-1]), edges)
    smooth: Floats = ndimage.gaussian_filter1d(counts.astype(np.float64), 4)
    density: Floats = smooth / smooth.sum() + _LEAST_DENSITY
    return density


def _stopped(grey: NDArray[np.floating], prior: Floats, between: Floats, settings: WalkSettings) -> NDArray[np.float64]:
    """Solves the walk: (graph Laplacian + stop) shares = stop * prior, by conjugate gradients."""
    number = np.arange(grey.size).reshape(grey.shape)
    starts, ends, weights = [], [], []
    for axis in range(3):
        step = np.exp(-settings.edge_weight * np.diff(grey, axis=axis) ** 2)
        if axis == 0:
            step = step * between[:, None, None]
        starts.append(number.take(range(grey.shape[axis] - 1), axis).ravel())
        ends.append(number.take(range(1, grey.shape[axis]), axis).ravel())
        weights.append(step.ravel())
    start, end, weight = (np.concatenate(parts) for parts in (starts, ends, weights))
    graph = sparse.coo_matrix((weight, (start, end)), shape=(grey.size, grey.size))
    graph = (graph + graph.T).tocsr()
    diagonal = np.asarray(graph.sum(axis=1)).ravel() + settings.stop
    shares, failed = cg(
        sparse.diags(diagonal) - graph,
        settings.stop * prior.ravel(),
        x0=prior.ravel(),
        rtol=1e-4,
        maxiter=1000,
        M=sparse.diags(1 / diagonal),
    )
    if failed:
        raise ArithmeticError(f"the walk on {grey.shape} points did not settle")
    solved: NDArray[np.float64] = shares.reshape(grey.shape)
    return solved
