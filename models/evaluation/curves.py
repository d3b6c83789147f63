"""FROC curves as steps: a sensitivity rises at hits only, so the points at hits are the whole curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.evaluation.evaluate import Evaluation
from models.evaluation.froc import Count, curve
from models.evaluation.overlap import Floats

COLUMNS = ("by", "stratum", "marks", "score", "false_positives_per_image", "sensitivity")


@dataclass(frozen=True, eq=False)
class Steps:
    """The points where sensitivity rises; left of the first it is 0, right of the last it stays."""

    false_positives: Floats
    """(k,) per image."""
    sensitivity: Floats
    scores: Floats
    end: float
    """False positives per image with all detections."""


def steps(count: Count) -> Steps:
    """The steps of a curve; of equal false positives the last point."""
    whole = curve(count)
    end = float(whole.false_positives[-1]) if len(whole.false_positives) else 0.0
    rises = np.flatnonzero(count.new_hits)
    return Steps(whole.false_positives[rises], whole.sensitivity[rises], whole.scores[rises], end)


def all_steps(evaluation: Evaluation) -> Iterator[tuple[str, str, int, Steps]]:
    """(by, stratum, marks, steps) of all marks first, then of each stratum."""
    yield "all", "all", len(evaluation.count.mark), steps(evaluation.count)
    for one in evaluation.strata:
        yield one.stratum.by, one.stratum.name, one.figures.marks, steps(one.count)


def curves_csv(evaluation: Evaluation) -> str:
    """Every curve as CSV, one row a step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for by, name, marks, one in all_steps(evaluation):
        for score, wrong, found in zip(one.scores, one.false_positives, one.sensitivity, strict=True):
            writer.writerow([by, name, marks, repr(float(score)), f"{wrong:.6g}", f"{found:.6g}"])
    return text.getvalue()
