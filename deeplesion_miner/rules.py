"""Thresholds of the rules, each with its unit, and why it is what it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from deeplesion_miner.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """Settings of filters, flags, merging and the population rule. ConfigError for a negative or infinite one.

    The defaults keep every public DeepLesion row.
    """

    max_tilt_deg: float = 10.0
    """Largest angle between a plane's normal and the patient's z axis. Coronal, sagittal and oblique
    reformats are far above; a tilted gantry (head CT: 10 to 30 degrees) is axial acquisition, too, and
    needs this limit raised."""
    max_off_plane_mm: float = 1.0
    """Largest distance of an end from its image plane (SCOORD3D). Lines are drawn on the plane, so that
    only rounding and half a thin slice remain."""
    box_padding_px: float = 5.0
    """Margin of the box on each side (DeepLesion: 5)."""
    min_length_mm: float = 0.2
    """A shorter axis is a click, not a measurement; the shortest public one is 0.8 mm."""
    keep_lengths: bool = False
    """Keep single lengths as rows without a short axis."""
    keep_algorithms: bool = False
    """Keep what an algorithm measured and no reader saved again."""
    allow_derived: bool = False
    """Keep reformats, projections and the like (ImageType)."""
    drop_noisy: bool = False
    """Drop what the population rule flags."""
    swap_tolerance_px: float = 0.002
    """The axis called long stays long while the other is longer by less than this."""
    stated_agrees_fraction: float = 0.01
    """A stated value agrees with the drawn one when it differs by less than this share of it ..."""
    stated_agrees_mm: float = 0.1
    """... or by less than this (values are often written with one decimal)."""
    unit_slip_fraction: float = 0.02
    """A value that does not agree but fits in another unit within this share is a unit slip."""
    stated_mismatch_fraction: float = 0.25
    """A value that fits in no unit is rejected when it differs by more than this share of the drawn one ...
    (published RIDER lines differ by up to 17 percent)"""
    stated_mismatch_mm: float = 2.0
    """... and by more than this."""
    crossing_tolerance: float = 0.02
    """Share of its length by which each axis may be prolonged to cross the other."""
    max_perpendicular_deviation_deg: float = 5.0
    """Axes farther from 90 degrees are flagged (12 percent of the public rows)."""
    default_short_axis_fraction: float = 0.001
    """How near short/long must be to 2/3 for OHIF's untouched default."""
    default_short_axis_centre_px: float = 0.05
    """How near the middles of both axes must be for OHIF's untouched default."""
    default_short_axis_deviation_deg: float = 0.1
    """How near 90 degrees the axes must be for OHIF's untouched default."""
    duplicate_tolerance_px: float = 0.01
    """Ends nearer than this are one end (SCOORDs are float32)."""
    max_extent_over_long: float = 1.5
    """A cross that reaches farther than this times its long axis lies on two places."""
    min_window_width_hu: float = 100.0
    """A display window this wide or narrower is typical of head examinations."""
    population_least_count: int = 30
    """The population rule needs so many crosses."""
    population_inlier_deviations: float = 5.0
    """First pass: median -/+ this many robust standard deviations (1.4826 MAD) of log(width/height)."""
    population_outlier_deviations: float = 5.0
    """Second pass: mean -/+ this many standard deviations of the first pass's inliers."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, bool) and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"[rules] {item.name} = {value}: give a finite number that is not negative")
