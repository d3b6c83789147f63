"""From four ends to a lesion: mask on the key slice, 3-D mask, RECIST and volume of what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.mask_recist import recist_of_mask
from deeplesion_miner.types import Segment
from models.delineation.ellipse import (
    LEAST_AGREEMENT,
    Floats,
    Mask,
    axes_mm,
    completed,
    cross_of,
    ellipse_mask,
    ellipsoid_mask,
)
from models.delineation.grabcut import Grid, grid_around, on_image
from models.delineation.prior import calibrated
from models.delineation.walk import DEFAULT_WALK, WalkSettings, lesion_of, walk, walk_grid
from models.evaluation.mask_metrics import dice
from models.volume import Volume


class Delineator(Protocol):
    """A trained model that says how likely each point of a grid belongs to the marked lesion."""

    model_id: str

    def probability(self, hu: NDArray[np.generic], grid: Grid) -> NDArray[np.float32]:
        """(side, side) 0 to 1 on the grid, for an image (rows, columns) of HU."""


@dataclass(frozen=True, eq=False)
class Delineation:
    """A lesion as its cross and its pixels say; pixels are those of the volume's slices."""

    mask: PixelMask
    """On the key slice; never empty."""
    volume: tuple[tuple[str, PixelMask], ...]
    """Name of the slice and the lesion on it, from head to feet, the key slice among them."""
    long_axis: Segment
    """Measured on the mask, not the ends that were given."""
    short_axis: Segment
    long_axis_mm: float
    short_axis_mm: float
    volume_mm3: float | None
    """None where there is a single slice: nothing says how thick it is."""
    method: str
    """What made the mask of the key slice: 'walk', 'vote' of walk, network and ellipse, or 'ellipse' where the walk
    ran away."""
    agreement: float
    """Dice of the key slice's mask with the quarter ellipses through the ends, 0 to 1."""


def delineate(
    volume: Volume,
    index: int,
    ends_px: NDArray[np.float64],
    *,
    delineator: Delineator | None = None,
    settings: WalkSettings = DEFAULT_WALK,
) -> Delineation:
    """The lesion whose RECIST ends (4, 2), long axis first, lie on slice `index`.

    A missing short axis (NaN) is completed at 0.75 times the long one. How far the lesion reaches along the patient
    is expected from its axes and the slice interval (`prior.toml`). ValueError for ends without a long axis, or a
    cross that lies outside the image.
    """
    rows, columns = volume.hu.shape[1:]
    spacing = (volume.row_spacing_mm, volume.col_spacing_mm)
    ends = completed(ends_px, *spacing)
    ellipse = ellipse_mask(ends, rows, columns)
    if not ellipse.any():
        raise ValueError(f"ends {np.round(ends, 1).tolist()} lie outside the image of {columns} x {rows} pixels")
    half_depth_mm = _half_depth_mm(volume, ends)
    planes = _walked(volume, index, ends, half_depth_mm, settings)
    planes[index], method = _key(volume, index, ends, planes[index], delineator)
    if dice(planes[index], ellipse) < LEAST_AGREEMENT:
        away_mm = volume.position_mm - volume.position_mm[index]
        planes, method = dict(enumerate(ellipsoid_mask(ends, away_mm, rows, columns, half_depth_mm))), "ellipse"
    planes = {at: planes[at] for at in sorted(planes) if planes[at].any()}
    long_axis, short_axis = recist_of_mask(planes[index], *spacing)
    found = np.array([long_axis.start, long_axis.end, short_axis.start, short_axis.end])
    long_mm, short_mm = axes_mm(found, *spacing)
    return Delineation(
        PixelMask.of_plane(planes[index]),
        tuple((volume.images[at], PixelMask.of_plane(plane)) for at, plane in planes.items()),
        long_axis,
        short_axis,
        long_mm,
        short_mm,
        _volume_mm3(volume, planes),
        method,
        dice(planes[index], ellipse),
    )


def reach_mm(volume: Volume, ends_px: NDArray[np.float64], settings: WalkSettings = DEFAULT_WALK) -> float:
    """How far from its key slice `delineate` looks for a lesion with these ends (4, 2)."""
    return settings.farthest * _half_depth_mm(volume, ends_px)


def _half_depth_mm(volume: Volume, ends_px: NDArray[np.float64]) -> float:
    lengths_mm = axes_mm(ends_px, volume.row_spacing_mm, volume.col_spacing_mm)
    return calibrated().half_depth_mm(*lengths_mm, volume.interval_mm)


def _walked(volume: Volume, index: int, ends: Floats, half_depth_mm: float, settings: WalkSettings) -> dict[int, Mask]:
    """The lesion on each slice that the walk looks at, as (rows, columns) by the slice's index."""
    grid = walk_grid(cross_of(ends), volume.row_spacing_mm, volume.col_spacing_mm, settings)
    away_mm = volume.position_mm - volume.position_mm[index]
    seen = np.flatnonzero(np.abs(away_mm) <= settings.farthest * half_depth_mm)
    depth = np.abs(away_mm[seen]) / half_depth_mm
    hu = np.stack([grid.sampled(volume.hu[at]) for at in seen])
    shares = walk(hu, grid, depth, np.diff(volume.position_mm[seen]), settings)
    lesion = lesion_of(shares, np.hypot(grid.level[None], depth[:, None, None]), settings)
    rows, columns = volume.hu.shape[1:]
    return {at: on_image(plane, grid, rows, columns) for at, plane in zip(seen.tolist(), lesion, strict=True)}


def _key(volume: Volume, index: int, ends: Floats, walked: Mask, delineator: Delineator | None) -> tuple[Mask, str]:
    """The lesion on the key slice and what made it."""
    if delineator is None:
        return walked, "walk"
    rows, columns = walked.shape
    grid = grid_around(cross_of(ends), volume.row_spacing_mm, volume.col_spacing_mm)
    learnt = on_image(delineator.probability(volume.hu[index], grid), grid, rows, columns)
    return walked.astype(np.uint8) + learnt + ellipse_mask(ends, rows, columns) >= 2, "vote"


def _volume_mm3(volume: Volume, planes: dict[int, Mask]) -> float | None:
    if len(volume.position_mm) < 2:
        return None
    # a slice stands for the patient up to halfway to its neighbours
    thickness_mm = np.gradient(volume.position_mm)
    pixel_mm2 = volume.row_spacing_mm * volume.col_spacing_mm
    return float(sum(plane.sum() * pixel_mm2 * thickness_mm[at] for at, plane in planes.items()))
