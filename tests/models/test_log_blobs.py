"""The blob detector finds what is planted, at its place and scale, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.boxes import iou
from models.detectors.log_blobs import LogBlobs
from models.volume import Volume


def a_slice(rows: int = 120, columns: int = 140, row_mm: float = 1.0, col_mm: float = 1.0) -> Volume:
    """One slice of homogeneous soft tissue."""
    return Volume(np.full((1, rows, columns), 40, np.int16), np.zeros(1), row_mm, col_mm, ("one",))


def plant(volume: Volume, column: float, row: float, radius_mm: float, hu: int) -> None:
    """Sets the CT number of a disc, round in millimetres."""
    y, x = np.ogrid[: volume.hu.shape[1], : volume.hu.shape[2]]
    away = ((x - column) * volume.col_spacing_mm) ** 2 + ((y - row) * volume.row_spacing_mm) ** 2
    volume.hu[0][away <= radius_mm**2] = hu


@pytest.mark.parametrize("hu", [120, -40])
@pytest.mark.parametrize("radius_mm", [5.5, 13.0])
def test_a_planted_disc_is_the_best_blob_at_its_place_and_scale(hu: int, radius_mm: float) -> None:
    volume = a_slice()
    plant(volume, 61, 48, radius_mm, hu)
    (found,) = LogBlobs().detect(volume, [0])
    x1, y1, x2, y2 = found.boxes_px[0]
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((61, 48), abs=1)
    assert (x2 - x1) / 2 == pytest.approx(radius_mm, abs=1)
    assert np.isnan(found.ends_px).all()


def test_pixels_that_are_not_square_give_boxes_that_are_square_in_millimetres() -> None:
    volume = a_slice(row_mm=0.8, col_mm=1.2)
    plant(volume, 70, 60, 8.5, 120)
    (found,) = LogBlobs().detect(volume, [0])
    x1, y1, x2, y2 = found.boxes_px[0]
    assert (x2 - x1 + 1) * 1.2 == pytest.approx((y2 - y1 + 1) * 0.8, abs=0.1)
    wanted = [70 - 8.5 / 1.2, 60 - 8.5 / 0.8, 70 + 8.5 / 1.2, 60 + 8.5 / 0.8]
    assert iou(torch.from_numpy(found.boxes_px[:1]), torch.tensor([wanted])).item() > 0.8


def test_a_disc_as_bright_as_the_window_is_sure_and_a_faint_one_is_not() -> None:
    sure, faint = a_slice(), a_slice()
    sure.hu[:] = -160
    plant(sure, 60, 60, 8.5, 240)
    plant(faint, 60, 60, 8.5, 60)
    (one,), (other,) = LogBlobs().detect(sure, [0]), LogBlobs().detect(faint, [0])
    assert one.scores[0] == pytest.approx(1, abs=0.05)
    assert other.scores[0] == pytest.approx(20 / 400, abs=0.01)


def test_scores_fall_and_the_limit_holds() -> None:
    volume = a_slice()
    volume.hu[0] += np.random.default_rng([0]).integers(-200, 200, volume.hu[0].shape).astype(np.int16)
    (found,) = LogBlobs(limit=7).detect(volume, [0])
    assert len(found.scores) == len(found.boxes_px) == 7
    assert (np.diff(found.scores) <= 0).all()


def test_nothing_is_found_where_nothing_is() -> None:
    (found,) = LogBlobs().detect(a_slice(), [0])
    assert found.boxes_px.shape == (0, 4) and found.scores.shape == (0,) and found.ends_px.shape == (0, 4, 2)
