"""One evaluation: a dataset's marks beside a model's detections, every figure with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplesion_miner.detection import Detection
from models.evaluation import figures
from models.evaluation.cases import Cases, MarkedDataset, Slices, assign, pooled
from models.evaluation.figures import Figures, OtherWay, PatientFigures, StratumFigures
from models.evaluation.froc import Count, Pool, count
from models.evaluation.intervals import Draws, Interval
from models.evaluation.kinds import KindShare, KnownNonLesion, ShareDifference, kind_shares, share_differences
from models.evaluation.matched import Delineated, Measure, mask_measures, matches, recist_measures
from models.evaluation.overlap import Floats
from models.evaluation.protocol import BAND, Protocol
from models.evaluation.resampling import Resample
from models.marks import Annotation
from models.predictions_table import ReferenceMask


@dataclass(frozen=True)
class Predictions:
    """Detections of one model with the name of the file that they come from."""

    name: str
    detections: tuple[Detection, ...]

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The models that made them, sorted; a file of one model has one."""
        return tuple(sorted({detection.model_id for detection in self.detections}))


@dataclass(frozen=True, eq=False)
class Difference:
    """These predictions minus others, paired: both see the same patients in every replicate."""

    other: str
    model_ids: tuple[str, ...]
    other_count: Count
    other_figures: Figures
    sensitivity: tuple[Interval, ...]
    average: Interval
    average_to_eight: Interval


@dataclass(frozen=True)
class Extras:
    """What may be known beside the marks."""

    known: tuple[KnownNonLesion, ...] = ()
    """Non-lesions, for the kinds of false positives."""
    scores: tuple[float, ...] = ()
    """Further scores at which these kinds are told."""
    references: tuple[ReferenceMask, ...] = ()


@dataclass(frozen=True)
class Unmarked:
    """Detections on slices that nobody annotated: neither right nor wrong, never part of a curve."""

    detections: int
    slices: int
    """Slices with at least one."""
    score_quantiles: tuple[float, ...]
    """At 0, 25, 50, 75 and 100 %; empty without detections."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that is told of one set of predictions."""

    protocol: Protocol
    draws: Draws
    predictions: Predictions
    cases: Cases
    pool: Pool
    count: Count
    figures: Figures
    band: tuple[Interval, ...]
    """Sensitivity at each of `protocol.BAND`."""
    strata: tuple[StratumFigures, ...]
    patients: tuple[PatientFigures, ...]
    other_ways: tuple[OtherWay, ...]
    complete_only: Figures | None
    """False positives on, and per, completely annotated slice; None where there is none or nothing else."""
    unmarked: Unmarked
    differences: tuple[Difference, ...]
    kinds: tuple[KindShare, ...]
    kind_differences: tuple[ShareDifference, ...]
    recist: tuple[Measure, ...]
    masks: Mapping[str, Delineated]
    """'2-D' and '3-D'; nothing in them without reference masks."""

    @property
    def slices(self) -> Slices:
        """The slices that count."""
        return self.cases.slices


NOTHING_MORE = Extras()


def evaluate(
    dataset: MarkedDataset,
    slices: Slices,
    predictions: Predictions,
    protocol: Protocol,
    draws: Draws,
    against: Sequence[Predictions] = (),
    extras: Extras = NOTHING_MORE,
) -> Evaluation:
    """Compares predictions with the marks of `slices`, and with other predictions of the same slices.

    ConfigError for detections on images that the dataset does not hold, ValueError for no slices.
    """
    resample = Resample.of(slices.patients, draws)
    cases, pool, one, values = _counted(dataset, slices, predictions, protocol, resample)
    found = figures.figures_of(values, len(one.mark), resample)
    shares, share_values = kind_shares(cases, one, extras.known, resample, extras.scores)
    differences: list[Difference] = []
    of_shares: list[ShareDifference] = []
    for other in against:
        other_cases, _, other_count, other_values = _counted(dataset, slices, other, protocol, resample)
        *each, average, to_eight = (resample.interval(column) for column in (values - other_values).T)
        beside = figures.figures_of(other_values, len(other_count.mark), resample)
        differences.append(Difference(other.name, other.model_ids, other_count, beside, tuple(each), average, to_eight))
        _, other_shares = kind_shares(other_cases, other_count, extras.known, resample, extras.scores)
        of_shares += share_differences(other.name, shares, share_values, other_shares, resample)
    matched = matches(cases, one)
    return Evaluation(
        protocol=protocol,
        draws=draws,
        predictions=predictions,
        cases=cases,
        pool=pool,
        count=one,
        figures=found,
        band=tuple(resample.interval(column) for column in resample.sensitivities(one, BAND).T),
        strata=figures.stratum_figures(pool, protocol, figures.strata_of(slices), resample),
        patients=figures.patient_figures(one, resample),
        other_ways=figures.other_ways(cases, predictions.detections, dataset, protocol),
        complete_only=_complete_only(slices, one, resample),
        unmarked=_unmarked(cases),
        differences=tuple(differences),
        kinds=shares,
        kind_differences=tuple(of_shares),
        recist=recist_measures(matched, resample),
        masks=mask_measures(matched, extras.references, resample),
    )


def _counted(
    dataset: MarkedDataset, slices: Slices, predictions: Predictions, protocol: Protocol, resample: Resample
) -> tuple[Cases, Pool, Count, Floats]:
    cases = assign(predictions.detections, dataset, slices, protocol)
    pool = pooled(cases, protocol)
    one = count(pool, protocol.threshold, ties=protocol.ties)
    return cases, pool, one, figures.replicates(one, resample)


def _complete_only(slices: Slices, one: Count, resample: Resample) -> Figures | None:
    complete = np.array([slice_.annotation is Annotation.COMPLETE for slice_ in slices.counted], bool)
    if complete.all() or not complete.any():
        return None
    return figures.figures_of(figures.replicates(one, resample, complete), len(one.mark), resample)


def _unmarked(cases: Cases) -> Unmarked:
    scores = [detection.score for detection in cases.unmarked]
    quantiles = tuple(np.quantile(scores, (0, 0.25, 0.5, 0.75, 1)).tolist()) if scores else ()
    return Unmarked(len(scores), len({str(detection.image) for detection in cases.unmarked}), quantiles)


def annotation_counts(slices: Slices) -> Mapping[str, int]:
    """Counted slices by how far they were annotated."""
    return {state.value: sum(one.annotation is state for one in slices.counted) for state in Annotation}
