"""The files of an evaluation: record, curves, plot, page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.evaluation.cases import MarkedDataset
from models.evaluation.curves import curves_csv
from models.evaluation.evaluate import Evaluation, Predictions
from models.evaluation.page import page
from models.evaluation.plots import froc_png
from models.evaluation.record import record, to_json
from models.predictions_table import read_predictions

RECORD, CURVES, PLOT, PAGE = "evaluation.json", "curves.csv", "froc.png", "evaluation.html"


def read(paths: Sequence[Path]) -> tuple[Predictions, ...]:
    """The predictions of some files, each under its name, or under its path where two have one name.

    ConfigError as `read_predictions`.
    """
    names = [path.name for path in paths]
    shown = names if len(set(names)) == len(names) else [str(path) for path in paths]
    return tuple(Predictions(name, read_predictions(path)) for name, path in zip(shown, paths, strict=True))


def write(evaluation: Evaluation, dataset: MarkedDataset, folder: Path) -> None:
    """Writes all files of an evaluation into a folder, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_bytes(to_json(record(evaluation, dataset)))
    (folder / CURVES).write_text(curves_csv(evaluation), "utf-8")
    plot = froc_png(evaluation)
    (folder / PLOT).write_bytes(plot)
    (folder / PAGE).write_bytes(page(evaluation, dataset, plot))
