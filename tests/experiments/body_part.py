"""Placing slices in the body: phantoms, real volumes left out by patient, flipped series, lungs as landmarks.

    OMP_NUM_THREADS=1 DLM_REAL_DATA=FOLDER python -m tests.experiments.body_part [--parts phantoms real variants]

Trains on the CPU, one thread, and prints tables; phantoms and real volumes take four CPU minutes, the comparison of
recipes five more. Rank correlations are those
of raw scores: no slice knows its neighbours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from models import recipe as recipes
from models.body_part.atlas import Atlas, learn
from models.body_part.frames import Frames
from models.body_part.landmarks import LUNG_APEX_CM, LUNG_BASE_CM, lung_ends
from models.body_part.placement import UNIT_MM, Finding, judged
from models.body_part.profile import frames
from models.body_part.task import BodyPartTask, extent_mm, phantom_source, scores
from models.training.loop import train
from tests.experiments.backgrounds import PATIENTS, nifti_volume

RECIPE = "body-part"
TEST_PHANTOMS = range(1000, 1016)
LEAST_EXTENT_MM = 100.0
FOLDS = 4
"""Of the comparison of recipes, by patient."""
PARTS = ("phantoms", "real", "variants")
VARIANTS: dict[str, tuple[str, ...]] = {
    "as it comes": (),
    "published losses only (order, distance)": (
        "model.slope_weight=0.0", "model.place_weight=0.0", "model.phantom_place_weight=0.0"),
    "hard volumes not sampled again": ("model.candidates=1.0",),
    "the picture alone": ("model.use_profile=false",),
    "no phantoms, so no places": ("model.phantoms=0",),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scored:
    """What was said of one volume by models that never saw its patient."""

    name: str
    volume: Frames
    network_cm: NDArray[np.float64]
    """(slices,)"""
    atlas_cm: NDArray[np.float64]
    matched_upright: bool
    """The atlas fits the volume better upright than turned over."""
    matched_cm: NDArray[np.float64]
    """(slices,) along the atlas's match of the whole volume."""

    def rank(self, cm: NDArray[np.float64]) -> float:
        """Spearman's rank correlation of raw scores with the order of the slices."""
        use = self.volume.has_body
        return float(spearmanr(cm[use], self.volume.position_mm[use])[0])

    def findings(self, cm: NDArray[np.float64], turned: bool) -> tuple[Finding, ...]:
        """What is found about the series as it is, or turned over (each slice keeps its score)."""
        return judged(self.volume, cm[::-1] if turned else cm).findings


def fitted(volumes: Mapping[str, Frames], overrides: Sequence[str], seed: int) -> nn.Module:
    """A network trained by the common loop on some volumes and the recipe's phantoms."""
    recipe = recipes.load(RECIPE, [*overrides, f"training.seed={seed}"])
    task = BodyPartTask.of_volumes(volumes, {}, recipe)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(task, recipe, Path(folder))
    model = task.build()
    model.load_state_dict(dict(trained.weights))
    return model


def atlas_of(volumes: Mapping[str, Frames]) -> Atlas:
    """The hand-made baseline learned from the same volumes and phantoms."""
    phantoms = [phantom_source(seed) for seed in range(recipe_phantoms())]
    return learn([one.frames for one in phantoms], [one.known_cm for one in phantoms], list(volumes.values()))[0]


def recipe_phantoms() -> int:
    """How many phantom patients the recipe trains with."""
    return int(recipes.load(RECIPE).model["phantoms"])


def scored(name: str, volume: Frames, model: nn.Module, atlas: Atlas) -> Scored:
    """Both ways of placing asked about one volume."""
    match = atlas.match(volume)
    return Scored(
        name, volume, scores(model, volume), atlas.heights_cm(volume),
        match.evidence > atlas.match(volume, backwards=True).evidence, match.heights_cm(volume.position_mm),
    )  # fmt: skip


def read(data: Path) -> dict[str, Frames]:
    """The real volumes by name, cut to their frames."""
    return {
        path.name.removesuffix(".nii.gz"): frames(nifti_volume(path))
        for path in sorted((data / "ct_volumes").glob("*.nii.gz"))
    }


def left_out(volumes: Mapping[str, Frames], seed: int) -> list[Scored]:
    """Every long volume scored by models trained on all other patients."""
    found = []
    for patient in dict.fromkeys(PATIENTS[name] for name in volumes):
        tested = {name: one for name, one in volumes.items() if PATIENTS[name] == patient and is_long(one)}
        if tested:
            others = {name: one for name, one in volumes.items() if PATIENTS[name] != patient}
            model, atlas = fitted(others, (), seed), atlas_of(others)
            found += [scored(name, one, model, atlas) for name, one in tested.items()]
            print(*(f"{one.name} {one.rank(one.network_cm):.3f} {one.rank(one.atlas_cm):.3f}" for one in found[-2:]),
                  file=sys.stderr, flush=True)  # fmt: skip
    return found


def is_long(volume: Frames) -> bool:
    """True where the volume spans enough to ask for its order."""
    return extent_mm(volume) >= LEAST_EXTENT_MM


def by_folds(volumes: Mapping[str, Frames], overrides: Sequence[str], seed: int) -> dict[str, float]:
    """Rank correlations of every long volume, from FOLDS trainings that share no patient with what they score."""
    patients = list(dict.fromkeys(PATIENTS[name] for name in volumes))
    found = {}
    for fold in range(FOLDS):
        tested = set(patients[fold::FOLDS])
        model = fitted({name: one for name, one in volumes.items() if PATIENTS[name] not in tested}, overrides, seed)
        for name, one in volumes.items():
            if PATIENTS[name] in tested and is_long(one):
                use = one.has_body
                found[name] = float(spearmanr(scores(model, one)[use], one.position_mm[use])[0])
    return found


def on_phantoms(seed: int) -> list[Scored]:
    """Phantom patients that no training saw, scored by models trained on phantoms alone."""
    model, atlas = fitted({}, (), seed), atlas_of({})
    return [scored(f"phantom {number}", phantom_source(number).frames, model, atlas) for number in TEST_PHANTOMS]


def phantom_rows(found: Sequence[Scored]) -> list[str]:
    """A table of the phantoms."""
    lines = ["| patient | network | atlas | network, mean error cm | atlas, mean error cm |", "|---|---|---|---|---|"]
    columns: list[tuple[float, ...]] = []
    for one, seed in zip(found, TEST_PHANTOMS, strict=True):
        truth = phantom_source(seed).known_cm
        errors = [float(np.nanmean(np.abs(cm - truth))) for cm in (one.network_cm, one.atlas_cm)]
        columns.append((one.rank(one.network_cm), one.rank(one.atlas_cm), *errors))
        lines.append("| {} | {:.3f} | {:.3f} | {:.1f} | {:.1f} |".format(one.name, *columns[-1]))
    lines.append("| **median** | {:.3f} | {:.3f} | {:.1f} | {:.1f} |".format(*np.median(columns, axis=0)))
    lines.append("| **worst** | {:.3f} | {:.3f} | {:.1f} | {:.1f} |".format(
        *np.min(columns, axis=0)[:2], *np.max(columns, axis=0)[2:]))  # fmt: skip
    return lines


def real_rows(found: Sequence[Scored]) -> list[str]:
    """A table of the real volumes: ranks, directions, findings."""
    lines = [
        "| volume | mm | network | atlas | mean of both | network's slope "
        "| findings of the network (upright; turned over) | atlas match says upright |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ranks: list[tuple[float, ...]] = []
    for one in found:
        both = (one.network_cm + one.atlas_cm) / 2
        ranks.append((one.rank(one.network_cm), one.rank(one.atlas_cm), one.rank(both)))
        said = "; ".join(", ".join(one.findings(one.network_cm, turned)) or "none" for turned in (False, True))
        lines.append("| {} | {:.0f} | {:.3f} | {:.3f} | {:.3f} | {:.2f} | {} | {} |".format(
            one.name, extent_mm(one.volume), *ranks[-1], judged(one.volume, one.network_cm).slope, said,
            "yes" if one.matched_upright else "**no**"))  # fmt: skip
    lines.append("| **median** | | {:.3f} | {:.3f} | {:.3f} | | | |".format(*np.median(ranks, axis=0)))
    lines.append("| **worst** | | {:.3f} | {:.3f} | {:.3f} | | | |".format(*np.min(ranks, axis=0)))
    return lines


def directions(found: Sequence[Scored]) -> list[str]:
    """How many series were told upright from turned over, each asked both ways."""
    lines = []
    for way, of in (("network", "network_cm"), ("atlas, slice by slice", "atlas_cm")):
        upright = [one.findings(getattr(one, of), False) for one in found]
        turned = [one.findings(getattr(one, of), True) for one in found]
        caught = sum(Finding.FLIPPED in one for one in turned)
        wronged = sum(Finding.FLIPPED in one for one in upright)
        unsure = sum(Finding.NOT_MONOTONOUS in one for one in upright)
        lines.append(
            f"- {way}: {caught} of {len(found)} turned over are called flipped, {wronged} of {len(found)} upright ones "
            f"are; of {unsure} neither is said (not monotonous)."
        )
    right = sum(one.matched_upright for one in found)
    lines.append(
        f"- atlas, whole volume matched both ways: the right direction fits better in {right} of {len(found)}."
    )
    return lines


def landmark_rows(found: Sequence[Scored]) -> list[str]:
    """Where the lungs begin and end by each way of placing: what agrees between patients."""
    lines = [
        "| landmark | volumes | placed by | mean cm | SD cm | SD in normalised z | nominal cm |",
        "|---|---|---|---|---|---|---|",
    ]
    for end, nominal, words in ((0, LUNG_APEX_CM, "first slice of lung"), (1, LUNG_BASE_CM, "last slice of lung")):
        shown = [(one, index) for one in found if (index := lung_ends(one.volume)[end]) is not None]
        if len(shown) < 2:
            continue
        for way in ("network, line", "atlas, match"):
            at = np.array([_line(one, way)[index] for one, index in shown])
            names = ", ".join(one.name for one, _ in shown)
            lines.append(f"| {words} | {len(shown)}: {names} | {way} | {at.mean():.1f} | {at.std(ddof=1):.1f} | "
                         f"{at.std(ddof=1) * 10 / UNIT_MM:.3f} | {nominal:.0f} |")  # fmt: skip
    return lines


def _line(one: Scored, way: str) -> NDArray[np.float64]:
    """(slices,) heights of the whole volume: the network's line with the patient's millimetres, or the match."""
    if way == "atlas, match":
        return one.matched_cm
    position_cm = one.volume.position_mm / 10
    return np.asarray(position_cm + np.nanmedian(one.network_cm - position_cm))


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description="Body-part regression on phantoms and real volumes")
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    print(f"seed {given.seed}, commit {commit.stdout.strip()}, torch {torch.__version__}\n")
    if "phantoms" in given.parts:
        print("## Phantoms\n", *phantom_rows(on_phantoms(given.seed)), sep="\n", flush=True)
    volumes = read(Path(given.data)) if given.data else {}
    if volumes and "real" in given.parts:
        found = left_out(volumes, given.seed)
        print("\n## Real volumes, each patient left out\n", *real_rows(found), sep="\n")
        print("\n## Flipped series\n", *directions(found), sep="\n")
        print("\n## Lungs as landmarks\n", *landmark_rows(found), sep="\n", flush=True)
    if volumes and "variants" in given.parts:
        print("\n## Recipes, in four folds by patient\n")
        print("| recipe | median | worst | each |\n|---|---|---|---|")
        for words, overrides in VARIANTS.items():
            ranks = by_folds(volumes, overrides, given.seed)
            each = ", ".join(f"{name.rsplit('_', 1)[0]} {rank:.2f}" for name, rank in ranks.items())
            print(
                f"| {words} | {np.median(list(ranks.values())):.3f} | {min(ranks.values()):.3f} | {each} |", flush=True
            )
    print(f"\n{time.process_time() - began:.0f} CPU seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
