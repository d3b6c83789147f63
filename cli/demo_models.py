"""The second half of `mine demo`: a small detector learns from the mined dataset and looks at a new patient."""

from __future__ import annotations

import shlex
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cli.config import Configuration
from cli.main import MODEL_LIBRARIES
from cli.output import Output, notice, plural
from cli.train import TrainingBar

if TYPE_CHECKING:
    from cli.finding import Finding
    from deeplesion_miner.detection import Detection
    from deeplesion_miner.types import Box, Point
    from dicom_io.testbed.newcomer import Newcomer

RECIPE = "lesionnet-xs-9"
STEPS = {True: 120, False: 400}
"""By whether the demo is small."""
MOST = 12
"""Detections that are drawn: the phantom has four lesions."""


def can_train() -> bool:
    """Whether the libraries of the extra 'models' are installed."""
    return all(find_spec(name) is not None for name in MODEL_LIBRARIES)


def train_and_look(configuration: Configuration, output: Output, out: Path, small: bool) -> None:
    """Trains on the demo's dataset, predicts a study that nobody measured and draws what is found.

    The new patient is none of the dataset's, so all of its splits may train.
    """
    from cli import demo_results, finding
    from deeplesion_miner.studies import StudyQuery
    from dicom_io.testbed.newcomer import write_newcomer
    from models import recipe as recipes
    from models.predictions_table import write_predictions
    from models.reading.folder import DatasetFolder
    from models.training.fit import fit

    changes = [
        f"training.steps={STEPS[small]}",
        'data.train_splits=["train", "val", "test"]',
        "data.validation_splits=[]",
    ]
    words = ["mine", "train", str(out / "dataset"), "--recipe", RECIPE, "--out", str(out / "model")]
    words += [word for change in changes for word in ("--with", change)]
    notice(f"training a small detector on them: {shlex.join(words)}")
    with closing(TrainingBar()) as bar:
        fit(DatasetFolder.open(out / "dataset"), recipes.load(RECIPE, changes), out / "model", fresh=True, progress=bar)
    newcomer = write_newcomer(out / "newcomer", small=small)
    notice(f"looking at a patient whom nobody measured: mine predict {out / 'model'} {newcomer.folder}")
    predictor = finding.load(
        out / "model", least_score=0.1, most=MOST, masks=True, delineator=None, device="auto", precision="auto"
    )
    found = finding.in_studies(predictor, configuration.settings, (newcomer.folder,), StudyQuery(measured=False))
    finding.tell_left_out(found, output)
    write_predictions(out / "predictions.parquet", found.detections)
    drawn = finding.draw(found, out / "findings")
    hits = _hits(found, newcomer)
    others = len(found.detections) - hits
    there, elsewhere = plural(len(newcomer.lesions), "lesion"), plural(others, "other place")
    text = (
        f"found {hits} of the {there} that are there and {elsewhere}; {plural(drawn, 'picture')}, the surest first, "
        f"in {out / 'findings'}"
    )
    values = {"lesions": len(newcomer.lesions), "found": hits, "others": others, "pictures": out / "findings"}
    output.record("findings", values, text)
    demo_results.bring_home(configuration, output, out, newcomer.folder, found.detections)


def _hits(found: Finding, newcomer: Newcomer) -> int:
    """Lesions whose middle lies in a detection's box, on a slice that its 3-D mask (or the box itself) reaches."""
    hits = 0
    for key_image, placed in newcomer.lesions.values():
        axis = placed.long_axis_px
        middle = ((axis.start[0] + axis.end[0]) / 2, (axis.start[1] + axis.end[1]) / 2)
        hits += any(_holds(one.box, middle) and key_image in _images(one) for one in found.detections)
    return hits


def _holds(box: Box, point: Point) -> bool:
    return box.x_min <= point[0] <= box.x_max and box.y_min <= point[1] <= box.y_max


def _images(detection: Detection) -> set[str]:
    refs = (detection.image, *(image for image, _ in detection.volume))
    return {ref if isinstance(ref, str) else ref.sop_instance_uid for ref in refs}
