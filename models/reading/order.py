"""In which order a training sees its samples: every one once before any comes again."""

from __future__ import annotations

import numpy as np

ORDER = 0
"""Stream of random numbers below a seed: the order of an epoch."""


def numbers_of(count: int, batch: int, step: int, seed: int) -> tuple[int, ...]:
    """Numbers below `count` of the samples in the batch of a step (from 0): a pure function of its arguments."""
    places = range(step * batch, (step + 1) * batch)
    orders = {
        epoch: np.random.default_rng([seed, ORDER, epoch]).permutation(count)
        for epoch in {place // count for place in places}
    }
    return tuple(int(orders[place // count][place % count]) for place in places)
