"""The lesion that a reader would outline, from the marks alone: no pixels are looked at.

Readers outline a little outside the ends that they measured, and count slices that hold a lesion in part: a margin
in the plane and a depth that grows with the slice interval, calibrated on human masks (`prior.toml`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from models.delineation.ellipse import Floats, Mask, axes_mm, completed, cross_of, ellipse_mask, ellipsoid_mask

LEAST_HALF_DEPTH_MM = 0.5
"""Of a mark without length on a single slice."""


@dataclass(frozen=True)
class Prior:
    """Numbers of the calibrated shape."""

    margin_mm: float
    """The outline lies so far beyond each end."""
    depth_short: float
    """Semi-axis along the patient: this share of the short axis ..."""
    depth_long: float
    """... and this of the long axis ..."""
    depth_interval: float
    """... and this of the slice interval."""

    def half_depth_mm(self, long_axis_mm: float, short_axis_mm: float, interval_mm: float) -> float:
        """Semi-axis along the patient, at least LEAST_HALF_DEPTH_MM."""
        expected = self.depth_short * short_axis_mm + self.depth_long * long_axis_mm + self.depth_interval * interval_mm
        return max(expected, LEAST_HALF_DEPTH_MM)

    def ends(self, ends_px: NDArray[np.float64], row_spacing_mm: float, col_spacing_mm: float) -> Floats:
        """(4, 2) the ends, each moved out along its axis by the margin; a missing short axis is completed."""
        whole = completed(ends_px, row_spacing_mm, col_spacing_mm)
        scale = np.array([col_spacing_mm, row_spacing_mm])
        cross = cross_of(whole)
        for ends, direction in ((slice(0, 2), cross.long_direction), (slice(2, 4), cross.short_direction)):
            step = np.array(direction) * self.margin_mm / np.hypot(*(np.array(direction) * scale))
            whole[ends] += np.array([-step, step])
        return whole

    def key_mask(
        self, ends_px: NDArray[np.float64], row_spacing_mm: float, col_spacing_mm: float, rows: int, columns: int
    ) -> Mask:
        """(rows, columns) on the key slice."""
        return ellipse_mask(self.ends(ends_px, row_spacing_mm, col_spacing_mm), rows, columns)

    def volume_mask(
        self,
        ends_px: NDArray[np.float64],
        distance_mm: NDArray[np.float64],
        interval_mm: float,
        row_spacing_mm: float,
        col_spacing_mm: float,
        rows: int,
        columns: int,
    ) -> Mask:
        """(slices, rows, columns) on slices at `distance_mm` (slices,) from the key slice."""
        half_depth = self.half_depth_mm(*axes_mm(ends_px, row_spacing_mm, col_spacing_mm), interval_mm)
        grown = self.ends(ends_px, row_spacing_mm, col_spacing_mm)
        return ellipsoid_mask(grown, distance_mm, rows, columns, half_depth)


@cache
def facts() -> Mapping[str, Mapping[str, float]]:
    """What `prior.toml` says, section by section."""
    return tomllib.loads(resources.files(__package__).joinpath("prior.toml").read_text(encoding="utf-8"))


def calibrated() -> Prior:
    """The prior fitted on human masks."""
    plane, depth = facts()["plane"], facts()["depth"]
    return Prior(plane["margin_mm"], depth["short"], depth["long"], depth["interval"])
