"""From the ends of a cross to a lesion, on planted lesions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.delineation import Delineation, delineate
from models.delineation.ellipse import ellipsoid_mask
from models.delineation.grabcut import Grid
from models.delineation.walk import WalkSettings
from models.volume import Volume

SIDE = 80
CROSS = np.array([(28.0, 40.0), (52.0, 40.0), (40.0, 31.0), (40.0, 49.0)])


def planted(
    ends: NDArray[np.float64], half_depth_mm: float = 9.0, contrast_hu: float = 60.0, slices: int = 25, seed: int = 0
) -> tuple[Volume, NDArray[np.bool_]]:
    """An ellipsoid in noise on slices 2 mm apart, and its voxels."""
    position_mm = 2.0 * np.arange(slices)
    lesion = ellipsoid_mask(ends, position_mm - position_mm[slices // 2], SIDE, SIDE, half_depth_mm)
    noise = np.random.default_rng([seed, slices]).normal(0, 12, lesion.shape)
    hu = (40 + contrast_hu * lesion + noise).round().astype(np.int16)
    return Volume(hu, position_mm, 0.8, 0.8, tuple(f"slice {i}" for i in range(slices))), lesion


class UsualSuspect:
    """A delineator that sees lesion everywhere."""

    model_id = "everywhere"

    def probability(self, hu: NDArray[np.generic], grid: Grid) -> NDArray[np.float32]:
        return np.ones(grid.level.shape, np.float32)


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return 2 * float((found & true).sum()) / float(found.sum() + true.sum())


def voxels(volume: Volume, found: Delineation) -> NDArray[np.bool_]:
    planes = np.zeros(volume.hu.shape, np.bool_)
    for name, mask in found.volume:
        planes[volume.images.index(name)] = mask.on_plane(SIDE, SIDE)
    return planes


@pytest.mark.parametrize("contrast_hu", [60.0, -60.0])
def test_a_planted_lesion_is_found_whole_although_the_marks_are_shaken(contrast_hu: float) -> None:
    volume, lesion = planted(CROSS, contrast_hu=contrast_hu)
    shaken = CROSS + np.random.default_rng([1]).normal(0, 0.8, CROSS.shape)
    found = delineate(volume, 12, shaken)
    assert dice(found.mask.on_plane(SIDE, SIDE), lesion[12]) > 0.95
    assert dice(voxels(volume, found), lesion) > 0.85
    assert found.long_axis_mm == pytest.approx(24 * 0.8, abs=1.2)
    assert found.short_axis_mm == pytest.approx(18 * 0.8, abs=1.2)
    assert found.volume_mm3 == pytest.approx(lesion.sum() * 0.64 * 2, rel=0.2)
    assert found.method == "walk"
    assert found.agreement > 0.85


def test_axes_are_measured_in_millimetres_whatever_the_pixels_are() -> None:
    volume, _ = planted(CROSS)
    narrow = Volume(volume.hu, volume.position_mm, 1.4, 0.7, volume.images)
    found = delineate(narrow, 12, CROSS)
    assert found.long_axis_mm == pytest.approx(18 * 1.4, abs=1.5)
    assert found.short_axis_mm == pytest.approx(24 * 0.7, abs=1.5)


@pytest.mark.parametrize("seed", range(4))
def test_slices_that_all_but_coincide_do_not_stop_a_prediction(seed: int) -> None:
    noise = np.random.default_rng([seed]).normal(40, 300, (6, SIDE, SIDE)).astype(np.int16)
    volume = Volume(noise, 0.011 * np.arange(6), 3.0, 1.5, tuple(map(str, range(6))))
    assert delineate(volume, 3, CROSS).mask.bits.any()


def test_slices_run_from_head_to_feet_and_hold_the_key_slice() -> None:
    volume, _ = planted(CROSS)
    names = [name for name, _ in delineate(volume, 12, CROSS).volume]
    assert names == sorted(names, key=volume.images.index)
    assert "slice 12" in names


def test_the_same_call_gives_the_same_pixels() -> None:
    volume, _ = planted(CROSS, contrast_hu=25.0)
    one, other = delineate(volume, 12, CROSS), delineate(volume, 12, CROSS)
    assert (voxels(volume, one) == voxels(volume, other)).all()


def test_a_lesion_that_ends_early_is_left_early() -> None:
    volume, lesion = planted(CROSS, half_depth_mm=5.0)
    found = voxels(volume, delineate(volume, 12, CROSS))
    reached, true = (np.flatnonzero(planes.any(axis=(1, 2))) for planes in (found, lesion))
    assert abs(reached[0] - true[0]) <= 1 and abs(reached[-1] - true[-1]) <= 1


def test_a_length_alone_is_enough() -> None:
    ends = CROSS.copy()
    ends[2:] = math.nan
    volume, lesion = planted(CROSS)
    assert dice(delineate(volume, 12, ends).mask.on_plane(SIDE, SIDE), lesion[12]) > 0.9


def test_a_lesion_across_the_border_keeps_what_is_on_the_image() -> None:
    ends = CROSS - (40, 30)
    volume, lesion = planted(ends)
    found = delineate(volume, 12, ends)
    assert dice(found.mask.on_plane(SIDE, SIDE), lesion[12]) > 0.85


def test_a_lesion_of_two_pixels_has_a_mask() -> None:
    tiny = np.array([(39.5, 40.0), (41.0, 40.0), (40.2, 39.4), (40.2, 40.6)])
    volume, _ = planted(tiny)
    found = delineate(volume, 12, tiny)
    assert 1 <= found.mask.bits.sum() <= 9


def test_where_nothing_is_to_be_seen_the_shape_of_the_marks_stands() -> None:
    volume, _ = planted(CROSS)
    flat = Volume(np.zeros_like(volume.hu), volume.position_mm, 0.8, 0.8, volume.images)
    assert delineate(flat, 12, CROSS).agreement > 0.95


def test_a_mask_that_runs_away_from_its_marks_is_not_believed() -> None:
    volume, _ = planted(CROSS)
    astray = UsualSuspect()
    found = delineate(volume, 12, CROSS, delineator=astray)
    assert found.method == "vote"
    assert found.agreement > 0.9
    core_alone = np.array([(38.0, 40.0), (42.0, 40.0), (40.0, 38.5), (40.0, 41.5)])
    credulous = WalkSettings(edge_level=1.0, grey_weight=20.0, grey_limit=20.0, stop=10.0, ring=(3.0, 8.0), level=8.0)
    refused = delineate(volume, 12, core_alone, delineator=astray, settings=credulous)
    assert (refused.method, refused.agreement) == ("ellipse", 1.0)
    assert len(refused.volume) > 1


@pytest.mark.parametrize(
    "ends", [np.full((4, 2), 40.0), np.array([(40.0, 40.0), (40.0, 40.0), (40.0, 40.0), (41.0, 40.0)])]
)
def test_marks_without_length_have_a_mask(ends: NDArray[np.float64]) -> None:
    volume, _ = planted(CROSS)
    single = Volume(volume.hu[:1], volume.position_mm[:1], 0.8, 0.8, volume.images[:1])
    assert delineate(volume, 12, ends).mask.bits.any()
    assert delineate(single, 0, ends).mask.bits.any()


def test_a_single_slice_has_a_mask_and_no_volume() -> None:
    volume, _ = planted(CROSS, slices=1)
    found = delineate(volume, 0, CROSS)
    assert found.volume_mm3 is None
    assert [name for name, _ in found.volume] == ["slice 0"]


def test_a_cross_outside_the_image_is_refused() -> None:
    volume, _ = planted(CROSS)
    with pytest.raises(ValueError, match="outside the image"):
        delineate(volume, 12, CROSS + 500)
