"""Sensitivities of all bootstrap replicates at once: what `intervals.bootstrap` gives one by one, in a second.

A sensitivity at so many false positives per image hangs only on how many false positives stand before each hit. So
false positives are counted by patient between the hits, and one sparse product gives them for every replicate.
Equal to reading `froc.curve` with the image weights of each replicate by `froc_reading.LENS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from models.evaluation.froc import Count, Flags, Indices
from models.evaluation.intervals import Draws, Interval, interval_of, patient_weights
from models.evaluation.overlap import Floats

REPLICATES_AT_ONCE = 250


@dataclass(frozen=True, eq=False)
class Resample:
    """Patients drawn with all their images; row 0 is the images as they are."""

    names: tuple[str, ...]
    """The patients, sorted."""
    patient: Indices
    """(images,) number of each image's patient."""
    times: Floats
    """(1 + replicates, patients) how often each patient is drawn."""
    draws: Draws

    @classmethod
    def of(cls, patients: Sequence[str], draws: Draws) -> Resample:
        """Draws as `intervals.bootstrap` draws. ValueError for no patients."""
        if len(patients) == 0:
            raise ValueError("a bootstrap over patients needs at least one")
        names, patient = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
        drawn = [patient_weights(len(names), draws.seed, number) for number in range(draws.replicates)]
        times = np.vstack([np.ones(len(names)), *drawn])
        return cls(tuple(names.tolist()), patient.astype(np.int64), times, draws)

    def sensitivities(
        self, count: Count, false_positives: Sequence[float], counted_images: Flags | None = None
    ) -> Floats:
        """(1 + replicates, levels) sensitivity at each number of false positives per image, NaN where undefined.

        `counted_images` (images,) as in `froc.curve`.
        """
        return read_replicates(count, self.patient, self.times, false_positives, counted_images)

    def by_patient(self, count: Count, false_positives: Sequence[float]) -> Floats:
        """(patients, levels) sensitivity on the images of each patient alone, NaN for one without marks."""
        return read_replicates(count, self.patient, np.eye(len(self.names)), false_positives, None)

    def interval(self, values: Floats) -> Interval:
        """Of (1 + replicates,) values, the estimate first."""
        return interval_of(float(values[0]), values[1:], self.draws, len(self.names))

    def weighted(self, values: Floats, image: Indices) -> Floats:
        """(1 + replicates,) mean of (n,) values on (n,) images; NaN where none of them was drawn."""
        patient = self.patient[image]
        totals = self.times @ np.bincount(patient, minlength=len(self.names))
        sums = self.times @ np.bincount(patient, values, len(self.names))
        means: Floats = np.divide(sums, totals, out=np.full(len(sums), np.nan), where=totals > 0)
        return means


def read_replicates(
    count: Count,
    patient: Indices,
    times: Floats,
    false_positives: Sequence[float],
    counted_images: Flags | None = None,
) -> Floats:
    """(rows of times, levels) sensitivity where patients weigh as each row says."""
    patients = times.shape[1]
    counted = np.ones(count.image_count, bool) if counted_images is None else counted_images
    images = times @ np.bincount(patient[counted], minlength=patients)
    marks = times @ np.bincount(patient[count.mark_image], minlength=patients)
    hits = np.flatnonzero(count.new_hits)
    hit_patient, hit_marks = patient[count.image[hits]], count.new_hits[hits].astype(np.float64)
    wrong = np.flatnonzero(count.false_positive & counted[count.image])
    before = np.searchsorted(hits, wrong)
    relevant = before < len(hits)  # what stands behind the last hit changes nothing
    between = csr_matrix(
        (np.ones(int(relevant.sum())), (before[relevant], patient[count.image[wrong[relevant]]])),
        shape=(len(hits), patients),
    )
    found = np.empty((len(times), len(false_positives)))
    for first in range(0, len(times), REPLICATES_AT_ONCE):
        rows = slice(first, first + REPLICATES_AT_ONCE)
        per_image = np.cumsum(between @ times[rows].T, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            per_image /= images[rows]
        weight = times[rows][:, hit_patient].T * hit_marks[:, None]
        for level, limit in enumerate(false_positives):
            found[rows, level] = np.where(per_image <= limit, weight, 0.0).sum(axis=0)
    undefined = (marks == 0) | (images == 0)
    found[undefined] = np.nan
    found[~undefined] /= marks[~undefined, None]
    return found
