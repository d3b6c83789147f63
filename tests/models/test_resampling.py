"""All replicates at once give the very numbers that the bootstrap gives one by one."""

from __future__ import annotations

import numpy as np
import pytest
from froc_cases import case
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import resampling
from models.evaluation.froc import Count, count, curve, pool
from models.evaluation.froc_reading import sensitivity_at
from models.evaluation.intervals import Draws, bootstrap, image_weights, means, sensitivities
from models.evaluation.overlap import Space
from models.evaluation.resampling import Resample

LEVELS = (0.0, 0.3, 0.5, 1.0, 2.0, 4.0, 16.0)
DRAWS = Draws(seed=5, replicates=30)


def counted(seed: int, images: int = 6) -> tuple[Count, list[str]]:
    marked, detected = case(seed, Space.PLANE)
    patients = np.random.default_rng(seed).integers(0, 4, len(marked)).astype(str).tolist()
    return count(pool(marked, detected), 0.3), patients


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 400))
def test_every_replicate_reads_as_the_curve_of_its_weights(seed: int) -> None:
    one, patients = counted(seed)
    found = Resample.of(patients, DRAWS).sensitivities(one, LEVELS)
    alone = [sensitivity_at(curve(one, image_weights=np.ones(one.image_count)), LEVELS)]
    for replicate in range(DRAWS.replicates):
        weights = image_weights(patients, DRAWS.seed, replicate)
        alone.append(sensitivity_at(curve(one, image_weights=weights), LEVELS))
    np.testing.assert_array_equal(found, np.array(alone))


def test_replicates_may_be_read_in_several_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    one, patients = counted(3)
    resample = Resample.of(patients, DRAWS)
    at_once = resample.sensitivities(one, LEVELS)
    monkeypatch.setattr(resampling, "REPLICATES_AT_ONCE", 7)
    np.testing.assert_array_equal(resample.sensitivities(one, LEVELS), at_once)


def test_false_positives_may_count_on_some_images_only() -> None:
    one, patients = counted(3)
    chosen = np.arange(one.image_count) % 2 == 0
    found = Resample.of(patients, DRAWS).sensitivities(one, LEVELS, chosen)[0]
    np.testing.assert_array_equal(found, sensitivity_at(curve(one, counted_images=chosen), LEVELS))


def test_a_patient_is_read_on_their_own_images() -> None:
    one, patients = counted(3)
    resample = Resample.of(patients, DRAWS)
    for name, row in zip(resample.names, resample.by_patient(one, LEVELS), strict=True):
        weights = np.array([patient == name for patient in patients], np.float64)
        np.testing.assert_array_equal(row, sensitivity_at(curve(one, image_weights=weights), LEVELS))


def test_intervals_are_those_of_the_bootstrap() -> None:
    one, patients = counted(5)
    resample = Resample.of(patients, DRAWS)
    found = [resample.interval(column) for column in resample.sensitivities(one, (0.5, 1.0)).T]
    assert found == list(bootstrap(sensitivities(one, (0.5, 1.0)), patients, DRAWS)[:2])


def test_weighted_means_are_those_of_the_bootstrap() -> None:
    patients = ["a", "a", "b", "c"]
    values, image = np.array([0.2, 0.4, 0.9]), np.array([0, 2, 2])
    resample = Resample.of(patients, DRAWS)
    found = resample.interval(resample.weighted(values, image))
    (wanted,) = bootstrap(means(values, image), patients, DRAWS)
    assert (found.estimate, found.low, found.high) == pytest.approx((wanted.estimate, wanted.low, wanted.high))
    assert found.undefined == wanted.undefined
