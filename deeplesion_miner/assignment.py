"""Who belongs to whom: as many pairs as possible, then the least total cost (Kuhn 1955, Munkres 1957)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def assign(costs: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """Pairs (row, column), by row: of all assignments with the most pairs one of least total cost.

    `costs` is (rows, columns), not negative; infinity forbids a pair. The same costs give the same pairs.
    """
    allowed = np.isfinite(costs)
    if not allowed.any():
        return ()
    if costs.shape[0] > costs.shape[1]:
        return tuple(sorted((row, column) for column, row in assign(costs.T)))
    # Dearer than all allowed pairs together: an optimum takes a forbidden pair only where there is no other.
    forbidden = 2.0 * float(costs[allowed].sum()) + 1.0
    columns = _columns_of_rows(np.where(allowed, costs, forbidden))
    return tuple((row, column) for row, column in enumerate(columns) if allowed[row, column])


def _columns_of_rows(costs: NDArray[np.float64]) -> list[int]:
    """The column of each row, for finite costs and no more rows than columns: shortest augmenting paths."""
    rows, columns = costs.shape
    of_row, of_column = np.zeros(rows), np.zeros(columns)
    row_at: list[int] = [-1] * columns
    for start in range(rows):
        least, came_from = np.full(columns, math.inf), [-1] * columns
        done = np.zeros(columns, np.bool_)
        row, column = start, -1
        while row >= 0:
            reduced = costs[row] - of_row[row] - of_column
            nearer = ~done & (reduced < least)
            least[nearer] = reduced[nearer]
            for one in np.flatnonzero(nearer):
                came_from[one] = column
            following = int(np.argmin(np.where(done, math.inf, least)))
            step = least[following]
            of_row[start] += step
            for one in np.flatnonzero(done):
                of_row[row_at[one]] += step
                of_column[one] -= step
            least[~done] -= step
            done[following] = True
            column, row = following, row_at[following]
        while column >= 0:
            before = came_from[column]
            row_at[column] = start if before < 0 else row_at[before]
            column = before
    found = [-1] * rows
    for column, row in enumerate(row_at):
        if row >= 0:
            found[row] = column
    return found
