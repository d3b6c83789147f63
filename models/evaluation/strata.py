"""FROC by size, type, slice interval and overlap, and what was detected where nobody marked everything.

A stratum selects marks and nothing else: all detections and all images stay, so a detection on a lesion of another
stratum is a false positive there, and the strata are not parts of a whole. So the published numbers were made
(rsummers11/CADLab issue 31).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.evaluation.froc import Count, Curve, Flags, Pool, Ties, count, curve
from models.evaluation.froc_reading import score_at
from models.evaluation.overlap import Floats
from models.marks import Annotation

COARSE_TYPES = {
    1: "bone",
    2: "abdomen",
    3: "mediastinum",
    4: "liver",
    5: "lung",
    6: "kidney",
    7: "soft tissue",
    8: "pelvis",
    -1: "not stated",
}
"""Coarse_lesion_type of DL_info.csv (FAQ of the DeepLesion release)."""
SIZE_EDGES_MM = (10.0, 30.0)
"""Long diameter: below 10, 10 to below 30, 30 and more, as DeepLesion's papers group it."""
SLICE_INTERVAL_EDGES_MM = (2.5,)
"""Thin below 2.5 mm and thick from there: DeepLesion's series lie at 1 mm or 5 mm almost without exception."""


@dataclass(frozen=True, eq=False)
class Stratum:
    """Some marks of a pool, e.g. of 'size' those of '10 to 30 mm'."""

    by: str
    name: str
    marks: Flags
    """(m,) marks of the pool."""


@dataclass(frozen=True, eq=False)
class StratumResult:
    """What one stratum gave; a stratum without marks has a curve of NaN."""

    stratum: Stratum
    mark_count: int
    count: Count
    curve: Curve


def by_edges(by: str, values: NDArray[np.floating], edges: Sequence[float], unit: str) -> tuple[Stratum, ...]:
    """Strata of (m,) values between rising edges, the lower edge included; NaN gets a stratum of its own, if any.

    ValueError for edges that do not rise.
    """
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"edges of {by} must rise: {list(edges)}")
    bounds = (-np.inf, *edges, np.inf)
    strata = [
        Stratum(by, _range_name(low, high, unit), (values >= low) & (values < high)) for low, high in pairwise(bounds)
    ]
    unknown = np.isnan(values)
    return (*strata, Stratum(by, "not stated", unknown)) if unknown.any() else tuple(strata)


def by_size(long_diameter_mm: NDArray[np.floating]) -> tuple[Stratum, ...]:
    """Strata by the (m,) long diameters of the marks in mm."""
    return by_edges("size", long_diameter_mm, SIZE_EDGES_MM, "mm")


def by_slice_interval(slice_interval_mm: NDArray[np.floating]) -> tuple[Stratum, ...]:
    """Strata by the (m,) slice intervals of the marks' series in mm, NaN where a series has a single slice."""
    return by_edges("slice interval", slice_interval_mm, SLICE_INTERVAL_EDGES_MM, "mm")


def by_type(coarse_lesion_type: NDArray[np.integer]) -> tuple[Stratum, ...]:
    """Strata by the (m,) coarse types of the marks, those that occur. ValueError for a type that there is not."""
    present = set(np.unique(coarse_lesion_type).tolist())
    if present - set(COARSE_TYPES):
        raise ValueError(f"coarse lesion types {sorted(present - set(COARSE_TYPES))}: known are 1 to 8 and -1")
    return tuple(
        Stratum("type", name, np.asarray(coarse_lesion_type == code))
        for code, name in COARSE_TYPES.items()
        if code in present
    )


def by_word(by: str, words: Sequence[str]) -> tuple[Stratum, ...]:
    """Strata by one word for each mark, sorted: its patient, its scanner, its texture."""
    each = np.asarray(words, dtype=np.str_)
    return tuple(Stratum(by, str(word), np.asarray(each == word)) for word in np.unique(each))


def stratified(
    pool: Pool, threshold: float, strata: Sequence[Stratum], ties: Ties = Ties.PUBLISHED
) -> tuple[StratumResult, ...]:
    """The FROC of each stratum: its marks, all detections, all images."""
    counts = [count(pool, threshold, marks=stratum.marks, ties=ties) for stratum in strata]
    return tuple(
        StratumResult(stratum, int(stratum.marks.sum()), one, curve(one))
        for stratum, one in zip(strata, counts, strict=True)
    )


def by_overlap(pool: Pool, thresholds: Sequence[float], ties: Ties = Ties.PUBLISHED) -> dict[float, Curve]:
    """The curve at each overlap threshold: how much of the sensitivity hangs on exact boxes."""
    return {threshold: curve(count(pool, threshold, ties=ties)) for threshold in thresholds}


@dataclass(frozen=True, eq=False)
class Apart:
    """Detections by what is known of them; 'unmarked' is neither hit nor false positive.

    The published protocol knows no such state: it calls every detection beside the marks false (`froc.curve`).
    """

    curve: Curve | None
    """Sensitivity over all marks, false positives on and per completely annotated image; None where there is none."""
    complete_images: int
    incomplete_images: int
    unmarked: NDArray[np.int64]
    """(u,) numbers in the pool of detections that hit no mark of an image that is not completely annotated, best
    score first."""
    unmarked_scores: Floats
    """(u,) their scores."""

    def unmarked_per_image_at(self, score: float) -> float:
        """Unmarked detections of at least this score per incompletely annotated image; NaN where there is none."""
        found = int((self.unmarked_scores >= score).sum())
        return found / self.incomplete_images if self.incomplete_images else float("nan")

    def unmarked_per_image(self, false_positives: float) -> float:
        """Unmarked detections per incomplete image at the score where the curve has that many false positives.

        ValueError where no image is completely annotated: there is no curve to take the score from.
        """
        if self.curve is None:
            raise ValueError("no image is completely annotated: ask by score, not by false positives")
        return self.unmarked_per_image_at(score_at(self.curve, false_positives))


def apart(count: Count, annotation: Sequence[Annotation]) -> Apart:
    """Tells false positives from unmarked detections; `annotation` (images,) is that of each image.

    ValueError where it is of another length than the images.
    """
    if len(annotation) != count.image_count:
        raise ValueError(f"annotation of {len(annotation)} images, {count.image_count} were evaluated")
    complete = np.array([state is Annotation.COMPLETE for state in annotation], bool)
    unmarked = count.false_positive & ~complete[count.image]
    return Apart(
        curve=curve(count, counted_images=complete) if complete.any() else None,
        complete_images=int(complete.sum()),
        incomplete_images=int((~complete).sum()),
        unmarked=count.detection[unmarked],
        unmarked_scores=count.scores[unmarked],
    )


def _range_name(low: float, high: float, unit: str) -> str:
    if np.isinf(low):
        return f"below {high:g} {unit}"
    return f"{low:g} {unit} and more" if np.isinf(high) else f"{low:g} to {high:g} {unit}"
