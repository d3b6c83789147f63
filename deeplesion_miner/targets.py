"""Which lesions of the baseline are target lesions by RECIST 1.1, and why the others are not.

Source: Eisenhauer et al., Eur J Cancer 2009;45:228-247, sections 3.1.1, 3.1.2 and 4.2. The paper leaves the choice to
the reader, by size and by how well a lesion can be measured again; here it is the size alone, so that the same marks
always give the same targets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import schemas
from deeplesion_miner.response import Target

NORMAL_NODE = "node_below_10_mm"
"""Why a lymph node of the baseline is no lesion at all."""
DECIMALS_MM = 2
"""Lesions that differ by less than reports state are of the same size: then the first by name comes first."""


@dataclass(frozen=True)
class BaselineLesion:
    """A lesion as it was measured first."""

    name: str
    """Unique, the same at all time points."""
    size: Target | None
    """None for a lymph node without its short axis."""
    organ: str = ""
    """Lesions of one organ have the same word; '' where it is not known, and then it limits nothing."""
    slice_thickness_mm: float | None = None


def choose_targets(lesions: Iterable[BaselineLesion]) -> dict[str, str]:
    """By name '' for a target lesion, else why it is none: a code of `schemas/follow_up.toml` no_target.

    The largest measurable lesions are taken, at most five, of an organ at most two.
    """
    rules = schemas.load("follow_up")["recist"]
    chosen: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for one in sorted(lesions, key=_by_size):
        reason = not_measurable(one)
        if not reason and chosen.total() == rules["most_targets"]:
            reason = "five_in_all"
        if not reason and one.organ and chosen[one.organ] == rules["most_targets_of_organ"]:
            reason = "two_of_organ"
        if not reason:
            chosen[one.organ] += 1
        reasons[one.name] = reason
    return reasons


def _by_size(one: BaselineLesion) -> tuple[float, str]:
    return (-round(one.size.diameter_mm, DECIMALS_MM) if one.size else 0.0, one.name)


def not_measurable(one: BaselineLesion) -> str:
    """Why the lesion is too small, or not measured as a target lesion is; '' where it is measurable."""
    if one.size is None:
        return "node_without_short_axis"
    if one.size.is_node and one.size.is_gone:
        return NORMAL_NODE
    if not one.size.is_measurable:
        return "node_below_15_mm" if one.size.is_node else "mass_below_10_mm"
    return "" if one.size.is_measurable_on(one.slice_thickness_mm) else "mass_below_two_slices"
