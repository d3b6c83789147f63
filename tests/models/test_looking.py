"""Looking computes less than the maps hold, and says what they say."""

from __future__ import annotations

import pytest
import torch

from models.detectors import inputs, lesionnet
from models.detectors.decoding import decode
from models.detectors.lesionnet import Lesionnet
from models.detectors.looking import look


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def a_net(size: str = "XS") -> Lesionnet:
    """One whose normalisations and heads are not those of a new one: it says something else in each cell."""
    model = lesionnet.build(size, 4)
    for head in (model.centre_head, model.shape_head):
        torch.nn.init.normal_(head[-1].weight, std=0.5)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    model(torch.randn(4, 4, 64, 64))
    return lesionnet.fused(model)


def slices(rows: int = 96, columns: int = 128) -> torch.Tensor:
    return torch.randn(3, rows, columns) * 300


class TestLook:
    @pytest.mark.parametrize("size", ["XS", "S"])
    def test_it_finds_what_the_maps_hold_at_the_edges_of_the_slice_too(self, size: str) -> None:
        model, hu = a_net(size), slices()
        maps = model(inputs.channels_in(hu[None], 1, torch.float32))
        (wanted,) = decode(maps)
        seen = look(model, hu, 1)
        columns = ((wanted.ends.mean(dim=1) + 0.5) / 4).floor()
        assert len(wanted.scores) > 20 and wanted.scores.std() > 0.01 and columns.std() > 1
        for one, other in zip(
            (seen.lesions.scores, seen.lesions.boxes, seen.lesions.ends, seen.mask),
            (wanted.scores, wanted.boxes, wanted.ends, maps.mask[0]),
            strict=True,
        ):
            assert one is not None
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)

    def test_in_every_cell_of_the_border_the_shape_is_that_of_the_maps(self) -> None:
        model, hu = a_net(), slices(32, 32)
        maps = model(inputs.channels_in(hu[None], 1, torch.float32))
        # 64 cells are fewer than the most that are looked at: all are
        (wanted,), seen = decode(maps), look(model, hu, 1)
        assert maps.centre.numel() == 64
        torch.testing.assert_close(seen.lesions.boxes, wanted.boxes, rtol=1e-4, atol=1e-3)

    def test_in_few_bits_it_says_the_same_within_what_they_tell_apart(self) -> None:
        model, hu = a_net(), slices()
        exact = torch.sigmoid(model(inputs.channels(hu[None], 1)).centre).max()
        coarse = look(model.to(torch.bfloat16), hu, 1)
        assert coarse.lesions.scores[0].item() == pytest.approx(exact.item(), abs=0.05)
        assert coarse.mask is not None and coarse.mask.dtype == torch.bfloat16

    def test_there_is_a_mask_only_where_a_lesion_is_sure_enough(self) -> None:
        model, hu = a_net(), slices()
        best = look(model, hu, 1).lesions.scores[0].item()
        assert look(model, hu, 1, best - 1e-4).mask is not None
        assert look(model, hu, 1, best + 1e-4).mask is None


class TestInputs:
    @pytest.mark.parametrize(("slices", "key"), [(1, 0), (3, 1), (5, 1)])
    def test_channels_in_few_bits_are_the_channels_rounded(self, slices: int, key: int) -> None:
        hu = torch.randint(-1024, 3000, (2, slices, 32, 32)).float()
        wanted = inputs.channels(hu, key)
        for dtype, tolerance in ((torch.float32, 0.0), (torch.bfloat16, 2**-8), (torch.float16, 2**-10)):
            found = inputs.channels_in(hu, key, dtype)
            assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
            assert (found.float() - wanted).abs().max() <= tolerance
