"""Scenes: lesions and tubes that share a law, never overlap, and whose truth is complete."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_body import SLICE_MM, body

from models.synthesis.background import Background, Tissue, measured
from models.synthesis.placing import FITS_KEY, MIMIC_MM, Settings
from models.synthesis.scene import Painted, Scene, synthesise
from models.synthesis.shapes import Shape, lobulated_ellipsoid
from tests.experiments.isolated import Rows, auc, examples, held_out_auc

HOME = {"lung": Tissue.LUNG, "liver": Tissue.LIVER, "soft tissue": Tissue.SOFT, "node": Tissue.FAT}


@pytest.fixture(scope="module")
def ground() -> Background:
    return measured(body())


@pytest.fixture(scope="module")
def shapes() -> tuple[Shape, ...]:
    random = np.random.default_rng(0)
    return tuple(lobulated_ellipsoid(random, f"made {number}") for number in range(8))


@pytest.fixture(scope="module")
def scenes(ground: Background, shapes: tuple[Shape, ...]) -> list[Scene]:
    return [synthesise(ground, shapes, np.random.default_rng([1, seed]), Settings()) for seed in range(22)]


def area(thing: Painted, index: int) -> int:
    return int(dict(thing.sections)[index].bits.sum())


def plane_of(thing: Painted, index: int, scene: Scene) -> NDArray[np.bool_]:
    return dict(thing.sections)[index].on_plane(*scene.volume.hu.shape[1:])


def test_scenes_hold_lesions_of_every_kind_and_more_tubes_than_lesions_on_key_slices(scenes: list[Scene]) -> None:
    lesions = [lesion for scene in scenes for lesion in scene.lesions]
    assert {lesion.word for lesion in lesions} == set(HOME)
    crossing = 0
    for scene in scenes:
        keys = {lesion.key_index for lesion in scene.lesions}
        crossing += sum(index in keys for mimic in scene.mimics for index, _ in mimic.sections)
    assert 1.2 < crossing / len(lesions) < 2.2


def test_a_lesions_key_slice_is_its_largest_section_and_it_ends_within_the_volume(scenes: list[Scene]) -> None:
    for scene in scenes:
        for lesion in scene.lesions:
            indices = [index for index, _ in lesion.sections]
            assert indices == list(range(indices[0], indices[-1] + 1))
            assert area(lesion, lesion.key_index) == max(area(lesion, index) for index in indices)
            assert indices[0] >= 0 and indices[-1] < len(scene.volume.hu)
            ends = [area(lesion, index) / area(lesion, lesion.key_index) for index in (indices[0], indices[-1])]
            assert max(ends) < 0.9 or len(indices) < 4


def test_no_lesion_crosses_a_key_slice_on_which_it_is_not_marked(scenes: list[Scene]) -> None:
    for scene in scenes:
        keys = {lesion.key_index for lesion in scene.lesions}
        for lesion in scene.lesions:
            assert {index for index, _ in lesion.sections} & keys == {lesion.key_index}


def test_painted_things_never_overlap(scenes: list[Scene]) -> None:
    for scene in scenes[:8]:
        count = np.zeros(scene.volume.hu.shape, np.uint8)
        for thing in (*scene.lesions, *scene.mimics):
            for index, _ in thing.sections:
                count[index] += plane_of(thing, index, scene)
        assert count.max() == 1


def test_everything_lies_in_its_tissue_on_its_key_slice(ground: Background, scenes: list[Scene]) -> None:
    for scene in scenes[:8]:
        for thing in (*scene.lesions, *scene.mimics):
            tissue = ground.tissue[thing.key_index][plane_of(thing, thing.key_index, scene)]
            assert (tissue == HOME[thing.word]).mean() >= FITS_KEY


def test_tubes_go_on_for_twelve_millimetres_and_beyond_unless_the_volume_ends(scenes: list[Scene]) -> None:
    for scene in scenes:
        last = len(scene.volume.hu) - 1
        for mimic in scene.mimics:
            indices = [index for index, _ in mimic.sections]
            assert indices[0] == 0 or (mimic.key_index - indices[0] + 1) * SLICE_MM > MIMIC_MM
            assert indices[-1] == last or (indices[-1] - mimic.key_index + 1) * SLICE_MM > MIMIC_MM


def test_a_lesion_has_the_contrast_that_its_truth_says(ground: Background, scenes: list[Scene]) -> None:
    found = []
    for scene in scenes:
        for lesion in scene.lesions:
            plane = plane_of(lesion, lesion.key_index, scene)
            if plane.sum() > 60:
                before = float(ground.volume.hu[lesion.key_index][plane].mean())
                after = float(scene.volume.hu[lesion.key_index][plane].mean())
                # the blurred edge takes a part of it
                found.append((after - before) / lesion.contrast_hu)
    assert len(found) > 20
    assert 0.75 < np.median(found) < 1.05


def test_nothing_outside_the_truth_is_changed_but_for_blurred_edges(ground: Background, scenes: list[Scene]) -> None:
    scene = scenes[0]
    near = np.zeros(scene.volume.hu.shape, np.bool_)
    for thing in (*scene.lesions, *scene.mimics):
        for index, mask in thing.sections:
            rows, columns = mask.bits.shape
            near[
                index,
                max(mask.first_row - 6, 0) : mask.first_row + rows + 6,
                max(mask.first_column - 6, 0) : mask.first_column + columns + 6,
            ] = True
    changed = (scene.volume.hu != ground.volume.hu) & ~near
    assert not changed.any()


def test_the_same_seed_gives_the_same_scene_and_another_seed_another(
    ground: Background, shapes: tuple[Shape, ...], scenes: list[Scene]
) -> None:
    again = synthesise(ground, shapes, np.random.default_rng([1, 0]), Settings())
    np.testing.assert_array_equal(again.volume.hu, scenes[0].volume.hu)
    assert [lesion.key_index for lesion in again.lesions] == [lesion.key_index for lesion in scenes[0].lesions]
    assert (scenes[1].volume.hu != scenes[0].volume.hu).any()


def test_one_slice_does_not_tell_a_lesion_from_a_tube_but_its_neighbours_do(scenes: list[Scene]) -> None:
    parts = [examples(scene, crossing=False) for scene in scenes]
    values = {}
    for name, sides in (("one slice", 1), ("neighbours", 2)):
        sets: list[tuple[Rows, NDArray[np.bool_]]] = []
        for turn in range(2):
            rows = [np.hstack(part[:sides]) for part in parts[turn::2]]
            sets.append((np.vstack(rows), np.concatenate([np.array(part[2]) for part in parts[turn::2]])))
        values[name] = np.mean([held_out_auc(*sets[0], *sets[1]), held_out_auc(*sets[1], *sets[0])])
    assert 0.38 < values["one slice"] < 0.62
    assert values["neighbours"] > 0.9


def test_the_classifier_of_the_isolated_check_sees_a_difference_where_there_is_one() -> None:
    random = np.random.default_rng(0)
    truth = random.random(400) < 0.5
    rows = random.normal(0, 1, (400, 3))
    rows[:, 1] += truth
    learned = held_out_auc(rows[:200], truth[:200], rows[200:], truth[200:])
    assert learned == pytest.approx(0.76, abs=0.07), "two normal distributions one deviation apart"
    assert auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])) == 0.875
