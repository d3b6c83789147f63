"""Reading an FROC curve at given numbers of false positives, as the public codes read it.

Between two points the curve is a straight line (`scipy.interpolate.interp1d`). The codes differ in three places:
at a number of false positives that many points share (a run), below the first point and above the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.evaluation.froc import Curve
from models.evaluation.overlap import Floats


class Run(StrEnum):
    """Which point of a run is read at exactly its number of false positives."""

    FIRST = "first"
    """The lowest sensitivity: interp1d with extrapolation searches from the left."""
    LAST = "last"
    """The highest: interp1d without extrapolation hands over to `numpy.interp`, which searches from the right."""


class Outside(StrEnum):
    """What is read below the first point, or above the last."""

    ZERO = "zero"
    HOLD = "hold"
    """The sensitivity of the nearest point."""
    LINE = "line"
    """The line through the two nearest points goes on, beyond 0 and 1 where it leads there; NaN where the two share
    their number of false positives (the public code divides by zero) and where there is one point only."""
    REFUSE = "refuse"
    """ValueError."""


@dataclass(frozen=True)
class Reading:
    """How one public code reads."""

    run: Run
    below: Outside
    above: Outside


LENS = Reading(Run.LAST, Outside.ZERO, Outside.HOLD)
"""viggin/DeepLesion_manual_test_set; defined everywhere, the default here."""
MULAN = Reading(Run.LAST, Outside.REFUSE, Outside.HOLD)
"""rsummers11/CADLab, MULAN: interp1d refuses what lies below its first point."""
EXTRAPOLATED = Reading(Run.FIRST, Outside.LINE, Outside.LINE)
"""3DCE and AlignShift: interp1d(fill_value='extrapolate'). Above the last point it invents sensitivity; exactly at the
first, where that is a run, it divides by zero: here the run's first point is read."""


def sensitivity_at(curve: Curve, false_positives: Sequence[float], reading: Reading = LENS) -> Floats:
    """(n,) sensitivity at each number of false positives per image.

    0 for a curve without points (nothing was detected; the public codes fail), NaN where no mark counts.
    ValueError where the reading refuses.
    """
    asked = np.asarray(false_positives, np.float64)
    if curve.marks == 0:
        return np.full(len(asked), np.nan)
    if len(curve.false_positives) == 0:
        return np.zeros(len(asked))
    return np.array([_read(curve.false_positives, curve.sensitivity, value, reading) for value in asked.tolist()])


def score_at(curve: Curve, false_positives: float) -> float:
    """The lowest score at which no more false positives per image come than asked for; inf where even the best is."""
    within = int(np.searchsorted(curve.false_positives, false_positives, "right"))
    return float(curve.scores[within - 1]) if within else float("inf")


def published_average(curve: Curve, reading: Reading = LENS) -> float:
    """Mean sensitivity at 0.5, 1, 2 and 4 false positives per image: the "average" of DeepLesion's papers."""
    return float(sensitivity_at(curve, (0.5, 1.0, 2.0, 4.0), reading).mean())


def average_to_eight(curve: Curve, reading: Reading = LENS) -> float:
    """Mean sensitivity at 0.5, 1, 2, 4 and 8 false positives per image."""
    return float(sensitivity_at(curve, (0.5, 1.0, 2.0, 4.0, 8.0), reading).mean())


def _read(x: Floats, y: Floats, value: float, reading: Reading) -> float:
    if value < x[0]:
        return _outside(x[:2], y[:2], 0, value, reading.below)
    if value > x[-1]:
        return _outside(x[-2:], y[-2:], -1, value, reading.above)
    left, right = int(np.searchsorted(x, value, "left")), int(np.searchsorted(x, value, "right"))
    if left < right:
        return float(y[left] if reading.run is Run.FIRST else y[right - 1])
    share = (value - x[left - 1]) / (x[left] - x[left - 1])
    return float(y[left - 1] + share * (y[left] - y[left - 1]))


def _outside(x: Floats, y: Floats, nearest: int, value: float, rule: Outside) -> float:
    match rule:
        case Outside.ZERO:
            return 0.0
        case Outside.HOLD:
            return float(y[nearest])
        case Outside.LINE:
            run = float(x[-1] - x[0])
            return float(y[0] + (y[-1] - y[0]) / run * (value - x[0])) if run > 0 else float("nan")
        case Outside.REFUSE:
            raise ValueError(f"{value} false positives per image lie outside the curve, which ends at {x[nearest]}")
