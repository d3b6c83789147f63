"""What false positives are: the share of them that lies on known non-lesions, such as planted mimics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplesion_miner.errors import ConfigError
from models.evaluation.cases import Cases, MarkedDataset, csv_rows
from models.evaluation.froc import Count, Indices, curve
from models.evaluation.froc_reading import score_at
from models.evaluation.intervals import Interval
from models.evaluation.overlap import Criterion, Floats, Space, overlaps
from models.evaluation.resampling import Resample

COLUMNS = ("file_name", "x_min", "y_min", "x_max", "y_max", "kind")
LEVELS = (1.0, 4.0)
"""False positives per image at which shares are told."""
LEAST_OVERLAP = 0.5
"""IoBBGT from which a detection lies on a known non-lesion: half of the one lies in the other."""


@dataclass(frozen=True)
class KnownNonLesion:
    """Something on a slice that is known to be no lesion; pixels, tight."""

    file_name: str
    box: tuple[float, float, float, float]
    kind: str


@dataclass(frozen=True)
class OperatingPoint:
    """Where shares are told: all detections from a score on."""

    words: str
    """'at 1 FP per image', 'from score 0.3'."""
    score: float


@dataclass(frozen=True)
class KindShare:
    """False positives of one kind from one score on."""

    point: OperatingPoint
    kind: str
    false_positives: int
    """Of every kind and of none."""
    of_kind: int
    share: Interval


@dataclass(frozen=True)
class ShareDifference:
    """A share minus that of other predictions, each at its own score."""

    other: str
    words: str
    kind: str
    difference: Interval


def read_known(path: Path, dataset: MarkedDataset) -> tuple[KnownNonLesion, ...]:
    """A CSV with the header 'file_name,x_min,y_min,x_max,y_max,kind'.

    ConfigError for another header, a box that is none, and a slice that the dataset does not hold.
    """
    held = {one.file_name for one in dataset.key_slices}
    known = []
    for line, row in csv_rows(path, COLUMNS):
        try:
            x_min, y_min, x_max, y_max = (float(row[name]) for name in COLUMNS[1:5])
        except ValueError as error:
            raise ConfigError(f"{path}:{line}: a coordinate is no number: {error}") from error
        if not (x_min <= x_max and y_min <= y_max):
            raise ConfigError(f"{path}:{line}: the box ends before it begins; write x_min,y_min,x_max,y_max")
        if row["file_name"] not in held and not dataset.has(row["file_name"]):
            raise ConfigError(f"{path}:{line}: the dataset holds no slice {row['file_name']}")
        known.append(KnownNonLesion(row["file_name"], (x_min, y_min, x_max, y_max), row["kind"]))
    return tuple(known)


def operating_points(count: Count, scores: Sequence[float] = ()) -> tuple[OperatingPoint, ...]:
    """`LEVELS` of a curve, then each score asked for."""
    whole = curve(count)
    return (
        *(OperatingPoint(f"at {level:g} FP per image", score_at(whole, level)) for level in LEVELS),
        *(OperatingPoint(f"from score {score:g}", score) for score in scores),
    )


def kinds_of(cases: Cases, count: Count, known: Sequence[KnownNonLesion]) -> tuple[tuple[str, ...], Indices]:
    """(kinds, sorted; (d,) the number of each ranked detection's kind, -1 for hits, repeats and nothing known)."""
    kinds = tuple(sorted({one.kind for one in known}))
    on_slice: dict[str, list[KnownNonLesion]] = {}
    for one in known:
        on_slice.setdefault(one.file_name, []).append(one)
    found = np.full(len(count.scores), -1, np.int64)
    detections = cases.flat
    for rank in np.flatnonzero(count.false_positive).tolist():
        there = on_slice.get(cases.slices.counted[int(count.image[rank])].file_name, ())
        if not there:
            continue
        box = detections[int(count.detection[rank])].box
        detected = np.array([[box.x_min, box.y_min, box.x_max, box.y_max]])
        overlap = overlaps(detected, np.array([one.box for one in there]), Space.PLANE, Criterion.IOBBGT)[0]
        best = int(overlap.argmax())
        if overlap[best] >= LEAST_OVERLAP:
            found[rank] = kinds.index(there[best].kind)
    return kinds, found


def share_replicates(
    count: Count, kind_of: Indices, kinds: int, point: OperatingPoint, resample: Resample
) -> tuple[Floats, int, Indices]:
    """((1 + replicates, kinds) shares, false positives, (kinds,) those of each kind) from the point's score on."""
    chosen = count.false_positive & (count.scores >= point.score)
    image, kind = count.image[chosen], kind_of[chosen]
    shares = [resample.weighted((kind == number).astype(np.float64), image) for number in range(kinds)]
    of_kind = np.array([int((kind == number).sum()) for number in range(kinds)], np.int64)
    return np.column_stack(shares), int(chosen.sum()), of_kind


def kind_shares(
    cases: Cases, count: Count, known: Sequence[KnownNonLesion], resample: Resample, scores: Sequence[float] = ()
) -> tuple[tuple[KindShare, ...], list[Floats]]:
    """Shares at every operating point, and their replicates, point by point, for differences."""
    if not known:
        return (), []
    kinds, kind_of = kinds_of(cases, count, known)
    told: list[KindShare] = []
    replicates: list[Floats] = []
    for point in operating_points(count, scores):
        values, wrong, of_kind = share_replicates(count, kind_of, len(kinds), point, resample)
        replicates.append(values)
        told += [
            KindShare(point, kind, wrong, int(of_kind[number]), resample.interval(values[:, number]))
            for number, kind in enumerate(kinds)
        ]
    return tuple(told), replicates


def share_differences(
    other: str, shares: Sequence[KindShare], one: Sequence[Floats], two: Sequence[Floats], resample: Resample
) -> tuple[ShareDifference, ...]:
    """`one` minus `two`, both as `kind_shares` gives replicates, named as in `shares`."""
    if not shares:
        return ()
    columns = np.column_stack([left - right for left, right in zip(one, two, strict=True)])
    return tuple(
        ShareDifference(other, share.point.words, share.kind, resample.interval(columns[:, number]))
        for number, share in enumerate(shares)
    )
