"""Stacks of axial slices for models: who belongs together, in what order, and why the rest stays out."""

from __future__ import annotations

from dataclasses import replace

from core_factories import axial_plane, header, image_ref
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.rules import Rules
from deeplesion_miner.types import ImageHeader, ImageRef, Unreadable
from deeplesion_miner.volumes import AxialStack, LeftOut, axial_stacks

RULES = Rules()


def at(z_mm: float, name: str, series: str = "1.2", number: int = 1) -> ImageHeader:
    return header(image_ref(name, series=series), axial_plane(z_mm), number)


def stacked(*headers: ImageHeader) -> tuple[tuple[AxialStack, ...], tuple[LeftOut, ...]]:
    return axial_stacks({one.ref.sop_instance_uid: (one,) for one in headers}, RULES)


@given(st.lists(st.integers(-400, 400), min_size=1, max_size=12, unique=True), st.randoms())
def test_slices_run_from_head_to_feet_in_whatever_order_they_come(heights: list[int], random: object) -> None:
    headers = [at(float(z), f"1.{index}") for index, z in enumerate(heights)]
    random.shuffle(headers)  # type: ignore[attr-defined]
    (stack,), left_out = stacked(*headers)
    found = [one.plane.origin_mm[2] for one in stack.headers]  # type: ignore[union-attr]
    assert found == sorted(map(float, heights), reverse=True)
    assert all(later > earlier for earlier, later in zip(stack.positions_mm, stack.positions_mm[1:], strict=False))
    assert left_out == ()


def test_two_series_are_two_stacks() -> None:
    stacks, _ = stacked(at(0, "1"), at(5, "2"), at(0, "3", series="1.3"), at(5, "4", series="1.3"))
    assert [stack.key for stack in stacks] == ["1.2", "1.3"]
    assert [len(stack.refs) for stack in stacks] == [2, 2]


def test_another_pixel_grid_is_another_stack() -> None:
    fine = header(image_ref("2"), axial_plane(5.0, spacing_mm=0.7))
    stacks, _ = stacked(at(0, "1"), fine)
    assert [stack.plane.col_spacing_mm for stack in stacks] in ([0.7, 0.8], [0.8, 0.7])


def test_phases_at_one_position_become_stacks_of_their_own() -> None:
    stacks, _ = stacked(at(0, "1", number=1), at(0, "2", number=3), at(5, "3", number=2), at(5, "4", number=4))
    assert [(stack.key, [ref.sop_instance_uid for ref in stack.refs]) for stack in stacks] == [
        ("1.2", ["3", "1"]),
        ("1.2@2", ["4", "2"]),
    ]


def test_frames_of_one_object_are_one_stack() -> None:
    frames = tuple(
        header(ImageRef("1", "1.2", "7", number), axial_plane(-5.0 * number), frames=3) for number in (1, 2, 3)
    )
    (stack,), _ = axial_stacks({"7": frames}, RULES)
    assert stack.key == "1.2/7"
    assert [ref.frame_number for ref in stack.refs] == [1, 2, 3]


def test_every_image_that_stays_out_has_a_reason() -> None:
    coronal = replace(axial_plane(), col_dir=(0.0, 0.0, -1.0))
    broken = Unreadable("6", "truncated")
    headers = {
        "1": (at(0, "1"),),
        "2": (replace(at(5, "2"), image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")),),
        "3": (replace(at(5, "3"), modality="MR", sop_class_uid="1.2.840.10008.5.1.4.1.1.4"),),
        "4": (header(image_ref("4"), coronal),),
        "5": (replace(at(5, "5"), image_type=("DERIVED", "SECONDARY", "REFORMATTED")),),
        "6": broken,
        "7": (replace(at(5, "7"), burned_in_annotation=True),),
        "8": (replace(at(5, "8"), plane=Unreadable("8", "bad_geometry")),),
    }
    (stack,), left_out = axial_stacks(headers, RULES)
    assert [ref.sop_instance_uid for ref in stack.refs] == ["1"]
    assert [one.reason for one in left_out] == [
        "localizer", "not_ct", "non_axial", "derived_image", "truncated", "burned_in", "bad_geometry",
    ]  # fmt: skip


def test_nothing_gives_no_stack() -> None:
    assert axial_stacks({}, RULES) == ((), ())
