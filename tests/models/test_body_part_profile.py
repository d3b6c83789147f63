"""The hand-made side: the body on a slice, its profile, and the atlas of profiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from models.body_part import atlas
from models.body_part.frames import FRAME_COLUMNS, FRAME_ROWS, MARGIN
from models.body_part.phantom import nominal_mm, volume
from models.body_part.profile import NAMES, frames
from models.body_part.task import phantom_source
from models.volume import Volume
from tests.experiments.backgrounds import nifti_volume


def slab(draw: dict[tuple[int, int, int, int], int], spacing_mm: float = 2.5) -> Volume:
    hu = np.full((1, 100, 120), -1000, np.int16)
    for (top, bottom, left, right), value in draw.items():
        hu[0, top:bottom, left:right] = value
    return Volume(hu, np.zeros(1), spacing_mm, spacing_mm, ("one",))


def numbers(of: Volume) -> dict[str, float]:
    return dict(zip(NAMES, frames(of).profile[0].tolist(), strict=True))


BODY = {(20, 80, 20, 100): 50}
LUNGS = {(30, 70, 30, 50): -850, (30, 70, 70, 90): -850}
"""60 rows x 80 columns of 2.5 mm; two lungs of 40 x 20."""


def test_sizes_and_areas_are_in_centimetres() -> None:
    found = numbers(slab({**BODY, **LUNGS, (72, 78, 56, 64): 600}))
    assert found["width_cm"] == 20
    assert found["height_cm"] == 15
    assert found["lung_cm"] == pytest.approx(np.sqrt(2 * 40 * 20) * 0.25)
    assert found["bone_cm"] == pytest.approx(np.sqrt(6 * 8) * 0.25)
    assert found["bone_behind"] == pytest.approx(55 / 60)
    assert found["bone_across"] == pytest.approx(0.05)
    assert found["fat_share"] == 0
    assert found["soft_hu"] == pytest.approx(1)


def test_the_profile_does_not_depend_on_the_pixel_spacing() -> None:
    coarse = slab({**BODY, **LUNGS})
    fine = Volume(coarse.hu.repeat(2, axis=1).repeat(2, axis=2), np.zeros(1), 1.25, 1.25, ("one",))
    assert frames(fine).profile == pytest.approx(frames(coarse).profile)


def test_pixels_that_are_no_squares_change_no_size() -> None:
    hu = np.full((1, 60, 160), -1000, np.int16)
    hu[:, 10:50, 30:130] = 40
    known = numbers(Volume(hu, np.zeros(1), 5.0, 2.5, ("a",)))
    assert (known["width_cm"], known["height_cm"]) == pytest.approx((25.0, 20.0), abs=0.6)


def test_an_arm_and_a_thin_table_are_not_the_body() -> None:
    alone = frames(slab(BODY))
    beside = frames(slab({**BODY, (40, 60, 2, 16): 50, (84, 87, 0, 120): 200}))
    assert beside.profile == pytest.approx(alone.profile)
    assert np.array_equal(beside.hu, alone.hu)


def test_both_legs_are_the_body() -> None:
    assert numbers(slab({(30, 70, 20, 55): 50, (30, 70, 65, 100): 50}))["width_cm"] == 20


def test_the_frame_holds_the_body_box_with_its_margin() -> None:
    shown = frames(slab(BODY)).hu[0] > -500
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert len(rows) == pytest.approx(FRAME_ROWS / (1 + 2 * MARGIN), abs=1.5)
    assert len(columns) == pytest.approx(FRAME_COLUMNS / (1 + 2 * MARGIN), abs=1.5)
    assert rows[0] + rows[-1] == pytest.approx(FRAME_ROWS - 1, abs=1)
    assert columns[0] + columns[-1] == pytest.approx(FRAME_COLUMNS - 1, abs=1)


@pytest.fixture(scope="module")
def learned() -> atlas.Atlas:
    sources = [phantom_source(seed) for seed in range(5)]
    return atlas.build([one.frames for one in sources], [one.known_cm for one in sources], [1.0] * 5)


def test_the_atlas_orders_the_slices_of_phantoms_that_it_never_saw(learned: atlas.Atlas) -> None:
    for seed in (50, 51):
        slices = volume(seed, step_mm=10)
        found = learned.heights_cm(frames(slices))
        assert spearmanr(found, slices.position_mm)[0] > 0.9


def test_the_atlas_places_a_part_of_a_phantom_and_says_which_way_it_runs(learned: atlas.Atlas) -> None:
    slices = volume(52, 350, 700, step_mm=10)
    framed = frames(slices)
    truth: NDArray[np.float64] = nominal_mm(52, slices) / 10
    match = learned.match(framed)
    assert np.abs(match.heights_cm(framed.position_mm) - truth).max() < 6
    assert match.evidence > learned.match(framed, backwards=True).evidence


def test_volumes_of_unknown_height_find_their_place_in_the_atlas() -> None:
    known, unknown = [phantom_source(seed) for seed in range(5)], [phantom_source(seed) for seed in (60, 61)]
    made, matches = atlas.learn(
        [one.frames for one in known], [one.known_cm for one in known], [one.frames for one in unknown]
    )
    for match, one in zip(matches, unknown, strict=True):
        assert np.abs(match.heights_cm(one.frames.position_mm) - one.known_cm).mean() < 4
    assert np.isfinite(made.mean).all()
    assert (made.spread > 0).all()


def test_an_atlas_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="known height"):
        atlas.build([], [], [])


@pytest.mark.real
def test_real_volumes_fit_an_atlas_of_other_patients_better_upright_than_turned_over(real_data: Path) -> None:
    names = ("abdomen_3mm", "abdomen_d_5mm", "chest_f_2mm", "chest_g_2p5mm", "whole_body_5mm")
    volumes = {name: frames(nifti_volume(real_data / "ct_volumes" / f"{name}.nii.gz")) for name in names}
    phantoms = [phantom_source(seed) for seed in range(5)]
    for name, tested in volumes.items():
        others = [one for other, one in volumes.items() if other != name]
        made, _ = atlas.learn([one.frames for one in phantoms], [one.known_cm for one in phantoms], others)
        assert made.match(tested).evidence > made.match(tested, backwards=True).evidence, name
