"""lesionnet behind the detectors' port: places on the slice, masks, RECIST axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from deeplesion_miner.errors import ConfigError
from models.detectors.decoding import Decoded
from models.detectors.found_masks import crop_of, lesion_bits
from models.detectors.lesionnet import SIZES, Lesionnet
from models.detectors.lesionnet_detector import LesionnetDetector, Plane, found_on, mask_crop, model_of
from models.reading.grid import grid_over
from models.recipe import DataRecipe, Recipe
from models.volume import Volume

RECIPE = Recipe("test", "lesionnet", model={"size": "XS"}, data=DataRecipe(slice_offsets_mm=(-3.0, 0.0, 3.0)))


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def a_volume(rows: int = 70, columns: int = 90, value: int = -1000) -> Volume:
    return Volume(np.full((3, rows, columns), value, np.int16), np.arange(3) * 3.0, 0.8, 1.1, ("a", "b", "c"))


def an_ellipse(plane: Plane, column: float, row: float, half_long_mm: float, half_short_mm: float) -> torch.Tensor:
    """(1, 64, 64) mask logits on cells of two pixels of the network's grid, the long axis along the rows."""
    cells = (np.arange(64) + 0.5) * 2 - 0.5
    x, y = np.meshgrid(cells, cells)
    image = plane.grid.to_image(np.stack([x, y], axis=-1))
    away = ((image[..., 0] - column) * plane.col_spacing_mm / half_long_mm) ** 2 + (
        (image[..., 1] - row) * plane.row_spacing_mm / half_short_mm
    ) ** 2
    return torch.from_numpy(8 * (1 - away)).float()[None]


PLANE = Plane(200, 160, row_spacing_mm=0.8, col_spacing_mm=1.1, grid=grid_over(200, 160, 0.8, 1.1, pixel_mm=1.5))


def decoded(boxes: list[list[float]], scores: list[float]) -> Decoded:
    """Detections with boxes in pixels of the slice and ends that all lie at (1, 1)."""
    corners = PLANE.grid.to_network(np.array(boxes, np.float64).reshape(-1, 2, 2)).reshape(-1, 4)
    one = PLANE.grid.to_network(np.ones((len(boxes), 4, 2)))
    return Decoded(torch.from_numpy(corners).float(), torch.tensor(scores), torch.from_numpy(one).float())


class TestFound:
    def test_axes_are_those_of_the_mask_and_the_box_stays_where_it_was(self) -> None:
        mask = an_ellipse(PLANE, column=60.0, row=70.0, half_long_mm=15.0, half_short_mm=9.0)
        box = [60 - 15 / 1.1, 70 - 9 / 0.8, 60 + 15 / 1.1, 70 + 9 / 0.8]
        found = found_on(decoded([box], [0.9]), mask, PLANE)
        np.testing.assert_allclose(found.boxes_px[0], box, atol=1e-3)
        long_axis, short_axis = found.ends_px[0].reshape(2, 2, 2)
        lengths = [np.hypot(*((axis[1] - axis[0]) * [1.1, 0.8])) for axis in (long_axis, short_axis)]
        assert lengths == pytest.approx([30, 18], abs=1.2)
        assert np.mean(long_axis, axis=0) == pytest.approx([60, 70], abs=0.6)

    def test_the_mask_lies_on_the_slice_where_the_lesion_lies(self) -> None:
        mask = an_ellipse(PLANE, column=60.0, row=70.0, half_long_mm=12.0, half_short_mm=12.0)
        box = [60 - 12 / 1.1, 70 - 12 / 0.8, 60 + 12 / 1.1, 70 + 12 / 0.8]
        bits = lesion_bits(mask_crop(mask[0].numpy(), np.array(box), PLANE.grid))
        assert bits is not None
        left, top, _, _ = crop_of(np.array(box))
        rows, columns = np.nonzero(bits)
        assert (columns.mean() + left, rows.mean() + top) == pytest.approx((60, 70), abs=0.3)
        assert len(rows) * 1.1 * 0.8 == pytest.approx(np.pi * 144, rel=0.05)

    def test_a_mask_that_says_nothing_leaves_the_axes_of_the_net(self) -> None:
        for mask in (torch.full((1, 64, 64), -5.0), None):
            found = found_on(decoded([[50, 50, 70, 80]], [0.9]), mask, PLANE)
            np.testing.assert_allclose(found.ends_px, 1, atol=1e-4)

    def test_what_lies_in_the_padding_is_not_found(self) -> None:
        found = found_on(decoded([[170, 50, 180, 60], [50, 50, 70, 80]], [0.9, 0.8]), torch.zeros(1, 64, 64), PLANE)
        assert found.scores.tolist() == pytest.approx([0.8])

    def test_of_several_parts_the_largest_is_the_lesion_without_holes(self) -> None:
        logits = np.full((12, 12), -1.0, np.float32)
        logits[1:7, 1:7] = 1
        logits[3, 3] = -1
        logits[9:11, 9:11] = 1
        bits = lesion_bits(logits)
        assert bits is not None and bits.sum() == 36 and bits[3, 3] and not bits[9, 9]

    def test_a_crop_holds_every_pixel_that_its_box_touches(self) -> None:
        assert crop_of(np.array([2.2, -0.4, 5.0, 3.1])) == (2, -1, 4, 6)


class SeesOneLesion(Lesionnet):
    """An ellipse of 16 x 28 mm (across x down) about the middle of the grid."""

    def __init__(self) -> None:
        super().__init__(4, SIZES["XS"])
        self.centre_head = SeesTheMiddle()
        sides = torch.tensor([8.0, 14, 8, 14]) / 1.5 / 4
        torch.nn.init.zeros_(self.shape_head[-1].weight)
        with torch.no_grad():
            self.shape_head[-1].bias[:4] = torch.log(torch.expm1(sides + 0.5)) - math.log(math.expm1(2.0))

    def masks(self, stem: torch.Tensor, pyramid: torch.Tensor) -> torch.Tensor:
        rows, columns = pyramid.shape[-2:]
        x, y = torch.meshgrid(torch.arange(2.0 * columns), torch.arange(2.0 * rows), indexing="xy")
        x, y = (x - columns - 0.5) * 3.0, (y - rows - 0.5) * 3.0
        return (8 * (1 - (x / 8) ** 2 - (y / 14) ** 2))[None, None]


class SeesTheMiddle(nn.Module):
    """A centre head that is sure of the middle."""

    def forward(self, pyramid: torch.Tensor) -> torch.Tensor:
        rows, columns = pyramid.shape[-2:]
        centre = torch.full((1, 1, rows, columns), -9.0)
        centre[0, 0, rows // 2, columns // 2] = 5.0
        return centre


class TestDetector:
    def test_axes_are_those_in_millimetres_where_pixels_are_no_squares(self) -> None:
        volume = Volume(np.zeros((1, 60, 160), np.int16), np.zeros(1), 2.4, 0.8, ("a",))
        (found,) = LesionnetDetector(SeesOneLesion(), RECIPE, "id").detect(volume, [0])
        long_axis, short_axis = found.ends_px[0].reshape(2, 2, 2)
        lengths = [np.hypot(*((axis[1] - axis[0]) * [0.8, 2.4])) for axis in (long_axis, short_axis)]
        assert lengths == pytest.approx([28, 16], abs=3)
        assert abs(long_axis[1, 1] - long_axis[0, 1]) * 2.4 > 24, "it runs from row to row"

    def test_each_slice_gets_an_answer_with_boxes_on_the_slice(self) -> None:
        volume = a_volume()
        volume.hu[1, 20:40, 30:50] = 60
        found = LesionnetDetector(model_of(RECIPE), RECIPE, "id").detect(volume, [1, 0])
        assert len(found) == 2
        for one in found:
            assert len(one.scores) == len(one.boxes_px) == len(one.ends_px)
            assert (np.diff(one.scores) <= 0).all()
            centres = (one.boxes_px[:, :2] + one.boxes_px[:, 2:]) / 2
            assert (centres >= -0.5).all() and (centres < [89.5, 69.5]).all()

    def test_nothing_is_found_on_an_empty_slice_by_a_net_that_sees_nothing(self) -> None:
        model = model_of(RECIPE)
        torch.nn.init.constant_(model.centre_head[-1].bias, -20.0)
        (found,) = LesionnetDetector(model, RECIPE, "id").detect(a_volume(), [1])
        assert found.boxes_px.shape == (0, 4) and found.ends_px.shape == (0, 4, 2)

    def test_the_model_that_it_was_given_can_still_be_trained(self) -> None:
        model = model_of(RECIPE)
        LesionnetDetector(model, RECIPE, "id", precision="bf16").detect(a_volume(), [1])
        model(torch.randn(2, 4, 64, 64)).centre.sum().backward()
        assert next(model.parameters()).dtype == torch.float32

    def test_options_and_precisions_that_there_are_not_are_refused_by_name(self) -> None:
        with pytest.raises(ConfigError, match=r"model\.depth"):
            model_of(Recipe("mine", "lesionnet", model={"size": "S", "depth": 3}))
        with pytest.raises(ConfigError, match="int8"):
            LesionnetDetector(model_of(RECIPE), RECIPE, "id", precision="int8")
