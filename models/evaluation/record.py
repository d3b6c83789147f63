"""An evaluation as plain values for `evaluation.json`: the same evaluation gives the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from models.evaluation.cases import MarkedDataset
from models.evaluation.evaluate import Difference, Evaluation, annotation_counts
from models.evaluation.figures import Figures
from models.evaluation.findings import misses
from models.evaluation.intervals import Interval
from models.evaluation.matched import SKIPPED, Delineated, Measure
from models.evaluation.protocol import FALSE_POSITIVES
from models.marks import Annotation

SCHEMA_VERSION = 1
DISTRIBUTION = "deeplesion-miner"


def record(evaluation: Evaluation, dataset: MarkedDataset) -> dict[str, Any]:
    """Everything that was found, and what it depends on; NaN is None."""
    slices, cases = evaluation.slices, evaluation.cases
    values = {
        "schema_version": SCHEMA_VERSION,
        "code_version": version(DISTRIBUTION),
        "dataset_digest": dataset.digest,
        "split": slices.split,
        "predictions": {
            "file": evaluation.predictions.name,
            "model_ids": list(evaluation.predictions.model_ids),
            "detections": len(evaluation.predictions.detections),
        },
        "protocol": asdict(evaluation.protocol) | {"words": evaluation.protocol.words()},
        "bootstrap": asdict(evaluation.draws),
        "counts": {
            "images": len(slices.counted),
            "images_by_annotation": annotation_counts(slices),
            "images_without_detections": sum(not found for found in cases.detected),
            "patients": len(set(slices.patients)),
            "marks": len(slices.marks),
            "detections": len(cases.flat),
            "noisy_marks_left_out": slices.noisy_marks,
            "noisy_images_left_out": len(slices.noisy_slices),
            "marks_on_images_called_unmarked": slices.unmarked_marks,
            "detections_on_noisy_images": cases.on_noisy,
            "detections_in_other_splits": cases.elsewhere,
        },
        "false_positives_per_image_at_the_end": last_false_positives(evaluation),
        **figures_values(evaluation.figures),
        "complete_images_only": evaluation.complete_only and figures_values(evaluation.complete_only),
        "unmarked": asdict(evaluation.unmarked),
        "strata": [
            {"by": one.stratum.by, "name": one.stratum.name, **figures_values(one.figures)} for one in evaluation.strata
        ],
        "patients": [
            {
                "patient": one.patient,
                "images": one.images,
                "marks": one.marks,
                "sensitivity": _at_levels(one.sensitivity),
                "average": one.average,
                "average_to_eight": one.average_to_eight,
            }
            for one in evaluation.patients
        ],
        "other_ways": [
            {
                "rule": one.rule,
                "sensitivity": _at_levels(one.sensitivity),
                "average": one.average,
                "average_to_eight": one.average_to_eight,
            }
            for one in evaluation.other_ways
        ],
        "against": [_difference(one) for one in evaluation.differences],
        "false_positive_kinds": [asdict(one) | {"share": interval_values(one.share)} for one in evaluation.kinds],
        "false_positive_kinds_against": [
            asdict(one) | {"difference": interval_values(one.difference)} for one in evaluation.kind_differences
        ],
        "misses": [
            {
                "mark_id": one.mark.mark_id,
                "file_name": one.key_slice.file_name,
                "overlap": one.overlap,
                "score": None if one.nearest is None else one.nearest.score,
            }
            for one in misses(cases, evaluation.pool, evaluation.count)
        ],
        "recist": [_measure(one) for one in evaluation.recist],
        "masks": {space: [_measure(one) for one in told.measures] for space, told in evaluation.masks.items()},
        "masks_skipped": {space: told.skipped for space, told in evaluation.masks.items()},
    }
    plain: dict[str, Any] = _strict(values)
    return plain


def to_json(values: dict[str, Any]) -> bytes:
    """The record as indented JSON."""
    return (json.dumps(values, indent=1, allow_nan=False, default=str) + "\n").encode("utf-8")


def summary(evaluation: Evaluation) -> str:
    """The figures in a few lines of text."""
    slices, found = evaluation.slices, evaluation.figures
    patients = len(set(slices.patients))
    lines = [
        f"{evaluation.predictions.name}: {len(evaluation.cases.flat)} detections on {len(slices.counted)} slices "
        f"with {len(slices.marks)} marks of {patients} patient{'' if patients == 1 else 's'} ({slices.split})",
        f"hit: {evaluation.protocol.measure} >= {evaluation.protocol.threshold:g}, {evaluation.protocol.boxes} boxes",
        f"FP per image  sensitivity [{evaluation.draws.level:.0%} interval]",
        *(
            f"{level:>12g}  {interval_words(one)}"
            for level, one in zip(FALSE_POSITIVES, found.sensitivity, strict=True)
        ),
        f"     average  {interval_words(found.average)}  (0.5, 1, 2, 4: as published)",
        f"    to eight  {interval_words(found.average_to_eight)}  (0.5, 1, 2, 4, 8)",
        *(
            f"minus {one.other}: average {interval_words(one.average, sign=True)}, "
            f"to eight {interval_words(one.average_to_eight, sign=True)}"
            for one in evaluation.differences
        ),
    ]
    for space, told in evaluation.masks.items():
        words = [f"{one.name} {interval_words(one.mean)} of {one.lesions:,}" for one in told.measures[:1]]
        words += filter(None, [skipped_words(told)])
        if words:
            lines.append(f"masks in {space}: {'; '.join(words)}")
    end = last_false_positives(evaluation)
    if end < FALSE_POSITIVES[-1]:
        lines.append(
            f"the curve ends at {end:.3g} false positives per image; beyond, the sensitivity at its end stands"
        )
    unlooked = unpredicted_words(evaluation)
    if unlooked:
        lines.append(unlooked)
    partial = annotation_counts(slices)[Annotation.PARTIAL]
    if partial:
        lines.append(f"{partial} slices were marked in part only: false positives per image are an upper bound")
    if evaluation.unmarked.detections:
        lines.append(
            f"{evaluation.unmarked.detections} detections on {evaluation.unmarked.slices} slices that nobody "
            "annotated: not counted"
        )
    return "\n".join(lines)


def unpredicted_words(evaluation: Evaluation) -> str:
    """Of slices without marks of which none has a detection, that perhaps nobody predicted them; '' else."""
    pairs = zip(evaluation.slices.counted, evaluation.cases.detected, strict=True)
    bare = [found for one, found in pairs if not one.marks]
    if not bare or any(bare):
        return ""
    return (
        f"none of {len(bare):,} slices without marks has a detection: they count as free of false positives; predict "
        "with the same --annotation if that was not done"
    )


def skipped_words(told: Delineated) -> str:
    """'3 found lesions are not compared: the reference lies on ... (2), ...'; '' where all are."""
    count = sum(told.skipped.values())
    if not count:
        return ""
    reasons = ", ".join(f"{SKIPPED[reason]} ({number:,})" for reason, number in told.skipped.items())
    return f"{count:,} found lesion{' is' if count == 1 else 's are'} not compared: {reasons}"


def last_false_positives(evaluation: Evaluation) -> float:
    """False positives per image with all detections: beyond, a sensitivity is that of the curve's end."""
    return float(evaluation.count.false_positive.sum()) / evaluation.count.image_count


def figures_values(figures: Figures) -> dict[str, Any]:
    """Figures as plain values."""
    return {
        "marks": figures.marks,
        "sensitivity": _at_levels([interval_values(one) for one in figures.sensitivity]),
        "average": interval_values(figures.average),
        "average_to_eight": interval_values(figures.average_to_eight),
    }


def interval_values(interval: Interval) -> dict[str, Any]:
    """An interval as plain values; level, replicates and patients stand once, in 'bootstrap' and 'counts'."""
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "share_above_zero": interval.above_zero,
        "undefined_replicates": interval.undefined,
    }


def interval_words(interval: Interval, sign: bool = False) -> str:
    """'0.512 [0.440, 0.583]'; '-' where it is not defined."""
    if math.isnan(interval.estimate):
        return "-"
    form = "+.3f" if sign else ".3f"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "file": one.other,
        "model_ids": list(one.model_ids),
        "figures": figures_values(one.other_figures),
        "difference": {
            "sensitivity": _at_levels([interval_values(each) for each in one.sensitivity]),
            "average": interval_values(one.average),
            "average_to_eight": interval_values(one.average_to_eight),
        },
    }


def _measure(one: Measure) -> dict[str, Any]:
    return asdict(one) | {"mean": interval_values(one.mean)}


def _at_levels(values: Sequence[Any]) -> dict[str, Any]:
    return {f"{level:g}": value for level, value in zip(FALSE_POSITIVES, values, strict=True)}


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _strict(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return value
