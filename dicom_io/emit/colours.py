"""A colour for each lesion of an object, far from those of its neighbours in number."""

from __future__ import annotations

import math

from highdicom.color import CIELabColor

LIGHTNESS, CHROMA = 65.0, 60.0
FIRST_HUE_DEG = 40.0
GOLDEN_ANGLE_DEG = 180 * (3 - math.sqrt(5))
"""Turning by it leaves any number of hues apart."""


def colour(number: int) -> CIELabColor:
    """Of the lesion with this number (1-based)."""
    hue = math.radians(FIRST_HUE_DEG + (number - 1) * GOLDEN_ANGLE_DEG)
    return CIELabColor(LIGHTNESS, CHROMA * math.cos(hue), CHROMA * math.sin(hue))


def rgb(number: int) -> list[int]:
    """The same colour as red, green and blue from 0 to 255."""
    return list(colour(number).to_rgb(clip=True))
