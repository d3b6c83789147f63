"""What an object states against what it draws: agreement, unit slips, differences, contradictions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import schemas
from deeplesion_miner.rules import Rules
from deeplesion_miner.types import StatedValue


class Agreement(StrEnum):
    """How a stated value relates to the drawn one."""

    AGREES = "agrees"
    UNIT_SLIP = "unit_slip"
    DIFFERS = "differs"
    MISMATCH = "mismatch"


@dataclass(frozen=True)
class Comparison:
    """A stated value beside the drawn one."""

    agreement: Agreement
    unit: str
    """The stated unit as a word of the vocabulary 'unit'."""
    fits: str
    """The unit in which the value fits; the stated one where it fits in none."""
    stated_mm: float
    """The value in millimetres as stated (an absent or unknown unit is taken as mm)."""
    drawn_mm: float


def unit_word(unit: str) -> str:
    """'mm', 'cm', 'm', 'px', 'absent' or 'other' for the unit's code as the object writes it."""
    words: dict[str, str] = schemas.load("units")["word"]
    return words.get(unit.strip(), "other")


def compare(stated: StatedValue, drawn_mm: float, mm_per_px: float, rules: Rules) -> Comparison:
    """Compares a stated length with the drawn one in the stated unit, then in every other unit.

    `mm_per_px`: millimetres of one pixel along the drawn line. A value that is not finite is a mismatch.
    """
    sizes_mm: dict[str, float] = {**schemas.load("units")["in_mm"], "px": mm_per_px}
    unit = unit_word(stated.unit)
    meant = unit if unit in sizes_mm else "mm"
    stated_mm = stated.value * sizes_mm[meant]
    difference = abs(stated_mm - drawn_mm)

    def verdict(agreement: Agreement, fits: str) -> Comparison:
        return Comparison(agreement, unit, fits, stated_mm, drawn_mm)

    if difference <= max(rules.stated_agrees_fraction * drawn_mm, rules.stated_agrees_mm):
        return verdict(Agreement.AGREES, meant)
    for other, size_mm in sizes_mm.items():
        if abs(stated.value * size_mm - drawn_mm) <= rules.unit_slip_fraction * drawn_mm and other != meant:
            return verdict(Agreement.UNIT_SLIP, other)
    small = difference <= max(rules.stated_mismatch_fraction * drawn_mm, rules.stated_mismatch_mm)
    if small:
        return verdict(Agreement.DIFFERS, meant)
    return verdict(Agreement.MISMATCH, meant)
