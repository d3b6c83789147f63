"""How well marked lesions are delineated: human masks from marks alone, real sarcomas, synthetic lesions in real CT.

    python -m tests.experiments.delineation [--corpus FOLDER] [--model FOLDER] [--out docs/experiments/delineation.md]

Real data by the environment variable DLM_REAL_DATA; a corpus by `python -m tests.experiments.corpus FOLDER`, a model
by `mine train FOLDER/train --recipe delineator --out MODEL`. `--only marks` (or sarcomas, synthetic) prints one part.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import torch

from models.delineation.delineate import Delineator
from models.prediction import load_delineator
from tests.experiments import delineation_marks as marks
from tests.experiments import delineation_masks as masks
from tests.experiments.delineation_cases import sarcoma_cases, synthetic_cases

COMPARED = ("quarter ellipses / ellipsoid", "GrabCut, slice by slice", "random walker with priors")
VOTE = "vote of walk, U-Net, ellipse"


def sarcomas(data: Path, delineator: Delineator | None) -> str:
    """The section on the real tumours."""
    cases, scores, spent = masks.run(sarcoma_cases(data / "sts"), masks.methods(delineator))
    names = [*COMPARED, *([VOTE] if VOTE in scores else [])]
    return "\n".join([*masks.table(scores, spent), "", *masks.by_case(cases, scores, names)])


def synthetic(corpus: Path, delineator: Delineator | None) -> str:
    """The section on synthetic lesions of the test patients."""
    cases, scores, spent = masks.run(synthetic_cases(corpus, "test"), masks.methods(delineator))
    names = [*COMPARED, *([VOTE] if VOTE in scores else [])]
    return "\n".join([
        f"{len(cases)} lesions of {len({case.patient for case in cases})} patients whom no training and no tuning saw.",
        "", *masks.table(scores, spent), "", masks.difference(scores, cases, COMPARED[2], COMPARED[0]), "",
        "Dice on the key slice / in 3-D:", "", *masks.by_group(cases, scores, names),
    ])  # fmt: skip


def main() -> None:
    """Runs the parts and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus", type=Path, help="of tests.experiments.corpus; without it synthetic lesions are left out"
    )
    parser.add_argument("--model", type=Path, help="a trained delineator; without it network and vote are left out")
    parser.add_argument("--only", choices=("marks", "sarcomas", "synthetic"))
    parser.add_argument("--out", type=Path, default=Path("docs/experiments/delineation.md"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["DLM_REAL_DATA"])
    delineator = None if chosen.model is None else load_delineator(chosen.model, "cpu")
    parts = {
        "marks": lambda: "\n\n".join(
            [marks.report(data / "deeplesion" / "masks"), marks.shift_on_pictures(data / "deeplesion" / "png")]
        ),
        "sarcomas": lambda: sarcomas(data, delineator),
        "synthetic": lambda: synthetic(chosen.corpus, delineator) if chosen.corpus else "No corpus was given.",
    }
    if chosen.only:
        print(parts[chosen.only]())
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)
    filled = {name: part() for name, part in parts.items()}
    text = (Path(__file__).parent / "delineation.md.in").read_text(encoding="utf-8")
    for name, section in filled.items():
        text = text.replace(f"@{name}@", section)
    model = delineator.model_id if delineator else "none"
    chosen.out.write_text(text.replace("@commit@", commit.stdout.strip()).replace("@model@", model), encoding="utf-8")


if __name__ == "__main__":
    main()
