"""How well found lesions are measured and delineated: RECIST errors in mm, agreement of masks in 2-D and 3-D."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.types import Segment
from models.evaluation.cases import Cases, slice_number
from models.evaluation.froc import Count, curve
from models.evaluation.froc_reading import score_at
from models.evaluation.intervals import Interval
from models.evaluation.mask_metrics import Agreement, Mask, agreement, diameter_error_mm, ends_error_mm
from models.evaluation.overlap import Floats
from models.evaluation.resampling import Resample
from models.marks import KeySlice, Mark
from models.predictions_table import ReferenceMask

MATCHED_AT = 4.0
"""False positives per image: lesions hit by a detection above this operating point are measured."""


SKIPPED = {
    "no_reference": "there is no reference mask of the lesion, or of its key slice",
    "empty_reference": "the reference mask is empty",
    "one_slice": "the reference lies on one slice, which says nothing of the lesion's depth",
    "no_mask": "the detection has no such mask",
    "other_slice": "the detection lies on another slice",
    "unknown_interval": "nobody knows how far the slices lie apart",
}
"""Why masks of a found lesion are not compared."""


@dataclass(frozen=True, eq=False)
class Match:
    """A mark with the surest detection that hits it."""

    image: int
    """Number of the slice among the counted ones."""
    key_slice: KeySlice
    mark: Mark
    detection: Detection

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Between rows, between columns."""
        return self.key_slice.row_spacing_mm, self.key_slice.col_spacing_mm


@dataclass(frozen=True)
class Measure:
    """One quantity over the lesions where it is defined."""

    name: str
    unit: str
    lesions: int
    mean: Interval
    median: float
    percentile_90: float
    infinite: int = 0
    """Lesions left out since a mask is empty and the distance infinite."""


def matches(cases: Cases, count: Count) -> tuple[Match, ...]:
    """The marks hit up to `MATCHED_AT` false positives per image, in the order of the pool."""
    least = score_at(curve(count), MATCHED_AT)
    marks, detections = cases.slices.marks, cases.flat
    found = []
    for mark, image, rank in zip(count.mark.tolist(), count.mark_image.tolist(), count.mark_rank.tolist(), strict=True):
        if rank >= 0 and count.scores[rank] >= least:
            one, marked = marks[mark]
            found.append(Match(image, one, marked, detections[int(count.detection[rank])]))
    return tuple(found)


def recist_measures(found: Sequence[Match], resample: Resample) -> tuple[Measure, ...]:
    """Errors of RECIST axes on lesions where mark and detection have both axes; () where there is none."""
    rows = [
        (match.image, *errors)
        for match in found
        if (errors := _recist_errors(match)) is not None
    ]  # fmt: skip
    names = ("end points, mean distance", "diameters, mean absolute error", "long axis, error", "short axis, error")
    return _measures(names, ["mm"] * len(names), rows, resample)


@dataclass(frozen=True)
class Delineated:
    """How well masks agree, and what could not be compared."""

    measures: tuple[Measure, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Found lesions that are not compared, by a reason of `SKIPPED`; nothing where there are no reference masks."""


def mask_measures(
    found: Sequence[Match], references: Sequence[ReferenceMask], resample: Resample
) -> dict[str, Delineated]:
    """Agreement with reference masks: on the key slice ('2-D') and of whole lesions ('3-D'), where there are both."""
    by_mark: dict[str, dict[int, PixelMask]] = {}
    for one in references:
        by_mark.setdefault(one.mark_id, {})[slice_number(one.file_name)] = one.mask
    ways = {"2-D": _on_key_slice, "3-D": _in_space}
    return {name: _agreements(found if by_mark else (), by_mark, way, resample) for name, way in ways.items()}


def stacked(one: Mapping[int, PixelMask], other: Mapping[int, PixelMask]) -> tuple[Mask, Mask]:
    """Two sets of masks by slice number as (slices, rows, columns) of one shape that holds both."""
    every = [mask for mask in (*one.values(), *other.values()) if mask.bits.size]
    numbers = sorted({*one, *other})
    if not every:
        return np.zeros((1, 1, 1), np.bool_), np.zeros((1, 1, 1), np.bool_)
    left, top = min(mask.first_column for mask in every), min(mask.first_row for mask in every)
    right = max(mask.first_column + mask.bits.shape[1] for mask in every)
    bottom = max(mask.first_row + mask.bits.shape[0] for mask in every)
    shape = (numbers[-1] - numbers[0] + 1, bottom - top, right - left)
    stacks = []
    for masks in (one, other):
        stack = np.zeros(shape, np.bool_)
        for number, mask in masks.items():
            moved = PixelMask(mask.first_column - left, mask.first_row - top, mask.bits)
            stack[number - numbers[0]] = moved.on_plane(*shape[1:])
        stacks.append(stack)
    return stacks[0], stacks[1]


def _recist_errors(match: Match) -> tuple[float, ...] | None:
    long_axis, short_axis = match.detection.long_axis, match.detection.short_axis
    if long_axis is None or short_axis is None or not np.isfinite(match.mark.ends_px).all():
        return None
    spacing = match.spacing_mm
    predicted = _length_mm(long_axis, spacing), _length_mm(short_axis, spacing)
    marked_ends = [(float(x), float(y)) for x, y in match.mark.ends_px]
    marked = (
        _length_mm(Segment(marked_ends[0], marked_ends[1]), spacing),
        _length_mm(Segment(marked_ends[2], marked_ends[3]), spacing),
    )
    ends = (long_axis.start, long_axis.end, short_axis.start, short_axis.end)
    return (
        ends_error_mm(ends, marked_ends, spacing),
        diameter_error_mm(predicted, marked),
        predicted[0] - marked[0],
        predicted[1] - marked[1],
    )


def _length_mm(axis: Segment, spacing_mm: tuple[float, float]) -> float:
    row_mm, column_mm = spacing_mm
    return math.hypot((axis.end[0] - axis.start[0]) * column_mm, (axis.end[1] - axis.start[1]) * row_mm)


def _on_key_slice(match: Match, reference: Mapping[int, PixelMask]) -> Agreement | str:
    """The agreement, or why there is none."""
    mask, truth = match.detection.mask, reference.get(match.key_slice.slice_number)
    if truth is None:
        return "no_reference"
    if match.detection.image != match.key_slice.file_name:
        return "other_slice"
    if mask is None:
        return "no_mask"
    predicted, true = stacked({0: mask}, {0: truth})
    return agreement(predicted[0], true[0], match.spacing_mm) if true.any() else "empty_reference"


def _in_space(match: Match, reference: Mapping[int, PixelMask]) -> Agreement | str:
    """Likewise."""
    volume = {slice_number(str(image)): mask for image, mask in match.detection.volume}
    interval_mm = match.key_slice.slice_interval_mm
    if len(reference) < 2:
        return "one_slice" if reference else "no_reference"
    if not volume:
        return "no_mask"
    if math.isnan(interval_mm):
        return "unknown_interval"
    predicted, true = stacked(volume, reference)
    return agreement(predicted, true, (interval_mm, *match.spacing_mm)) if true.any() else "empty_reference"


def _agreements(
    found: Sequence[Match],
    by_mark: Mapping[str, Mapping[int, PixelMask]],
    compare: Callable[[Match, Mapping[int, PixelMask]], Agreement | str],
    resample: Resample,
) -> Delineated:
    rows = []
    skipped: Counter[str] = Counter()
    for match in found:
        told = compare(match, by_mark.get(match.mark.mark_id, {}))
        if isinstance(told, str):
            skipped[told] += 1
        else:
            size = told.size_error
            rows.append((match.image, told.dice, told.surface_distance_mm, told.hd95_mm, size, abs(size)))
    names = ("Dice", "surface distance", "HD95", "size, relative error", "size, absolute relative error")
    return Delineated(
        _measures(names, ("", "mm", "mm", "", ""), rows, resample),
        {reason: skipped[reason] for reason in SKIPPED if skipped[reason]},
    )


def _measures(
    names: Sequence[str], units: Sequence[str], rows: Sequence[tuple[float, ...]], resample: Resample
) -> tuple[Measure, ...]:
    """One measure a column of rows (image, value ...)."""
    if not rows:
        return ()
    table = np.array(rows, np.float64)
    image = table[:, 0].astype(np.int64)
    return tuple(
        _measure(name, unit, table[:, number], image, resample)
        for number, (name, unit) in enumerate(zip(names, units, strict=True), start=1)
    )


def _measure(name: str, unit: str, values: Floats, image: np.ndarray, resample: Resample) -> Measure:
    finite = np.isfinite(values)
    kept = values[finite]
    return Measure(
        name=name,
        unit=unit,
        lesions=len(kept),
        mean=resample.interval(resample.weighted(kept, image[finite])),
        median=float(np.median(kept)) if len(kept) else math.nan,
        percentile_90=float(np.percentile(kept, 90)) if len(kept) else math.nan,
        infinite=int((~finite).sum()),
    )
