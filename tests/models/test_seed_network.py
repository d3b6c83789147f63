"""The seed detector as a whole: shapes, a step, two images learnt by heart."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models import boxes
from models.detectors.seed_losses import losses
from models.detectors.seed_network import SeedNetwork, found_boxes
from models.detectors.seed_options import SeedOptions

SMALL = {"width": 1 / 8, "proposals_before": (400, 400), "proposals_after": (100, 50)}
FASTER = SeedOptions(**SMALL)  # type: ignore[arg-type]
CONTEXT = SeedOptions(head="3dce", images=3, **SMALL)  # type: ignore[arg-type]
SIDE = 128
LESIONS = [torch.tensor([[30.0, 40, 62, 76]]), torch.tensor([[80.0, 20, 104, 40], [20, 80, 50, 120]])]


def two_images(options: SeedOptions) -> Tensor:
    """(2, slices, SIDE, SIDE) HU: noise with brighter rectangles where LESIONS are, on all slices."""
    hu = np.random.default_rng([7]).normal(30, 10, (2, options.slices, SIDE, SIDE)).astype(np.float32)
    for image, lesions in zip(hu, LESIONS, strict=True):
        for left, top, right, bottom in lesions.int().tolist():
            image[:, top:bottom, left:right] += 60
    return torch.from_numpy(hu)


def network(options: SeedOptions) -> SeedNetwork:
    torch.manual_seed(0)
    return SeedNetwork(options)


@pytest.mark.parametrize("options", [FASTER, CONTEXT], ids=["faster-rcnn", "3dce"])
def test_two_images_are_learnt_by_heart(options: SeedOptions) -> None:
    # from drawn weights AdamW learns in a tenth of the steps of SGD
    model, hu = network(options), two_images(options)
    optimizer = torch.optim.AdamW(model.parameters())
    first = last = 0.0
    for step in range(100):
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 5) * (1 - step / 100)
        loss = losses(model(hu, LESIONS), LESIONS, SIDE, SIDE, options)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < first / 3
    with torch.no_grad():
        found = found_boxes(model.eval()(hu), SIDE, SIDE, options)
    for one, lesions in zip(found, LESIONS, strict=True):
        best = boxes.iou(one.boxes[: len(lesions)], lesions)
        assert (best.max(dim=0).values >= 0.5).all(), best


def test_a_step_changes_every_weight_also_of_images_beside_the_key_image() -> None:
    model, hu = network(CONTEXT), two_images(CONTEXT)
    every = losses(model(hu, LESIONS), LESIONS, SIDE, SIDE, CONTEXT)
    every["loss"].backward()
    assert set(every) == {"loss", "anchor", "anchor_box", "region", "region_box"}
    assert every["loss"].item() == pytest.approx(sum(part.item() for name, part in every.items() if name != "loss"))
    unmoved = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert unmoved == []


def test_samples_without_lesions_give_a_loss_without_boxes() -> None:
    none = [torch.zeros(0, 4), torch.zeros(0, 4)]
    found = losses(network(FASTER)(two_images(FASTER), none), none, SIDE, SIDE, FASTER)
    assert found["anchor_box"] == 0 and found["region_box"] == 0
    assert torch.isfinite(found["loss"]) and found["loss"] > 0


def test_a_sample_s_answer_does_not_depend_on_its_neighbour_in_the_batch() -> None:
    model, hu = network(CONTEXT).eval(), two_images(CONTEXT)
    with torch.no_grad():
        together, alone = model(hu), model(hu[1:])
    torch.testing.assert_close(together.objectness[1:], alone.objectness, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.class_logits[1], alone.class_logits[0], atol=1e-5, rtol=1e-4)


def test_proposals_come_from_the_key_image_and_verdicts_from_all() -> None:
    model, hu = network(CONTEXT).eval(), two_images(CONTEXT)
    other = hu.clone()
    other[:, 0] += 500  # the first slice of the image before the key image
    with torch.no_grad():
        one, two = model(hu), model(other)
    assert torch.equal(one.objectness, two.objectness)
    assert not torch.equal(one.class_logits[0], two.class_logits[0])


def test_proposals_are_as_large_and_as_many_as_the_options_say_and_lie_on_the_image() -> None:
    model = network(FASTER).eval()
    with torch.no_grad():
        judged = model(two_images(FASTER))
    assert judged.anchors.shape == (16 * 16 * 15, 4) and judged.objectness.shape == (2, 16 * 16 * 15)
    for regions in judged.regions:
        assert 0 < len(regions) <= 50
        assert ((regions[:, 2:] - regions[:, :2]) >= 8).all()
        assert (regions >= -0.5).all() and (regions <= SIDE - 0.5).all()
        assert (boxes.iou(regions, regions) - torch.eye(len(regions))).max() <= 0.7


def test_another_number_of_slices_is_refused() -> None:
    with pytest.raises(ValueError, match="9 slices"):
        network(CONTEXT)(torch.zeros(1, 3, 64, 64))
