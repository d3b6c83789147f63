"""Landmarks that the profile shows by itself: where the lungs begin and end."""

from __future__ import annotations

import numpy as np

from models.body_part.frames import Frames
from models.body_part.profile import NAMES

LUNG_CM = 4.0
"""Square root of the lung's area on a slice from which on it counts as lung: 16 square centimetres."""
CLEAR_MM = 10.0
"""So much of the volume must lie beyond the lungs, or their end was not scanned."""
LUNG_APEX_CM, LUNG_BASE_CM = 29.0, 56.0
"""Heights of the nominal adult."""


def lung_ends(volume: Frames) -> tuple[int | None, int | None]:
    """Index of the first and of the last slice of the lungs; None where that end lies outside the volume.

    The longest run of slices with lung counts: gas of the bowel shows a little lung at its edges.
    """
    lung = np.concatenate([[False], volume.profile[:, NAMES.index("lung_cm")] >= LUNG_CM, [False]])
    starts, ends = np.flatnonzero(~lung[:-1] & lung[1:]), np.flatnonzero(lung[:-1] & ~lung[1:]) - 1
    if not starts.size:
        return None, None
    run = int((ends - starts).argmax())
    first, last = int(starts[run]), int(ends[run])
    above = volume.position_mm[first] - volume.position_mm[0]
    below = volume.position_mm[-1] - volume.position_mm[last]
    return (first if above >= CLEAR_MM else None), (last if below >= CLEAR_MM else None)
