"""What a detector sees of a key slice and its context: windows of the key slice, differences of the others.

Differences from the key slice need about half the training steps of plainly stacked slices and tell a ball from a tube
better (docs/experiments): what does not change from slice to slice vanishes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deeplesion_miner.errors import ConfigError

WINDOWS_HU = ((-160.0, 240.0), (-1400.0, 200.0))
"""Low and high bound: soft tissue, and wide enough for the lung, which the first one shows in plain black."""
DIFFERENCE_HU = 60.0
"""A difference of so many HU becomes tanh(1): about the contrast of a lesion in soft tissue, above the noise."""


def channel_count(slices: int) -> int:
    """Channels that `channels` makes of so many slices."""
    return len(WINDOWS_HU) + slices - 1


def key_index(slice_offsets_mm: Sequence[float]) -> int:
    """Which of the slices is the key slice, the one at offset 0. ConfigError where it is not there exactly once."""
    found = [number for number, offset in enumerate(slice_offsets_mm) if offset == 0]
    if len(found) != 1:
        raise ConfigError(f"data.slice_offsets_mm {list(slice_offsets_mm)}: 0, the key slice, must be there once")
    return found[0]


def channels(hu: Tensor, key_index: int) -> Tensor:
    """(B, `channel_count(n)`, H, W) between -1 and 1 from (B, n, H, W) Hounsfield units.

    First the key slice in each window, clamped, then the others minus the key slice, in their order, bent by tanh.
    """
    key = hu[:, key_index : key_index + 1]
    windows = [_window(key, low, high) for low, high in WINDOWS_HU]
    others = (hu[:, :key_index], hu[:, key_index + 1 :])
    return torch.cat([*windows, *(torch.tanh((other - key) / DIFFERENCE_HU) for other in others)], dim=1)


def channels_in(hu: Tensor, key_index: int, dtype: torch.dtype) -> Tensor:
    """`channels` as numbers of that type with the channels last in memory, for networks that only look.

    Of types with fewer bits one slice after the other, which stays in the processor's cache, and tanh by the logistic
    function, which is computed three times as fast: what they differ by is far below what such a type tells apart.
    """
    if dtype == torch.float32:
        return channels(hu, key_index).contiguous(memory_format=torch.channels_last)
    key = hu[:, key_index : key_index + 1]
    planes = [_window(key, low, high).to(dtype) for low, high in WINDOWS_HU]
    for index in range(hu.shape[1]):
        if index != key_index:
            halved = (hu[:, index : index + 1] - key).mul_(2 / DIFFERENCE_HU).sigmoid_()
            planes.append(halved.mul_(2).sub_(1).to(dtype))
    return torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last)


def _window(key: Tensor, low: float, high: float) -> Tensor:
    return ((key - low) * (2 / (high - low)) - 1).clamp(-1, 1)
