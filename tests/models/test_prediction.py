"""From a detector and slices to Detections, measured and delineated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reading_folders import SIDE, SPACING_MM, lesion, mined, series

from deeplesion_miner.types import Box, ImageRef
from models.detectors.log_blobs import LogBlobs
from models.detectors.port import Found
from models.prediction import PredictionSettings, inscribed_ends, on_key_slices, on_volume, without_neighbours
from models.volume import Volume

AIR_HU, TISSUE_HU, LESION_HU = -1000, 40, 120


def body_with_a_ball(centre: tuple[float, float, float], radius_mm: float) -> Volume:
    """40 slices of 2 mm, 1 x 1 mm pixels: a cylinder of tissue and a ball in it; centre is (slice, row, column)."""
    slices, rows, columns = np.mgrid[:40, :96, :112].astype(np.float64)
    hu = np.full(slices.shape, AIR_HU, np.int16)
    hu[(rows - 48) ** 2 + (columns - 56) ** 2 < 44**2] = TISSUE_HU
    z, y, x = centre
    hu[((slices - z) * 2) ** 2 + (rows - y) ** 2 + (columns - x) ** 2 < radius_mm**2] = LESION_HU
    names = tuple(f"1.2.{number}" for number in range(40))
    return Volume(hu, np.arange(40) * 2.0, 1.0, 1.0, names)


class KnowsTheBall:
    """A detector that finds the ball wherever it is, surest where it is largest; slices are told apart by HU."""

    model_id = "knows"

    def detect(self, volume: Volume, indices: range) -> tuple[Found, ...]:
        return tuple(self._on(volume.hu[index]) for index in indices)

    def _on(self, hu: np.ndarray) -> Found:
        rows, columns = np.nonzero(hu == LESION_HU)
        if not rows.size:
            return Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4, 2)))
        box = np.array([[columns.min(), rows.min(), columns.max(), rows.max()]], np.float64)
        return Found(box, np.array([min(1.0, rows.size / 400)]), np.full((1, 4, 2), np.nan))


def test_a_ball_is_one_detection_on_its_largest_slice_with_its_size_and_volume() -> None:
    radius_mm = 10.0
    volume = body_with_a_ball((20, 50, 60), radius_mm)
    told: list[int] = []
    (detection,) = on_volume(KnowsTheBall(), volume, PredictionSettings(), looked=told.append)
    assert sum(told) == 40
    assert len(told) > 1
    assert detection.image == "1.2.20"
    assert detection.long_axis_mm == pytest.approx(2 * radius_mm, abs=2.0)
    assert detection.mask is not None
    centre = np.argwhere(detection.mask.on_plane(96, 112)).mean(axis=0)
    assert centre == pytest.approx([50, 60], abs=0.7)
    assert detection.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.25)
    assert [name for name, _ in detection.volume] == sorted(
        {name for name, _ in detection.volume}, key=volume.images.index
    )


def test_a_ball_on_thick_slices_is_one_detection() -> None:
    fine = body_with_a_ball((20, 50, 60), 10.0)
    thick = Volume(fine.hu[::4], fine.position_mm[::4], 1.0, 1.0, fine.images[::4])
    (detection,) = on_volume(KnowsTheBall(), thick, PredictionSettings(masks=False))
    assert detection.image == "1.2.20"


def test_a_large_lesion_of_a_dataset_is_delineated_beyond_the_slices_that_were_looked_at(tmp_path: Path) -> None:
    radius_mm = 30.0

    def ball(number: int) -> np.ndarray:
        row, column = np.mgrid[:SIDE, :SIDE]
        body = np.where((row - 80) ** 2 + (column - 80) ** 2 < 78**2, TISSUE_HU, AIR_HU)
        away = ((row - 80) ** 2 + (column - 80) ** 2) * SPACING_MM**2 + ((number - 25) * 2.5) ** 2
        return np.where(away < radius_mm**2, LESION_HU, body).astype(np.int16)

    dataset = mined(tmp_path, series(lesion(key=25), numbers=range(1, 50), picture=ball))
    near, far = (
        next(on_key_slices(KnowsTheBall(), dataset, dataset.key_slices, PredictionSettings(reach_mm=reach_mm)))[0]
        for reach_mm in (10.0, 200.0)
    )
    assert len(near.volume) == len(far.volume) > 20
    assert near.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.25)


def test_detections_name_the_archives_images_where_they_are_given() -> None:
    volume = body_with_a_ball((20, 50, 60), 8.0)
    refs = {name: ImageRef("1", "2", name) for name in volume.images}
    (detection,) = on_volume(KnowsTheBall(), volume, PredictionSettings(), refs=refs)
    assert detection.image == refs["1.2.20"]
    assert all(isinstance(image, ImageRef) for image, _ in detection.volume)


def test_without_masks_the_cross_is_the_detectors_or_that_of_the_box() -> None:
    volume = body_with_a_ball((20, 50, 60), 8.0)
    (detection,) = on_volume(KnowsTheBall(), volume, PredictionSettings(masks=False))
    assert detection.mask is None
    assert detection.volume == ()
    assert detection.long_axis_mm == pytest.approx(14, abs=2)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("step", [(1, 1), (2, 1), (1, 2)])
def test_pixels_that_are_no_squares_change_no_length(masks: bool, step: tuple[int, int]) -> None:
    fine = body_with_a_ball((20, 48, 60), 11.0)
    rows, columns = step
    coarse = Volume(
        fine.hu[:, ::rows, ::columns].copy(), fine.position_mm, float(rows), float(columns), fine.images
    )  # fmt: skip
    (detection,) = on_volume(KnowsTheBall(), coarse, PredictionSettings(masks=masks))
    assert detection.long_axis_mm == pytest.approx(22, abs=2.5)
    assert detection.short_axis_mm == pytest.approx(22, abs=2.5)
    if masks:
        assert detection.volume_mm3 == pytest.approx(4 / 3 * np.pi * 11**3, rel=0.25)


def test_the_long_axis_is_the_longer_one_in_millimetres() -> None:
    tall = Volume(np.full((1, 60, 60), LESION_HU, np.int16), np.zeros(1), 2.0, 1.0, ("1",))

    class Wide(KnowsTheBall):
        def _on(self, hu: np.ndarray) -> Found:
            return Found(np.array([[10.0, 10, 30, 25]]), np.array([0.9]), np.full((1, 4, 2), np.nan))

    (detection,) = on_volume(Wide(), tall, PredictionSettings(masks=False))
    assert (detection.long_axis_mm, detection.short_axis_mm) == (30, 20)


def test_axes_that_span_another_box_than_the_detections_are_not_believed() -> None:
    volume = body_with_a_ball((20, 50, 60), 10.0)

    class WithAxes(KnowsTheBall):
        def _on(self, hu: np.ndarray) -> Found:
            found = super()._on(hu)
            small = np.array([[59.0, 50], [61, 50], [60, 49], [60, 51]])
            return Found(found.boxes_px, found.scores, np.repeat(small[None], len(found.scores), axis=0))

    (detection,) = on_volume(WithAxes(), volume, PredictionSettings(masks=False))
    assert detection.long_axis_mm == pytest.approx(20, abs=2)


def test_a_detection_that_reaches_over_the_edge_is_kept() -> None:
    volume = body_with_a_ball((20, 50, 60), 8.0)

    class OverTheEdge(KnowsTheBall):
        def _on(self, hu: np.ndarray) -> Found:
            return Found(np.array([[-9.0, -9.0, -3.0, -3.0]]), np.array([0.9]), np.full((1, 4, 2), np.nan))

    (detection,) = on_volume(OverTheEdge(), volume, PredictionSettings())
    assert detection.mask is None
    assert detection.box == Box(-9, -9, -3, -3)


def test_scores_below_the_floor_and_more_than_asked_for_are_left_out() -> None:
    volume = body_with_a_ball((20, 50, 60), 8.0)
    assert on_volume(KnowsTheBall(), volume, PredictionSettings(least_score=0.99)) == ()
    assert on_volume(KnowsTheBall(), volume, PredictionSettings(most=0)) == ()


def test_a_blob_filter_serves_as_detector() -> None:
    detections = on_volume(LogBlobs(), body_with_a_ball((20, 50, 60), 8.0), PredictionSettings(masks=False))
    best = max(detections, key=lambda one: one.score)
    assert detections[0] is best


def test_the_axes_of_a_box_are_its_middle_lines_the_longer_first() -> None:
    assert inscribed_ends(Box(0, 0, 10, 4)).tolist() == [[0, 2], [10, 2], [5, 0], [5, 4]]
    assert inscribed_ends(Box(0, 0, 4, 10)).tolist() == [[2, 0], [2, 10], [0, 5], [4, 5]]


class Sees:
    """A detector that finds the same boxes with the same scores on every slice."""

    model_id = "sees"

    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        self.found = Found(np.array(boxes), np.array(scores), np.full((len(scores), 4, 2), np.nan))

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        return tuple(self.found for _ in indices)


def slices(number: int, apart_mm: float) -> Volume:
    names = tuple(f"1.2.{place}" for place in range(number))
    return Volume(np.zeros((number, 32, 32), np.int16), np.arange(number) * apart_mm, 1.0, 1.0, names)


BOXES = [[4.0 * column, 2.0, 4.0 * column + 3, 5.0] for column in range(5)]
SCORES = [0.9, 0.8, 0.7, 0.6, 0.5]


@pytest.mark.parametrize(
    ("most", "kept", "dropped"),
    [(5, 5, {}), (6, 5, {}), (3, 3, {"beyond_most": 2 * 4})],
)
def test_what_is_beyond_the_most_of_a_slice_is_counted(most: int, kept: int, dropped: dict[str, int]) -> None:
    counted: Counter[str] = Counter()
    settings = PredictionSettings(most=most, masks=False)
    found = on_volume(Sees(BOXES, SCORES), slices(4, 2.0), settings, dropped=counted)
    assert (len(found), counted) == (kept, dropped)


def test_what_is_beyond_the_most_of_a_volume_is_counted() -> None:
    counted: Counter[str] = Counter()
    apart = Volume(slices(2, 1.0).hu, np.array([0.0, 90.0]), 1.0, 1.0, ("1.2.0", "1.2.1"))
    settings = PredictionSettings(most=5, masks=False, link_gap_mm=1.0)
    shifted = [[box[0], 20.0, box[2], 23.0] for box in BOXES]

    class Elsewhere(Sees):
        def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
            return (self.found, Sees(shifted, SCORES).found)

    found = on_volume(Elsewhere(BOXES, SCORES), apart, settings, dropped=counted)
    assert (len(found), counted) == (5, {"beyond_most": 5})


@pytest.mark.parametrize("place", ["box", "score"])
def test_a_detection_that_is_no_number_is_counted_and_the_others_are_kept(place: str) -> None:
    boxes, scores = [list(box) for box in BOXES], list(SCORES)
    if place == "box":
        boxes[1][2] = float("inf")
    else:
        scores[1] = float("nan")
    counted: Counter[str] = Counter()
    found = on_volume(Sees(boxes, scores), slices(3, 2.0), PredictionSettings(masks=False), dropped=counted)
    assert sorted(one.score for one in found) == pytest.approx([0.5, 0.6, 0.7, 0.9])
    assert counted == {"not_finite": 3}


def test_on_a_key_slice_they_are_counted_as_well(tmp_path: Path) -> None:
    folder = mined(tmp_path, series(lesion()))
    counted: Counter[str] = Counter()
    settings = PredictionSettings(most=2, masks=False)
    (found,) = on_key_slices(Sees(BOXES, SCORES), folder, folder.key_slices, settings, dropped=counted)
    assert (len(found), counted) == (2, {"beyond_most": 3})


def test_key_slices_without_neighbours_are_known(tmp_path: Path) -> None:
    among, alone = series(lesion()), series(lesion(patient=2), numbers=(5,))
    dataset = mined(tmp_path, among, alone)
    assert [one.file_name for one in without_neighbours(dataset, dataset.key_slices)] == [alone.lesions[0].file_name]
    astray = replace(dataset.key_slices[0], slice_range=(90, 95))
    assert without_neighbours(dataset, [astray]) == (), "it is told when it is looked at, and stops no other"
