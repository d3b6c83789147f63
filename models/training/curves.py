"""The curves of a training as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.training import journal

FILE_NAME = "curves.png"
NO_LOSS = ("event", "step", "learning_rate", "gradient")
SMOOTHED_OVER = 0.02
"""Share of the steps that a point of a loss is the mean of."""


def draw(folder: Path) -> Path:
    """Draws losses, learning rate and validation figures of a journal's folder into `curves.png`; its path."""
    records = journal.read(folder / journal.FILE_NAME)
    steps = [one for one in records if one["event"] == "step"]
    validations = [one for one in records if one["event"] == "validation"]
    figure = Figure(figsize=(12, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    losses, rates, scores = figure.subplots(1, 3)
    for name in dict.fromkeys(name for one in steps for name in one if name not in NO_LOSS):
        at, values = _curve(steps, name)
        wide = max(1, round(len(values) * SMOOTHED_OVER))
        smooth = np.convolve(values, np.full(wide, 1 / wide), "valid")
        losses.plot(at[wide - 1 :], smooth, label=name, linewidth=2 if name == "loss" else 1)
    losses.set(title="losses", xlabel="step", yscale="log")
    rates.plot(*_curve(steps, "learning_rate"))
    rates.set(title="learning rate", xlabel="step")
    for name in dict.fromkeys(name for one in validations for name in one if name not in NO_LOSS):
        scores.plot(*_curve(validations, name), marker="o", markersize=3, label=name)
    scores.set(title="validation of the averaged weights", xlabel="step")
    if not validations:
        scores.set_axis_off()
        scores.text(0.5, 0.5, "nothing was validated", ha="center", transform=scores.transAxes)
    for axes in (losses, scores):
        if axes.lines:
            axes.legend(fontsize="small")
    path = folder / FILE_NAME
    figure.savefig(path, metadata={"Software": None})
    return path


def _curve(records: list[dict[str, float | None]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of those records that hold a figure; nan where it was not finite."""
    found = [(one["step"], one[name]) for one in records if name in one]
    values = np.array([[step, np.nan if value is None else value] for step, value in found], float).reshape(-1, 2)
    return values[:, 0], values[:, 1]
