"""The public data set's rules: slice ranges and normalised location."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner import deeplesion


@pytest.mark.parametrize(
    ("interval_mm", "slices"), [(5, 6), (1, 30), (2, 15), (3, 10), (2.5, 12), (1.5, 20), (1.25, 24), (0.25, 120)]
)
def test_thirty_millimetres_of_context_on_each_side(interval_mm: float, slices: int) -> None:
    assert deeplesion.half_range(10, interval_mm) == slices


@pytest.mark.parametrize("noisy_mm", [4.99999, 5.00001, 4.9996])
def test_noise_of_decimal_strings_adds_no_slice(noisy_mm: float) -> None:
    assert deeplesion.half_range(10, noisy_mm) == 6


@pytest.mark.parametrize(("printed_mm", "slices"), [(0.6, 50), (0.3, 100)])
def test_printed_intervals_that_hide_a_remainder_give_one_slice_less_than_the_public_file(
    printed_mm: float, slices: int
) -> None:
    assert deeplesion.half_range(10, printed_mm) == slices


def test_a_lesion_with_a_radius_of_more_than_thirty_millimetres_gets_its_radius() -> None:
    assert deeplesion.half_range(64, 5) == 6
    assert deeplesion.half_range(65.1, 5) == 7
    assert deeplesion.half_range(61, 1) == 31
    assert deeplesion.half_range(60.8, 1) == 30


@pytest.mark.parametrize("interval_mm", [0, -1, math.nan, math.inf])
def test_an_interval_that_is_no_interval_is_refused(interval_mm: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        deeplesion.half_range(10, interval_mm)


def test_an_interval_finer_than_its_noise_is_taken_as_it_is() -> None:
    assert deeplesion.half_range(1, 0.0004) == 75_000


def test_windows_are_clipped_to_the_scan() -> None:
    assert deeplesion.slice_ranges([3], [6], 8) == ((1, 8),)


def test_windows_that_overlap_or_touch_become_one_and_a_gap_keeps_them_apart() -> None:
    assert deeplesion.slice_ranges([10, 22], [6, 6], 99) == ((4, 28), (4, 28))
    assert deeplesion.slice_ranges([10, 23], [6, 6], 99) == ((4, 29), (4, 29))
    assert deeplesion.slice_ranges([10, 24], [6, 6], 99) == ((4, 16), (18, 30))


lesions = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40)), min_size=1, max_size=8)


@given(lesions, st.randoms(use_true_random=False))
def test_each_lesion_gets_the_same_range_in_whatever_order_they_come(
    given_lesions: list[tuple[int, int]], random: object
) -> None:
    keys, halves = zip(*given_lesions, strict=True)
    ranges = dict(zip(given_lesions, deeplesion.slice_ranges(keys, halves, 300), strict=True))
    mixed = list(given_lesions)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    keys, halves = zip(*mixed, strict=True)
    assert dict(zip(mixed, deeplesion.slice_ranges(keys, halves, 300), strict=True)) == ranges


@given(lesions)
def test_ranges_hold_their_windows_and_are_equal_or_apart(given_lesions: list[tuple[int, int]]) -> None:
    keys, halves = zip(*given_lesions, strict=True)
    ranges = deeplesion.slice_ranges(keys, halves, 300)
    for (key, half), (first, last) in zip(given_lesions, ranges, strict=True):
        assert first <= max(1, key - half)
        assert last >= min(300, key + half)
    for one in set(ranges):
        assert all(one[1] + 1 < other[0] or other[1] + 1 < one[0] for other in set(ranges) - {one})


def air(rows: int = 64, columns: int = 80) -> np.ndarray:
    return np.full((rows, columns), -1000, np.int16)


def test_the_body_box_holds_the_body_and_not_a_thin_table() -> None:
    hu = air()
    hu[10:40, 20:60] = 40
    hu[50:53, :] = 200
    assert deeplesion.body_box(hu) == (20, 10, 59, 39)


def test_a_body_that_fills_the_image_is_the_image() -> None:
    assert deeplesion.body_box(np.zeros((64, 80), np.int16)) == (0, 0, 79, 63)


@pytest.mark.parametrize("shape", [(64, 80), (6, 80), (64, 6), (3, 3)])
def test_air_and_images_smaller_than_the_square_have_no_body(shape: tuple[int, int]) -> None:
    assert deeplesion.body_box(air(*shape)) is None
    assert deeplesion.body_box(np.zeros((6, 80), np.int16)) is None


def test_the_threshold_is_above_minus_768() -> None:
    hu = air()
    hu[10:40, 20:60] = -768
    assert deeplesion.body_box(hu) is None
    hu[10:40, 20:60] = -767
    assert deeplesion.body_box(hu) == (20, 10, 59, 39)


def opened(mask: np.ndarray) -> np.ndarray:
    """A 7 x 7 opening by its definition: the union of all squares that fit."""
    result = np.zeros_like(mask)
    for row in range(mask.shape[0] - 6):
        for column in range(mask.shape[1] - 6):
            if mask[row : row + 7, column : column + 7].all():
                result[row : row + 7, column : column + 7] = True
    return result


@given(st.integers(0, 2**32 - 1), st.floats(0.9, 0.999))
def test_the_body_box_is_that_of_the_opened_mask(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((24, 30)) < share
    rows, columns = np.nonzero(opened(mask))
    expected = (columns.min(), rows.min(), columns.max(), rows.max()) if rows.size else None
    assert deeplesion.body_box(np.where(mask, 0, -1000).astype(np.int16)) == expected


def test_a_body_without_width_has_no_location() -> None:
    assert deeplesion.normalized_location((5, 5), (3, 3, 3, 9)) is None
    assert deeplesion.normalized_location((5, 5), (3, 3, 9, 3)) is None


def test_the_location_grows_to_the_right_and_down() -> None:
    x, y = deeplesion.normalized_location((55, 65), (10, 20, 100, 110)) or (0, 0)
    assert (x, y) == pytest.approx((0.99642374 / 2 - 0.00906259, 0.81352015 / 2 + 0.11979325))


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


@pytest.mark.real
def test_locations_on_the_public_images_agree_to_two_millionths(real_data: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = real_data / "deeplesion" / "png"
    with (folder / "DL_info_png_visible.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    seen = 0
    for row in rows:
        series, _, number = row["File_name"].rpartition("_")
        path = folder / "Images_png" / series / number
        if not path.exists():
            continue
        pixels = np.asarray(image.open(path)).astype(np.int32) - 32768
        found = deeplesion.body_box(pixels.astype(np.int16))
        assert found is not None
        x_min, y_min, x_max, y_max = numbers(row["Bounding_boxes"])
        location = deeplesion.normalized_location(((x_min + x_max) / 2, (y_min + y_max) / 2), found)
        assert location == pytest.approx(numbers(row["Normalized_lesion_location"])[:2], abs=2e-6)
        seen += 1
    assert seen >= 23


@pytest.mark.real
def test_slice_ranges_of_public_rows_are_recomputed(real_data: Path) -> None:
    series: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for path in sorted((real_data / "deeplesion").glob("DL_info_*_visible.csv")):
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                interval = row["Spacing_mm_px_"].split(", ")[2]
                series[row["File_name"].rpartition("_")[0], interval].append(row)
    equal = count = 0
    for (_, interval), rows in series.items():
        public = [tuple(int(n) for n in row["Slice_range"].split(",")) for row in rows]
        halves = []
        for row in rows:
            long_mm = numbers(row["Lesion_diameters_Pixel_"])[0] * numbers(row["Spacing_mm_px_"])[0]
            halves.append(deeplesion.half_range(long_mm, float(interval)))
        keys = [int(row["Key_slice_index"]) for row in rows]
        found = deeplesion.slice_ranges(keys, halves, max(last for _, last in public))
        equal += sum(one == other for one, other in zip(found, public, strict=True))
        count += len(rows)
    assert count == 5488
    assert equal / count >= 0.99
