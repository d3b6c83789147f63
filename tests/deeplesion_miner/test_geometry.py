"""Planes in the patient: what a header must say, pixels to millimetres and back, conventions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from core_factories import axial_plane
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner import geometry
from deeplesion_miner.geometry import BadGeometry
from deeplesion_miner.types import Box, ImagePlane, Segment, Vector

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ORIGIN = (-100.0, -120.0, 40.0)

coordinates = st.floats(-2000, 2000)
spacings = st.floats(0.05, 5)


def plane(
    position: tuple[float, ...] | None = ORIGIN,
    orientation: tuple[float, ...] | None = AXIAL,
    spacing: tuple[float, ...] | None = (0.9, 0.7),
    rows: int | None = 512,
    columns: int | None = 400,
) -> ImagePlane:
    return geometry.plane_of(
        position, orientation, spacing, rows, columns, frame_of_reference_uid="1.2", slice_thickness_mm=5.0
    )


@st.composite
def planes(draw: st.DrawFn) -> ImagePlane:
    """Any orientation, any spacing."""
    numbers = [draw(st.floats(-1, 1)) for _ in range(9)]
    basis, _ = np.linalg.qr(np.array(numbers).reshape(3, 3) + 3 * np.eye(3))
    directions = tuple(float(x) for x in (*basis[:, 0], *basis[:, 1]))
    origin = draw(st.tuples(coordinates, coordinates, coordinates))
    return geometry.plane_of(origin, directions, (draw(spacings), draw(spacings)), 512, 512)


def test_a_header_of_an_axial_slice_is_taken_as_it_is() -> None:
    found = plane()
    assert found == ImagePlane(ORIGIN, (1, 0, 0), (0, 1, 0), 0.9, 0.7, 512, 400, "1.2", 5.0)


@pytest.mark.parametrize("flipped", [(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)])
def test_exact_right_angles_stay_exact(flipped: tuple[float, ...]) -> None:
    found = plane(orientation=flipped)
    assert (*found.row_dir, *found.col_dir) == flipped


def test_directions_rounded_to_four_decimals_are_made_orthonormal() -> None:
    angle = math.radians(18.5)
    rounded = (1.0, 0.0, 0.0, 0.0, round(math.cos(angle), 4), round(-math.sin(angle), 4))
    found = plane(orientation=rounded)
    assert math.hypot(*found.col_dir) == pytest.approx(1, abs=1e-15)
    assert np.dot(found.row_dir, found.col_dir) == pytest.approx(0, abs=1e-15)
    assert geometry.tilt_deg(found) == pytest.approx(18.5, abs=0.01)


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("position", {"position": None}),
        ("position", {"position": (1.0, 2.0)}),
        ("position", {"position": (1.0, 2.0, math.nan)}),
        ("orientation", {"orientation": None}),
        ("orientation", {"orientation": (1.0, 0.0, 0.0)}),
        ("orientation", {"orientation": (0.0,) * 6}),
        ("orientation", {"orientation": (1.0, 0.0, 0.0, 0.0, 1.1, 0.0)}),
        ("orientation", {"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}),
        ("orientation", {"orientation": (1.0, 0.0, 0.0, 0.0, math.inf, 0.0)}),
        ("spacing", {"spacing": None}),
        ("spacing", {"spacing": (0.0, 0.7)}),
        ("spacing", {"spacing": (0.7, -0.7)}),
        ("rows_columns", {"rows": None}),
        ("rows_columns", {"columns": 0}),
    ],
)
def test_a_header_that_cannot_be_used_is_named_by_its_part(what: str, changed: dict[str, object]) -> None:
    with pytest.raises(BadGeometry, match=r"[A-Z]") as found:
        plane(**changed)  # type: ignore[arg-type]
    assert found.value.what == what


@given(planes(), st.tuples(coordinates, coordinates))
def test_pixels_to_the_patient_and_back_are_the_same_pixels(at: ImagePlane, point: tuple[float, float]) -> None:
    there = geometry.to_patient_mm(at, point)
    assert geometry.to_px(at, there) == pytest.approx(point, abs=1e-8)
    assert geometry.distance_mm(at, there) == pytest.approx(0, abs=1e-8)


@given(planes(), st.tuples(coordinates, coordinates, coordinates))
def test_a_patient_point_is_its_foot_on_the_plane_plus_its_distance_along_the_normal(
    at: ImagePlane, point: Vector
) -> None:
    foot = np.array(geometry.to_patient_mm(at, geometry.to_px(at, point)))
    rebuilt = foot + geometry.distance_mm(at, point) * np.array(geometry.normal(at))
    assert rebuilt == pytest.approx(np.array(point), abs=1e-7)


@given(planes(), st.tuples(coordinates, coordinates), st.tuples(coordinates, coordinates))
def test_the_length_on_the_plane_is_the_length_in_the_patient(
    at: ImagePlane, start: tuple[float, float], end: tuple[float, float]
) -> None:
    there = math.dist(geometry.to_patient_mm(at, start), geometry.to_patient_mm(at, end))
    assert geometry.length_mm(at, Segment(start, end)) == pytest.approx(there, abs=1e-7)


def test_columns_use_the_column_spacing_and_rows_the_row_spacing() -> None:
    assert geometry.to_patient_mm(plane(), (10, 20)) == pytest.approx((-100 + 7, -120 + 18, 40))
    assert geometry.length_mm(plane(), Segment((0, 0), (10, 0))) == pytest.approx(7)
    assert geometry.length_mm(plane(), Segment((0, 0), (0, 10))) == pytest.approx(9)


@given(st.floats(0, 90), st.sampled_from([1, -1]))
def test_the_tilt_is_the_angle_to_the_patients_long_axis(angle: float, sign: int) -> None:
    turned = math.radians(angle)
    tilted = plane(orientation=(sign, 0.0, 0.0, 0.0, math.cos(turned), math.sin(turned)))
    assert geometry.tilt_deg(tilted) == pytest.approx(angle, abs=1e-6)


@pytest.mark.parametrize("orientation", [AXIAL, (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)])
def test_positions_grow_from_head_to_feet_however_the_patient_lies(orientation: tuple[float, ...]) -> None:
    head, feet = (plane((0.0, 0.0, z), orientation) for z in (300.0, 295.0))
    assert geometry.head_to_feet_mm(feet) - geometry.head_to_feet_mm(head) == pytest.approx(5)


def test_the_interval_of_a_tilted_gantry_is_measured_along_the_normal() -> None:
    turned = math.radians(20)
    orientation = (1.0, 0.0, 0.0, 0.0, math.cos(turned), math.sin(turned))
    upper, lower = (plane((0.0, 0.0, z), orientation) for z in (100.0, 90.0))
    step = geometry.head_to_feet_mm(lower) - geometry.head_to_feet_mm(upper)
    assert step == pytest.approx(10 * math.cos(turned))


def test_the_outer_edge_of_the_outer_pixels_is_inside_and_no_more() -> None:
    at = axial_plane(rows=10, columns=20)
    assert geometry.is_inside(at, (-0.5, 9.5))
    assert geometry.is_inside(at, (19.5, -0.5))
    assert not geometry.is_inside(at, (19.6, 0))
    assert not geometry.is_inside(at, (0, 9.6))
    assert not geometry.is_inside(at, (-0.6, 0))


def test_the_corner_of_the_first_pixel_is_half_a_pixel_from_its_centre() -> None:
    assert geometry.corner_to_centre((0.0, 0.0)) == (-0.5, -0.5)
    assert geometry.centre_to_corner((0.0, 0.0)) == (0.5, 0.5)


def test_public_coordinates_are_one_based_and_half_a_pixel_more_than_scoord() -> None:
    assert geometry.to_public((0.0, 0.0)) == (1.0, 1.0)
    assert geometry.to_public(geometry.corner_to_centre((10.0, 20.0))) == (10.5, 20.5)
    assert geometry.box_to_public(Box(0, 1, 2, 3)) == Box(1, 2, 3, 4)


@given(planes(), st.tuples(coordinates, coordinates))
def test_swapped_spacings_are_undone(at: ImagePlane, point: tuple[float, float]) -> None:
    """The writer places a true pixel with the spacings exchanged; undoing gives the true one back."""
    true = geometry.to_patient_mm(at, point)
    exchanged = replace(at, row_spacing_mm=at.col_spacing_mm, col_spacing_mm=at.row_spacing_mm)
    assert geometry.undo_swapped_spacing(at, geometry.to_px(exchanged, true)) == pytest.approx(point, abs=1e-6)


def test_square_pixels_are_told_from_others() -> None:
    assert geometry.has_square_pixels(axial_plane())
    assert not geometry.has_square_pixels(plane())


def test_coordinates_that_are_no_numbers_are_seen() -> None:
    assert geometry.all_finite([(1.0, 2.0), (3.0, 4.0, 5.0)])
    assert not geometry.all_finite([(1.0, math.nan)])
    assert not geometry.all_finite([(math.inf, 1.0)])
