"""As many pairs as possible, then the least cost: compared with every assignment that there is."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deeplesion_miner.assignment import assign

COSTS = st.one_of(st.integers(0, 9).map(float), st.floats(0, 1e3), st.just(math.inf))


@st.composite
def matrices(draw: st.DrawFn) -> NDArray[np.float64]:
    rows, columns = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    values = draw(st.lists(COSTS, min_size=rows * columns, max_size=rows * columns))
    return np.array(values, np.float64).reshape(rows, columns)


def best_of_all(costs: NDArray[np.float64]) -> tuple[int, float]:
    """Most pairs, and the least cost of so many."""
    if costs.shape[0] > costs.shape[1]:
        costs = costs.T
    rows, columns = costs.shape
    found = []
    for chosen in permutations(range(columns), rows):
        taken = [costs[row, column] for row, column in enumerate(chosen) if math.isfinite(costs[row, column])]
        found.append((-len(taken), float(sum(taken))))
    pairs, cost = min(found)
    return -pairs, cost


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(matrices())
def test_an_assignment_is_the_best_that_there_is(costs: NDArray[np.float64]) -> None:
    found = assign(costs)
    rows, columns = [row for row, _ in found], [column for _, column in found]
    assert len(set(rows)) == len(rows) == len(set(columns))
    assert rows == sorted(rows)
    assert all(math.isfinite(costs[pair]) for pair in found)
    pairs, cost = best_of_all(costs)
    assert len(found) == pairs
    assert sum(costs[pair] for pair in found) == pytest.approx(cost, rel=1e-9, abs=1e-9)


def test_the_nearest_partner_is_left_to_who_has_no_other() -> None:
    assert assign(np.array([[1.0, 2.0], [1.0, math.inf]])) == ((0, 1), (1, 0))


def test_where_nothing_is_allowed_nobody_is_paired() -> None:
    assert assign(np.full((2, 3), math.inf)) == ()
    assert assign(np.zeros((0, 4))) == ()
