"""Detection on synthetic lesions in real CT, held out by patient: what context is worth, beside a blob filter.

    python -m tests.experiments.detection CORPUS OUT [--recipes ...] [--seeds 0 1 2] [--jobs 2]   trains and predicts
    python -m tests.experiments.detection_report CORPUS OUT                                       writes the page

CORPUS is what `tests.experiments.corpus` writes: `train` and `test` are mined datasets of different patients. Every
training is a process of its own, its CPU seconds are measured, and what is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from models import recipe as recipes
from models.detectors.log_blobs import LogBlobs
from models.detectors.port import Detector
from models.prediction import PredictionSettings, on_key_slices
from models.predictions_table import write_predictions
from models.reading.folder import DatasetFolder
from models.training import registry
from models.training.fit import fit

RECIPES = ("lesionnet-s-1", "lesionnet-s-3", "lesionnet-s-9")
SEEDS = (0, 1, 2)
BLOBS = "log-blobs"
EVERYTHING = PredictionSettings(least_score=0.0, masks=False)
"""All that a detector says: FROC needs the unsure ones, too."""
ALL_TRAIN = ('data.train_splits=["train", "val", "test"]', "data.validation_splits=[]")
"""The training corpus holds training patients alone; the last averaged weights are taken, nothing is chosen."""


MEMORY_BYTES = 3 << 30
"""The decoded slices of the whole corpus stay in memory."""


def run_name(recipe: str, seed: int) -> str:
    """Name of a run's folder."""
    return f"{recipe}-seed{seed}"


def run(corpus: Path, out: Path, recipe: str, seed: int, changes: Sequence[str]) -> None:
    """One training and its predictions of the test patients; writes OUT/<run>/run.json last."""
    folder = out / run_name(recipe, seed)
    torch.set_num_threads(1)
    began = time.process_time()
    made = recipes.load(recipe, [*ALL_TRAIN, f"training.seed={seed}", *changes])
    train = DatasetFolder.open(corpus / "train", memory_bytes=MEMORY_BYTES)
    fitted = fit(train, made, folder / "model", device="cpu")
    trained = time.process_time()
    assert fitted.model is not None
    detector: Detector = registry.user(fitted.model)
    facts = {
        "steps": made.training.steps,
        "train_cpu_s": trained - began,
        "model_id": fitted.model.model_id,
        "train_digest": train.digest,
    }
    predict(corpus, folder, detector, {"recipe": recipe, "seed": seed, "changes": list(changes), **facts})


def predict(corpus: Path, folder: Path, detector: Detector, facts: dict[str, object]) -> None:
    """Predictions of every test key slice and of the real ones, where they lie beside; then the run is done."""
    began = time.process_time()
    test = DatasetFolder.open(corpus / "test")
    found = [one for each in on_key_slices(detector, test, test.key_slices, EVERYTHING) for one in each]
    facts = {**facts, "predict_cpu_s": time.process_time() - began, "test_digest": test.digest}
    write_predictions(folder / "predictions.parquet", found)
    real = real_key_slices()
    if real is not None:
        seen = [one for each in on_key_slices(detector, real, real.key_slices, EVERYTHING) for one in each]
        write_predictions(folder / "real.parquet", seen)
    (folder / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def real_key_slices() -> DatasetFolder | None:
    """DeepLesion's public key slices beside the checkout, scored as they are and never trained on."""
    data = os.environ.get("DLM_REAL_DATA")
    folder = Path(data or "nowhere") / "deeplesion" / "png"
    return DatasetFolder.open(folder, table="DL_info_png_visible.csv") if folder.is_dir() else None


def main() -> None:
    """Runs what is missing, several processes at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--with", dest="changes", nargs="*", default=[], help="recipe changes, e.g. training.steps=50")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "SEED"), help="this run alone, in this process")
    given = parser.parse_args()
    if given.one:
        run(given.corpus, given.out, given.one[0], int(given.one[1]), given.changes)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / BLOBS / "run.json").exists():
        (given.out / BLOBS).mkdir(exist_ok=True)
        predict(given.corpus, given.out / BLOBS, LogBlobs(), {"recipe": BLOBS, "seed": 0, "train_cpu_s": 0.0})
    # The runs that say most come first: all recipes of one seed, then of the next.
    wanted = [(recipe, seed) for seed in given.seeds for recipe in reversed(given.recipes)]
    missing = [one for one in wanted if not (given.out / run_name(*one) / "run.json").exists()]
    with ThreadPoolExecutor(given.jobs) as pool:
        for done in pool.map(lambda one: _child(given, *one), missing):
            print(done, flush=True)


def _child(given: argparse.Namespace, recipe: str, seed: int) -> str:
    words = [sys.executable, "-m", "tests.experiments.detection", str(given.corpus), str(given.out)]
    words += ["--one", recipe, str(seed)] + (["--with", *given.changes] if given.changes else [])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    name = run_name(recipe, seed)
    (given.out / f"{name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    return f"{name}: {'done' if done.returncode == 0 else f'exit {done.returncode}, see {name}.log'}"


if __name__ == "__main__":
    main()
