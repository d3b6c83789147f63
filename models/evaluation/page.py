"""`evaluation.html`: figures, curves, and the slices that explain them, on one page that needs nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files

import numpy as np

from models.evaluation.cases import MarkedDataset
from models.evaluation.evaluate import Evaluation, annotation_counts
from models.evaluation.figures import Figures
from models.evaluation.galleries import galleries
from models.evaluation.matched import Measure
from models.evaluation.protocol import FALSE_POSITIVES
from models.evaluation.record import (
    DISTRIBUTION,
    interval_words,
    last_false_positives,
    skipped_words,
    unpredicted_words,
)
from models.marks import Annotation

STYLE = "page.css"
LEVELS = tuple(f"{level:g}" for level in FALSE_POSITIVES)
MOST_PATIENTS = 40
"""More patients than this are told by their lowest averages and quantiles."""


def page(evaluation: Evaluation, dataset: MarkedDataset, plot: bytes) -> bytes:
    """The page; `plot` is the PNG of the curves."""
    name = evaluation.predictions.name
    title = f"Evaluation of {name}"
    bodies = (
        ("Sensitivity", _sensitivity(evaluation) + _plot(plot)),
        ("What was counted", _counted(evaluation)),
        ("By size, type and slice interval", _strata(evaluation)),
        ("By patient", _patients(evaluation)),
        ("Counted other ways", _other_ways(evaluation)),
        ("Kinds of false positives", _kinds(evaluation)),
        ("Measured and delineated", _matched(evaluation)),
        *galleries(evaluation, dataset),
        ("Made from", _provenance(evaluation, dataset)),
    )
    style = files("models.evaluation").joinpath(STYLE).read_text(encoding="utf-8")
    sections = "\n".join(f"<section><h2>{escape(head)}</h2>\n{body}</section>" for head, body in bodies if body)
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        f"{_head(evaluation, title)}\n{sections}\n</main></body></html>\n"
    )
    return text.encode("utf-8")


def _head(evaluation: Evaluation, title: str) -> str:
    slices = evaluation.slices
    values = {
        "slices": f"{len(slices.counted):,}",
        "patients": f"{len(set(slices.patients)):,}",
        "marks": f"{len(slices.marks):,}",
        "detections": f"{len(evaluation.cases.flat):,}",
        "average at 0.5 to 4": _digits(evaluation.figures.average.estimate),
        "average at 0.5 to 8": _digits(evaluation.figures.average_to_eight.estimate),
    }
    tiles = "".join(f"<div><b>{value}</b><span>{escape(word)}</span></div>" for word, value in values.items())
    return f'<header><h1>{escape(title)}</h1><div class="totals">{tiles}</div></header>'


def _sensitivity(evaluation: Evaluation) -> str:
    head = ("false positives per image", *LEVELS, "average", "to eight")
    rows = [(f"<b>{escape(evaluation.predictions.name)}</b>", *_cells(evaluation.figures))]
    for one in evaluation.differences:
        difference = (*one.sensitivity, one.average, one.average_to_eight)
        rows.append((escape(one.other), *_cells(one.other_figures)))
        rows.append(("<i>difference, paired</i>", *(_stacked(interval_words(each, sign=True)) for each in difference)))
    if evaluation.complete_only is not None:
        rows.append(("false positives on completely annotated slices only", *_cells(evaluation.complete_only)))
    level = f"{evaluation.draws.level:.0%}"
    lead = (
        f"<p>Sensitivity with its {level} interval from {evaluation.draws.replicates:,} draws of patients. "
        "The average is that of 0.5, 1, 2 and 4 false positives per image, as published; to eight, also that of 8.</p>"
    )
    return lead + _table(head, rows, "numbers")


def _plot(png: bytes) -> str:
    uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return f'<img class="plot" alt="FROC curves: sensitivity against false positives per image" src="{uri}">'


def _counted(evaluation: Evaluation) -> str:
    slices, cases, unmarked = evaluation.slices, evaluation.cases, evaluation.unmarked
    warnings = []
    partial = annotation_counts(slices)[Annotation.PARTIAL]
    if partial:
        warnings.append(
            f"{partial:,} of {len(slices.counted):,} slices were marked in part only, as readers mark what they "
            "follow: a detection beside the marks may be right, so false positives per image are an upper bound."
        )
    end = last_false_positives(evaluation)
    if end < FALSE_POSITIVES[-1]:
        warnings.append(
            f"All detections together give {end:.3g} false positives per image. Beyond, the sensitivity at the end "
            "of the curve stands; predict with a lower least score to see further."
        )
    if unmarked.detections:
        low, _, middle, _, high = unmarked.score_quantiles
        warnings.append(
            f"{unmarked.detections:,} detections lie on {unmarked.slices:,} slices that nobody annotated (scores "
            f"{low:.2f} to {high:.2f}, median {middle:.2f}). They are neither right nor wrong and never count."
        )
    missing = sum(not found for found in cases.detected)
    if missing:
        warnings.append(f"{missing:,} slices have no detection at all.")
    unlooked = unpredicted_words(evaluation)
    if unlooked:
        warnings.append(f"{unlooked}.")
    if slices.noisy_marks:
        warnings.append(
            f"{slices.noisy_marks:,} marks flagged possibly noisy were left out, and {len(slices.noisy_slices):,} "
            f"slices that hold no other ({cases.on_noisy:,} detections there)."
        )
    if cases.elsewhere:
        warnings.append(f"{cases.elsewhere:,} detections on slices of other splits were left out.")
    if slices.unmarked_marks:
        warnings.append(f"{slices.unmarked_marks:,} marks lie on slices called unmarked and do not count.")
    listed = "".join(f"<li>{escape(one)}</li>" for one in warnings)
    words = [(escape(name), escape(text)) for name, text in evaluation.protocol.words().items()]
    return f"<ul>{listed}</ul>" + _table(("rule", ""), words, "rules")


def _strata(evaluation: Evaluation) -> str:
    if not evaluation.strata:
        return ""
    head = ("", "", "marks", *LEVELS, "average", "to eight")
    rows, last = [], ""
    for one in evaluation.strata:
        by = "" if one.stratum.by == last else f"<b>{escape(one.stratum.by)}</b>"
        last = one.stratum.by
        rows.append((by, escape(one.stratum.name), f"{one.figures.marks:,}", *_cells(one.figures)))
    lead = (
        "<p>A stratum selects marks and nothing else: all detections and all slices stay, and a detection on a lesion "
        "of another stratum is a false positive there, as in the published figures.</p>"
    )
    return lead + _table(head, rows, "numbers strata")


def _patients(evaluation: Evaluation) -> str:
    patients = [one for one in evaluation.patients if one.marks]
    if len(patients) < 2:
        return ""
    lead = "<p>Each patient's slices alone: their marks, their detections, false positives per slice of theirs.</p>"
    shown = patients
    if len(patients) > MOST_PATIENTS:
        quantiles = np.quantile([one.average for one in patients], (0, 0.25, 0.5, 0.75, 1))
        lead += (
            f"<p>Averages of {len(patients):,} patients: {' / '.join(f'{value:.3f}' for value in quantiles)} (least, "
            f"quarter, half, three quarters, most). The {MOST_PATIENTS} with the lowest follow.</p>"
        )
        shown = sorted(patients, key=lambda one: (one.average, -one.marks))[:MOST_PATIENTS]
    rows = [
        (escape(one.patient), f"{one.images:,}", f"{one.marks:,}", *map(_digits, one.sensitivity),
         _digits(one.average), _digits(one.average_to_eight))
        for one in shown
    ]  # fmt: skip
    return lead + _table(("patient", "slices", "marks", *LEVELS, "average", "to eight"), rows, "numbers")


def _other_ways(evaluation: Evaluation) -> str:
    rows = [
        (escape(one.rule), *map(_digits, one.sensitivity), _digits(one.average), _digits(one.average_to_eight))
        for one in evaluation.other_ways
    ]
    lead = "<p>The same predictions with one rule changed.</p>"
    return lead + _table(("", *LEVELS, "average", "to eight"), rows, "numbers")


def _kinds(evaluation: Evaluation) -> str:
    if not evaluation.kinds:
        return ""
    rows = [
        (
            escape(one.point.words),
            _digits(one.point.score),
            escape(one.kind),
            f"{one.of_kind:,} of {one.false_positives:,}",
            interval_words(one.share),
        )
        for one in evaluation.kinds
    ]
    lead = (
        "<p>False positives that lie on known non-lesions: half of the one box lies in the other. Intervals hold the "
        "score fixed.</p>"
    )
    table = _table(("", "score", "kind", "false positives", "share"), rows, "numbers")
    if not evaluation.kind_differences:
        return lead + table
    differences = [
        (escape(one.other), escape(one.words), escape(one.kind), interval_words(one.difference, sign=True))
        for one in evaluation.kind_differences
    ]
    return lead + table + _table(("minus that of", "", "kind", "difference, paired"), differences, "numbers")


def _matched(evaluation: Evaluation) -> str:
    blocks = [("RECIST of found lesions", evaluation.recist, "")]
    blocks += [(f"Masks in {space}", one.measures, skipped_words(one)) for space, one in evaluation.masks.items()]
    told = "".join(
        f"<h3>{escape(head)}</h3>{_measures(measures) if measures else ''}{f'<p>{escape(words)}.</p>' if words else ''}"
        for head, measures, words in blocks
        if measures or words
    )
    lead = "<p>Lesions hit at up to 4 false positives per image, each with the surest detection that hits it.</p>"
    return lead + told if told else ""


def _measures(measures: Sequence[Measure]) -> str:
    rows = [
        (
            escape(f"{one.name}{f', {one.unit}' if one.unit else ''}"),
            f"{one.lesions:,}" + (f" (+ {one.infinite} without a mask)" if one.infinite else ""),
            interval_words(one.mean),
            _digits(one.median),
            _digits(one.percentile_90),
        )
        for one in measures
    ]
    return _table(("", "lesions", "mean", "median", "90 %"), rows, "numbers")


def _provenance(evaluation: Evaluation, dataset: MarkedDataset) -> str:
    draws = evaluation.draws
    rows = [
        ("predictions", escape(evaluation.predictions.name)),
        ("model", ", ".join(f"<code>{escape(one)}</code>" for one in evaluation.predictions.model_ids)),
        ("dataset", f"<code>{escape(dataset.digest)}</code>, split {escape(evaluation.slices.split)}"),
        ("code", escape(f"{DISTRIBUTION} {version(DISTRIBUTION)}")),
        ("bootstrap", f"seed {draws.seed}, {draws.replicates:,} replicates over patients"),
    ]
    return _table(("", ""), rows, "rules")


def _cells(figures: Figures) -> Iterable[str]:
    return (_stacked(interval_words(one)) for one in (*figures.sensitivity, figures.average, figures.average_to_eight))


def _stacked(words: str) -> str:
    """The interval below the estimate."""
    estimate, _, interval = words.partition(" ")
    return f"{estimate}<small>{interval}</small>" if interval else estimate


def _digits(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML already."""
    columns = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    header = f"<thead><tr>{columns}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table class="{kind}">{header}<tbody>\n{body}</tbody></table></div>'
