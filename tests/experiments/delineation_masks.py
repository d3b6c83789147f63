"""Every way of delineating a marked lesion, on lesions whose mask is known: means, by patient, worst cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.delineation.delineate import Delineator, delineate
from models.delineation.ellipse import axes_mm, cross_of, ellipse_mask, ellipsoid_mask, mean_half_depth_mm
from models.delineation.grabcut import cut, grid_around, on_image
from models.delineation.prior import calibrated
from models.delineation.propagate import propagate
from models.evaluation.mask_metrics import agreement
from tests.experiments.delineation_cases import Case

Planes = NDArray[np.bool_]
Method = Callable[[Case], Planes]
"""(slices, rows, columns) of a case's volume; the key slice is its 2-D answer."""


@dataclass(frozen=True)
class Scores:
    """How one method did on one case."""

    key_dice: float
    key_surface_mm: float
    key_hd95_mm: float
    dice: float
    surface_mm: float
    size_error: float


def box(case: Case) -> Planes:
    """The filled tight box of the ends, on slices within the mean semi-axis."""
    low, high = (np.clip(np.round(case.ends_px.min(axis=0)), 0, None), np.round(case.ends_px.max(axis=0)))
    plane = np.zeros(case.truth.shape[1:], np.bool_)
    plane[int(low[1]) : int(high[1]) + 1, int(low[0]) : int(high[0]) + 1] = True
    near = np.abs(_away(case)) <= mean_half_depth_mm(case.ends_px, *case.spacing_mm)
    return near[:, None, None] & plane


def ellipsoid(case: Case) -> Planes:
    """Quarter ellipses, with the mean semi-axis along the patient."""
    half = mean_half_depth_mm(case.ends_px, *case.spacing_mm)
    return ellipsoid_mask(case.ends_px, _away(case), *case.truth.shape[1:], half)


def prior(case: Case) -> Planes:
    """The shape calibrated on human masks."""
    return calibrated().volume_mask(
        case.ends_px, _away(case), case.interval_mm, *case.spacing_mm, *case.truth.shape[1:]
    )


def prior_depth(case: Case) -> Planes:
    """Quarter ellipses with the depth calibrated on human masks."""
    half = calibrated().half_depth_mm(*case.axes_mm, case.interval_mm)
    return ellipsoid_mask(case.ends_px, _away(case), *case.truth.shape[1:], half)


def grabcut(case: Case) -> Planes:
    """Tuned GrabCut, and from it slice by slice within an ellipsoid."""
    shape = case.truth.shape[1:]
    grid = grid_around(cross_of(case.ends_px), *case.spacing_mm)
    key = cut(case.volume.hu[case.index], grid, 1.0)
    half = mean_half_depth_mm(case.ends_px, *case.spacing_mm)
    slices = propagate(case.volume, case.index, grid, grid.level <= 1 if key is None else key, half)
    planes = np.zeros(case.truth.shape, np.bool_)
    for at, lesion in slices.items():
        planes[at] = on_image(lesion, grid, *shape)
    if key is None:
        planes[case.index] = ellipse_mask(case.ends_px, *shape)
    return planes


def walk(case: Case) -> Planes:
    """What `delineate` gives without a network."""
    return _delineated(case, None)


def network_alone(delineator: Delineator) -> Method:
    """The network on the key slice; elsewhere as the plain ellipsoid."""

    def drawn(case: Case) -> Planes:
        grid = grid_around(cross_of(case.ends_px), *case.spacing_mm)
        planes = ellipsoid(case)
        shares = delineator.probability(case.volume.hu[case.index], grid)
        planes[case.index] = on_image(shares, grid, *case.truth.shape[1:])
        return planes

    return drawn


def vote(delineator: Delineator) -> Method:
    """What `delineate` gives with a network: majority of walk, network and ellipse on the key slice."""
    return lambda case: _delineated(case, delineator)


def methods(delineators: Mapping[str, Delineator]) -> dict[str, Method]:
    """All methods by name, in the order of the report; networks by the name of their teacher."""
    named: dict[str, Method] = {
        "box": box,
        "quarter ellipses / ellipsoid": ellipsoid,
        "ellipses, depth by the prior": prior_depth,
        "calibrated prior (human margin)": prior,
        "GrabCut, slice by slice": grabcut,
        "random walker with priors": walk,
    }
    for teacher, delineator in delineators.items():
        named[f"U-Net, teacher {teacher}"] = network_alone(delineator)
        named[f"vote with U-Net, teacher {teacher}"] = vote(delineator)
    return named


def run(
    cases: Iterable[Case], named: dict[str, Method]
) -> tuple[list[Case], dict[str, list[Scores]], dict[str, float]]:
    """Cases, the scores of each method in their order, CPU milliseconds a case by method."""
    kept: list[Case] = []
    scores: dict[str, list[Scores]] = {name: [] for name in named}
    spent = dict.fromkeys(named, 0.0)
    for case in cases:
        kept.append(case)
        for name, method in named.items():
            before = time.process_time()
            planes = method(case)
            spent[name] += time.process_time() - before
            scores[name].append(scored(case, planes))
    return kept, scores, {name: 1000 * value / len(kept) for name, value in spent.items()}


def scored(case: Case, planes: Planes) -> Scores:
    """One answer beside the truth."""
    key = agreement(planes[case.index], case.truth[case.index], case.spacing_mm)
    whole = agreement(planes, case.truth, (case.interval_mm, *case.spacing_mm))
    return Scores(
        key.dice, key.surface_distance_mm, key.hd95_mm, whole.dice, whole.surface_distance_mm, whole.size_error
    )


def table(scores: dict[str, list[Scores]], spent: dict[str, float]) -> list[str]:
    """Rows of Markdown, one a method."""
    rows = [
        "| method | key slice: Dice | median | surface mm | HD95 mm | 3-D: Dice | surface mm | "
        "median volume error | CPU ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in scores.items():
        key = np.array([one.key_dice for one in found])
        whole = np.array([one.dice for one in found])
        hd95 = np.mean([one.key_hd95_mm for one in found])
        rows.append(
            f"| {name} | {key.mean():.3f} ± {key.std():.3f} | {np.median(key):.3f} | "
            f"{np.mean([one.key_surface_mm for one in found]):.2f} | {hd95:.2f} | "
            f"{whole.mean():.3f} ± {whole.std():.3f} | {np.mean([one.surface_mm for one in found]):.2f} | "
            f"{np.median([abs(one.size_error) for one in found]):.0%} | {spent[name]:.0f} |"
        )
    return rows


def by_group(cases: Sequence[Case], scores: dict[str, list[Scores]], names: Sequence[str]) -> list[str]:
    """Dice on the key slice and in 3-D by patient, by tissue and by size."""
    groups: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        size = "long axis < 12 mm" if case.axes_mm[0] < 12 else "12 to 20 mm" if case.axes_mm[0] < 20 else ">= 20 mm"
        for word in (f"patient {case.patient}", case.word, size):
            groups.setdefault(word, []).append(place)
    rows = ["| lesions | n | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for word in sorted(groups):
        chosen = groups[word]
        figures = [
            f"{np.mean([scores[name][place].key_dice for place in chosen]):.3f} / "
            f"{np.mean([scores[name][place].dice for place in chosen]):.3f}"
            for name in names
        ]
        rows.append(f"| {word} | {len(chosen)} | " + " | ".join(figures) + " |")
    return rows


def by_case(cases: Sequence[Case], scores: dict[str, list[Scores]], names: Sequence[str]) -> list[str]:
    """One row a case: 2-D and 3-D Dice and mean surface distance of each method."""
    rows = [
        "| patient | long x short mm | " + " | ".join(f"{name}: 2-D, 3-D, mm" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for place, case in enumerate(cases):
        told = [
            f"{scores[name][place].key_dice:.3f}, {scores[name][place].dice:.3f}, {scores[name][place].surface_mm:.1f}"
            for name in names
        ]
        long_mm, short_mm = axes_mm(case.ends_px, *case.spacing_mm)
        rows.append(f"| {case.patient} | {long_mm:.0f} x {short_mm:.0f} | " + " | ".join(told) + " |")
    return rows


def difference(scores: dict[str, list[Scores]], cases: Sequence[Case], one: str, other: str) -> str:
    """Gain of one method over another, with a 95 % interval by bootstrap over lesions."""
    random = np.random.default_rng([0])
    told = []
    for word, part in (("key slice", "key_dice"), ("3-D", "dice")):
        gain = np.array([getattr(a, part) - getattr(b, part) for a, b in zip(scores[one], scores[other], strict=True)])
        draws = gain[random.integers(0, len(gain), (2000, len(gain)))].mean(axis=1)
        low, high = np.percentile(draws, (2.5, 97.5))
        told.append(f"{word} {gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]")
    patients = len({case.patient for case in cases})
    return f"{one} less {other}: {'; '.join(told)} (bootstrap over lesions, of {patients} patients only)."


def _delineated(case: Case, delineator: Delineator | None) -> Planes:
    found = delineate(case.volume, case.index, case.ends_px, delineator=delineator)
    planes = np.zeros(case.truth.shape, np.bool_)
    for name, mask in found.volume:
        planes[case.volume.images.index(name)] = mask.on_plane(*case.truth.shape[1:])
    return planes


def _away(case: Case) -> NDArray[np.float64]:
    away: NDArray[np.float64] = case.volume.position_mm - case.volume.position_mm[case.index]
    return away
