"""An evaluation tells what was planted: by stratum, by patient, against others; what nobody annotated never counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_world import FEW, World, beside, evaluated, key_slice, mark, on_mark
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion_miner.detection import Detection, PixelMask
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.types import Box, ImageRef
from models.evaluation.cases import added_slices, counted_slices, margin_px, read_annotation
from models.evaluation.evaluate import Evaluation, Predictions
from models.evaluation.figures import Figures
from models.evaluation.overlap import Space
from models.evaluation.page import page
from models.evaluation.protocol import FALSE_POSITIVES, Boxes, Protocol
from models.evaluation.record import record, summary, to_json
from models.marks import Annotation

SMALL, LARGE = 8.0, 24.0
SLICES = tuple(
    key_slice(patient, 10, mark(f"s{patient}", (30, 30), SMALL, coarse_lesion_type=4),
              mark(f"l{patient}", (80, 80), LARGE), slice_interval_mm=1.0 if patient == 1 else 5.0)
    for patient in (1, 2, 3, 4)
)  # fmt: skip
WORLD = World(SLICES, frozenset({"000001_01_01/011.png", "000002_01_01/012.png"}))
# every large lesion is found surely, one small one after the only false positives, the others never
FOUND = [
    *(on_mark(one, 1, 0.9 - number / 100) for number, one in enumerate(SLICES)),
    *(beside(SLICES[0].file_name, 0.5, (40 + 20.0 * number, 110)) for number in range(2)),
    on_mark(SLICES[2], 0, 0.4),
]


def sensitivity(figures: Figures) -> dict[float, float]:
    return {level: one.estimate for level, one in zip(FALSE_POSITIVES, figures.sensitivity, strict=True)}


def strata(evaluation: Evaluation) -> dict[str, Figures]:
    return {one.stratum.name: one.figures for one in evaluation.strata}


class TestPlanted:
    told = evaluated(WORLD, FOUND)

    def test_sensitivity_of_all_marks(self) -> None:
        # two false positives on four slices: half a one per image; then the fifth of eight marks is hit
        assert sensitivity(self.told.figures) == dict.fromkeys(FALSE_POSITIVES, 5 / 8)
        assert self.told.figures.average.estimate == 5 / 8

    def test_each_stratum_has_its_own_sensitivity(self) -> None:
        found = strata(self.told)
        assert (found["below 10 mm"].marks, found["10 to 30 mm"].marks) == (4, 4)
        # the four surest detections hit large lesions and are false positives for the small ones: 6 on 4 slices
        assert sensitivity(found["below 10 mm"]) == {0.5: 0, 1.0: 0, 2.0: 0.25, 4.0: 0.25, 8.0: 0.25, 16.0: 0.25}
        assert sensitivity(found["10 to 30 mm"]) == dict.fromkeys(FALSE_POSITIVES, 1.0)
        assert sensitivity(found["liver"]) == sensitivity(found["below 10 mm"])
        assert found["below 2.5 mm"].marks == 2

    def test_the_averages_are_over_the_first_four_and_five_levels(self) -> None:
        small = strata(self.told)["below 10 mm"]
        assert small.average.estimate == pytest.approx((0.25 + 0.25) / 4)
        assert small.average_to_eight.estimate == pytest.approx((0.25 + 0.25 + 0.25) / 5)

    def test_a_patient_is_told_on_their_own_slices(self) -> None:
        by_name = {one.patient: one for one in self.told.patients}
        # two false positives on the one slice of patient 1, behind the hit
        assert by_name["patient 1"].sensitivity == (0.5,) * len(FALSE_POSITIVES)
        assert by_name["patient 3"].average_to_eight == 1.0

    def test_the_interval_holds_the_estimate(self) -> None:
        average = self.told.figures.average
        assert average.low < average.estimate < average.high

    def test_the_same_evaluation_gives_the_same_bytes(self) -> None:
        again = evaluated(WORLD, FOUND)
        assert to_json(record(again, WORLD)) == to_json(record(self.told, WORLD))

    def test_the_order_of_detections_does_not_matter(self) -> None:
        mixed = evaluated(WORLD, FOUND[::-1])
        assert record(mixed, WORLD) == record(self.told, WORLD)

    def test_the_summary_says_that_partial_marks_make_an_upper_bound(self) -> None:
        assert "4 slices were marked in part only" in summary(self.told)
        complete = {one.file_name: Annotation.COMPLETE for one in SLICES}
        assert "in part" not in summary(evaluated(WORLD, FOUND, annotation=complete))


class TestDifferences:
    def test_identical_predictions_differ_by_exactly_nothing(self) -> None:
        told = evaluated(WORLD, FOUND, against=[Predictions("same", tuple(FOUND))])
        (difference,) = told.differences
        for one in (*difference.sensitivity, difference.average, difference.average_to_eight):
            assert (one.estimate, one.low, one.high, one.above_zero) == (0, 0, 0, 0)

    def test_what_another_misses_in_every_patient_is_a_sure_difference(self) -> None:
        worse = [one for one in FOUND if one.score < 0.86]
        (difference,) = evaluated(WORLD, FOUND, against=[Predictions("none", ())]).differences
        assert difference.average.low > 0
        assert difference.average.above_zero == 1.0
        (other,) = evaluated(WORLD, worse, against=[Predictions("all", tuple(FOUND))]).differences
        assert other.average.estimate == pytest.approx(-4 / 8)


class TestUnmarkedSlices:
    @settings(deadline=None, max_examples=10)
    @given(st.lists(st.tuples(st.sampled_from(sorted(WORLD.shipped)), st.floats(0, 1)), min_size=1, max_size=30))
    def test_detections_there_never_change_a_figure(self, there: list[tuple[str, float]]) -> None:
        more = [beside(name, score) for name, score in there]
        told, plain = record(evaluated(WORLD, [*FOUND, *more]), WORLD), record(TestPlanted.told, WORLD)
        assert told.pop("unmarked")["detections"] == len(more)
        assert told.pop("predictions") != plain["predictions"]
        assert told == {name: value for name, value in plain.items() if name not in ("unmarked", "predictions")}

    def test_they_are_told_apart_with_their_scores(self) -> None:
        more = [beside("000001_01_01/011.png", score) for score in (0.2, 0.4, 0.6)]
        unmarked = evaluated(WORLD, [*FOUND, *more]).unmarked
        assert (unmarked.detections, unmarked.slices) == (3, 1)
        assert unmarked.score_quantiles == pytest.approx((0.2, 0.3, 0.4, 0.5, 0.6))

    def test_a_key_slice_may_be_called_unmarked(self) -> None:
        told = evaluated(WORLD, FOUND, annotation={SLICES[0].file_name: Annotation.UNMARKED})
        assert len(told.slices.counted) == 3
        assert told.slices.unmarked_marks == 2
        assert told.unmarked.detections == 3


class TestAnnotation:
    looked_at = "000001_01_01/011.png"

    def test_a_slice_without_marks_counts_where_somebody_looked_at_it(self) -> None:
        told = evaluated(WORLD, [*FOUND, beside(self.looked_at, 0.95)],
                         annotation={self.looked_at: Annotation.COMPLETE})  # fmt: skip
        assert len(told.slices.counted) == 5
        assert told.unmarked.detections == 0
        assert int(told.count.false_positive.sum()) == 3
        assert told.slices.counted[1].patient == "patient 1"

    def test_slices_without_marks_that_perhaps_nobody_predicted_are_told(self) -> None:
        looked_at = {self.looked_at: Annotation.COMPLETE}
        words = "none of 1 slices without marks has a detection"
        told = evaluated(WORLD, FOUND, annotation=looked_at)
        assert words in summary(told)
        assert words in page(told, WORLD, b"").decode()
        assert words not in summary(evaluated(WORLD, [*FOUND, beside(self.looked_at, 0.95)], annotation=looked_at))
        assert words not in summary(evaluated(WORLD, FOUND))

    def test_a_slice_that_was_looked_at_has_the_range_of_the_nearest_key_slice_that_holds_it(self) -> None:
        near, far = key_slice(1, 10, mark("a", (40, 40))), key_slice(1, 30, mark("b", (40, 40)))
        world = World((replace(near, slice_range=(5, 15)), replace(far, slice_range=(18, 42))))
        states = dict.fromkeys((f"000001_01_01/{number:03d}.png" for number in (14, 19, 17)), Annotation.COMPLETE)
        world = replace(world, shipped=frozenset(states) | {"000001_01_01/016.png"})
        added = added_slices(world, states | {"000001_01_01/016.png": Annotation.UNMARKED})
        assert [(one.slice_number, one.slice_range, one.marks) for one in added] == [
            (14, (5, 15), ()), (19, (18, 42), ()), (17, (17, 17), ()),
        ]  # fmt: skip

    def test_false_positives_on_complete_slices_only(self) -> None:
        told = evaluated(WORLD, FOUND, annotation={SLICES[0].file_name: Annotation.COMPLETE})
        assert told.complete_only is not None
        # both false positives lie on the only complete slice: two per image
        assert sensitivity(told.complete_only)[1.0] == 4 / 8
        assert sensitivity(told.complete_only)[2.0] == 5 / 8
        assert TestPlanted.told.complete_only is None

    def test_a_table_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("file_name,annotation\na/1.png,complete\nb/2.png,unmarked\n", "utf-8")
        assert read_annotation(path) == {"a/1.png": Annotation.COMPLETE, "b/2.png": Annotation.UNMARKED}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("name,state\n", "header 'name,state'"),
            ("file_name,annotation\na/1.png,perhaps\n", r"a\.csv:2: annotation 'perhaps': write complete"),
            ("file_name,annotation\na/1.png,complete\na/1.png,partial\n", "a/1.png stands there twice"),
            ("file_name,annotation\na/1.png\n", "2 values are needed"),
        ],
    )
    def test_a_table_that_is_none_is_refused(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "a.csv"
        path.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=words):
            read_annotation(path)

    def test_a_slice_that_the_dataset_does_not_hold_is_named(self) -> None:
        with pytest.raises(ConfigError, match="000001_01_01/099"):
            counted_slices(WORLD, "test", Protocol(), {"000001_01_01/099.png": Annotation.COMPLETE})


class TestWhatCounts:
    def test_noisy_marks_go_with_slices_that_hold_no_other(self) -> None:
        noisy = key_slice(7, 5, mark("n", (30, 30), possibly_noisy=True))
        both = key_slice(8, 5, mark("n2", (30, 30), possibly_noisy=True), mark("good", (80, 80)))
        world = World((noisy, both))
        told = evaluated(world, [on_mark(noisy, 0, 0.9), on_mark(both, 0, 0.8), on_mark(both, 1, 0.7)])
        assert [one.file_name for one in told.slices.counted] == [both.file_name]
        assert (told.slices.noisy_marks, told.cases.on_noisy, len(told.slices.marks)) == (2, 1, 1)
        assert told.unmarked.detections == 0
        assert int(told.count.false_positive.sum()) == 1
        kept = evaluated(world, [], Protocol(drop_noisy=False))
        assert len(kept.slices.marks) == 3

    def test_detections_of_other_splits_are_left_out(self) -> None:
        train = key_slice(9, 5, mark("t", (30, 30)), split="train")
        told = evaluated(World((*SLICES, train)), [*FOUND, on_mark(train, 0, 0.99)])
        assert told.cases.elsewhere == 1
        assert told.figures == TestPlanted.told.figures

    def test_detections_on_images_of_another_dataset_are_refused_by_name(self) -> None:
        strange = beside("000099_01_01/001.png", 0.5)
        archive = Detection(ImageRef("1", "2", "3.4.5"), Box(0, 0, 1, 1), 0.5, "m")
        with pytest.raises(ConfigError, match=r"2 of 9 detections .* 000099_01_01/001\.png, 3\.4\.5"):
            evaluated(WORLD, [*FOUND, strange, archive])


class TestBoxes:
    small = key_slice(1, 5, mark("s", (50, 50), 8.0))  # 8 x 4 px; 9 x 5 with the +1 convention

    def test_padded_boxes_forgive_what_tight_ones_do_not(self) -> None:
        shifted = beside(self.small.file_name, 0.9)
        x_min, y_min, x_max, y_max = self.small.marks[0].tight_box_px.tolist()
        shifted = Detection(shifted.image, Box(x_min + 3, y_min, x_max + 3, y_max + 2), 0.9, "planted")
        world = World((self.small,))
        assert evaluated(world, [shifted]).figures.average.estimate == 0
        assert evaluated(world, [shifted], Protocol(boxes=Boxes.PADDED)).figures.average.estimate == 1
        rules = {one.rule: one.average for one in evaluated(world, [shifted]).other_ways}
        assert rules["padded boxes"] == 1
        assert rules["IoU of at least 0.3"] == 1

    @pytest.mark.parametrize("boxes", Boxes)
    def test_a_detection_as_marked_agrees_wholly_either_way(self, boxes: Boxes) -> None:
        told = evaluated(World((self.small,)), [on_mark(self.small, 0, 0.9)], Protocol(boxes=boxes))
        assert told.pool.pair_overlap.tolist() == [1.0]

    def test_the_margin_is_that_of_the_dataset(self) -> None:
        assert margin_px(counted_slices(WORLD, "test", Protocol(), {})) == 5.0


class TestPseudoVolume:
    other_slice = "000001_01_01/011.png"
    protocol = Protocol(space=Space.PSEUDO_VOLUME)

    def seen_from(self, first: int, last: int) -> Detection:
        """A detection on slice 11 whose 3-D mask spans some slices."""
        pixel = PixelMask(80, 80, np.ones((1, 1), bool))
        volume = tuple((f"000001_01_01/{number:03d}.png", pixel) for number in range(first, last + 1))
        return on_mark(SLICES[0], 1, 0.9, image=self.other_slice, volume=volume)

    def test_a_detection_of_a_neighbour_counts_where_its_volume_reaches_the_key_slice(self) -> None:
        reaching = evaluated(WORLD, [self.seen_from(10, 12)], self.protocol)
        assert reaching.figures.average.estimate == 1 / 8
        assert evaluated(WORLD, [self.seen_from(10, 12)]).figures.average.estimate == 0

    def test_it_is_unmarked_where_it_does_not(self) -> None:
        short = evaluated(WORLD, [self.seen_from(11, 12)], self.protocol)
        assert short.figures.average.estimate == 0
        assert short.unmarked.detections == 1
        assert int(short.count.false_positive.sum()) == 0

    def test_a_detection_reaches_its_own_slice_whatever_its_volume_says(self) -> None:
        odd = on_mark(SLICES[0], 1, 0.9, volume=self.seen_from(12, 13).volume)
        assert evaluated(WORLD, [odd], self.protocol).figures.average.estimate == 1 / 8

    def test_without_volumes_it_counts_as_on_the_key_slice(self) -> None:
        assert evaluated(WORLD, FOUND, self.protocol).figures == evaluated(WORLD, FOUND).figures


def test_no_detection_at_all_finds_nothing() -> None:
    told = evaluated(WORLD, [])
    assert told.figures.average.estimate == 0
    assert told.unmarked.score_quantiles == ()
    assert FEW.replicates == told.figures.average.replicates
