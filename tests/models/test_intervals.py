"""Bootstrap intervals over patients do not depend on order, and mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from froc_cases import case
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.froc import count, curve, pool
from models.evaluation.froc_reading import average_to_eight, sensitivity_at
from models.evaluation.intervals import Draws, bootstrap, image_weights, means, paired_differences, sensitivities
from models.evaluation.overlap import Space

FEW = Draws(seed=3, replicates=200)
PATIENTS = ["a", "a", "b", "c", "c", "c"]


def test_all_images_of_a_patient_are_drawn_together_and_as_many_patients_as_there_are() -> None:
    for replicate in range(20):
        weights = image_weights(PATIENTS, 1, replicate)
        assert weights[0] == weights[1]
        assert weights[3] == weights[4] == weights[5]
        assert weights[0] + weights[2] + weights[3] == 3


def test_replicates_and_seeds_differ() -> None:
    patients = [str(number) for number in range(30)]
    drawn = {tuple(image_weights(patients, seed, replicate)) for seed in range(5) for replicate in range(20)}
    assert len(drawn) == 100


@given(st.permutations(range(6)), st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_what_is_drawn_does_not_depend_on_the_order_of_images(order: list[int], seed: int, replicate: int) -> None:
    weights = image_weights(PATIENTS, seed, replicate)
    mixed = image_weights([PATIENTS[number] for number in order], seed, replicate)
    assert mixed.tolist() == weights[order].tolist()


def test_an_interval_of_the_froc_does_not_depend_on_the_order_of_images() -> None:
    marked, detected = case(5, Space.PLANE)
    order = [4, 2, 0, 5, 1, 3]
    one = bootstrap(sensitivities(count(pool(marked, detected), 0.3), (0.5, 1, 2)), PATIENTS, FEW)
    mixed = count(pool([marked[i] for i in order], [detected[i] for i in order]), 0.3)
    other = bootstrap(sensitivities(mixed, (0.5, 1, 2)), [PATIENTS[i] for i in order], FEW)
    for left, right in zip(one, other, strict=True):
        assert (left.low, left.estimate, left.high) == pytest.approx((right.low, right.estimate, right.high))
    assert one[0].low < one[0].high


def test_the_estimate_is_that_of_the_images_as_they_are_and_the_mean_comes_last() -> None:
    marked, detected = case(5, Space.PLANE)
    one = count(pool(marked, detected), 0.3)
    *each, mean = bootstrap(sensitivities(one, (0.5, 1, 2, 4, 8)), PATIENTS, FEW)
    assert [interval.estimate for interval in each] == sensitivity_at(curve(one), (0.5, 1, 2, 4, 8)).tolist()
    assert mean.estimate == pytest.approx(average_to_eight(curve(one)))
    assert all(interval.patients == 3 for interval in each)


def test_a_longer_run_begins_with_the_shorter() -> None:
    seen: list[tuple[float, ...]] = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        seen.append(tuple(weights))
        return weights[:1]

    bootstrap(statistic, PATIENTS, Draws(seed=9, replicates=5))
    short, seen[:] = list(seen), []
    bootstrap(statistic, PATIENTS, Draws(seed=9, replicates=8))
    assert seen[: len(short)] == short


def test_a_model_beside_itself_differs_by_nothing() -> None:
    marked, detected = case(5, Space.PLANE)
    one = sensitivities(count(pool(marked, detected), 0.3), (0.5, 1, 2))
    for interval in paired_differences(one, one, PATIENTS, FEW):
        assert (interval.low, interval.estimate, interval.high, interval.above_zero) == (0, 0, 0, 0)


def test_a_paired_interval_is_narrower_than_those_of_two_models_that_fail_on_the_same_patients() -> None:
    hard = np.random.default_rng(0).normal(size=40)
    image, patients = np.arange(40), [f"p{number}" for number in range(40)]
    one, other = means(hard + 0.1, image), means(hard, image)
    (paired,) = paired_differences(one, other, patients, FEW)
    (alone,) = bootstrap(one, patients, FEW)
    assert paired.high - paired.low < 1e-9 < alone.high - alone.low
    assert paired.estimate == pytest.approx(0.1)
    assert paired.above_zero == 1


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    patients = [str(number) for number in range(40)]
    covered = 0
    for seed in range(100):
        (interval,) = bootstrap(means(random.normal(size=40), np.arange(40)), patients, Draws(seed, 200, 0.9))
        covered += interval.low <= 0 <= interval.high
    assert 80 <= covered <= 98


def test_replicates_without_a_lesion_are_left_out_and_counted() -> None:
    (interval,) = bootstrap(means(np.array([0.5]), np.array([2])), PATIENTS, FEW)
    assert interval.undefined == sum(image_weights(PATIENTS, 3, number)[2] == 0 for number in range(200))
    assert 0 < interval.undefined < 200
    assert (interval.low, interval.high) == (0.5, 0.5)
    (never,) = bootstrap(lambda weights: np.array([np.nan]), PATIENTS, FEW)
    assert never.undefined == 200
    assert np.isnan([never.low, never.high, never.above_zero]).all()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 1, "replicates": 0}, {"seed": 1, "level": 1.0}])
def test_draws_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="replicates from 1"):
        Draws(**wrong)
