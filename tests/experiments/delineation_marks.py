"""Human 3-D masks of DeepLesion's marks, predicted from the marks alone: baselines, and the prior fitted to them.

The fit maximises the mean soft Dice over lesions; every figure of a fitted shape is of patients that the fit did not
see (five folds by patient).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.delineation.ellipse import axes_mm, cross_of, ellipse_mask, ellipsoid_mask
from models.delineation.grabcut import cut, grid_around
from models.delineation.prior import Prior
from models.evaluation.mask_metrics import dice
from models.reading.folder import DatasetFolder

MASKS = "uls23_deeplesion3d_visible"
FOLDS, SEED = 5, 0
EDGE = 0.05
"""Softness of the mask in the fit, in multiples of the ends' distance."""
POINTS = 3000
"""About so many voxels of a lesion take part in the fit of its depth."""
LUNG_WINDOW_BELOW_HU = -1000.0

Parameters = Mapping[str, float]
PLAIN: Parameters = {
    "scale": 1.0, "margin_mm": 0.0, "lung_margin_mm": 0.0, "exponent": 2.0, "shift_column": 0.0, "shift_row": 0.0,
    "depth_short": 0.25, "depth_long": 0.25, "depth_interval": 0.0, "profile": 2.0,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class HumanMask:
    """A lesion that people outlined, in a crop with room around it."""

    name: str
    patient: str
    mask: NDArray[np.bool_]
    """(slices, rows, columns)."""
    index: int
    """Of the key slice."""
    ends_px: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    """Between slices, rows, columns."""
    lung_window: bool

    @property
    def axes_mm(self) -> tuple[float, float]:
        """Long and short axis of the marks."""
        return axes_mm(self.ends_px, *self.spacing_mm[1:])

    @property
    def distance_mm(self) -> NDArray[np.float64]:
        """(slices,) from the key slice."""
        away: NDArray[np.float64] = (np.arange(len(self.mask)) - self.index) * self.spacing_mm[0]
        return away


def human_masks(folder: Path) -> tuple[HumanMask, ...]:
    """Every mask of the packed file, in the order of its index; DeepLesion's coordinates less 1."""
    found = []
    with np.load(folder / f"{MASKS}.npz") as archive, (folder / f"{MASKS}_index.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            size = tuple(int(row[name]) for name in ("n_slices", "n_rows", "n_cols"))
            bits = np.unpackbits(archive[row["name"]])[: int(np.prod(size))].reshape(size).astype(np.bool_)
            ends = np.array([float(text) for text in row["Measurement_coordinates"].split(",")]).reshape(4, 2) - 1
            column_mm, row_mm, slice_mm = (float(text) for text in row["Spacing_mm_px_"].split(","))
            long_mm = axes_mm(ends, row_mm, column_mm)[0]
            room = (int(1.2 * long_mm / slice_mm) + 4, *(int(0.6 * long_mm / step) + 4 for step in (row_mm, column_mm)))
            corner = np.array([int(row["first_col"]) - room[2], int(row["first_row"]) - room[1]])
            found.append(
                HumanMask(
                    row["name"],
                    row["Patient_index"],
                    np.pad(bits, [(one, one) for one in room]),
                    int(row["Key_slice_index"]) - int(row["first_slice"]) + room[0],
                    ends - corner,
                    (slice_mm, row_mm, column_mm),
                    float(row["DICOM_windows"].split(",")[0]) < LUNG_WINDOW_BELOW_HU,
                )
            )
    return tuple(found)


def folds(lesions: Sequence[HumanMask]) -> NDArray[np.int64]:
    """(lesions,) the fold of each, the same for all lesions of a patient."""
    patients = sorted({one.patient for one in lesions})
    order = np.random.default_rng([SEED]).permutation(len(patients))
    of_patient = {patients[patient]: place % FOLDS for place, patient in enumerate(order.tolist())}
    return np.array([of_patient[one.patient] for one in lesions])


class Shapes:
    """All lesions' pixels as tensors, and how well a shape of given parameters covers each."""

    def __init__(self, lesions: Sequence[HumanMask], whole: bool) -> None:
        """With `whole` all slices (thinned in the plane for large lesions), else the key slices."""
        self._whole = whole
        parts = [_points(one, whole) for one in lesions]
        self._lesion = torch.cat([torch.full((part.shape[1],), number) for number, part in enumerate(parts)])
        x, y, z, inside = (torch.from_numpy(np.concatenate([part[row] for part in parts])) for row in range(4))
        self._x, self._y, self._away, self._inside = x.double(), y.double(), z.abs().double(), inside.double()
        crosses = [cross_of(one.ends_px) for one in lesions]
        facts = [
            [*cross.long_direction, *cross.short_direction, *cross.long_halves_px, *cross.short_halves_px,
             one.spacing_mm[2], one.spacing_mm[0], *one.axes_mm, float(one.lung_window)]
            for cross, one in zip(crosses, lesions, strict=True)
        ]  # fmt: skip
        self._facts = torch.tensor(facts, dtype=torch.float64)
        self._count = len(lesions)
        self._held = self._sum(self._inside)

    def dice(self, parameters: Mapping[str, Tensor | float], soft: bool) -> Tensor:
        """(lesions,) Dice of the shape, its edge blurred where it is to be differentiated."""
        distance = self._distance(parameters)
        shape = torch.sigmoid((1 - distance) / EDGE) if soft else (distance <= 1).double()
        return 2 * self._sum(shape * self._inside) / (self._sum(shape) + self._held)

    def fitted(
        self, start: Parameters, free: Sequence[str], weights: NDArray[np.float64], beside: Shapes | None = None
    ) -> dict[str, float]:
        """Parameters with the largest weighted mean Dice, those in `free` found by L-BFGS.

        `beside` are the same lesions seen otherwise, whose Dice counts as much.
        """
        steps = torch.zeros(len(free), dtype=torch.float64, requires_grad=True)
        scale = [max(abs(start[name]), 0.3) for name in free]
        weight = torch.from_numpy(weights / weights.sum())

        def moved() -> dict[str, Tensor | float]:
            return {**start, **{name: start[name] + steps[place] * scale[place] for place, name in enumerate(free)}}

        def objective() -> Tensor:
            optimiser.zero_grad()
            parts = [shapes.dice(moved(), soft=True) for shapes in (self, beside) if shapes is not None]
            # a little pull to the start keeps what the data do not decide
            loss = (steps**2).sum() * 1e-4 - sum((part * weight).sum() for part in parts)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimiser = torch.optim.LBFGS([steps], max_iter=40, history_size=10, line_search_fn="strong_wolfe")
        optimiser.step(objective)  # type: ignore[no-untyped-call]
        return {name: float(torch.as_tensor(value).detach()) for name, value in moved().items()}

    def _distance(self, parameters: Mapping[str, Tensor | float]) -> Tensor:
        long_x, long_y, short_x, short_y, before, after, below, above, pixel, interval, long, short, lung = (
            self._facts.T
        )
        at = self._lesion
        x, y = self._x - parameters["shift_column"], self._y - parameters["shift_row"]
        area = (long_x * short_y - long_y * short_x)[at]
        along = (x * short_y[at] - y * short_x[at]) / area
        across = (y * long_x[at] - x * long_y[at]) / area
        margin = (parameters["margin_mm"] + parameters["lung_margin_mm"] * lung) / pixel
        before, after, below, above = (parameters["scale"] * half + margin for half in (before, after, below, above))
        along = (along / torch.where(along < 0, before[at], after[at])).abs().clamp(min=1e-4)
        across = (across / torch.where(across < 0, below[at], above[at])).abs().clamp(min=1e-4)
        exponent = parameters["exponent"]
        level = (along**exponent + across**exponent) ** (1 / exponent)
        if not self._whole:
            return level
        depth = parameters["depth_short"] * short + parameters["depth_long"] * long
        depth = (depth + parameters["depth_interval"] * interval).clamp(min=0.5)
        profile = (self._away / depth[at]).clamp(min=1e-4) ** parameters["profile"]
        return (level**2 + profile).sqrt()

    def _sum(self, values: Tensor) -> Tensor:
        return torch.zeros(self._count, dtype=torch.float64).index_add(0, self._lesion, values)


def _points(one: HumanMask, whole: bool) -> NDArray[np.float64]:
    """(4, points) column and row from the crossing, mm from the key slice, 1 inside the mask."""
    mask = one.mask if whole else one.mask[one.index : one.index + 1]
    thin = max(1, round((mask.size / POINTS) ** 0.5)) if whole else 1
    z, row, column = np.indices(mask.shape)[:, :, ::thin, ::thin]
    cross = cross_of(one.ends_px)
    away = (z - one.index) * one.spacing_mm[0] if whole else np.zeros(z.shape)
    points = np.stack([column - cross.centre[0], row - cross.centre[1], away, mask[:, ::thin, ::thin]])
    flat: NDArray[np.float64] = points.reshape(4, -1)
    return flat


def crossed(shapes: Shapes, start: Parameters, free: Sequence[str], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """(lesions,) Dice of each under parameters fitted on the other folds."""
    held = np.zeros(len(fold))
    for number in range(FOLDS):
        parameters = shapes.fitted(start, free, (fold != number).astype(np.float64))
        with torch.no_grad():
            held[fold == number] = shapes.dice(parameters, soft=False).numpy()[fold == number]
    return held


def fit_prior(
    plane: Shapes, whole: Shapes, weights: NDArray[np.float64], shift: bool
) -> tuple[Prior, tuple[float, float]]:
    """The prior with the largest mean of 2-D and 3-D Dice over lesions of weight 1, with DeepLesion's shift or none."""
    free = ["margin_mm", "depth_short", "depth_long", "depth_interval"] + ["shift_column", "shift_row"] * shift
    found = whole.fitted({**PLAIN, "margin_mm": 0.5, "depth_interval": 0.5}, free, weights, plane)
    prior = Prior(found["margin_mm"], found["depth_short"], found["depth_long"], found["depth_interval"])
    return prior, (found["shift_column"], found["shift_row"])


def of_prior(one: HumanMask, prior: Prior, shift: tuple[float, float]) -> tuple[float, float]:
    """Dice on the key slice and of the whole, by the code that the product runs, on all voxels."""
    slice_mm, row_mm, column_mm = one.spacing_mm
    rows, columns = one.mask.shape[1:]
    ends = one.ends_px + shift
    key = prior.key_mask(ends, row_mm, column_mm, rows, columns)
    planes = prior.volume_mask(ends, one.distance_mm, slice_mm, row_mm, column_mm, rows, columns)
    return dice(key, one.mask[one.index]), dice(planes, one.mask)


def baselines(lesions: Sequence[HumanMask]) -> dict[str, tuple[float, float]]:
    """Mean 2-D and 3-D Dice of the plain shapes (NaN where there is none)."""
    found: dict[str, tuple[float, float]] = {}
    for scale in (1.0, 1.1):
        flat = [dice(ellipse_mask(one.ends_px, *one.mask.shape[1:], scale), one.mask[one.index]) for one in lesions]
        name = "quarter ellipses" if scale == 1 else f"quarter ellipses x {scale}"
        found[name] = (float(np.mean(flat)), float("nan"))
    for name, shares in (("short", (0.0, 0.5)), ("mean", (0.25, 0.25)), ("long", (0.5, 0.0))):
        whole = [
            dice(ellipsoid_mask(one.ends_px, one.distance_mm, *one.mask.shape[1:], float(np.dot(shares, one.axes_mm))),
                 one.mask)
            for one in lesions
        ]  # fmt: skip
        found[f"ellipsoid, z axis = {name}"] = (float("nan"), float(np.mean(whole)))
    return found


PLANE_VARIANTS = (
    ("scale", ("scale",)),
    ("scale and margin", ("scale", "margin_mm")),
    ("margin, another in the lung window", ("margin_mm", "lung_margin_mm")),
    ("margin and exponent of a superellipse", ("margin_mm", "exponent")),
)
DEPTH_VARIANTS = (
    ("depth without the interval", ("margin_mm", "depth_short", "depth_long")),
    ("depth and exponent of its profile", ("margin_mm", "depth_short", "depth_long", "depth_interval", "profile")),
    (
        "everything at once (8 parameters)",
        ("scale", "margin_mm", "lung_margin_mm", "exponent", "depth_short", "depth_long", "depth_interval", "profile"),
    ),
)


def report(folder: Path) -> str:
    """The section on human masks, as Markdown."""
    lesions = human_masks(folder)
    fold, every = folds(lesions), np.ones(len(lesions))
    plane, whole = Shapes(lesions, whole=False), Shapes(lesions, whole=True)
    rows = [f"| {name} | {_figure(flat)} | {_figure(deep)} |" for name, (flat, deep) in baselines(lesions).items()]
    lines = []
    for shift in (False, True):
        held = np.zeros((len(lesions), 2))
        for number in range(FOLDS):
            prior, moved = fit_prior(plane, whole, (fold != number).astype(np.float64), shift)
            for place in np.flatnonzero(fold == number):
                held[place] = of_prior(lesions[place], prior, moved)
        name = "**calibrated prior, held out**" + (" with DeepLesion's shift" if shift else "")
        rows.append(f"| {name} | **{held[:, 0].mean():.3f}** | **{held[:, 1].mean():.3f}** |")
        lines.append(_by_interval(name, lesions, held))
    for name, free in PLANE_VARIANTS:
        found = crossed(plane, PLAIN, free, fold)
        rows.append(f"| instead: {name} | {found.mean():.3f} |  |")
    for name, free in DEPTH_VARIANTS:
        found = crossed(whole, {**PLAIN, "margin_mm": 0.5, "depth_interval": 0.5 if "depth_interval" in free else 0.0},
                        free, fold)  # fmt: skip
        rows.append(f"| instead: {name} (thinned voxels) |  | {found.mean():.3f} |")
    final, moved = fit_prior(plane, whole, every, False)[0], fit_prior(plane, whole, every, True)[1]
    patients = len({one.patient for one in lesions})
    return "\n".join([
        f"{len(lesions)} lesions of {patients} patients; means over lesions; five folds by patient, seed {SEED}.", "",
        "| shape from the marks alone | 2-D Dice | 3-D Dice |", "|---|---|---|", *rows, "",
        f"Fitted on all: margin {final.margin_mm:.3f} mm; semi-axis along the patient {final.depth_short:.3f} short + "
        f"{final.depth_long:.3f} long + {final.depth_interval:.3f} interval; DeepLesion's shift {moved[0]:.2f} px "
        f"right, {moved[1]:.2f} px down. These are the numbers of `models/delineation/prior.toml`.", "", *lines,
    ])  # fmt: skip


def shift_on_pictures(folder: Path) -> str:
    """How far GrabCut's centre lies from the marks' on real key slices, where no human mask is involved."""
    dataset = DatasetFolder.open(folder, table="DL_info_png_visible.csv")
    found = []
    for key_slice in dataset.key_slices:
        for mark in key_slice.marks:
            grid = grid_around(cross_of(mark.ends_px), key_slice.row_spacing_mm, key_slice.col_spacing_mm)
            lesion = cut(dataset.hu(key_slice.file_name), grid, 1.0)
            if lesion is not None:
                ellipse = grid.level <= 1
                found.append([float(places[lesion].mean() - places[ellipse].mean())
                              for places in (grid.columns, grid.rows)])  # fmt: skip
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    return (
        f"On {len(found)} marks of the real key slices in `deeplesion/png` GrabCut's centre lies {mean[0]:+.2f} ± "
        f"{error[0]:.2f} px right of and {mean[1]:+.2f} ± {error[1]:.2f} px below the marks' (mean ± standard error)."
    )


def _by_interval(name: str, lesions: Sequence[HumanMask], held: NDArray[np.float64]) -> str:
    thick = np.array([one.spacing_mm[0] > 2.5 for one in lesions])
    small = np.array([one.axes_mm[0] < 10 for one in lesions])
    parts = (("interval up to 2.5 mm", ~thick), ("above", thick), ("long axis < 10 mm", small), ("above", ~small))
    told = "; ".join(
        f"{word} (n = {chosen.sum()}) {held[chosen, 0].mean():.3f} / {held[chosen, 1].mean():.3f}"
        for word, chosen in parts
    )
    return f"- {name}, 2-D / 3-D: {told}."


def _figure(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"
