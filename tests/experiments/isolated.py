"""The isolated check: at a known place one slice must not tell a lesion from a mimic, and the neighbours must.

    python -m tests.experiments.isolated [--passes 3] [--phantoms] [--out docs/experiments/isolated.md]

A logistic regression on simple measurements of the image (the place is given, nothing else of the truth) learns on
the training patients and is judged on the held-out ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from scipy.stats import rankdata

from deeplesion_miner.detection import PixelMask
from models.synthesis.background import measured
from models.synthesis.placing import Settings
from models.synthesis.scene import Scene, synthesise
from models.synthesis.shapes import Shape, lobulated_ellipsoid, shapes_of_masks
from models.volume import Volume
from tests.experiments.backgrounds import Ground, phantom_grounds, real_grounds

Rows = NDArray[np.float64]
OFFSETS_MM = (-12.0, -9.0, -6.0, -3.0, 3.0, 6.0, 9.0, 12.0)
RING_MM = 4.0


def one_slice(volume: Volume, index: int, mask: PixelMask) -> list[float]:
    """Size, form, CT numbers, texture and edge of what lies in a mask of one slice, and where it lies."""
    hu, inside, ring = _around(volume, index, mask)
    spacing = volume.row_spacing_mm, volume.col_spacing_mm
    rows, columns = np.nonzero(inside)
    moments = np.cov(np.stack([rows * spacing[0], columns * spacing[1]])) + np.eye(2) * 0.1
    small, large = np.sqrt(np.linalg.eigvalsh(moments))
    smooth = ndimage.gaussian_filter(hu, 1.0)
    slope = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))
    edge = inside ^ ndimage.binary_erosion(inside)
    mean, outside = float(hu[inside].mean()), float(hu[ring].mean())
    return [
        np.log(inside.sum() * spacing[0] * spacing[1]),
        small / large,
        mean,
        outside,
        abs(mean - outside),
        float(hu[inside].std()),
        float(hu[ring].std()),
        float((hu - smooth)[inside].std()),
        float(slope[edge].mean()),
        (mask.first_row + rows.mean()) / volume.hu.shape[1],
        abs((mask.first_column + columns.mean()) / volume.hu.shape[2] - 0.5),
    ]


def neighbours(volume: Volume, index: int, mask: PixelMask) -> list[float]:
    """How much of the contrast is left in the same place on slices around."""
    plane = mask.on_plane(*volume.hu.shape[1:])
    planes = volume.context(index, (0.0, *OFFSETS_MM))
    _, inside, ring = _around(volume, index, mask)
    contrast = float(planes[0][plane].mean()) - float(_around(volume, index, mask)[0][ring].mean())
    own = float(planes[0][plane].mean())
    return [abs(float(one[plane].mean()) - own) / (abs(contrast) + 20) for one in planes[1:]] + [float(inside.sum())]


def _around(
    volume: Volume, index: int, mask: PixelMask
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """HU, the mask and a ring around it over a window."""
    reach = round(RING_MM / min(volume.row_spacing_mm, volume.col_spacing_mm)) + 1
    rows, columns = volume.hu.shape[1:]
    top, left = max(mask.first_row - reach, 0), max(mask.first_column - reach, 0)
    bottom = min(mask.first_row + mask.bits.shape[0] + reach, rows)
    right = min(mask.first_column + mask.bits.shape[1] + reach, columns)
    inside = mask.on_plane(rows, columns)[top:bottom, left:right]
    wide = ndimage.binary_dilation(inside, iterations=reach)
    return volume.hu[index, top:bottom, left:right].astype(np.float32), inside, wide & ~inside


def examples(scene: Scene, crossing: bool) -> tuple[list[list[float]], list[list[float]], list[bool]]:
    """Measurements on one slice, those of the neighbours and whether it is a lesion.

    Of mimics the section on the slice they were drawn for, or with `crossing` those on all marked key slices.
    """
    keys = {lesion.key_index for lesion in scene.lesions}
    alone, around, truth = [], [], []
    for thing in (*scene.lesions, *scene.mimics):
        wanted = keys if crossing and not thing.is_lesion else {thing.key_index}
        for index, mask in thing.sections:
            if index in wanted and mask.bits.sum() >= 4:
                alone.append(one_slice(scene.volume, index, mask))
                around.append(neighbours(scene.volume, index, mask))
                truth.append(thing.is_lesion)
    return alone, around, truth


def auc(scores: Rows, truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, ties counting one half."""
    ranks = rankdata(scores)
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def held_out_auc(train: Rows, train_truth: NDArray[np.bool_], test: Rows, test_truth: NDArray[np.bool_]) -> float:
    """AUC on `test` of a logistic regression with squares of all columns, learned on `train`."""
    middle, spread = train.mean(axis=0), train.std(axis=0) + 1e-9

    def terms(rows: Rows) -> Rows:
        scaled = np.clip((rows - middle) / spread, -4, 4)
        return np.hstack([np.ones((len(rows), 1)), scaled, scaled**2])

    inputs, signs = terms(train), np.where(train_truth, 1.0, -1.0)

    def loss(weights: Rows) -> tuple[float, Rows]:
        margins = signs * (inputs @ weights)
        slope = -signs / (1 + np.exp(margins))
        return float(np.logaddexp(0, -margins).sum() + weights[1:] @ weights[1:]), inputs.T @ slope + 2 * np.r_[
            0, weights[1:]
        ]

    weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    return auc(terms(test) @ weights, test_truth)


def checked(
    grounds: Iterable[Ground], shapes: Sequence[Shape], passes: int, seed: int
) -> dict[str, tuple[float, int, int]]:
    """AUC with the numbers of held-out lesions and mimics, by what is seen and which mimics are met."""
    parts: dict[tuple[bool, bool], list[tuple[list[list[float]], list[list[float]], list[bool]]]] = {}
    for number, ground in enumerate(grounds):
        background = measured(ground.volume)
        for turn in range(passes):
            scene = synthesise(background, tuple(shapes), np.random.default_rng([seed, number, turn]), Settings())
            for crossing in (False, True):
                parts.setdefault((ground.is_test, crossing), []).append(examples(scene, crossing))
    found = {}
    for crossing, which in ((False, "own key slice"), (True, "all on key slices")):
        train, test = (_joined(parts[is_test, crossing]) for is_test in (False, True))
        for place, what in ((slice(0, 1), "one slice"), (slice(0, 2), "with neighbours")):
            columns = [np.hstack(part[:2][place]) for part in (train, test)]
            value = held_out_auc(columns[0], train[2], columns[1], test[2])
            found[f"{what}, mimics: {which}"] = (value, int(test[2].sum()), int((~test[2]).sum()))
    return found


def _joined(
    parts: list[tuple[list[list[float]], list[list[float]], list[bool]]],
) -> tuple[Rows, Rows, NDArray[np.bool_]]:
    alone, around, truth = ([row for part in parts for row in part[place]] for place in range(3))
    return np.array(alone), np.array(around), np.array(truth)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Can one slice tell a lesion from a mimic?")
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--phantoms", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.phantoms:
        random = np.random.default_rng([asked.seed, 0])
        shapes = tuple(lobulated_ellipsoid(random, f"ellipsoid {number}") for number in range(20))
        grounds: Iterable[Ground] = phantom_grounds(asked.seed)
    else:
        shapes = shapes_of_masks(Path(asked.data) / "deeplesion" / "masks")
        grounds = real_grounds(Path(asked.data))
    found = checked(grounds, shapes, asked.passes, asked.seed)
    lines = [f"| {name} | {value:.3f} | {lesions} | {mimics} |" for name, (value, lesions, mimics) in found.items()]
    table = "\n".join(["| what is seen | AUC | lesions | mimics |", "|---|---|---|---|", *lines])
    print(table)
    if asked.out:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        command = f"python -m tests.experiments.isolated --passes {asked.passes} --seed {asked.seed}"
        head = (
            "# Can one slice tell a lesion from a mimic?\n\n"
            "Logistic regression on simple measurements at a known place, learned on the training "
            "patients,\njudged on the held-out ones. One slice should say nothing (0.5), "
            "its neighbours should.\n\n"
        )
        asked.out.write_text(f"{head}{table}\n\nCommit {commit.stdout.strip()}, `{command}`.\n", encoding="utf-8")


if __name__ == "__main__":
    main()
