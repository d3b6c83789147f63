"""Found lesions are measured in mm against the marks, their masks against true ones, in the plane and in space."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_world import World, beside, evaluated, key_slice, mark, on_mark

from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.types import Segment
from models.evaluation.evaluate import Extras
from models.evaluation.matched import Delineated, Measure, stacked
from models.evaluation.page import page
from models.evaluation.record import record, summary
from models.predictions_table import ReferenceMask

ONE = key_slice(1, 10, mark("a", (40, 40)), row_spacing_mm=2.0, col_spacing_mm=0.5)
TWO = key_slice(2, 10, mark("b", (60, 60)))
WORLD = World((ONE, TWO))


def named(measures: tuple[Measure, ...]) -> dict[str, Measure]:
    return {one.name: one for one in measures}


def moved(one: Detection, dx: float, dy: float) -> Detection:
    """The same detection with its axes shifted."""
    assert one.long_axis is not None
    assert one.short_axis is not None
    shift = lambda axis: Segment(*((x + dx, y + dy) for x, y in (axis.start, axis.end)))  # noqa: E731
    return Detection(one.image, one.box, one.score, one.model_id, "", shift(one.long_axis), shift(one.short_axis))


class TestRecist:
    def test_axes_as_marked_have_no_error(self) -> None:
        told = named(evaluated(WORLD, [on_mark(ONE, 0, 0.9), on_mark(TWO, 0, 0.8)]).recist)
        assert {one.mean.estimate for one in told.values()} == {0.0}
        assert {one.lesions for one in told.values()} == {2}

    def test_a_shift_is_told_in_millimetres_of_its_direction(self) -> None:
        told = named(evaluated(WORLD, [moved(on_mark(ONE, 0, 0.9), 0, 1), moved(on_mark(TWO, 0, 0.9), 0, 1)]).recist)
        assert told["end points, mean distance"].mean.estimate == pytest.approx((2.0 + 1.0) / 2)
        assert told["diameters, mean absolute error"].mean.estimate == pytest.approx(0.0)
        told = named(evaluated(WORLD, [moved(on_mark(ONE, 0, 0.9), 3, 0)]).recist)
        assert told["end points, mean distance"].median == pytest.approx(1.5)

    def test_errors_of_length_keep_their_sign(self) -> None:
        longer = on_mark(TWO, 0, 0.9, long_axis=Segment((48.0, 60.0), (70.0, 60.0)))
        told = named(evaluated(WORLD, [longer]).recist)
        assert told["long axis, error"].mean.estimate == pytest.approx(2.0)
        assert told["short axis, error"].mean.estimate == pytest.approx(0.0)
        assert told["diameters, mean absolute error"].mean.estimate == pytest.approx(1.0)

    def test_lengths_are_taken_in_the_spacing_of_their_direction(self) -> None:
        longer = on_mark(ONE, 0, 0.9, long_axis=Segment((30.0, 40.0), (52.0, 40.0)))
        taller = on_mark(ONE, 0, 0.9, short_axis=Segment((40.0, 35.0), (40.0, 46.0)))
        assert named(evaluated(WORLD, [longer]).recist)["long axis, error"].mean.estimate == pytest.approx(1.0)
        assert named(evaluated(WORLD, [taller]).recist)["short axis, error"].mean.estimate == pytest.approx(2.0)

    def test_the_surest_detection_that_hits_is_the_one_that_is_measured(self) -> None:
        told = evaluated(WORLD, [moved(on_mark(TWO, 0, 0.5), 0, 9), on_mark(TWO, 0, 0.9)])
        assert named(told.recist)["end points, mean distance"].mean.estimate == 0

    def test_lesions_found_only_behind_many_false_positives_are_not_measured(self) -> None:
        flood = [beside(TWO.file_name, 0.5, (100, 20.0 + number)) for number in range(10)]
        assert evaluated(WORLD, [*flood, on_mark(TWO, 0, 0.1)]).recist == ()

    def test_a_plain_length_and_a_detection_without_axes_are_left_out(self) -> None:
        plain = mark("c", (60, 60))
        plain = type(plain)(
            "c", np.vstack([plain.ends_px[:2], np.full((2, 2), np.nan)]), plain.box_px, 20.0, None, 5, False
        )
        length = key_slice(3, 10, plain)
        told = evaluated(World((length, TWO)), [on_mark(TWO, 0, 0.9, long_axis=None), on_mark(length, 0, 0.8)])
        assert told.recist == ()


class TestMasks:
    square = np.ones((10, 10), np.bool_)
    key = PixelMask(55, 55, square)

    def references(self, *numbers: int) -> tuple[ReferenceMask, ...]:
        return tuple(ReferenceMask("b", f"000002_01_01/{number:03d}.png", self.key) for number in numbers)

    def masked(self, dx: int, *numbers: int) -> Detection:
        mask = PixelMask(55 + dx, 55, self.square)
        volume = tuple((f"000002_01_01/{number:03d}.png", mask) for number in numbers)
        return on_mark(TWO, 0, 0.9, mask=mask, volume=volume)

    def test_a_shift_by_half_leaves_half_of_the_dice(self) -> None:
        told = evaluated(WORLD, [self.masked(5)], extras=Extras(references=self.references(10))).masks
        assert named(told["2-D"].measures)["Dice"].mean.estimate == pytest.approx(0.5)
        assert named(told["2-D"].measures)["size, relative error"].mean.estimate == 0
        assert told["3-D"] == Delineated((), {"one_slice": 1})

    def test_in_space_missing_slices_cost(self) -> None:
        references = self.references(9, 10, 11, 12)
        told = evaluated(WORLD, [self.masked(0, 10, 11)], extras=Extras(references=references)).masks
        assert named(told["2-D"].measures)["Dice"].mean.estimate == 1.0
        assert named(told["3-D"].measures)["Dice"].mean.estimate == pytest.approx(2 * 200 / 600)
        assert named(told["3-D"].measures)["size, relative error"].mean.estimate == pytest.approx(-0.5)
        assert named(told["3-D"].measures)["HD95"].mean.estimate == pytest.approx(5.0)  # one slice off, 5 mm apart

    def test_in_space_a_shift_is_told_in_millimetres_of_its_direction(self) -> None:
        tall = key_slice(2, 10, mark("b", (60, 60)), row_spacing_mm=2.0, col_spacing_mm=0.5)
        extras = Extras(references=self.references(10, 11))
        told = evaluated(World((ONE, tall)), [self.masked(2, 10, 11)], extras=extras).masks
        assert named(told["3-D"].measures)["HD95"].mean.estimate == pytest.approx(2 * 0.5)

    def test_an_empty_mask_has_no_distance_and_dice_nought(self) -> None:
        empty = on_mark(TWO, 0, 0.9, mask=PixelMask(0, 0, np.zeros((0, 0), np.bool_)))
        told = named(evaluated(WORLD, [empty], extras=Extras(references=self.references(10))).masks["2-D"].measures)
        assert told["Dice"].mean.estimate == 0
        assert (told["HD95"].lesions, told["HD95"].infinite) == (0, 1)
        assert math.isnan(told["HD95"].median)

    def test_without_references_nothing_is_told(self) -> None:
        assert evaluated(WORLD, [self.masked(0, 10)]).masks == {"2-D": Delineated(), "3-D": Delineated()}

    def test_what_is_not_compared_is_counted_by_its_reason_in_record_page_and_text(self) -> None:
        found = [on_mark(ONE, 0, 0.9), on_mark(TWO, 0, 0.9)]
        told = evaluated(WORLD, found, extras=Extras(references=self.references(9)))
        assert told.masks["2-D"] == Delineated((), {"no_reference": 2})
        assert told.masks["3-D"] == Delineated((), {"no_reference": 1, "one_slice": 1})
        assert record(told, WORLD)["masks_skipped"]["3-D"] == {"no_reference": 1, "one_slice": 1}
        words = "masks in 3-D: 2 found lesions are not compared: "
        assert words in summary(told)
        for text in (summary(told), page(told, WORLD, b"").decode()):
            assert "the reference lies on one slice, which says nothing of the lesion" in text
        unmasked = evaluated(WORLD, found, extras=Extras(references=self.references(9, 10)))
        assert unmasked.masks["3-D"].skipped == {"no_reference": 1, "no_mask": 1}

    def test_stacks_hold_both_in_one_frame(self) -> None:
        one, other = stacked({3: PixelMask(-2, 4, self.square)}, {5: PixelMask(6, 0, self.square[:2, :3])})
        assert one.shape == other.shape == (3, 14, 11)
        assert (int(one.sum()), int(other.sum())) == (100, 6)
        assert one[0, 4:, :10].all()
        assert other[2, :2, 8:11].all()
