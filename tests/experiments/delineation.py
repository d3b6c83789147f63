"""How well marked lesions are delineated: human masks from marks alone, real sarcomas, synthetic lesions in real CT.

    python -m tests.experiments.delineation [--corpus FOLDER] [--model FOLDER ...] [--out delineation.md]

Real data by the environment variable DLM_REAL_DATA; a corpus by `python -m tests.experiments.corpus FOLDER`, models
by `mine train FOLDER/train --recipe delineator --out MODEL`, with `--with 'model.teacher="grabcut"'` for the other
teacher. `--only marks` (or sarcomas, synthetic) prints one part.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

from models.delineation.delineate import Delineator
from models.delineation.task import options
from models.prediction import load_delineator
from models.training.model_folder import ModelFolder
from tests.experiments import delineation_marks as marks
from tests.experiments import delineation_masks as masks
from tests.experiments.delineation_cases import sarcoma_cases, synthetic_cases

COMPARED = ("quarter ellipses / ellipsoid", "GrabCut, slice by slice", "random walker with priors")
VOTE = "vote with U-Net, teacher walk"


def sarcomas(data: Path, delineators: Mapping[str, Delineator]) -> str:
    """The section on the real tumours."""
    cases, scores, spent = masks.run(sarcoma_cases(data / "sts"), masks.methods(delineators))
    names = [*COMPARED, *([VOTE] if VOTE in scores else [])]
    return "\n".join([*masks.table(scores, spent), "", *masks.by_case(cases, scores, names)])


def synthetic(corpus: Path, delineators: Mapping[str, Delineator]) -> str:
    """The section on synthetic lesions of the test patients."""
    cases, scores, spent = masks.run(synthetic_cases(corpus, "test"), masks.methods(delineators))
    names = [*COMPARED, *([VOTE] if VOTE in scores else [])]
    return "\n".join([
        f"{len(cases)} lesions of {len({case.patient for case in cases})} patients whom no training and no tuning saw.",
        "", *masks.table(scores, spent), "", *(
            line for one in names[2:] for line in (masks.difference(scores, cases, one, COMPARED[0]), "")
        ),
        "Dice on the key slice / in 3-D:", "", *masks.by_group(cases, scores, names),
    ])  # fmt: skip


def main() -> None:
    """Runs the parts and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus", type=Path, help="of tests.experiments.corpus; without it synthetic lesions are left out"
    )
    parser.add_argument(
        "--model", type=Path, action="append", default=[],
        help="a trained delineator, one for each teacher; without any network and vote are left out",
    )  # fmt: skip
    parser.add_argument("--only", choices=("marks", "sarcomas", "synthetic"))
    parser.add_argument("--out", type=Path, default=Path("docs/experiments/delineation.md"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["DLM_REAL_DATA"])
    delineators = {
        options(ModelFolder.load(path).recipe).teacher: load_delineator(path, "cpu") for path in chosen.model
    }
    parts = {
        "marks": lambda: "\n\n".join(
            [marks.report(data / "deeplesion" / "masks"), marks.shift_on_pictures(data / "deeplesion" / "png")]
        ),
        "sarcomas": lambda: sarcomas(data, delineators),
        "synthetic": lambda: synthetic(chosen.corpus, delineators) if chosen.corpus else "No corpus was given.",
    }
    if chosen.only:
        print(parts[chosen.only]())
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)
    filled = {name: part() for name, part in parts.items()}
    text = (Path(__file__).parent / "delineation.md.in").read_text(encoding="utf-8")
    for name, section in filled.items():
        text = text.replace(f"@{name}@", section)
    model = ", ".join(one.model_id for one in delineators.values()) or "none"
    chosen.out.write_text(text.replace("@commit@", commit.stdout.strip()).replace("@model@", model), encoding="utf-8")


if __name__ == "__main__":
    main()
