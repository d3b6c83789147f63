"""lesionnet: what it sees, what it is taught, what it says."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion_miner.errors import ConfigError
from models.boxes import iou
from models.detectors import inputs, lesionnet
from models.detectors.decoding import decode
from models.detectors.lesionnet import Maps
from models.detectors.losses import box_loss, ends_loss, losses, mask_loss
from models.detectors.targets import Lesions, Targets, draw, to_cells, to_px


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def a_cross(box: torch.Tensor) -> torch.Tensor:
    """(4, 2) ends whose tight box is that box."""
    x1, y1, x2, y2 = box.tolist()
    return torch.tensor([[x1, (y1 + y2) / 2], [x2, (y1 + y2) / 2], [(x1 + x2) / 2, y1], [(x1 + x2) / 2, y2]])


def lesions(boxes: list[list[float]], side: int, mask_weight: float = 1.0) -> Lesions:
    """Elliptical lesions in a crop."""
    many = torch.tensor(boxes).reshape(-1, 4)
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    masks = [
        (((x - (b[0] + b[2]) / 2) / (b[2] - b[0])) ** 2 + ((y - (b[1] + b[3]) / 2) / (b[3] - b[1])) ** 2 <= 0.25)
        for b in many
    ]
    return Lesions(
        boxes=many,
        ends=torch.stack([a_cross(box) for box in many]) if boxes else torch.zeros(0, 4, 2),
        masks=torch.stack(masks).float() if boxes else torch.zeros(0, side, side),
        mask_weights=torch.full((len(boxes),), mask_weight),
    )


def perfect(targets: Targets) -> Maps:
    """Maps that say exactly what the targets ask for."""
    return Maps(torch.logit(targets.centre, eps=1e-4), targets.sides, targets.ends, torch.logit(targets.mask, eps=1e-4))


class TestInputs:
    def test_a_volume_that_does_not_change_has_no_differences(self) -> None:
        seen = inputs.channels(torch.full((2, 9, 8, 8), 37.0), 4)
        assert seen.shape == (2, inputs.channel_count(9), 8, 8)
        assert (seen[:, 2:] == 0).all()
        assert (seen[:, :2] != 0).all()

    def test_mirrored_slices_give_the_same_channels_in_another_order(self) -> None:
        hu = torch.randn(1, 5, 8, 8) * 300
        straight, mirrored = inputs.channels(hu, 2), inputs.channels(hu.flip(1), 2)
        assert torch.equal(straight[:, :2], mirrored[:, :2])
        assert torch.equal(straight[:, 2:], mirrored[:, 2:].flip(1))

    @pytest.mark.parametrize("slices", [1, 3, 9])
    def test_everything_lies_between_minus_one_and_one_for_any_ct_number(self, slices: int) -> None:
        hu = torch.randint(-32768, 32767, (1, slices, 16, 16)).float()
        seen = inputs.channels(hu, slices // 2)
        assert seen.shape[1] == slices + 1
        assert seen.abs().max() == 1

    def test_lung_tells_apart_in_the_wide_window_alone_and_liver_in_the_soft_one(self) -> None:
        soft, wide = inputs.channels(torch.tensor([-900.0, -700.0, 60.0, 100.0]).reshape(1, 1, 1, 4), 0)[0, :, 0]
        assert soft[0] == soft[1] and wide[1] - wide[0] > 0.2
        assert soft[3] - soft[2] > 0.15 > wide[3] - wide[2]

    def test_the_key_slice_is_the_one_at_zero_millimetres(self) -> None:
        assert inputs.key_index([-3, 0, 6]) == 1
        with pytest.raises(ConfigError, match="slice_offsets_mm"):
            inputs.key_index([-3, 3])


class TestNet:
    @pytest.mark.parametrize(("size", "fewest", "most"), [("XS", 1e5, 2e5), ("S", 6e5, 8e5), ("M", 3e6, 6e6)])
    def test_each_size_has_the_parameters_that_its_name_promises(self, size: str, fewest: float, most: float) -> None:
        assert fewest < lesionnet.parameter_count(lesionnet.build(size, 10)) < most

    def test_maps_have_the_strides_that_they_are_read_with(self) -> None:
        maps = lesionnet.build("XS", 4).eval()(torch.zeros(1, 4, 64, 96))
        assert [tuple(one.shape[1:]) for one in maps] == [(1, 16, 24), (4, 16, 24), (8, 16, 24), (1, 32, 48)]

    def test_an_untrained_net_calls_hardly_anything_a_lesion(self) -> None:
        maps = lesionnet.build("S", 10).eval()(torch.randn(1, 10, 64, 64))
        assert torch.sigmoid(maps.centre).max() < 0.05
        assert maps.sides.min() > -0.5

    def test_memory_format_does_not_change_what_it_says(self) -> None:
        model = lesionnet.build("XS", 4).eval()
        images = torch.randn(1, 4, 64, 64)
        plain = model(images)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        for one, other in zip(plain, last, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    def test_the_copy_for_inference_says_the_same_and_leaves_the_model_as_it_was(self) -> None:
        model = lesionnet.build("XS", 4)
        for _ in range(3):
            model(torch.randn(4, 4, 64, 64) * 3 + 1)
        images = torch.randn(1, 4, 64, 64)
        ready = lesionnet.fused(model)
        assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in ready.modules())
        assert model.training and any(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules())
        for one, other in zip(model.eval()(images), ready(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)

    def test_another_size_is_refused_by_name(self) -> None:
        with pytest.raises(ConfigError, match=r"'L'.*XS, S, M"):
            lesionnet.build("L", 10)


sides_px = st.floats(3.0, 60.0)
centres_px = st.floats(0.0, 127.0)


class TestTargets:
    @given(st.lists(st.tuples(centres_px, centres_px, sides_px, sides_px), min_size=0, max_size=3))
    @settings(max_examples=60, deadline=None)
    def test_what_is_drawn_is_read_back_exactly_where_lesions_stand_apart(
        self, drawn: list[tuple[float, float, float, float]]
    ) -> None:
        boxes = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in drawn]
        apart = all(abs(a[0] - b[0]) > 12 or abs(a[1] - b[1]) > 12 for i, a in enumerate(drawn) for b in drawn[:i])
        many = lesions(boxes, 128)
        if not apart or (len(boxes) and (iou(many.boxes, many.boxes) - torch.eye(len(boxes))).max() > 0.2):
            return
        (found,) = decode(perfect(draw([many], 128, 128)))
        sure = found.scores > 0.99
        assert sure.sum() == len(boxes)
        if boxes:
            order = (found.boxes[sure][:, None] - many.boxes[None]).abs().amax(dim=2).argmin(dim=0)
            torch.testing.assert_close(found.boxes[sure][order], many.boxes, atol=1e-3, rtol=0)
            torch.testing.assert_close(found.ends[sure][order], many.ends, atol=1e-3, rtol=0)

    def test_a_lesion_centred_outside_its_crop_teaches_no_box_but_keeps_its_mask(self) -> None:
        targets = draw([lesions([[110.0, 40.0, 170.0, 90.0]], 128)], 128, 128)
        assert targets.centre.max() == 0 and targets.shape_weight.max() == 0
        assert targets.mask.sum() > 100

    def test_a_mask_that_is_not_trusted_weighs_nothing_around_its_lesion_and_all_else_does(self) -> None:
        targets = draw([lesions([[20.0, 20.0, 40.0, 40.0]], 64, mask_weight=0.0)], 64, 64)
        assert targets.mask_weight[0, 0, 10:21, 10:21].max() == 0
        assert targets.mask_weight[0, 0, :7].min() == 1

    def test_every_lesion_weighs_the_same_however_many_cells_learn_its_box(self) -> None:
        targets = draw([lesions([[8.0, 8.0, 12.0, 12.0]], 128), lesions([[20.0, 20.0, 110.0, 100.0]], 128)], 128, 128)
        assert targets.shape_weight.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1])
        assert (targets.shape_weight[0] > 0).sum() < (targets.shape_weight[1] > 0).sum()

    @given(st.floats(-10, 600), st.sampled_from([2, 4]))
    def test_cells_and_pixels_share_the_corner_of_the_image(self, place: float, side: int) -> None:
        assert to_px(torch.tensor(place), side).item() == pytest.approx((place + 0.5) * side - 0.5, abs=1e-3)
        assert to_px(to_cells(torch.tensor(place), side), side).item() == pytest.approx(place, abs=1e-3)


class TestLosses:
    def test_a_perfect_answer_costs_nearly_nothing_and_an_empty_crop_no_box(self) -> None:
        targets = draw([lesions([[20.0, 24.0, 44.0, 40.0]], 64), lesions([], 64)], 64, 64)
        parts = losses(perfect(targets), targets)
        assert parts["centre"] < 0.05 and parts["mask"] < 0.2
        assert parts["box"] == pytest.approx(0, abs=1e-5) and parts["ends"] == pytest.approx(0, abs=1e-5)
        empty = draw([lesions([], 64)], 64, 64)
        alone = losses(perfect(empty), empty)
        assert all(math.isfinite(part.item()) for part in alone.values()) and alone["box"] == 0

    @pytest.mark.parametrize(("long", "short"), list(product([False, True], repeat=2)))
    def test_the_order_of_an_axis_ends_does_not_matter(self, long: bool, short: bool) -> None:
        ends = torch.randn(1, 8, 3, 3)
        first, second = ends[:, :4], ends[:, 4:]
        turned = torch.cat(
            [first.roll(2, dims=1) if long else first, second.roll(2, dims=1) if short else second], dim=1
        )
        assert ends_loss(turned, ends, torch.ones(1, 4, 3, 3)).abs().max() < 1e-6

    def test_the_axes_themselves_do_not_change_places(self) -> None:
        ends = torch.randn(1, 8, 3, 3)
        assert ends_loss(ends.roll(4, dims=1), ends, torch.ones(1, 4, 3, 3)).min() > 0.05

    def test_a_lesion_without_short_axis_leaves_its_gradient_finite(self) -> None:
        one = lesions([[20.0, 24.0, 44.0, 40.0]], 64)
        one.ends[:, 2:] = torch.nan
        targets = draw([one], 64, 64)
        ends = torch.zeros(1, 8, 16, 16, requires_grad=True)
        (ends_loss(ends, targets.ends, targets.sides) * targets.shape_weight[:, 0]).sum().backward()
        assert ends.grad is not None and ends.grad.isfinite().all()
        assert ends.grad[:, :4].abs().sum() > 0 and ends.grad[:, 4:].abs().sum() == 0

    @given(st.lists(st.floats(0.1, 20), min_size=8, max_size=8))
    @settings(max_examples=50, deadline=None)
    def test_the_box_loss_is_one_minus_iou_where_the_hull_is_the_union_and_never_less(self, sides: list[float]) -> None:
        found, wanted = torch.tensor(sides).reshape(2, 1, 4, 1, 1)
        corners = [torch.cat([-one[0, :2, 0, 0], one[0, 2:, 0, 0]])[None] for one in (found, wanted)]
        overlap = iou(*corners).item()
        loss = box_loss(found, wanted).item()
        assert 1 - overlap - 1e-4 <= loss <= 2 - overlap + 1e-4
        assert box_loss(wanted, wanted).item() == pytest.approx(0, abs=1e-5)

    def test_pixels_without_weight_change_no_mask_loss(self) -> None:
        wanted = (torch.rand(1, 1, 8, 8) > 0.5).float()
        weight = torch.ones_like(wanted)
        weight[..., :4] = 0
        one, other = torch.randn(2, 1, 1, 8, 8)
        other[..., 4:] = one[..., 4:]
        assert mask_loss(one, wanted, weight) == mask_loss(other, wanted, weight)
        assert mask_loss(one, wanted, weight) != mask_loss(one + 1, wanted, weight)


def blobs(count: int, side: int) -> tuple[torch.Tensor, list[Lesions]]:
    """Slices of soft tissue with an ellipse of +60 HU each, as HU (count, 3, side, side), and what they hold."""
    generator = np.random.default_rng([0, count])
    images, held = [], []
    for _ in range(count):
        x, y = generator.uniform(20, side - 20, 2)
        w, h = generator.uniform(10, 28, 2)
        one = lesions([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]], side)
        hu = torch.from_numpy(generator.normal(40, 10, (3, side, side))).float()
        hu[1] += 60 * one.masks[0]
        images.append(hu)
        held.append(one)
    return torch.stack(images), held


class TestLearning:
    def test_a_few_blobs_are_learnt_by_heart_and_found_at_their_place_in_either_precision(self) -> None:
        hu, held = blobs(4, 64)
        seen = inputs.channels(hu, 1).to(memory_format=torch.channels_last)
        targets = draw(held, 64, 64)
        model = lesionnet.build("XS", 4).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        history = []
        for _ in range(120):
            loss = losses(model(seen), targets)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        assert history[-1] < history[0] / 10
        model.eval()
        with torch.no_grad():
            found = decode(model(seen))
            half = decode(model.to(torch.bfloat16)(seen.to(torch.bfloat16)))
        for lesion, exact, coarse in zip(held, found, half, strict=True):
            assert exact.scores[0] > 0.5 and coarse.scores[0] > 0.5
            assert iou(exact.boxes[:1], lesion.boxes).item() > 0.7
            assert iou(exact.boxes[:1], coarse.boxes[:1]).item() > 0.85
