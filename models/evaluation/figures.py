"""The figures of a FROC with their intervals: of all marks, of each stratum, of each patient, counted other ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deeplesion_miner.detection import Detection
from models.evaluation.cases import Cases, MarkedDataset, Slices, assign, pooled
from models.evaluation.froc import Count, Flags, Pool, Ties, count
from models.evaluation.intervals import Interval
from models.evaluation.overlap import Criterion, Floats, Space
from models.evaluation.protocol import AVERAGE_TO_EIGHT, FALSE_POSITIVES, PUBLISHED_AVERAGE, Boxes, Protocol
from models.evaluation.resampling import Resample, read_replicates
from models.evaluation.strata import Stratum, by_size, by_slice_interval, by_type


@dataclass(frozen=True)
class Figures:
    """What one curve says."""

    marks: int
    sensitivity: tuple[Interval, ...]
    """At each of `FALSE_POSITIVES` per image."""
    average: Interval
    average_to_eight: Interval


@dataclass(frozen=True, eq=False)
class StratumFigures:
    """One stratum: its marks, all images, all detections."""

    stratum: Stratum
    count: Count
    figures: Figures


@dataclass(frozen=True)
class PatientFigures:
    """One patient's images alone."""

    patient: str
    images: int
    marks: int
    sensitivity: tuple[float, ...]
    average: float
    average_to_eight: float


@dataclass(frozen=True)
class OtherWay:
    """The same predictions under another rule."""

    rule: str
    protocol: Protocol
    sensitivity: tuple[float, ...]
    average: float
    average_to_eight: float


def replicates(count: Count, resample: Resample, counted_images: Flags | None = None) -> Floats:
    """(1 + replicates, levels + 2): sensitivity at `FALSE_POSITIVES`, then both averages; the estimate first."""
    read = resample.sensitivities(count, FALSE_POSITIVES, counted_images)
    return _with_averages(read)


def figures_of(values: Floats, marks: int, resample: Resample) -> Figures:
    """The figures of `replicates`."""
    *sensitivity, average, to_eight = (resample.interval(column) for column in values.T)
    return Figures(marks, tuple(sensitivity), average, to_eight)


def strata_of(slices: Slices) -> tuple[Stratum, ...]:
    """Strata by size, coarse type and slice interval, those that hold marks."""
    marks = slices.marks
    every = (
        *by_size(np.array([mark.long_axis_mm for _, mark in marks], np.float64)),
        *by_type(np.array([mark.coarse_lesion_type for _, mark in marks], np.int64)),
        *by_slice_interval(np.array([one.slice_interval_mm for one, _ in marks], np.float64)),
    )
    return tuple(stratum for stratum in every if stratum.marks.any())


def stratum_figures(
    pool: Pool, protocol: Protocol, strata: Sequence[Stratum], resample: Resample
) -> tuple[StratumFigures, ...]:
    """The figures of each stratum."""
    found = []
    for stratum in strata:
        one = count(pool, protocol.threshold, marks=stratum.marks, ties=protocol.ties)
        values = replicates(one, resample)
        found.append(StratumFigures(stratum, one, figures_of(values, int(stratum.marks.sum()), resample)))
    return tuple(found)


def patient_figures(count: Count, resample: Resample) -> tuple[PatientFigures, ...]:
    """The figures of each patient, sorted by name; NaN for one without marks."""
    values = _with_averages(resample.by_patient(count, FALSE_POSITIVES))
    images = np.bincount(resample.patient, minlength=len(resample.names))
    marks = np.bincount(resample.patient[count.mark_image], minlength=len(resample.names))
    return tuple(
        PatientFigures(name, int(images[k]), int(marks[k]), tuple(row[:-2]), row[-2], row[-1])
        for k, (name, row) in enumerate(zip(resample.names, values.tolist(), strict=True))
    )


def other_ways(
    cases: Cases, detections: Sequence[Detection], dataset: MarkedDataset, protocol: Protocol
) -> tuple[OtherWay, ...]:
    """The same slices counted by other rules, one difference from the protocol each."""
    found = []
    pools: dict[tuple[Boxes, Space, Criterion], Pool] = {}
    for rule, other in _others(protocol, any(detection.volume for detection in detections)):
        way = (other.boxes, other.space, other.criterion)
        if way not in pools:
            assigned = cases if other.space is protocol.space else assign(detections, dataset, cases.slices, other)
            pools[way] = pooled(assigned, other)
        one = count(pools[way], other.threshold, ties=other.ties)
        row = once(one)
        found.append(OtherWay(rule, other, tuple(row[:-2]), row[-2], row[-1]))
    return tuple(found)


def once(count: Count, counted_images: Flags | None = None) -> list[float]:
    """Sensitivity at `FALSE_POSITIVES`, then both averages, without intervals."""
    no_patients = np.zeros(count.image_count, np.int64)
    row: list[float] = _with_averages(
        read_replicates(count, no_patients, np.ones((1, 1)), FALSE_POSITIVES, counted_images)
    )[0].tolist()
    return row


def _with_averages(read: Floats) -> Floats:
    averages = [read[:, part].mean(axis=1) for part in (PUBLISHED_AVERAGE, AVERAGE_TO_EIGHT)]
    return np.column_stack([read, *averages])


def _others(protocol: Protocol, volumes: bool) -> Iterator[tuple[str, Protocol]]:
    for threshold in sorted({0.3, 0.5, 0.75} - {protocol.threshold}):
        yield f"{protocol.measure} of at least {threshold:g}", replace(protocol, threshold=threshold)
    for criterion in (Criterion.IOU, Criterion.IOBB, Criterion.IOBBGT):
        other = replace(protocol, criterion=criterion)
        if criterion is not protocol.criterion:
            yield f"{other.measure} instead of {protocol.measure}", other
    boxes = Boxes.TIGHT if protocol.boxes is Boxes.PADDED else Boxes.PADDED
    yield f"{boxes} boxes", replace(protocol, boxes=boxes)
    if volumes:
        space = Space.PLANE if protocol.space is Space.PSEUDO_VOLUME else Space.PSEUDO_VOLUME
        word = "detections on the key slice only" if space is Space.PLANE else "P3D: 3-D masks that reach the key slice"
        yield word, replace(protocol, space=space)
    yield "equal scores: hits first", replace(protocol, ties=Ties.HITS_FIRST)
