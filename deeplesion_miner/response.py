"""Response to treatment by RECIST 1.1: from the diameters of the target lesions at each time point.

Sources: Eisenhauer et al., Eur J Cancer 2009;45:228-247 (sections in brackets below); Schwartz et al., Eur J Cancer
2016;62:132-137 (a lesion that comes back after a complete response). Lengths are millimetres.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import schemas
from deeplesion_miner.results import coded
from deeplesion_miner.types import Code

_RULES = schemas.load("follow_up")["recist"]
TOO_SMALL_MM: float = _RULES["too_small_mm"]
"""What stands for a lesion that is there but too small to measure [4.3.2]: a reader says so, no software does."""
MASS_TARGET_MM: float = _RULES["mass_target_mm"]
"""Least long axis of a target lesion at baseline, on slices of up to 5 mm [3.1.1]."""
NODE_TARGET_MM: float = _RULES["node_target_mm"]
"""Least short axis of a lymph node that is a target lesion at baseline [3.1.1]."""
NORMAL_NODE_MM: float = _RULES["normal_node_mm"]
"""A lymph node with a short axis below this is no longer pathological [4.3.1]."""
PARTIAL_DECREASE: float = _RULES["partial_decrease"]
PROGRESSIVE_INCREASE: float = _RULES["progressive_increase"]
PROGRESSIVE_INCREASE_MM: float = _RULES["progressive_increase_mm"]
ROUNDING_MM = 1e-6
"""Lengths and sums closer than this are equal: a decrease of exactly 30 % is one of 30 %."""


class Response(StrEnum):
    """Of the target lesions at one time point."""

    COMPLETE = "CR"
    PARTIAL = "PR"
    STABLE = "SD"
    PROGRESSIVE = "PD"
    NOT_EVALUABLE = "NE"

    @property
    def code(self) -> Code:
        """The concept that reports state (`schemas/emit.toml` response)."""
        return coded("response", self.value)


@dataclass(frozen=True)
class Target:
    """One target lesion at one time point; 0 where it is gone, `TOO_SMALL_MM` where it cannot be measured any more."""

    long_axis_mm: float
    short_axis_mm: float = 0.0
    is_node: bool = False

    @property
    def diameter_mm(self) -> float:
        """What enters the sum: of a lymph node the short axis, else the long one [4.2]."""
        return self.short_axis_mm if self.is_node else self.long_axis_mm

    @property
    def is_gone(self) -> bool:
        """Not seen any more, or a lymph node of normal size."""
        return self.diameter_mm < NORMAL_NODE_MM - ROUNDING_MM if self.is_node else self.diameter_mm == 0

    @property
    def is_measurable(self) -> bool:
        """Large enough for a target lesion at baseline, on slices of up to 5 mm."""
        return self.diameter_mm >= (NODE_TARGET_MM if self.is_node else MASS_TARGET_MM) - ROUNDING_MM

    def is_measurable_on(self, slice_thickness_mm: float | None) -> bool:
        """Large enough for a target lesion at baseline on slices of this thickness (None: not known), of which a mass
        must measure twice as much where they are thicker than 5 mm [3.1.1].
        """
        if self.is_node or slice_thickness_mm is None or slice_thickness_mm <= _RULES["thick_slice_mm"]:
            return self.is_measurable
        least_mm: float = _RULES["slices_of_mass"] * slice_thickness_mm
        return self.diameter_mm >= least_mm - ROUNDING_MM


TimePoint = Mapping[str, Target]
"""The target lesions that were measured, by the name that each has at all time points."""


@dataclass(frozen=True)
class Assessment:
    """Response of the target lesions at one time point, with the sums that it follows from."""

    response: Response
    sum_mm: float
    """Of the lesions that were measured."""
    baseline_mm: float
    nadir_mm: float
    """The smallest sum so far, baseline included, of time points at which every target lesion was measured."""
    nadir_at: int = 0
    """Which time point that was: 0 the baseline, else the position in `earlier`, from 1; of equal sums the first."""
    missing: tuple[str, ...] = ()
    """Names of target lesions that were not measured, sorted."""


def sum_of_diameters_mm(lesions: TimePoint) -> float:
    """The sum of the target lesions' diameters."""
    return sum(one.diameter_mm for one in lesions.values())


def assess(baseline: TimePoint, earlier: Sequence[TimePoint], now: TimePoint) -> Assessment:
    """Response of the target lesions [4.3.1]; `earlier` are the time points between baseline and now, in any order.

    With a lesion missing it is progression where the others alone have grown enough for it, else not evaluable
    [4.4.2]. ValueError for no target lesion at baseline, a length below 0 or NaN, or a lesion without a baseline.
    """
    _check(baseline, earlier, now)
    whole = {0: baseline, **{k: one for k, one in enumerate(earlier, start=1) if one.keys() == baseline.keys()}}
    nadir_mm, nadir_at = min((sum_of_diameters_mm(one), k) for k, one in whole.items())
    baseline_mm, sum_mm = sum_of_diameters_mm(baseline), sum_of_diameters_mm(now)
    missing = tuple(sorted(baseline.keys() - now.keys()))
    if not missing and _all_gone(now):
        response = Response.COMPLETE
    elif _has_progressed(sum_mm, nadir_mm) or _is_back(whole.values(), now):
        response = Response.PROGRESSIVE
    elif missing:
        response = Response.NOT_EVALUABLE
    elif sum_mm <= (1 - PARTIAL_DECREASE) * baseline_mm + ROUNDING_MM:
        response = Response.PARTIAL
    else:
        response = Response.STABLE
    return Assessment(response, sum_mm, baseline_mm, nadir_mm, nadir_at, missing)


def _check(baseline: TimePoint, earlier: Sequence[TimePoint], now: TimePoint) -> None:
    if not baseline:
        raise ValueError("there is no target lesion at baseline: RECIST measures the response of those")
    for time_point in (baseline, *earlier, now):
        for name, one in time_point.items():
            if name not in baseline:
                raise ValueError(f"{name} is no target lesion of the baseline; a new lesion is none, either")
            if not (one.long_axis_mm >= 0 and one.short_axis_mm >= 0):
                raise ValueError(f"{name} measures {one.long_axis_mm} x {one.short_axis_mm} mm; 0 stands for gone")


def _all_gone(lesions: TimePoint) -> bool:
    return all(one.is_gone for one in lesions.values())


def _has_progressed(sum_mm: float, nadir_mm: float) -> bool:
    """At least 20 % and at least 5 mm more than the smallest sum [4.3.1]."""
    return (
        sum_mm >= (1 + PROGRESSIVE_INCREASE) * nadir_mm - ROUNDING_MM
        and sum_mm >= nadir_mm + PROGRESSIVE_INCREASE_MM - ROUNDING_MM
    )


def _is_back(before: Iterable[TimePoint], now: TimePoint) -> bool:
    """A lesion other than a node is seen again after all had gone: that is progression, however small it is."""
    return any(_all_gone(one) for one in before) and any(
        not one.is_node and one.diameter_mm > 0 for one in now.values()
    )
