"""Masks of parts of an image plane: cut out and put back without a pixel lost or moved."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deeplesion_miner.detection import PixelMask


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_plane_comes_back_from_its_smallest_crop(plane: np.ndarray) -> None:
    mask = PixelMask.of_plane(plane)
    assert (mask.on_plane(*plane.shape) == plane).all()
    if plane.any():
        assert mask.bits.any(axis=0)[[0, -1]].all()
        assert mask.bits.any(axis=1)[[0, -1]].all()
    else:
        assert (mask.first_column, mask.first_row, mask.bits.shape) == (0, 0, (0, 0))


@given(st.integers(-6, 6), st.integers(-6, 6))
def test_what_lies_outside_the_plane_is_left_out(column: int, row: int) -> None:
    plane = PixelMask(column, row, np.ones((3, 2), np.bool_)).on_plane(4, 5)
    expected = np.zeros((4, 5), np.bool_)
    for y in range(row, row + 3):
        for x in range(column, column + 2):
            if 0 <= y < 4 and 0 <= x < 5:
                expected[y, x] = True
    assert (plane == expected).all()
