"""From four ends to a lesion: mask on the key slice, 3-D mask, RECIST and volume of what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.mask_recist import recist_of_mask
from deeplesion_miner.types import Segment
from models.delineation.ellipse import Mask, axes_mm, completed, cross_of, ellipse_mask, mean_half_depth_mm
from models.delineation.grabcut import Grid, cut, grid_around, on_image
from models.delineation.propagate import propagate
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
    """On the key slice; never empty where the cross lies on the image."""
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
    """What made the mask of the key slice: 'vote', 'grabcut' or 'ellipse' (where the others ran away)."""
    agreement: float
    """Dice of the key slice's mask with the quarter ellipses through the ends, 0 to 1."""


def delineate(
    volume: Volume, index: int, ends_px: NDArray[np.float64], *, delineator: Delineator | None = None
) -> Delineation:
    """The lesion whose RECIST ends (4, 2), long axis first, lie on slice `index`; NaN for a missing short axis.

    ValueError for ends without a long axis, or a cross that lies outside the image.
    """
    rows, columns = volume.hu.shape[1:]
    spacing = (volume.row_spacing_mm, volume.col_spacing_mm)
    ends = completed(ends_px, *spacing)
    grid = grid_around(cross_of(ends), *spacing)
    ellipse = ellipse_mask(ends, rows, columns)
    if not ellipse.any():
        raise ValueError(f"ends {np.round(ends, 1).tolist()} lie outside the image of {columns} x {rows} pixels")
    lesion, method = _key(volume.hu[index], grid, delineator)
    slices = propagate(volume, index, grid, lesion, mean_half_depth_mm(ends, *spacing))
    planes = {at: on_image(found, grid, rows, columns) for at, found in slices.items()}
    if not planes[index].any():
        planes[index], method = ellipse, "ellipse"
    planes = {at: planes[at] for at in sorted(planes) if planes[at].any()}
    long_axis, short_axis = recist_of_mask(planes[index], *spacing)
    long_mm, short_mm = axes_mm(np.array([long_axis.start, long_axis.end, short_axis.start, short_axis.end]), *spacing)
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


def _key(hu: NDArray[np.int16], grid: Grid, delineator: Delineator | None) -> tuple[Mask, str]:
    """The lesion on the key slice, on the grid, and what made it."""
    ellipse = grid.level <= 1
    lesion = cut(hu, grid, 1.0)
    if delineator is None:
        return (ellipse, "ellipse") if lesion is None else (lesion, "grabcut")
    learned = delineator.probability(hu, grid) > 0.5
    votes = learned.astype(np.uint8) + ellipse + (ellipse if lesion is None else lesion)
    return votes >= 2, "vote"


def _volume_mm3(volume: Volume, planes: dict[int, Mask]) -> float | None:
    if len(volume.position_mm) < 2:
        return None
    # a slice stands for the patient up to halfway to its neighbours
    thickness_mm = np.gradient(volume.position_mm)
    pixel_mm2 = volume.row_spacing_mm * volume.col_spacing_mm
    return float(sum(plane.sum() * pixel_mm2 * thickness_mm[at] for at, plane in planes.items()))
