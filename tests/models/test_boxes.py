"""Box arithmetic against slow readings of its definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import boxes

SEEDS = st.integers(0, 2**32 - 1)


def some_boxes(seed: int, count: int, extent: float = 100, largest: float = 40) -> Tensor:
    random = np.random.default_rng([seed, count])
    corner = random.uniform(0, extent, (count, 2))
    return torch.tensor(np.concatenate([corner, corner + random.uniform(0.5, largest, (count, 2))], axis=1))


def slow_iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def slow_nms(every: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(every)), key=lambda index: -scores[index]):
        if all(slow_iou(every[index], every[better]) <= threshold for better in kept):
            kept.append(index)
    return kept


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_overlap_is_what_the_definition_gives_for_each_pair(seed: int) -> None:
    one, other = some_boxes(seed, 7), some_boxes(seed, 5)
    expected = [[slow_iou(first, second) for second in other.tolist()] for first in one.tolist()]
    torch.testing.assert_close(boxes.iou(one, other), torch.tensor(expected, dtype=one.dtype))


def test_boxes_without_area_overlap_nothing() -> None:
    empty = torch.tensor([[3.0, 3, 3, 3]])
    assert boxes.iou(empty, empty).item() == 0
    assert boxes.iou(empty, torch.tensor([[0.0, 0, 9, 9]])).item() == 0
    assert boxes.iou(torch.zeros(0, 4), empty).shape == (0, 1)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, 120), st.floats(0.05, 0.9))
def test_suppression_keeps_what_going_box_by_box_keeps(seed: int, count: int, threshold: float) -> None:
    every = some_boxes(seed, count)
    # few different scores, so that ties are common
    scores = torch.tensor(np.random.default_rng(seed).integers(0, 12, count), dtype=torch.float64)
    kept = boxes.nms(every, scores, threshold)
    assert kept.tolist() == slow_nms(every.tolist(), scores.tolist(), threshold)


def test_suppression_of_many_blocks_is_exact_too_and_may_stop_early() -> None:
    every, scores = some_boxes(3, 1300, extent=60), torch.rand(1300, generator=torch.Generator().manual_seed(1))
    expected = slow_nms(every.tolist(), scores.tolist(), 0.6)
    assert len(every) > 2 * boxes.SUPPRESSED_TOGETHER
    assert boxes.nms(every, scores, 0.6).tolist() == expected
    assert boxes.nms(every, scores, 0.6, most=40).tolist() == expected[:40]


def test_clipping_ends_at_the_edges_of_the_outermost_pixels() -> None:
    clipped = boxes.clip(torch.tensor([[-9.0, -9, 99, 99], [2, 3, 4, 5]]), rows=10, columns=20)
    assert clipped.tolist() == [[-0.5, -0.5, 19.5, 9.5], [2, 3, 4, 5]]


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_decoding_brings_back_what_was_encoded(seed: int) -> None:
    every, anchors = some_boxes(seed, 9), some_boxes(seed + 1, 9)
    torch.testing.assert_close(boxes.decode(boxes.encode(every, anchors), anchors), every)


def test_deltas_are_shifts_in_anchor_sizes_and_logs_of_scales() -> None:
    delta = boxes.encode(torch.tensor([[10.0, 10, 30, 20]]), torch.tensor([[0.0, 0, 10, 10]]))
    torch.testing.assert_close(delta, torch.tensor([[1.5, 1.0, math.log(2), 0.0]]))


def test_decoding_wild_deltas_stays_finite() -> None:
    wild = boxes.decode(torch.tensor([[0.0, 0, 999, 999]]), torch.tensor([[0.0, 0, 16, 16]]))
    assert (wild[0, 2] - wild[0, 0]).item() == pytest.approx(1000)


def slow_roi_align(features: Tensor, box: list[float], stride: int, bins: int, samples: int) -> list[list[list[float]]]:
    """One loop a word of the paper: bins, regularly placed points in each, bilinear interpolation, average."""
    _, rows, columns = features.shape
    bin_width, bin_height = (box[2] - box[0]) / bins, (box[3] - box[1]) / bins

    def reading(channel: Tensor, x: float, y: float) -> float:
        column = min(max((x + 0.5) / stride - 0.5, 0), columns - 1)
        row = min(max((y + 0.5) / stride - 0.5, 0), rows - 1)
        left, top = min(int(column), columns - 2), min(int(row), rows - 2)
        a, b = column - left, row - top
        upper = float(channel[top, left]) * (1 - a) + float(channel[top, left + 1]) * a
        lower = float(channel[top + 1, left]) * (1 - a) + float(channel[top + 1, left + 1]) * a
        return upper * (1 - b) + lower * b

    def mean(channel: Tensor, i: int, j: int) -> float:
        points = [
            (box[0] + bin_width * (j + (u + 0.5) / samples), box[1] + bin_height * (i + (v + 0.5) / samples))
            for u in range(samples)
            for v in range(samples)
        ]
        return sum(reading(channel, x, y) for x, y in points) / len(points)

    return [[[mean(channel, i, j) for j in range(bins)] for i in range(bins)] for channel in features]


@settings(max_examples=6, deadline=None)
@given(SEEDS, st.sampled_from([(7, 2, 8), (3, 1, 4), (2, 3, 1)]))
def test_roi_align_is_what_the_paper_says_also_at_the_border(seed: int, setting: tuple[int, int, int]) -> None:
    bins, samples, stride = setting
    features = torch.rand(2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    every = boxes.clip(some_boxes(seed, 3, extent=6.0 * stride, largest=4.0 * stride), 6 * stride, 8 * stride)
    expected = [slow_roi_align(features, box, stride, bins, samples) for box in every.tolist()]
    found = boxes.roi_align(features, every, stride, bins, samples)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_roi_align_reads_a_ramp_at_the_centres_of_its_bins() -> None:
    stride = 8
    ramp = (torch.arange(16.0) * stride + (stride - 1) / 2).expand(1, 16, 16)
    found = boxes.roi_align(ramp, torch.tensor([[20.0, 20, 90, 90]]), stride)
    torch.testing.assert_close(found[0, 0, 0], 20 + 10 * (torch.arange(7.0) + 0.5))


def test_roi_align_of_no_boxes_is_empty_and_gradients_reach_the_features() -> None:
    features = torch.rand(3, 8, 8, requires_grad=True)
    assert boxes.roi_align(features, torch.zeros(0, 4), 8).shape == (0, 3, 7, 7)
    boxes.roi_align(features, torch.tensor([[8.0, 8, 30, 40]]), 8).sum().backward()
    assert features.grad is not None
    assert features.grad.sum().item() == pytest.approx(3 * 49, rel=1e-5)


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_pooling_by_place_reads_every_bin_from_its_own_map(seed: int) -> None:
    bins, channels = 3, 2
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(bins, bins, channels, 6, 8, dtype=torch.float64, generator=generator)
    every = boxes.clip(some_boxes(seed, 4, extent=48, largest=30), 48, 64)
    found = boxes.roi_align_by_place(features, every, stride=8)
    assert found.shape == (4, channels, bins, bins)
    for i in range(bins):
        for j in range(bins):
            alone = boxes.roi_align(features[i, j], every, stride=8, bins=bins)
            torch.testing.assert_close(found[:, :, i, j], alone[:, :, i, j])


def test_roi_align_of_half_precision_reads_at_exact_places() -> None:
    ramp = torch.arange(64.0, dtype=torch.bfloat16).expand(1, 64, 64)
    # far to the left, where coordinates between -1 and 1 are coarse in half precision but the ramp's values are not
    found = boxes.roi_align(ramp, torch.tensor([[8.0, 100, 22, 200]]), stride=8)
    assert found.dtype == torch.bfloat16
    expected = (8 + 2 * (torch.arange(7.0) + 0.5) + 0.5) / 8 - 0.5
    torch.testing.assert_close(found[0, 0, 3].float(), expected, atol=0.008, rtol=0)
