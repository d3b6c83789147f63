"""From the key slice to its neighbours: GrabCut slice by slice, gated by an ellipsoid, stopped where contrast ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.delineation.ellipse import Mask
from models.delineation.grabcut import DEFAULT, GrabCutSettings, Grid, cut
from models.volume import Volume


@dataclass(frozen=True)
class PropagationSettings:
    """How far and when a lesion ends along the patient; depths are multiples of the expected semi-axis."""

    farthest: float = 1.35
    """No slice beyond this depth."""
    least_contrast: float = 0.4
    """A slice whose core has less than this share of the key slice's contrast lies past the end."""
    least_hu: float = 10.0
    """Below this contrast on the key slice HU say nothing of the end, and the ellipsoid alone decides."""
    grabcut: GrabCutSettings = DEFAULT


DEFAULT_PROPAGATION = PropagationSettings()


def propagate(
    volume: Volume,
    index: int,
    grid: Grid,
    key: Mask,
    half_depth_mm: float,
    settings: PropagationSettings = DEFAULT_PROPAGATION,
) -> dict[int, Mask]:
    """The lesion on each slice that it reaches, by slice index, as masks on the grid; the key slice among them.

    `key` (side, side) is the lesion on the key slice. Slices are followed outwards from it, in both directions, until
    the gate or the end of the contrast; a slice whose cut runs away takes the ellipsoid's section.
    """
    found = {index: key}
    inside, outside = _contrast(grid.sampled(volume.hu[index]), grid, key, 1.0)
    for direction in (-1, 1):
        at = index + direction
        while 0 <= at < len(volume.position_mm):
            depth = abs(float(volume.position_mm[at] - volume.position_mm[index])) / half_depth_mm
            if depth >= settings.farthest:
                break
            level = float(np.sqrt(1 - (depth / settings.farthest) ** 2))
            if _past_the_end(volume.hu[at], grid, key, level, inside - outside, settings):
                break
            lesion = cut(volume.hu[at], grid, level, settings.grabcut)
            found[at] = grid.level <= level if lesion is None else lesion
            if not found[at].any():
                del found[at]
                break
            at += direction
    return found


def _past_the_end(
    hu: NDArray[np.int16], grid: Grid, key: Mask, level: float, contrast: float, settings: PropagationSettings
) -> bool:
    if abs(contrast) < settings.least_hu:
        return False
    inside, outside = _contrast(grid.sampled(hu), grid, key, level)
    return (inside - outside) / contrast < settings.least_contrast


def _contrast(hu: NDArray[np.float32], grid: Grid, key: Mask, level: float) -> tuple[float, float]:
    """Median HU of the core and of a ring around the key slice's lesion."""
    core = (grid.level <= DEFAULT.core * level) & key
    ring = (grid.level > DEFAULT.band) & (grid.level <= DEFAULT.window) & ~key
    if not core.any() or not ring.any():
        return 0.0, 0.0
    return float(np.median(hu[core])), float(np.median(hu[ring]))
