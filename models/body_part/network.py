"""The network that scores slices: a small residual CNN on framed slices, with the hand-made profile beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

VIEW_ROWS, VIEW_COLUMNS = 36, 48
"""What the network sees of a frame (FRAME_ROWS x FRAME_COLUMNS), about its centre."""
WINDOWS_HU = ((-1000.0, -300.0), (-150.0, 250.0), (150.0, 1000.0))
"""Lung, soft tissue, bone: one channel each, -1 to 1."""
CENTRE_CM, SPREAD_CM = 56.0, 28.0
"""Scores start about the middle of the nominal adult."""
GROUPS = 2
"""Of the group normalisation: slices of one batch are not independent, so a batch has no statistics of its own."""


def windows(hu: Tensor) -> Tensor:
    """(n, 3, rows, columns) -1 to 1 in WINDOWS_HU of (n, rows, columns) HU."""
    return torch.stack([((hu - low) / (high - low)).clamp(0, 1) * 2 - 1 for low, high in WINDOWS_HU], dim=1)


def central(hu: Tensor) -> Tensor:
    """(n, VIEW_ROWS, VIEW_COLUMNS) the middle of frames (n, FRAME_ROWS, FRAME_COLUMNS)."""
    top, left = (hu.shape[1] - VIEW_ROWS) // 2, (hu.shape[2] - VIEW_COLUMNS) // 2
    return hu[:, top : top + VIEW_ROWS, left : left + VIEW_COLUMNS]


class _Block(nn.Module):
    """Two convolutions and a shortcut; halves the side with stride 2."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(GROUPS, outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1)
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """(n, inside, rows, columns) -> (n, outside, rows / stride, columns / stride)."""
        found = functional.relu(self.first_norm(self.first(values)))
        # Not normalised: how much of something there is, lung above all, must reach the score.
        return functional.relu(self.second(found) + self.shortcut(values))


class BodyPartNetwork(nn.Module):
    """Scores slices in centimetres below the vertex of a nominal adult."""

    profile_mean: Tensor
    profile_spread: Tensor

    def __init__(self, features: int, width: int = 16, use_profile: bool = True, use_image: bool = True,
                 dropout: float = 0.2) -> None:  # fmt: skip
        """`features`: length of a profile; ValueError where neither the image nor the profile is used."""
        super().__init__()
        if not (use_image or use_profile):
            raise ValueError("a network that sees neither the image nor the profile")
        self.use_profile, self.use_image = use_profile, use_image
        self.register_buffer("profile_mean", torch.zeros(features))
        self.register_buffer("profile_spread", torch.ones(features))
        self.stem = nn.Sequential(nn.Conv2d(len(WINDOWS_HU), width, 3, 2, 1), nn.ReLU())
        self.stages = nn.Sequential(_Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2))
        image = 4 * width * 4 if use_image else 0
        hidden = 32
        self.described = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Sequential(
            nn.Linear(image + (hidden if use_profile else 0), hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def set_profile_scale(self, mean: Sequence[float], spread: Sequence[float]) -> None:
        """Keeps how profiles of the training volumes are distributed; part of the weights."""
        self.profile_mean.copy_(torch.tensor(list(mean)))
        self.profile_spread.copy_(torch.tensor(list(spread)))

    def forward(self, hu: Tensor, profile: Tensor) -> Tensor:
        """(n,) scores of views (n, VIEW_ROWS, VIEW_COLUMNS) HU and their profiles (n, features)."""
        seen = []
        if self.use_image:
            found = self.stages(self.stem(windows(hu)))
            # Halves, not one average: where in the picture something lies matters (lung above liver, liver's side).
            seen.append(self.dropout(functional.adaptive_avg_pool2d(found, 2).flatten(1)))
        if self.use_profile:
            known = ((profile - self.profile_mean) / self.profile_spread).clamp(-4, 4)
            seen.append(self.described(known))
        scored: Tensor = self.score(torch.cat(seen, dim=1))
        return CENTRE_CM + SPREAD_CM * scored[:, 0]
