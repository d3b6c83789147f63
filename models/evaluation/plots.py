"""FROC curves as one picture: all marks with their interval and rivals, then a panel for each way to split them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.evaluation.curves import Steps, steps
from models.evaluation.evaluate import Evaluation
from models.evaluation.overlap import Floats
from models.evaluation.protocol import BAND, FALSE_POSITIVES

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B5E00", "#7F7F7F")
"""Okabe and Ito's colours, which people who confuse red and green tell apart, then brown and grey."""
LINES = ("-", "--", "-.", ":")
"""Styles, so that colour is never the only difference."""
LOW, HIGH = 0.125, 16.0
"""False positives per image that are shown, on a logarithmic axis."""
PANEL_INCHES = (5.0, 4.0)
DPI = 110
INK, SOFT, GRID = "#1d2430", "#5c6675", "#dfe3e8"


def froc_png(evaluation: Evaluation) -> bytes:
    """The picture, two panels a row; a bar ends a curve that has no more detections."""
    splits = _splits(evaluation)
    rows = -(-(1 + len(splits)) // 2)
    figure = Figure(figsize=(2 * PANEL_INCHES[0], rows * PANEL_INCHES[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    _all_marks(panels[0], evaluation)
    for panel, (title, curves) in zip(panels[1:], splits, strict=False):
        _panel(panel, title)
        for number, (name, marks, one) in enumerate(curves):
            _draw(panel, one, number, f"{name} ({marks})")
        _legend(panel)
    for panel in panels[1 + len(splits) :]:
        panel.set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def drawn(one: Steps) -> tuple[Floats, Floats]:
    """(x, y) of a curve as a line of steps from `LOW` to `HIGH` false positives per image, or to the curve's end."""
    x = np.concatenate([[0.0], one.false_positives, [max(one.end, LOW)]])
    y = np.concatenate([[0.0], one.sensitivity, one.sensitivity[-1:] if len(one.sensitivity) else [0.0]])
    first = int(np.searchsorted(x, LOW, "right")) - 1
    x, y = x[first:], y[first:]
    shown = x <= HIGH
    last = y[shown][-1:]
    return np.append(np.maximum(x[shown], LOW), min(max(one.end, LOW), HIGH)), np.append(y[shown], last)


def _all_marks(panel: Any, evaluation: Evaluation) -> None:
    _panel(panel, "all marks")
    _draw(panel, steps(evaluation.count), 0, f"{evaluation.predictions.name} ({len(evaluation.count.mark)})")
    low, high = [one.low for one in evaluation.band], [one.high for one in evaluation.band]
    panel.fill_between(BAND, low, high, color=COLORS[0], alpha=0.16, linewidth=0,
                       label=f"{evaluation.draws.level:.0%} interval over patients")  # fmt: skip
    for number, other in enumerate(evaluation.differences, start=1):
        _draw(panel, steps(other.other_count), number, f"{other.other} ({other.other_figures.marks})")
    _legend(panel)


def _splits(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, int, Steps]]]]:
    grouped: dict[str, list[tuple[str, int, Steps]]] = {}
    for one in evaluation.strata:
        grouped.setdefault(one.stratum.by, []).append((one.stratum.name, one.figures.marks, steps(one.count)))
    return [(f"by {by}", curves) for by, curves in grouped.items() if len(curves) > 1]


def _panel(panel: Any, title: str) -> None:
    panel.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    panel.set_xscale("log", base=2)
    panel.set_xlim(LOW, HIGH)
    panel.set_ylim(0, 1)
    ticks = [0.125, 0.25, *FALSE_POSITIVES]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_yticks(np.arange(0, 1.01, 0.2))
    panel.minorticks_off()
    panel.set_xlabel("false positives per image", color=SOFT, fontsize=9)
    panel.set_ylabel("sensitivity", color=SOFT, fontsize=9)
    panel.tick_params(colors=SOFT, labelsize=8.5, length=0)
    panel.grid(color=GRID, linewidth=0.8)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(GRID)


def _draw(panel: Any, one: Steps, number: int, label: str) -> None:
    x, y = drawn(one)
    panel.plot(x, y, drawstyle="steps-post", color=COLORS[number % len(COLORS)],
               linestyle=LINES[number % len(LINES)], linewidth=1.8, label=label)  # fmt: skip
    if x[-1] < HIGH:
        panel.plot(x[-1:], y[-1:], marker="|", markersize=9, markeredgewidth=2, color=COLORS[number % len(COLORS)])


def _legend(panel: Any) -> None:
    panel.legend(fontsize=8, frameon=False, loc="best", labelcolor=INK, title="(marks)", title_fontsize=7.5)
