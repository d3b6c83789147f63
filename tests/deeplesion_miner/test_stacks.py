"""Slices in order: numbers from head to feet, interval, context; as few headers as will do."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import pytest
from core_factories import axial_plane, header, image_ref, lesion
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.stacks import NumberedStack, number_stacks, series_key
from deeplesion_miner.studies import InstanceListing
from deeplesion_miner.types import ImageHeader, ImagePlane, Unreadable

Fetch = Callable[[Collection[str]], Mapping[str, tuple[ImageHeader, ...] | Unreadable]]


class Series:
    """Axial slices at given heights; remembers which headers were asked for."""

    def __init__(self, heights_mm: list[float], numbers: list[int | None]) -> None:
        self.headers = {
            f"1.2.3.{i}": header(image_ref(f"1.2.3.{i}"), axial_plane(z), number)
            for i, (z, number) in enumerate(zip(heights_mm, numbers, strict=True))
        }
        self.asked: set[str] = set()

    @property
    def listing(self) -> list[InstanceListing]:
        return [InstanceListing(uid, h.instance_number) for uid, h in sorted(self.headers.items())]

    def fetch(self, uids: Collection[str]) -> Mapping[str, tuple[ImageHeader, ...] | Unreadable]:
        self.asked |= set(uids)
        return {uid: (self.headers[uid],) for uid in uids if uid in self.headers}

    def number(self, *indices: int, long_axis_mm: float = 16.0) -> NumberedStack:
        (stack,) = self.number_all(*indices, long_axis_mm=long_axis_mm)
        return stack

    def number_all(self, *indices: int, long_axis_mm: float = 16.0) -> tuple[NumberedStack, ...]:
        lesions = [lesion(self.headers[f"1.2.3.{i}"], f"9.9#{i}", long_axis_mm) for i in indices]
        return number_stacks(lesions, self.listing, self.fetch)

    def slice_number(self, stack: NumberedStack, index: int) -> int:
        return stack.numbers[self.headers[f"1.2.3.{index}"].ref]


def head_to_feet(count: int, interval_mm: float = 5.0) -> list[float]:
    return [500.0 - i * interval_mm for i in range(count)]


def test_instance_numbers_that_grow_from_head_to_feet_are_the_slice_numbers() -> None:
    series = Series(head_to_feet(40), [i + 11 for i in range(40)])
    stack = series.number(20)
    assert stack.numbering == "instance_number"
    assert series.slice_number(stack, 20) == 31
    assert stack.intervals_mm["9.9#20"] == 5.0
    assert stack.ranges["9.9#20"] == (25, 37)


def test_only_the_window_around_the_key_slice_is_asked_for() -> None:
    series = Series(head_to_feet(400, 1.0), [i + 1 for i in range(400)])
    stack = series.number(200)
    assert stack.ranges["9.9#200"] == (171, 231)
    assert len(series.asked) == 61


def test_instance_numbers_that_grow_from_feet_to_head_are_turned_round() -> None:
    series = Series(head_to_feet(40), [40 - i for i in range(40)])
    stack = series.number(3)
    assert stack.numbering == "rank"
    assert series.slice_number(stack, 3) == 4
    assert stack.ranges["9.9#3"] == (1, 10)
    assert len(series.asked) < 15


def test_instance_numbers_that_jump_about_are_not_trusted() -> None:
    numbers: list[int | None] = [1, 9, 2, 8, 3, 7, 4, 6, 5, 10]
    series = Series(head_to_feet(10), numbers)
    stack = series.number(4)
    assert stack.numbering == "rank"
    assert series.slice_number(stack, 4) == 5
    assert len(series.asked) == 10


@pytest.mark.parametrize("numbers", [[None] * 8, [1] * 8, [0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3, None, 5, 6, 7, 8]])
def test_missing_repeated_or_zero_instance_numbers_give_way_to_the_rank(numbers: list[int | None]) -> None:
    series = Series(head_to_feet(8), numbers)
    stack = series.number(2)
    assert stack.numbering == "rank"
    assert [series.slice_number(stack, i) for i in range(8)] == list(range(1, 9))


def test_a_localizer_in_the_series_is_no_slice_of_the_stack() -> None:
    series = Series(head_to_feet(10), [i + 2 for i in range(10)])
    coronal = ImagePlane((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), 1.0, 1.0, 64, 64, "1.9")
    series.headers["1.2.3.99"] = header(image_ref("1.2.3.99"), coronal, 1)
    stack = series.number(0)
    assert stack.numbering == "instance_number"
    assert series.slice_number(stack, 0) == 2
    assert image_ref("1.2.3.99") not in stack.numbers


def test_a_single_slice_has_no_interval_and_says_so() -> None:
    series = Series([0.0], [7])
    stack = series.number(0)
    assert math.isnan(stack.intervals_mm["9.9#0"])
    assert stack.ranges["9.9#0"] == (7, 7)
    assert [note.code for note in stack.notes["9.9#0"]] == ["single_slice"]


def test_slices_that_are_missing_from_the_archive_do_not_change_numbers_or_interval() -> None:
    series = Series([500.0, 495.0, 490.0, 400.0], [1, 2, 3, 21])
    stack = series.number(1)
    assert stack.intervals_mm["9.9#1"] == 5.0
    assert stack.ranges["9.9#1"] == (1, 8)
    assert stack.wanted["9.9#1"] == frozenset({1, 2, 3})


def test_an_uneven_interval_is_flagged_with_its_numbers() -> None:
    series = Series([500.0, 495.0, 485.0], [1, 2, 3])
    stack = series.number(1)
    assert stack.notes["9.9#1"][0].code == "uneven_interval"
    assert dict(stack.notes["9.9#1"][0].facts) == {"least_mm": 5.0, "most_mm": 10.0}


def test_a_header_that_is_not_delivered_does_not_stop_the_numbering() -> None:
    series = Series(head_to_feet(10), [i + 1 for i in range(10)])
    lost = series.headers.pop("1.2.3.9")
    listing = [*series.listing, InstanceListing("1.2.3.9", lost.instance_number)]
    lesions = [lesion(series.headers["1.2.3.5"], "9.9#5")]
    (stack,) = number_stacks(lesions, listing, series.fetch)
    assert 10 in stack.wanted["9.9#5"]
    assert 10 not in stack.numbers.values()


def test_windows_that_touch_share_one_range() -> None:
    series = Series(head_to_feet(60), [i + 1 for i in range(60)])
    stack = series.number(20, 33)
    assert stack.ranges["9.9#20"] == stack.ranges["9.9#33"] == (15, 40)
    assert stack.wanted["9.9#20"] == frozenset(range(15, 28))


def test_the_frames_of_a_multi_frame_object_are_ranked_from_head_to_feet() -> None:
    frames = tuple(header(image_ref("1.2.3", frame), axial_plane(float(frame)), 1, frames=12) for frame in range(1, 13))
    key = frames[9]
    listing = [InstanceListing("1.2.3", 1)]
    (stack,) = number_stacks([lesion(key)], listing, lambda uids: dict.fromkeys(uids, frames))
    assert series_key(key) == "1.2/1.2.3"
    assert stack.numbering == "rank"
    assert stack.numbers[key.ref] == 3


@given(st.integers(3, 60), st.sampled_from([0.625, 1.0, 1.25, 2.5, 5.0]), st.data())
def test_order_of_the_listing_does_not_matter(count: int, interval_mm: float, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    series = Series(head_to_feet(count, interval_mm), [i + 1 for i in range(count)])
    shuffled = data.draw(st.permutations(series.listing))
    lesions = [lesion(series.headers[f"1.2.3.{index}"], f"9.9#{index}")]
    (stack,) = number_stacks(lesions, shuffled, series.fetch)
    (straight,) = number_stacks(lesions, series.listing, series.fetch)
    assert stack == straight
    assert stack.intervals_mm[f"9.9#{index}"] == interval_mm


def coronal(series: Series, uid: str, number: int) -> None:
    plane = ImagePlane((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), 1.0, 1.0, 64, 64, "1.9")
    series.headers[uid] = header(image_ref(uid), plane, number)


def test_a_reformat_beside_the_key_slice_does_not_change_its_interval() -> None:
    series = Series(head_to_feet(20), [i + 1 for i in range(20)])
    coronal(series, "1.2.3.4", 5)
    stack = series.number(3)
    assert stack.numbering == "instance_number"
    assert stack.intervals_mm["9.9#3"] == 5.0
    assert 5 not in stack.wanted["9.9#3"]


def test_a_phase_that_is_measured_alone_keeps_its_instance_numbers() -> None:
    series = Series(head_to_feet(30) * 2, [i + 1 for i in range(60)])
    stack = series.number(45)
    assert (stack.numbering, series.slice_number(stack, 45)) == ("instance_number", 46)
    assert stack.intervals_mm == {"9.9#45": 5.0}


def test_two_measured_phases_one_after_the_other_are_two_volumes() -> None:
    series = Series(head_to_feet(30) * 2, [i + 1 for i in range(60)])
    first, second = series.number_all(15, 45)
    assert (series.slice_number(first, 15), series.slice_number(second, 45)) == (16, 16)
    assert first.intervals_mm | second.intervals_mm == {"9.9#15": 5.0, "9.9#45": 5.0}


def test_two_phases_in_turns_are_two_volumes_each_numbered_by_itself() -> None:
    heights = [z for z in head_to_feet(30) for _ in range(2)]
    series = Series(heights, [i + 1 for i in range(60)])
    first, second = series.number_all(20, 31)
    assert (first.volume, second.volume) == (0, 1)
    assert (series.slice_number(first, 20), series.slice_number(second, 31)) == (11, 16)
    assert first.intervals_mm == {"9.9#20": 5.0}
    assert len(first.numbers) == len(second.numbers) == 30
    assert "repeated_position" in [note.code for note in first.notes["9.9#20"]]


def test_a_slice_that_was_sent_again_does_not_halve_the_interval() -> None:
    heights = [*head_to_feet(20), head_to_feet(20)[8]]
    series = Series(heights, [i + 1 for i in range(21)])
    original, again = series.number(8), series.number(20)
    assert original.intervals_mm["9.9#8"] == again.intervals_mm["9.9#20"] == 5.0
    assert series.slice_number(again, 20) == 9
    assert len(again.numbers) == 20


def test_images_that_all_lie_at_one_place_have_no_interval() -> None:
    series = Series([10.0] * 12, [i + 1 for i in range(12)])
    (stack,) = series.number_all(4)
    assert math.isnan(stack.intervals_mm["9.9#4"])
    assert stack.ranges["9.9#4"] == (1, 1)


@pytest.mark.parametrize("step", [2, 10, 1000])
def test_instance_numbers_in_steps_count_no_slices(step: int) -> None:
    series = Series(head_to_feet(20), [step * (i + 1) for i in range(20)])
    stack = series.number(10)
    assert stack.numbering == "rank"
    assert series.slice_number(stack, 10) == 11
    assert stack.intervals_mm["9.9#10"] == 5.0


def test_instance_numbers_that_hold_something_else_do_not_become_slice_numbers() -> None:
    series = Series(head_to_feet(8), [20_190_314 + i for i in range(8)])
    stack = series.number(2)
    assert (stack.numbering, series.slice_number(stack, 2)) == ("rank", 3)


def test_slices_that_are_tilted_a_little_against_one_another_keep_their_order() -> None:
    series = Series(head_to_feet(20), [i + 1 for i in range(20)])
    for i in range(0, 20, 2):
        tilt = 0.001
        uid = f"1.2.3.{i}"
        plane = ImagePlane(
            (-50.0, -4000.0, 500.0 - 5.0 * i),
            (1.0, 0.0, 0.0),
            (0.0, math.cos(tilt), math.sin(tilt)),
            0.8,
            0.8,
            128,
            128,
            "1.9",
        )
        series.headers[uid] = header(image_ref(uid), plane, i + 1)
    stack = series.number(4, 9)
    assert stack.numbering == "instance_number"
    assert [series.slice_number(stack, i) for i in (4, 9)] == [5, 10]
