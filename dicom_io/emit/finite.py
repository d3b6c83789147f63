"""Lesions whose numbers are numbers: NaN and infinity have no place in any object, nor in what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from deeplesion_miner.results import ReportedLesion, Result


def all_finite(result: Result) -> Result:
    """The result without the lesions that hold a NaN or an infinite number; the same object where none does."""
    broken = not_finite(result)
    return result if not broken else replace(result, lesions=tuple(one for one in result.lesions if one not in broken))


def not_finite(result: Result) -> tuple[ReportedLesion, ...]:
    """The lesions whose score, volume, axes, box or prior lengths hold a NaN or an infinite number."""
    return tuple(one for one in result.lesions if not all(map(math.isfinite, _numbers(one))))


def _numbers(lesion: ReportedLesion) -> Iterator[float]:
    """Every number that a lesion states, but for masks, which are whole numbers."""
    for axis in (lesion.long_axis, lesion.short_axis):
        if axis is not None:
            yield from (*axis.start, *axis.end)
    box, prior = lesion.box, lesion.prior
    percent = None if lesion.score is None else 100 * lesion.score  # as reports state it
    said = [percent, lesion.volume_mm3]
    said += [] if box is None else [box.x_min, box.y_min, box.x_max, box.y_max]
    said += [] if prior is None else [prior.long_axis_mm, prior.short_axis_mm]
    yield from (one for one in said if one is not None)
