"""Intervals by bootstrap over patients: images of one patient are not independent, so patients are drawn.

Each replicate has a random stream of its own, chosen by (seed, number of the replicate), and patients are drawn
from their sorted names. So an interval does not depend on the order of images or patients, nor on how the
replicates are shared out, and a longer run begins with the shorter one's replicates. Percentile intervals
(Efron, Tibshirani, An Introduction to the Bootstrap, 1993, 13.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.evaluation.froc import Count, curve
from models.evaluation.froc_reading import LENS, Reading, sensitivity_at
from models.evaluation.overlap import Floats

Statistic: TypeAlias = Callable[[Floats], Floats]
"""From weights of the images (n,) to k numbers; NaN = not defined for these weights."""


@dataclass(frozen=True)
class Interval:
    """A number with its bootstrap interval; NaN where it is not defined."""

    estimate: float
    """On the images as they are."""
    low: float
    high: float
    level: float
    above_zero: float
    """Share of the defined replicates above 0: for differences."""
    replicates: int
    undefined: int
    """Replicates where the number is not defined (e.g. no lesion of that type was drawn); left out of the rest."""
    patients: int


@dataclass(frozen=True)
class Draws:
    """How to draw: so many replicates of one seed (0 to 2**64 - 1), intervals of this level."""

    seed: int
    replicates: int = 1000
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.replicates < 1 or not 0 < self.level < 1 or not 0 <= self.seed < 2**64:
            raise ValueError(f"{self}: replicates from 1, level between 0 and 1, seed from 0 to 2**64 - 1")


def image_weights(patients: Sequence[str], seed: int, replicate: int) -> Floats:
    """(n,) how often each image is drawn in one replicate; `patients[i]` is the patient of image i.

    As many patients as there are, drawn with replacement, each with all its images.
    """
    names, patient = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    return patient_weights(len(names), seed, replicate)[patient]


def patient_weights(patients: int, seed: int, replicate: int) -> Floats:
    """(patients,) how often each patient, by the rank of its name, is drawn in one replicate."""
    stream = np.random.Generator(np.random.Philox(key=np.array([seed, replicate], np.uint64)))
    return np.bincount(stream.integers(patients, size=patients), minlength=patients).astype(np.float64)


def bootstrap(statistic: Statistic, patients: Sequence[str], draws: Draws) -> tuple[Interval, ...]:
    """One interval for each of the statistic's k numbers. ValueError for no patients."""
    if len(patients) == 0:
        raise ValueError("a bootstrap over patients needs at least one")
    estimates = statistic(np.ones(len(patients)))
    values = np.array(
        [statistic(image_weights(patients, draws.seed, number)) for number in range(draws.replicates)], np.float64
    )
    count = len(set(patients))
    return tuple(interval_of(float(one), values[:, k], draws, count) for k, one in enumerate(estimates))


def paired_differences(one: Statistic, other: Statistic, patients: Sequence[str], draws: Draws) -> tuple[Interval, ...]:
    """Intervals of `one` minus `other`: both see the same patients in every replicate.

    Both statistics must be of the same images in the same order.
    """

    def difference(weights: Floats) -> Floats:
        return one(weights) - other(weights)

    return bootstrap(difference, patients, draws)


def sensitivities(count: Count, false_positives: Sequence[float], reading: Reading = LENS) -> Statistic:
    """Sensitivity at each number of false positives per image and, last, their mean, for `bootstrap`."""

    def statistic(weights: Floats) -> Floats:
        read = sensitivity_at(curve(count, image_weights=weights), false_positives, reading)
        return np.append(read, read.mean())

    return statistic


def means(values: NDArray[np.floating], image: NDArray[np.int64]) -> Statistic:
    """Mean over lesions of (lesions,) or (lesions, k) values, e.g. Dice; `image` (lesions,) is each one's image."""
    table = values.astype(np.float64).reshape(len(values), -1)

    def statistic(weights: Floats) -> Floats:
        weight = weights[image]
        total = float(weight.sum())
        return weight @ table / total if total > 0 else np.full(table.shape[1], np.nan)

    return statistic


def interval_of(estimate: float, values: Floats, draws: Draws, patients: int) -> Interval:
    """The percentile interval of (replicates,) values; NaN among them are left out and counted."""
    defined = values[~np.isnan(values)]
    tail = (1 - draws.level) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)) if len(defined) else (np.nan, np.nan)
    return Interval(
        estimate=estimate,
        low=float(low),
        high=float(high),
        level=draws.level,
        above_zero=float((defined > 0).mean()) if len(defined) else float("nan"),
        replicates=draws.replicates,
        undefined=len(values) - len(defined),
        patients=patients,
    )
