"""Where a volume lies in the body, and whether its slices can be in the order that it claims."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from models.body_part.atlas import Atlas
from models.body_part.frames import Frames
from models.body_part.profile import frames
from models.body_part.task import extent_mm, scores
from models.volume import Volume

UNIT_MM, VERTEX_Z = 1270.0, 0.143
"""Normalised z = VERTEX_Z + mm below the vertex of the nominal adult / UNIT_MM. A straight line through DeepLesion's
own medians: lung 0.489, liver 0.601, kidney 0.656, pelvis 0.801 (organs at about 440, 580, 650 and 835 mm)."""
SHORTEST_MM = 40.0
FEWEST_SLICES = 5
LEAST_RANK_CORRELATION = 0.4
SLOPES = (0.4, 2.0)
"""Centimetres of score for one of position that are believed; patients differ by 0.85 to 1.15, models compress."""


class Finding(StrEnum):
    """What is wrong with a series; the words are in findings.toml."""

    FLIPPED = "flipped"
    NOT_MONOTONOUS = "not_monotonous"
    WRONG_SLOPE = "wrong_slope"
    TOO_SHORT = "too_short"

    @property
    def message(self) -> str:
        """One sentence for people."""
        text: str = _texts()[self.value]["message"]
        return text

    @property
    def advice(self) -> str:
        """What to do."""
        text: str = _texts()[self.value]["advice"]
        return text


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the slices of a volume lie."""

    scores_cm: NDArray[np.float64]
    """(slices,) raw, each slice on its own: centimetres below the vertex of a nominal adult; NaN without a body."""
    normalized_z: NDArray[np.float64]
    """(slices,) 0 to 1 on the scale of DeepLesion's Normalized_lesion_location, from the line through the scores."""
    slope: float
    """Centimetres of score for one of position (robust line); NaN where it cannot be told."""
    rank_correlation: float
    """Of raw scores with positions; NaN where it cannot be told."""
    findings: tuple[Finding, ...]

    @property
    def is_plausible(self) -> bool:
        """True where nothing but shortness was found."""
        return not set(self.findings) - {Finding.TOO_SHORT}


def place(volume: Volume, score: Callable[[Frames], NDArray[np.float64]]) -> Placement:
    """Places a volume by any scoring of its slices: `by_network` or `by_atlas`."""
    framed = frames(volume)
    return judged(framed, score(framed))


def by_network(model: nn.Module) -> Callable[[Frames], NDArray[np.float64]]:
    """Scoring by a trained network."""
    return lambda framed: scores(model, framed)


def by_atlas(atlas: Atlas) -> Callable[[Frames], NDArray[np.float64]]:
    """Scoring by the hand-made baseline."""
    return atlas.heights_cm


def judged(framed: Frames, scores_cm: NDArray[np.float64]) -> Placement:
    """The placement that raw scores (slices,) amount to."""
    known = np.isfinite(scores_cm)
    nothing = np.full(len(scores_cm), np.nan)
    if not known.any():
        return Placement(scores_cm, nothing, np.nan, np.nan, (Finding.TOO_SHORT,))
    position_cm = framed.position_mm / 10
    if extent_mm(framed) < SHORTEST_MM or known.sum() < FEWEST_SLICES:
        middle = float(np.median(scores_cm[known] - position_cm[known]))
        return Placement(scores_cm, normalized_z(position_cm + middle), np.nan, np.nan, (Finding.TOO_SHORT,))
    slope = middle_slope(position_cm[known], scores_cm[known])
    rank = float(spearmanr(position_cm[known], scores_cm[known])[0]) if np.ptp(scores_cm[known]) > 0 else 0.0
    findings: list[Finding] = []
    if abs(rank) < LEAST_RANK_CORRELATION:
        findings.append(Finding.NOT_MONOTONOUS)
    elif slope < 0:
        findings.append(Finding.FLIPPED)
    elif not SLOPES[0] <= slope <= SLOPES[1]:
        findings.append(Finding.WRONG_SLOPE)
    # The line has the patient's own millimetres: what the pictures add is where it starts, and the direction.
    direction = -1.0 if Finding.FLIPPED in findings else 1.0
    middle = float(np.median(scores_cm[known] - direction * position_cm[known]))
    return Placement(scores_cm, normalized_z(direction * position_cm + middle), slope, rank, tuple(findings))


def normalized_z(height_cm: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 to 1 of heights in centimetres below the vertex of the nominal adult; clipped."""
    return np.clip(VERTEX_Z + height_cm * 10 / UNIT_MM, 0, 1)


def middle_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Median of the slopes between all pairs of points at least a quarter of the range apart (Theil and Sen)."""
    apart = x[None] - x[:, None]
    far = apart > np.ptp(x) / 4
    rise = y[None] - y[:, None]
    return float(np.median(rise[far] / apart[far]))


def _texts() -> dict[str, dict[str, str]]:
    return tomllib.loads(resources.files(__package__).joinpath("findings.toml").read_text(encoding="utf-8"))
