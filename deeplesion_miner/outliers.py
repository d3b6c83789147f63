"""The population rule: crosses whose box is far from the data set's, in two robust passes; and what is noisy.

DeepLesion's own pipeline dropped boxes by the mean and variance of width/height before its release; here they
are flagged, and dropped only on request.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeplesion_miner import recist
from deeplesion_miner.rules import Rules
from deeplesion_miner.types import Box, Kept, Lesion, Note, Rejected, Verdict

NOISY_NOTES = frozenset({"population_outlier", "extent_over_long", "narrow_window"})
"""Flags that set Possibly_noisy."""
LEAST_SIDE_PX = 1.0
"""A thinner box counts as one pixel thin, so that every ratio is finite."""
MAD_TO_DEVIATION = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""


@dataclass(frozen=True)
class Population:
    """Mean and standard deviation of log(width/height) of the inliers; `count` = all that were looked at."""

    count: int
    mean: float
    deviation: float

    def is_outlier(self, log_ratio: float, deviations: float) -> bool:
        """True where a value is farther from the mean than so many standard deviations (never if they are 0)."""
        return self.deviation > 0 and abs(log_ratio - self.mean) > deviations * self.deviation


def log_ratio(tight: Box) -> float:
    """log(width/height) of an unpadded box (pixels)."""
    width, height = tight.x_max - tight.x_min, tight.y_max - tight.y_min
    return math.log(max(width, LEAST_SIDE_PX) / max(height, LEAST_SIDE_PX))


def tight_box(lesion: Lesion) -> Box:
    """The unpadded box of a lesion's ends."""
    return recist.box(recist.ends(lesion.long_axis, lesion.short_axis), 0.0)


def population(log_ratios: Sequence[float], inlier_deviations: float) -> Population:
    """Two passes: median and MAD choose the inliers, these give mean and standard deviation.

    Does not depend on the order of its input. StatisticsError for an empty one.
    """
    ordered = sorted(log_ratios)
    middle = statistics.median(ordered)
    robust = MAD_TO_DEVIATION * statistics.median(abs(value - middle) for value in ordered)
    inliers = [value for value in ordered if robust == 0 or abs(value - middle) <= inlier_deviations * robust]
    return Population(len(ordered), statistics.fmean(inliers), statistics.pstdev(inliers))


def population_outliers(boxes: Mapping[str, Box], rules: Rules) -> Mapping[str, float]:
    """Width/height of the unpadded boxes that are far from the rest, by their keys; none in a small population."""
    if len(boxes) < max(rules.population_least_count, 1):
        return {}
    values = {key: log_ratio(tight) for key, tight in boxes.items()}
    found = population(list(values.values()), rules.population_inlier_deviations)
    return {
        key: math.exp(values[key])
        for key in sorted(values)
        if found.is_outlier(values[key], rules.population_outlier_deviations)
    }


def judge_population(kept: Sequence[Kept], rules: Rules) -> tuple[Verdict, ...]:
    """The same verdicts in the same order, outliers flagged or, with `drop_noisy`, rejected.

    Single lengths have no box of two axes and are passed by.
    """
    crosses = {k.bookmark.key: tight_box(k.lesion) for k in kept if k.lesion.short_axis is not None}
    outliers = population_outliers(crosses, rules)
    return tuple(_verdict(k, outliers.get(k.bookmark.key), rules) for k in kept)


def _verdict(kept: Kept, ratio: float | None, rules: Rules) -> Verdict:
    if ratio is None:
        return kept
    facts = (("ratio", ratio),)
    if rules.drop_noisy:
        return Rejected(kept.bookmark, "population_outlier", facts, kept.notes)
    return Kept(kept.lesion, (*kept.notes, Note("population_outlier", facts)))


def possibly_noisy(notes: Sequence[Note]) -> bool:
    """DL_info.csv's Possibly_noisy: true where one of the noise flags is set."""
    return any(note.code in NOISY_NOTES for note in notes)
