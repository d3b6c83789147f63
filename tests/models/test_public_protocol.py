"""The public loaders' protocol, by a second reading of its rules (dataset-and-model-facts.md, section 2)."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import reading_folders as folders
import torch
from hypothesis import given
from hypothesis import strategies as st
from reading_folders import CROSS, SIDE, lesion, series
from scipy import ndimage

from models import recipe as recipes
from models.reading.folder import DatasetFolder
from models.reading.public_protocol import WINDOW_HU, frame, neighbours, public_image
from models.reading.samples import Samples


def seen(numbers: range | list[int], key: int, interval_mm: float, count: int) -> list[dict[int, float]]:
    """For each slice that is seen, the shares of slice numbers."""
    found = neighbours(list(numbers), list(numbers).index(key), interval_mm, count)
    return [
        {numbers[index]: round(float(share), 6) for index, share in zip(found.slices, row, strict=True) if share}
        for row in found.shares
    ]


def test_an_interval_that_divides_2_mm_picks_slices() -> None:
    assert seen(range(1, 21), 10, 1.0, 5) == [{6: 1}, {8: 1}, {10: 1}, {12: 1}, {14: 1}]
    assert seen(range(1, 21), 10, 2.0, 3) == [{9: 1}, {10: 1}, {11: 1}]
    assert seen(range(1, 21), 10, 0.5, 3) == [{6: 1}, {10: 1}, {14: 1}]


def test_at_5_mm_all_neighbours_have_the_weights_of_the_first_one() -> None:
    previous_third, previous_second, previous, key, following, second, third = seen(range(1, 21), 10, 5.0, 7)
    assert previous == {9: 0.4, 10: 0.6} and key == {10: 1} and following == {11: 0.4, 10: 0.6}
    assert second == following and previous_second == previous, "the flaw: 4 mm looks like 2 mm"
    assert third == {12: 0.4, 11: 0.6} and previous_third == {8: 0.4, 9: 0.6}, "and 6 mm like 7 mm"


def test_a_missing_slice_is_replaced_by_the_next_one_towards_the_key_slice() -> None:
    assert seen([5, 7, 10, 11, 15], 10, 1.0, 5) == [{7: 1}, {10: 1}, {10: 1}, {11: 1}, {11: 1}]
    assert seen([10], 10, 5.0, 3) == [{10: 1}] * 3


@pytest.mark.parametrize("interval_mm", [math.nan, 0.0, -1.0])
def test_without_an_interval_the_key_slice_is_repeated(interval_mm: float) -> None:
    assert seen(range(1, 21), 10, interval_mm, 3) == [{10: 1}] * 3


def test_an_even_number_of_slices_has_no_middle() -> None:
    with pytest.raises(ValueError, match="4 slices"):
        neighbours([1, 2, 3], 1, 1.0, 4)


@given(
    st.sets(st.integers(1, 60), min_size=1),
    st.sampled_from([Fraction(n, 4) for n in range(1, 25)]),
    st.sampled_from([1, 3, 9]),
    st.randoms(use_true_random=False),
)
def test_the_rules_read_once_more_in_exact_fractions(
    there: set[int], interval: Fraction, count: int, random: object
) -> None:
    numbers = sorted(there)
    key = random.choice(numbers)  # type: ignore[attr-defined]
    steps = 2 / interval

    def nearest(number: int) -> int:
        between = sorted((number, key))
        return max((one for one in numbers if between[0] <= one <= between[1]), key=lambda one: abs(one - key))

    expected = []
    for place in range(-(count // 2), count // 2 + 1):
        side, reach = (1 if place > 0 else -1), abs(place) * steps
        shares: dict[int, float] = {}
        if place == 0 or steps.denominator == 1:
            shares[nearest(key + side * int(reach))] = 1.0
        else:
            parts = ((math.ceil(reach), steps - math.floor(steps)), (math.floor(reach), math.ceil(steps) - steps))
            for distance, share in parts:
                number = nearest(key + side * distance)
                shares[number] = shares.get(number, 0.0) + float(share)
        expected.append(shares)
    found = seen(numbers, key, float(interval), count)  # type: ignore[arg-type]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


# --- frames and images -----------------------------------------------------------------------------------


def body(rows: int, columns: int, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    hu = np.full((rows, columns), -1000, np.int16)
    hu[top : bottom + 1, left : right + 1] = 30
    return hu


def test_the_frame_is_the_body_without_what_is_thinner_than_7_pixels() -> None:
    hu = body(200, 220, 40, 30, 150, 120)
    hu[150:156, 10:200] = 100
    shown = frame(hu, 0.4)
    assert (shown.offset, shown.right, shown.bottom, shown.scale) == ((40, 30), 150, 120, 0.5)
    nobody = frame(np.full((90, 80), -1000, np.int16), 0.8)
    assert (nobody.offset, nobody.right, nobody.bottom, nobody.scale) == ((0, 0), 79, 89, 1.0)


@given(st.floats(0.28, 1.6), st.integers(60, 700), st.integers(60, 700))
def test_pixels_are_of_0_8_mm_or_larger_where_more_than_512_would_be_needed(
    spacing_mm: float, width: int, height: int
) -> None:
    shown = frame(body(720, 720, 5, 6, 4 + width, 5 + height), spacing_mm)
    longer = max(width, height)
    assert shown.scale == pytest.approx(min(spacing_mm / 0.8, 512 / longer))
    boxes = np.array([[10.0, 20.5, 30.25, 40.0], [-3.0, 0.0, 5.0, 6.0]])
    on_network = shown.grid.to_network(boxes)
    np.testing.assert_allclose(on_network, (boxes - (5, 6, 5, 6)) * shown.scale, atol=1e-9)
    np.testing.assert_allclose(shown.grid.to_image(on_network), boxes, atol=1e-6)
    assert shown.grid.rows >= round(height * shown.scale) and shown.grid.rows % 32 == 0


def test_an_image_is_clamped_cut_and_resized_with_its_slices_in_order() -> None:
    volume = np.stack([body(120, 140, 20, 10, 119, 89) + np.int16(100 * number) for number in range(5)])
    volume[2, 40, 60], volume[:, 30, 50] = 4000, -3024
    image, shown = public_image(lambda index: volume[index], range(1, 6), 2, interval_mm=2.0, spacing_mm=0.8, count=3)
    assert image.shape == (80, 100, 3) and shown.scale == 1.0 and shown.offset == (20, 10)
    assert image[5, 5].tolist() == [130.0, 230.0, 330.0]
    assert image[30, 40, 1] == WINDOW_HU[1] and (image[20, 30] == WINDOW_HU[0]).all()
    halved, shown = public_image(lambda index: volume[index], range(1, 6), 2, interval_mm=2.0, spacing_mm=0.4, count=3)
    assert halved.shape == (40, 50, 3) and shown.scale == 0.5
    np.testing.assert_allclose(halved[10, 10], (130, 230, 330))


def public(*overrides: str) -> recipes.Recipe:
    return recipes.load("lesionnet-s-3", ("data.protocol=public", "data.crop_px=96", "training.batch=4", *overrides))


def bright_ends(_: int) -> np.ndarray:
    row, column = np.mgrid[:SIDE, :SIDE]
    hu = body(SIDE, SIDE, 20, 15, 140, 150).astype(float)
    for x, y in CROSS:
        hu += 1500 * np.exp(-((column - x) ** 2 + (row - y) ** 2) / 8)
    return hu.round().astype(np.int16)


def test_samples_by_the_public_protocol_see_its_image_and_leave_noisy_rows_out(tmp_path: Path) -> None:
    noisy = series(lesion(2, key=4, possibly_noisy=True))
    plain = series(lesion(ends=CROSS, spacing_mm=(0.5, 0.5), slice_interval_mm=5.0), picture=bright_ends)
    dataset = folders.mined(tmp_path, plain, noisy)
    samples = Samples(dataset, public("data.drop_noisy=false"), ("train",))
    (key_slice,) = samples.key_slices
    whole = samples.whole(key_slice)
    assert whole.hu.shape == (3, 96, 96), "121 x 136 px of body at 0.5 mm on 0.8 mm, padded to 32"
    ends = whole.grid.to_network(key_slice.marks[0].ends_px)
    key = whole.hu[whole.key_index].numpy()
    for x, y in ends:
        row, column = np.mgrid[: key.shape[0], : key.shape[1]]
        weight = (key - 30).clip(0) * (np.hypot(column - x, row - y) <= 5)
        found = np.array([(weight * column).sum(), (weight * row).sum()]) / weight.sum()
        # boxes are mapped without regard to pixel centres: (scale - 1) / 2 = -0.19 px
        np.testing.assert_allclose(found - (x, y), -0.1875, atol=0.1)
    batch = samples.training(0)
    assert batch.hu.shape == (4, 3, 96, 96) and all(map(len, batch.boxes))
    again = Samples(dataset, public("data.drop_noisy=false"), ("train",)).training(0)
    assert torch.equal(batch.hu, again.hu)


def test_mirrored_slices_are_those_of_the_protocol_from_feet_to_head(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, series(lesion(key=5, slice_interval_mm=1.0)))
    off = ("rotate_deg", "shift_px", "key_slice_jitter", "hu_shift", "hu_scale", "noise_hu")
    still = tuple(f"augmentation.{name}=0.0" for name in off)
    middle = (0, slice(None), 48, 48)
    for share, values in ((0.0, (30.0, 50.0, 70.0)), (1.0, (70.0, 50.0, 30.0))):
        mirrored = public(*still, f"augmentation.mirror_slices={share}", "data.lesion_share=1.0")
        np.testing.assert_allclose(Samples(dataset, mirrored, ("train",)).training(0).hu[middle], values)


@pytest.mark.real
def test_real_key_slices_are_framed_to_their_body_as_scipy_opens_it(real_data: Path) -> None:
    dataset = DatasetFolder.open(real_data / "deeplesion" / "png", table="DL_info_png_visible.csv")
    samples = Samples(dataset, public(), ("train", "val", "test"))
    for one in samples.key_slices[::4]:
        hu = dataset.hu(one.file_name)
        mask = ndimage.binary_opening(hu.astype(np.int32) + 32768 > 32000, structure=np.ones((7, 7)))
        rows, columns = np.nonzero(mask)
        shown = frame(hu, one.col_spacing_mm)
        edges = (shown.left, shown.right, shown.top, shown.bottom)
        assert edges == (columns.min(), columns.max(), rows.min(), rows.max())
        whole = samples.whole(one)
        assert max(whole.hu.shape[1:]) <= 512
        boxes = whole.grid.to_network(np.array([mark.tight_box_px for mark in one.marks]))
        assert (boxes[:, :2] > -1).all() and (boxes[:, 2:] < whole.hu.shape[:0:-1]).all()
