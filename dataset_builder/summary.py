"""What a dataset holds, in numbers: computed from its tables alone, so that anyone can recompute it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

import schemas
from dataset_builder.dl_info import number
from dataset_builder.tables import Tables
from deeplesion_miner.reasons import reasons
from deeplesion_miner.records import BookmarkRecord, LesionRecord

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SIZE_CLASSES_MM = (10.0, 30.0)
"""DeepLesion's own classes of long axes: below 10 mm, 10 to 30 mm, 30 mm and more."""
AGE_BAND_YEARS = 10
UNKNOWN = "not known"
MOST_VALUES = 10
"""A breakdown with more values shows the most frequent ones, and the others as one."""


@dataclass(frozen=True)
class Measure:
    """One quantity over all lesions."""

    name: str
    unit: str
    values: tuple[float, ...]
    deeplesion: float | None = None
    """The median in DeepLesion's validation and test rows, where the schema holds it."""

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Values at `QUANTILES` (linear interpolation); NaN without values."""
        if not self.values:
            return (math.nan,) * len(QUANTILES)
        return tuple(float(value) for value in np.quantile(self.values, QUANTILES))


@dataclass(frozen=True)
class Loss:
    """Bookmarks rejected for one reason."""

    reason: str
    count: int
    example: str
    """The message of one of them, with its numbers."""
    advice: str


@dataclass(frozen=True)
class Funnel:
    """Where the bookmarks of the archive went."""

    found: int
    kept: int
    losses: tuple[Loss, ...]
    """Most frequent first."""

    @property
    def rejected(self) -> int:
        """Bookmarks that did not become a row."""
        return sum(loss.count for loss in self.losses)


@dataclass(frozen=True)
class Breakdown:
    """How often each value of one property occurs, in the order to show."""

    name: str
    counts: tuple[tuple[str, int], ...]


def funnel(bookmarks: Sequence[BookmarkRecord]) -> Funnel:
    """Found = kept + rejected by reason, from the bookmarks table alone."""
    rejected = [bookmark for bookmark in bookmarks if bookmark.verdict == "rejected"]
    counted = Counter(bookmark.reason for bookmark in rejected)
    examples = {bookmark.reason: bookmark.detail for bookmark in reversed(rejected)}
    known = reasons("reject")
    losses = tuple(
        Loss(code, count, examples[code], known[code].advice if code in known else "")
        for code, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    )
    return Funnel(len(bookmarks), sum(b.verdict == "kept" for b in bookmarks), losses)


def totals(tables: Tables) -> dict[str, int]:
    """Sizes of the dataset by the words that people use."""
    lesions = tables.lesions
    return {
        "lesions": len(lesions),
        "key slices": len({lesion.file_name for lesion in lesions}),
        "slices": len(tables.slices),
        "series": len({lesion.series_id for lesion in lesions}),
        "studies": len({lesion.study_id for lesion in lesions}),
        "patients": len({lesion.patient_id for lesion in lesions}),
    }


def counts(tables: Tables) -> dict[str, object]:
    """The sums of the dataset, as the manifest states them."""
    found = funnel(tables.bookmarks)
    return {
        **{word.replace(" ", "_"): count for word, count in totals(tables).items()},
        "bookmarks": found.found,
        "kept": found.kept,
        "rejected": {loss.reason: loss.count for loss in found.losses},
    }


def measures(lesions: Sequence[LesionRecord]) -> tuple[Measure, ...]:
    """The quantities that the DeepLesion paper describes."""
    medians = schemas.load("dataset")["deeplesion_median"]

    def measure(name: str, unit: str, value: Callable[[LesionRecord], float | None], median: str = "") -> Measure:
        found = (value(lesion) for lesion in lesions)
        return Measure(name, unit, tuple(v for v in found if v is not None), medians[median] if median else None)

    return (
        measure("Long axis", "mm", lambda r: r.long_axis_mm, "long_axis_mm"),
        measure("Short axis", "mm", lambda r: r.short_axis_mm, "short_axis_mm"),
        measure("Short / long", "", _short_over_long, "short_over_long"),
        measure("Off perpendicular", "deg", off_perpendicular_deg),
        measure("Box width", "px", lambda r: r.box_px[2] - r.box_px[0], "box_width_px"),
        measure("Box height", "px", lambda r: r.box_px[3] - r.box_px[1], "box_height_px"),
        measure("Pixel spacing", "mm", lambda r: r.col_spacing_mm, "pixel_spacing_mm"),
        measure("Slice interval", "mm", lambda r: r.slice_interval_mm),
        measure("Slices in range", "", lambda r: float(r.slice_last - r.slice_first + 1)),
        measure("Age", "years", lambda r: r.patient_age_years),
    )


def breakdowns(tables: Tables) -> tuple[Breakdown, ...]:
    """Properties with few values."""
    lesions = tables.lesions
    types = schemas.load("dataset")["coarse_lesion_type"]
    return (
        _frequent("Lesion type", (types[str(lesion.coarse_lesion_type)] for lesion in lesions)),
        Breakdown("Long axis", _size_classes(lesions)),
        _frequent("Slice interval, mm", (number(lesion.slice_interval_mm) for lesion in lesions)),
        _frequent("Window, HU", map(_window, lesions)),
        _frequent("Sex", (lesion.patient_sex or UNKNOWN for lesion in lesions)),
        Breakdown("Age, years", _age_bands(lesions)),
        _frequent("Written by", (b.writer or "not recognised" for b in tables.bookmarks if b.verdict == "kept")),
        _frequent("Kind of bookmark", (b.kind for b in tables.bookmarks)),
    )


def flags(lesions: Iterable[LesionRecord]) -> tuple[tuple[str, int], ...]:
    """Flags and the number of lesions that carry them, most frequent first."""
    counted = Counter(note for lesion in lesions for note in lesion.notes)
    return tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def split_counts(tables: Tables) -> tuple[tuple[str, int, int], ...]:
    """Split, patients, lesions; in the order train, val, test."""
    names = schemas.load("dataset")["dl_info"]["split"]
    return tuple(
        (name, len(rows), sum(row.lesions for row in rows))
        for name in names
        for rows in [[row for row in tables.splits if row.split == name]]
    )


def off_perpendicular_deg(lesion: LesionRecord) -> float | None:
    """How far the angle between the axes (in mm) is from a right one; None without two axes of some length."""
    if lesion.short_axis_px is None:
        return None
    along, across = _direction_mm(lesion.long_axis_px, lesion), _direction_mm(lesion.short_axis_px, lesion)
    lengths = math.hypot(*along) * math.hypot(*across)
    if lengths == 0:
        return None
    return math.degrees(math.asin(min(1.0, abs(along[0] * across[0] + along[1] * across[1]) / lengths)))


def evenly(count: int, limit: int) -> tuple[int, ...]:
    """At most `limit` of the positions 0 .. count - 1, evenly spaced, the first one included."""
    shown = min(count, limit)
    return tuple(position * count // shown for position in range(shown))


def _direction_mm(axis: Sequence[float], lesion: LesionRecord) -> tuple[float, float]:
    x1, y1, x2, y2 = axis
    return ((x2 - x1) * lesion.col_spacing_mm, (y2 - y1) * lesion.row_spacing_mm)


def _short_over_long(lesion: LesionRecord) -> float | None:
    if lesion.short_axis_mm is None or lesion.long_axis_mm == 0:
        return None
    return lesion.short_axis_mm / lesion.long_axis_mm


def _window(lesion: LesionRecord) -> str:
    if lesion.window_low_hu is None or lesion.window_high_hu is None:
        return UNKNOWN
    return f"{number(lesion.window_low_hu)} to {number(lesion.window_high_hu)}"


def _frequent(name: str, values: Iterable[str]) -> Breakdown:
    counted = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    if len(counted) <= MOST_VALUES:
        return Breakdown(name, tuple(counted))
    shown, others = counted[: MOST_VALUES - 1], counted[MOST_VALUES - 1 :]
    return Breakdown(name, (*shown, (f"{len(others)} others", sum(count for _, count in others))))


def _size_classes(lesions: Iterable[LesionRecord]) -> tuple[tuple[str, int], ...]:
    small, large = SIZE_CLASSES_MM
    names = (f"below {small:g} mm", f"{small:g} to {large:g} mm", f"{large:g} mm and more")
    counted = Counter(sum(lesion.long_axis_mm >= bound for bound in SIZE_CLASSES_MM) for lesion in lesions)
    return tuple((name, counted[place]) for place, name in enumerate(names))


def _age_bands(lesions: Iterable[LesionRecord]) -> tuple[tuple[str, int], ...]:
    ages = [lesion.patient_age_years for lesion in lesions]
    bands = Counter(age // AGE_BAND_YEARS * AGE_BAND_YEARS for age in ages if age is not None)
    rows = [(f"{first}-{first + AGE_BAND_YEARS - 1}", count) for first, count in sorted(bands.items())]
    unknown = ages.count(None)
    return (*rows, (UNKNOWN, unknown)) if unknown else tuple(rows)
