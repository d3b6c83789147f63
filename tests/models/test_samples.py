"""A training sample is a function of seed, step and place, and all of its parts move together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import reading_folders as folders
import torch
from reading_folders import CROSS, SIDE, lesion, series

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.errors import ConfigError
from models import recipe as recipes
from models.marks import KeySlice, Mark
from models.reading.augmentation import Move, speckle, to_image
from models.reading.folder import DatasetFolder
from models.reading.grid import AIR_HU, moved
from models.reading.samples import Samples, TrainingBatch, body_point
from models.reading.stack import of_volume, whole_slices
from models.reading.targets import soft_ellipse, targets, trust
from models.recipe import Recipe

DOT_PX = 2.0
STILL = (
    "augmentation.mirror_columns=0", "augmentation.mirror_rows=0", "augmentation.mirror_slices=0",
    "augmentation.rotate_deg=0", "augmentation.scale=0", "augmentation.shift_px=0", "augmentation.key_slice_jitter=0",
    "augmentation.hu_shift=0", "augmentation.hu_scale=0", "augmentation.noise_hu=0",
)  # fmt: skip
MOVING = tuple(one for one in STILL if one.split(".")[1].startswith(("hu_", "noise")))
"""Everything moves, CT numbers stay."""


def recipe(*overrides: str) -> Recipe:
    small = ("training.batch=4", "data.crop_px=96", "data.pixel_mm=1.0", "data.slice_offsets_mm=[-5.0, 0.0, 2.5]")
    return recipes.load("lesionnet-s-3", (*small, *overrides))


def dots(_: int) -> np.ndarray:
    """A bright dot on each end of CROSS, on every slice."""
    return dots_at(CROSS)


def dots_at(points: tuple[tuple[float, float], ...]) -> np.ndarray:
    row, column = np.mgrid[:SIDE, :SIDE]
    hu = np.full((SIDE, SIDE), -1000.0)
    for x, y in points:
        hu += 2000 * np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * DOT_PX**2))
    return hu.round().astype(np.int16)


def dot_near(hu: np.ndarray, point: np.ndarray, reach_px: int = 5) -> np.ndarray:
    """(column, row) of the centre of brightness around a point."""
    row, column = np.mgrid[: hu.shape[0], : hu.shape[1]]
    weight = (hu + 1000).clip(0) * (np.hypot(column - point[0], row - point[1]) <= reach_px)
    return np.array([(weight * column).sum(), (weight * row).sum()]) / weight.sum()


class Discs:
    """Masks given for every mark: what is bright on a picture."""

    def __init__(self, picture: np.ndarray) -> None:
        self._plane = picture > -500

    def mask(self, key_slice: KeySlice, mark: Mark) -> PixelMask:
        return PixelMask(0, 0, self._plane)


def same(one: TrainingBatch, other: TrainingBatch) -> bool:
    pairs = [(one.hu, other.hu)]
    for field in ("boxes", "ends", "masks", "mask_weight"):
        pairs += zip(getattr(one, field), getattr(other, field), strict=True)
    return one.names == other.names and all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in pairs)


# --- moving together -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing_mm", [(0.75, 0.75), (0.6, 0.9)])
def test_dots_planted_on_the_ends_are_found_on_the_moved_ends(tmp_path: Path, spacing_mm: tuple[float, float]) -> None:
    dataset = folders.mined(tmp_path, series(lesion(ends=CROSS, spacing_mm=spacing_mm), picture=dots))
    samples = Samples(dataset, recipe(*MOVING, "augmentation.rotate_deg=180", "data.lesion_share=1.0"), ("train",))
    seen = 0
    for step in range(6):
        batch = samples.training(step)
        assert batch.hu.dtype == torch.float32 and batch.hu.shape == (4, 3, 96, 96)
        for hu, ends, boxes in zip(batch.hu.numpy(), batch.ends, batch.boxes, strict=True):
            assert len(ends) == 1
            for end in ends[0].numpy():
                if (end > 8).all() and (end < 88).all():
                    for plane in hu:
                        np.testing.assert_allclose(dot_near(plane, end), end, atol=0.1)
                        seen += 1
            tight = torch.cat([ends[0].amin(dim=0), ends[0].amax(dim=0)])
            torch.testing.assert_close(boxes[0], tight)
    assert seen > 200


def test_a_given_mask_moves_with_its_lesion(tmp_path: Path) -> None:
    row, column = np.mgrid[:SIDE, :SIDE]
    blob = np.where((((column - 78) / 17) ** 2 + ((row - 73) / 10) ** 2 < 1), 500, -1000).astype(np.int16)
    dataset = folders.mined(tmp_path, series(lesion(ends=CROSS), picture=lambda _: blob))
    moving = recipe(*MOVING, "augmentation.rotate_deg=180", "data.lesion_share=1.0")
    batch = Samples(dataset, moving, ("train",), Discs(blob)).training(3)
    for hu, mask in zip(batch.hu[:, batch.key_index].numpy(), batch.masks, strict=True):
        share = (hu + 1000) / 1500
        inside = share[4:-4, 4:-4]
        np.testing.assert_allclose(mask[0].numpy()[4:-4, 4:-4], inside, atol=0.02)
        assert inside.max() > 0.99


def test_mirrored_twice_is_as_it_was() -> None:
    key_slice = folders_key_slice()
    plain = to_image(Move(), key_slice, (70.0, 80.0), 1.0, 96)
    both = to_image(Move(mirror_columns=True, mirror_rows=True), key_slice, (70.0, 80.0), 1.0, 96)
    turned = to_image(Move(angle_deg=180.0), key_slice, (70.0, 80.0), 1.0, 96)
    np.testing.assert_allclose(both, turned, atol=1e-9)
    points = np.array([[3.0, 90.0], [47.5, 47.5]])
    np.testing.assert_allclose(moved(95 - points, both), moved(points, plain), atol=1e-9)


def test_a_move_keeps_shapes_in_millimetres_and_its_centre() -> None:
    key_slice = folders_key_slice()
    move = Move(angle_deg=33.0, size=1.25, mirror_rows=True, shift_px=(6.0, -9.0))
    matrix = to_image(move, key_slice, (70.0, 80.0), 1.5, 96)
    np.testing.assert_allclose(moved(np.array([47.5 - 6.0, 47.5 + 9.0]), matrix), (70.0, 80.0))
    square = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 30.0], [0.0, 30.0]])
    in_mm = moved(square, matrix) * (key_slice.col_spacing_mm, key_slice.row_spacing_mm)
    lengths = np.linalg.norm(in_mm - np.roll(in_mm, 1, axis=0), axis=1)
    np.testing.assert_allclose(lengths, 30 * 1.5 / 1.25)
    assert abs((in_mm[1] - in_mm[0]) @ (in_mm[3] - in_mm[0])) < 1e-9


def folders_key_slice() -> KeySlice:
    return KeySlice("a/005.png", "a", "p", "train", 5, (1, 9), SIDE, SIDE, 0.9, 0.6, 2.5, ())


# --- slices ----------------------------------------------------------------------------------------------


def test_slices_lie_at_their_distances_in_millimetres_and_mirroring_swaps_head_and_feet(tmp_path: Path) -> None:
    uneven = series(lesion(key=5), numbers=(3, 4, 5, 6), position_mm=(0.0, 4.0, 6.0, 11.0))
    dataset = folders.mined(tmp_path, uneven)
    middle = (0, slice(None), 48, 48)
    # CT numbers are ten times the slice number: slice 4 lies at -2 mm, slice 3 at -6 mm, slice 6 at 5 mm
    plain = Samples(dataset, recipe(*STILL), ("train",)).training(0)
    np.testing.assert_allclose(plain.hu[middle], (32.5, 50.0, 55.0), atol=1e-3)
    assert plain.key_index == 1
    mirrored = Samples(dataset, recipe(*STILL, "augmentation.mirror_slices=1.0"), ("train",)).training(0)
    np.testing.assert_allclose(mirrored.hu[middle], (60.0, 50.0, 38.75), atol=1e-3)


def test_the_key_slice_moves_within_the_lesion_only_and_its_mark_stays(tmp_path: Path) -> None:
    cross = lesion(key=5, slice_interval_mm=2.0)
    dataset = folders.mined(tmp_path, series(cross))
    assert cross.short_axis_mm is not None and 8 <= cross.short_axis_mm / 2 < 10
    jitter = recipe(*STILL, "augmentation.key_slice_jitter=0.5", "data.lesion_share=1.0")
    samples = Samples(dataset, jitter, ("train",))
    batches = [samples.training(step) for step in range(12)]
    keys = Counter(round(float(one)) // 10 for batch in batches for one in batch.hu[:, batch.key_index, 48, 48])
    assert set(keys) == {3, 4, 5, 6, 7}, "4 mm either way"
    for batch in batches:
        for ends in batch.ends:
            torch.testing.assert_close(ends, batches[0].ends[0])


def test_padding_of_a_scanner_becomes_air(tmp_path: Path) -> None:
    padded = np.full((SIDE, SIDE), -3024, np.int16)
    padded[50:110, 50:110] = 40
    dataset = folders.mined(tmp_path, series(lesion(), picture=lambda _: padded))
    samples = Samples(dataset, recipe(*STILL), ("train",))
    assert samples.training(0).hu.min() == samples.whole(samples.key_slices[0]).hu.min() == AIR_HU


# --- drawing ---------------------------------------------------------------------------------------------

MANY = tuple(
    series(*(lesion(patient, key=key, number=key, slice_interval_mm=5.0) for key in (3, 5, 6)[: 1 + patient % 3]))
    for patient in range(1, 6)
)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    return folders.mined(tmp_path_factory.mktemp("many"), *MANY)


def test_the_same_step_gives_the_same_batch_whatever_was_asked_before(many: DatasetFolder) -> None:
    samples = Samples(many, recipe(), ("train",))
    forward = [samples.training(step) for step in range(4)]
    again = Samples(many, recipe(), ("train",))
    for step in (3, 0, 2, 1):
        assert same(again.training(step), forward[step])
    assert not same(forward[0], forward[1])
    other_seed = Samples(many, recipe("training.seed=7"), ("train",))
    assert not same(other_seed.training(0), forward[0])


def test_a_sample_does_not_depend_on_the_others_of_its_batch(many: DatasetFolder) -> None:
    four = Samples(many, recipe(), ("train",)).training(0)
    two = Samples(many, recipe("training.batch=2"), ("train",)).training(0)
    assert four.names[:2] == two.names
    assert torch.equal(four.hu[:2], two.hu)


def test_names_are_those_of_the_batch_and_every_key_slice_comes_once_before_any_comes_again(
    many: DatasetFolder,
) -> None:
    samples = Samples(many, recipe("training.batch=3"), ("train",))
    count = len(samples.key_slices)
    assert count == 11
    names = [name for step in range(20) for name in samples.names(step)]
    for epoch in range(5):
        assert len(set(names[epoch * count : (epoch + 1) * count])) == count
    assert names[:count] != names[count : 2 * count]
    assert samples.training(2).names == samples.names(2)


def test_crops_of_lesions_hold_one_and_the_others_lie_in_the_body(many: DatasetFolder) -> None:
    lesions = Samples(many, recipe("data.lesion_share=1.0", "data.crop_px=64"), ("train",))
    assert all(len(boxes) >= 1 for step in range(6) for boxes in lesions.training(step).boxes)
    body = Samples(many, recipe("data.lesion_share=0.0", "data.crop_px=64", *STILL), ("train",))
    batches = [body.training(step) for step in range(10)]
    assert {len(boxes) for batch in batches for boxes in batch.boxes} == {0, 1}
    assert all((one > -500).any() for batch in batches for one in batch.hu), "every crop shows some body"
    share = Samples(many, recipe("data.lesion_share=0.5", "data.crop_px=32", *STILL), ("train",))
    centred = [
        bool(len(ends)) and bool(torch.allclose((ends[0].amin(0) + ends[0].amax(0)) / 2, torch.tensor(15.5)))
        for step in range(25)
        for ends in share.training(step).ends
    ]
    assert 0.35 < np.mean(centred) < 0.65


def test_body_points_are_spread_over_the_body_lungs_included() -> None:
    hu = np.full((100, 120), -1000, np.int16)
    hu[20:80, 30:100] = 0
    hu[30:70, 40:60] = -900
    random = np.random.default_rng(0)
    points = np.array([body_point(hu, random.random(2)) for _ in range(400)])
    assert (points[:, 0] >= 29.5).all() and (points[:, 0] <= 99.5).all()
    assert (points[:, 1] >= 19.5).all() and (points[:, 1] <= 79.5).all()
    in_lung = ((points > (39.5, 29.5)) & (points < (59.5, 69.5))).all(axis=1)
    assert 0.1 < in_lung.mean() < 0.3, "a fifth of the body"
    two_parts = np.full((60, 60), -1000, np.int16)
    two_parts[5:15, 5:50] = two_parts[45:55, 5:50] = 0
    rows = [body_point(two_parts, random.random(2))[1] for _ in range(200)]
    assert all(row < 15 or row > 44.5 for row in rows), "nothing between two parts"
    empty = body_point(np.full((40, 50), -1000, np.int16), np.array([0.5, 0.5]))
    assert empty == (24.5, 19.5)


def test_all_marks_whose_centre_lies_in_the_crop_are_taught_and_noisy_ones_are_not(tmp_path: Path) -> None:
    near = ((100.0, 100.0), (110.0, 100.0), (105.0, 97.0), (105.0, 103.0))
    far = ((20.0, 20.0), (24.0, 20.0), (22.0, 18.0), (22.0, 22.0))
    beyond = tuple((x + 120.0, y + 120.0) for x, y in far)
    lesions = [
        lesion(key=5, number=number, ends=ends, possibly_noisy=noisy)
        for number, (ends, noisy) in enumerate(
            [(CROSS, False), (near, False), (far, False), (beyond, False), (near, True)]
        )
    ]
    noisy_only = series(lesion(2, key=4, possibly_noisy=True))
    dataset = folders.mined(tmp_path, series(*lesions), noisy_only)
    samples = Samples(dataset, recipe(*STILL), ("train",))
    assert [len(one.marks) for one in samples.key_slices] == [4], "a slice of noisy marks alone is left out"
    (key_slice,) = samples.key_slices
    matrix = to_image(Move(), key_slice, (78.0, 73.0), 0.75, 96)
    taught = targets(key_slice, key_slice.marks, matrix, 96)
    assert len(taught.boxes) == 2 and len(taught.masks) == 2
    kept = Samples(dataset, recipe(*STILL, "data.drop_noisy=false"), ("train",))
    assert [len(one.marks) for one in kept.key_slices] == [5, 1]


def test_only_the_splits_that_are_asked_for_are_drawn(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, series(lesion(1)), series(lesion(2, split="val")))
    assert [one.patient for one in Samples(dataset, recipe(), ("val",)).key_slices] == ["p2"]
    empty = Samples(dataset, recipe(), ("test",))
    with pytest.raises(ConfigError, match="no marked key slice in split test"):
        empty.training(0)


# --- CT numbers ------------------------------------------------------------------------------------------


def test_ct_numbers_are_shifted_scaled_and_disturbed_as_far_as_the_recipe_says(tmp_path: Path) -> None:
    water = np.zeros((SIDE, SIDE), np.int16)
    dataset = folders.mined(tmp_path, series(lesion(), picture=lambda _: water))
    still = Samples(dataset, recipe(*STILL), ("train",)).training(0).hu
    assert (still == 0).all()
    shifted = Samples(dataset, recipe(*STILL, "augmentation.hu_shift=20.0"), ("train",)).training(0).hu
    levels = shifted.amax(dim=(1, 2, 3))
    assert (shifted.amin(dim=(1, 2, 3)) == levels).all() and len(levels.unique()) == 4
    assert (levels.abs() <= 20).all() and levels.abs().max() > 2
    noisy = Samples(dataset, recipe(*STILL, "augmentation.noise_hu=15.0"), ("train",)).training(0).hu
    deviations = noisy.std(dim=(1, 2, 3))
    assert (deviations < 15.2).all() and deviations.max() > 2


def test_noise_is_of_mean_zero_and_deviation_one_and_independent_by_pixel() -> None:
    noise = speckle(np.random.default_rng(0), (9, 128, 128))
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01 and np.abs(noise).max() < 3.1
    assert abs(np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02


# --- masks -----------------------------------------------------------------------------------------------


def test_an_ellipse_s_soft_mask_has_its_area_and_centre() -> None:
    ends = np.array([(20.0, 30.0), (44.0, 30.0), (32.0, 22.0), (32.0, 38.0)])
    mask = soft_ellipse(ends, 64, 64)
    assert mask.sum() == pytest.approx(np.pi * 12 * 8, rel=0.01)
    y, x = np.mgrid[:64, :64]
    np.testing.assert_allclose(((mask * x).sum() / mask.sum(), (mask * y).sum() / mask.sum()), (32, 30), atol=0.05)
    assert set(np.unique(mask[30, 22:42])) == {1.0} and 0 < mask[30, 20] < 1
    assert soft_ellipse(ends - 100, 64, 64).sum() == 0


def test_a_length_is_taught_with_a_box_of_some_width_no_short_axis_and_no_mask_weight(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, series(lesion(ends=((40.0, 80.0), (80.0, 80.0)))))
    batch = Samples(dataset, recipe(*STILL, "data.lesion_share=1.0"), ("train",)).training(0)
    box, ends = batch.boxes[0][0], batch.ends[0][0]
    torch.testing.assert_close(box[2:] - box[:2], torch.tensor([30.0, 22.5]))
    assert torch.isnan(ends[2:]).all() and not torch.isnan(ends[:2]).any()
    assert batch.mask_weight[0].tolist() == [0.0]


def test_a_mask_counts_less_the_further_it_is_from_its_ellipse() -> None:
    ends = np.array([(20.0, 30.0), (44.0, 30.0), (32.0, 18.0), (32.0, 42.0)])
    y, x = np.mgrid[:64, :64]
    weights = []
    for shift in (0, 2, 5, 8, 30):
        plane = (x - 32 - shift) ** 2 + (y - 30) ** 2 <= 144
        weights.append(trust(ends, PixelMask(0, 0, plane)))
        cut = np.flatnonzero(plane.any(axis=0))
        piece = PixelMask(int(cut[0]), 0, plane[:, cut[0] : cut[-1] + 1])
        assert trust(ends, piece) == weights[-1], "where the mask is cut out does not matter"
    assert weights[0] == weights[1] == 1.0 and weights[-1] == 0.0
    assert 1 > weights[3] > 0 and sorted(weights, reverse=True) == weights


# --- whole slices ----------------------------------------------------------------------------------------


def test_a_whole_slice_lies_on_the_grid_that_maps_its_marks(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, series(lesion(ends=CROSS, spacing_mm=(0.6, 0.9)), picture=dots))
    samples = Samples(dataset, recipe("data.pixel_mm=1.1"), ("train",))
    whole = samples.whole(samples.key_slices[0])
    assert whole.hu.shape == (3, whole.grid.rows, whole.grid.columns) and whole.hu.dtype == torch.float32
    assert whole.hu.shape[1] % 32 == whole.hu.shape[2] % 32 == 0
    for end in whole.grid.to_network(samples.key_slices[0].marks[0].ends_px):
        np.testing.assert_allclose(dot_near(whole.hu[whole.key_index].numpy(), end, 4), end, atol=0.1)
    assert (whole.hu[:, -3:] == AIR_HU).all(), "padding is air"


def test_a_still_crop_is_part_of_the_whole_slice(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-900, 900, (SIDE, SIDE)).astype(np.int16)
    even = ((70.5, 70.5), (89.5, 70.5), (80.0, 62.0), (80.0, 80.0))
    dataset = folders.mined(tmp_path, series(lesion(ends=even, spacing_mm=(1.0, 1.0)), picture=lambda _: noise))
    samples = Samples(dataset, recipe(*STILL, "data.crop_px=65", "data.lesion_share=1.0"), ("train",))
    batch, whole = samples.training(0), samples.whole(samples.key_slices[0])
    ends = torch.from_numpy(whole.grid.to_network(samples.key_slices[0].marks[0].ends_px))
    left, top = (ends - batch.ends[0][0])[0].round().long().tolist()
    torch.testing.assert_close(
        batch.hu[0, :, 0:60, 0:60], whole.hu[:, top : top + 60, left : left + 60], atol=0.7, rtol=0
    )


@pytest.mark.parametrize("protocol", ["millimetres", "public"])
def test_a_volume_in_memory_is_seen_as_its_slices_in_a_folder_are(tmp_path: Path, protocol: str) -> None:
    noise = np.random.default_rng(0).integers(-900, 900, (10, SIDE, SIDE)).astype(np.int16)
    marked = (lesion(key=key, number=key) for key in (2, 5, 6))
    dataset = folders.mined(tmp_path, series(*marked, picture=lambda number: noise[number]))
    by_protocol = recipe(f"data.protocol={protocol}")
    samples = Samples(dataset, by_protocol, ("train",))
    volume, _ = dataset.volume(dataset.key_slices[0], 100.0)
    indices = [volume.images.index(one.file_name) for one in samples.key_slices]
    seen = whole_slices(of_volume(volume), indices, by_protocol.data)
    for one, (hu, grid) in zip(samples.key_slices, seen, strict=True):
        whole = samples.whole(one)
        torch.testing.assert_close(hu, whole.hu, atol=1e-3, rtol=0)
        assert grid == whole.grid


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["augmentation.shift_px=48.0"], "below half of data.crop_px"),
        (["data.protocol=public", "data.slice_offsets_mm=[-2.0, 0.0, 2.0, 4.0]"], "as many slices before"),
    ],
)
def test_settings_that_cannot_work_together_are_refused_before_training(
    many: DatasetFolder, overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Samples(many, recipe(*overrides), ("train",))
