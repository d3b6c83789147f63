"""The files of an evaluation: record, curves, plot, page."""

from __future__ import annotations

from pathlib import Path

from models.evaluation.cases import MarkedDataset
from models.evaluation.curves import curves_csv
from models.evaluation.evaluate import Evaluation, Predictions
from models.evaluation.record import record, to_json
from models.predictions_table import read_predictions

RECORD, CURVES, PLOT, PAGE = "evaluation.json", "curves.csv", "froc.png", "evaluation.html"


def read(path: Path) -> Predictions:
    """The predictions of a file under its name. ConfigError as `read_predictions`."""
    return Predictions(path.name, read_predictions(path))


def write(evaluation: Evaluation, dataset: MarkedDataset, folder: Path) -> None:
    """Writes all files of an evaluation into a folder, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_bytes(to_json(record(evaluation, dataset)))
    (folder / CURVES).write_text(curves_csv(evaluation), "utf-8")
