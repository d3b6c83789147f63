"""Painting: the size asked for, the volume's own blur and noise, nothing changed elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_body import SLICE_MM, SPACING_MM, body

from deeplesion_miner.mask_recist import recist_of_mask
from models.synthesis.background import Background, Tissue, measured
from models.synthesis.painting import Look, Pose, Run, lesion_sections, measured_textures, paint, tube_sections
from models.synthesis.shapes import Shape, lobulated_ellipsoid

POSE = Pose(
    column=62.0,
    row=68.0,
    position_mm=30 * SLICE_MM,
    long_axis_mm=30.0,
    height_ratio=0.9,
    turn_deg=30.0,
    mirrored=False,
    upside_down=False,
)
STRAIGHT = Run(0.0, 0.0, 15.0, 18.0, 0.0, 20.0)
PLAIN = Look(hu=30.0, texture_hu=0.0, texture_mm=4.0)


@pytest.fixture(scope="module")
def ground() -> Background:
    return measured(body())


@pytest.fixture(scope="module")
def shape() -> Shape:
    return lobulated_ellipsoid(np.random.default_rng(3), "made")


def test_tissues_lie_where_the_body_has_them(ground: Background) -> None:
    tissue = ground.tissue
    assert tissue[5, 68, 58] == tissue[5, 68, 142] == Tissue.LUNG
    assert tissue[30, 68, 62] == Tissue.LIVER
    assert tissue[30, 60, 140] == Tissue.SOFT, "the left side holds no liver"
    assert tissue[30, 75, 12] == Tissue.FAT
    assert tissue[30, 112, 100] == tissue[30, 2, 2] == Tissue.OTHER, "neither bone nor the air around"


def test_noise_and_blur_are_those_of_the_volume(ground: Background) -> None:
    # the residual lacks what the blur of 2 px keeps
    assert ground.noise_hu == pytest.approx(12, rel=0.15)
    assert ground.edge_mm == pytest.approx(0.6 * SPACING_MM, rel=0.35)
    assert measured(body(noise_hu=30)).noise_hu == pytest.approx(30, rel=0.15)


@given(long_axis_mm=st.floats(12, 40), turn_deg=st.floats(0, 360), mirrored=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_key_section_has_the_long_axis_asked_for_whichever_way_it_is_turned(
    ground: Background, long_axis_mm: float, turn_deg: float, mirrored: bool, seed: int
) -> None:
    shape = lobulated_ellipsoid(np.random.default_rng(seed), "made")
    pose = replace(POSE, long_axis_mm=long_axis_mm, turn_deg=turn_deg, mirrored=mirrored)
    sections = lesion_sections(ground, shape, pose)
    key = next(section for section in sections if section.index == 30)
    long_axis, _ = recist_of_mask(key.distance_mm < 0, SPACING_MM, SPACING_MM)
    assert long_axis.length_px * SPACING_MM == pytest.approx(long_axis_mm, abs=1.5 * SPACING_MM)
    reach_mm = long_axis_mm / 2 * pose.height_ratio
    away = [abs(section.index - 30) * SLICE_MM for section in sections]
    assert reach_mm - 1.5 * SLICE_MM <= max(away) <= reach_mm + 0.5 * SLICE_MM, "the lesion ends where it should"


def test_a_tube_keeps_its_section_moves_by_its_slope_and_ends_by_shrinking(ground: Background, shape: Shape) -> None:
    run = replace(STRAIGHT, slope_column=0.4, slope_row=-0.2)
    sections = {section.index: section for section in tube_sections(ground, shape, POSE, run)}
    key = sections[30]
    area = int((key.distance_mm < 0).sum())
    for index, section in sections.items():
        away_mm = (index - 30) * SLICE_MM
        if -15 <= away_mm <= 18:
            rows, columns = np.nonzero(section.distance_mm < 0)
            key_rows, key_columns = np.nonzero(key.distance_mm < 0)
            right = columns.mean() + section.first_column - key_columns.mean() - key.first_column
            down = rows.mean() + section.first_row - key_rows.mean() - key.first_row
            assert rows.size == pytest.approx(area, rel=0.06)
            assert right == pytest.approx(0.4 * away_mm / SPACING_MM, abs=0.3)
            assert down == pytest.approx(-0.2 * away_mm / SPACING_MM, abs=0.3)
        else:
            assert (section.distance_mm < 0).sum() < area
    assert (sections[24].distance_mm < 0).sum() < (sections[25].distance_mm < 0).sum() == pytest.approx(area, rel=0.06)


def test_on_its_key_slice_a_tube_is_what_the_lesion_is(ground: Background, shape: Shape) -> None:
    (lesion,) = (section for section in lesion_sections(ground, shape, POSE) if section.index == 30)
    (tube,) = tube_sections(ground, shape, POSE, STRAIGHT, (30,))
    np.testing.assert_array_equal(lesion.distance_mm, tube.distance_mm)


def test_painting_sets_the_mean_keeps_the_noise_and_leaves_the_rest_alone(ground: Background, shape: Shape) -> None:
    hu = ground.volume.hu.astype(np.float32)
    sections = lesion_sections(ground, shape, POSE)
    paint(hu, ground, sections, PLAIN, np.random.default_rng(0))
    (key,) = (section for section in sections if section.index == 30)
    before, after = ground.volume.hu[(30, *key.window)].astype(np.float32), hu[(30, *key.window)]
    deep = key.distance_mm < -3 * ground.edge_mm
    far = key.distance_mm > 6 * ground.edge_mm
    assert after[deep].mean() == pytest.approx(30, abs=2)
    assert after[deep].std() == pytest.approx(before[deep].std(), rel=0.15)
    assert np.abs(after - before)[far].max(initial=0) < 0.01
    untouched = np.ones(hu.shape, np.bool_)
    for section in sections:
        untouched[(section.index, *section.window)] = False
    assert (hu == ground.volume.hu)[untouched].all()


def test_the_edge_is_as_blurred_as_the_volume(ground: Background, shape: Shape) -> None:
    quiet = replace(ground, residual=np.zeros_like(ground.residual))
    hu = np.full(ground.volume.hu.shape, 100, np.float32)
    (key,) = tube_sections(ground, shape, POSE, STRAIGHT, (30,))
    paint(hu, quiet, (key,), PLAIN, np.random.default_rng(0))
    part = (100 - hu[(30, *key.window)]) / 70
    for distance in (-1.0, 0.0, 1.0):
        near = np.abs(key.distance_mm - distance * ground.edge_mm) < 0.1
        # the normal distribution's share beyond -1, 0 and 1 standard deviations
        assert part[near].mean() == pytest.approx({-1.0: 0.841, 0.0: 0.5, 1.0: 0.159}[distance], abs=0.03)


def test_texture_has_the_spread_and_the_grain_that_were_asked_for(ground: Background, shape: Shape) -> None:
    quiet = replace(ground, residual=np.zeros_like(ground.residual))
    look = Look(hu=0.0, texture_hu=12.0, texture_mm=6.0)
    pose = replace(POSE, long_axis_mm=90.0)
    sections = tube_sections(ground, shape, pose, replace(STRAIGHT, before_mm=60, after_mm=25))
    grains, spreads = [], []
    for seed in range(3):
        hu = np.zeros(ground.volume.hu.shape, np.float32)
        paint(hu, quiet, sections, look, np.random.default_rng(seed))
        (key,) = (section for section in sections if section.index == 30)
        inner = hu[(30, *key.window)]
        inner = inner[10:-10, 12:-12]
        spreads.append(inner.std())
        lag = 3
        both = inner[:, :-lag] * inner[:, lag:]
        grains.append(both.mean() / inner.var())
    assert np.mean(spreads) == pytest.approx(12, rel=0.25)
    assert np.mean(grains) == pytest.approx(np.exp(-((lag * SPACING_MM / 6.0) ** 2)), abs=0.15)


def test_measured_textures_bound_what_is_drawn() -> None:
    textures = measured_textures()
    for name in ("sd_hu", "correlation_mm"):
        low, high = textures["drawn"][name]
        assert textures["deeplesion"][name]["lowest"] <= low < high <= textures["sarcoma"][name]["highest"]
