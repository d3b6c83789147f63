"""A task that trains in milliseconds, for tests of the loop: which side of a noisy image is brighter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.recipe import Recipe, TrainingRecipe
from models.training.task import Batch

QUICK = TrainingRecipe(
    steps=12, batch=4, learning_rate=1e-2, ema_decay=0.9, validate_every=4, checkpoint_every=3, weight_decay=1e-2
)


def recipe(**training: Any) -> Recipe:
    return Recipe(name="toy", kind="toy", training=replace(QUICK, **training))


@dataclass
class ToyTask:
    """Has what trips a resume: BatchNorm's buffers, dropout, a memory format that matters."""

    plan: Recipe
    poisoned_step: int | None = None
    """Whose batch holds a NaN."""
    validates: bool = True

    def build(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 1),
        )

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng([self.plan.training.seed, step])
        images, sides = self._images(random, self.plan.training.batch)
        if step == self.poisoned_step:
            images[0, 0, 0, 0] = float("nan")
        return {"images": images, "sides": sides}

    def names(self, step: int) -> tuple[str, ...]:
        return tuple(f"image {step}-{number}" for number in range(self.plan.training.batch))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        images, sides = batch["images"], batch["sides"]
        assert isinstance(images, Tensor)
        assert isinstance(sides, Tensor)
        side = nn.functional.binary_cross_entropy_with_logits(model(images)[:, 0], sides)
        return {"loss": side, "side": side.detach()}

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        if not self.validates:
            return {}
        images, sides = self._images(np.random.default_rng([self.plan.training.seed, 10**6]), 32)
        right = (model(images)[:, 0] > 0) == (sides > 0)
        return {"score": float(right.float().mean())}

    @staticmethod
    def _images(random: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(random.normal(size=(count, 2, 8, 8)).astype(np.float32))
        sides = torch.from_numpy(random.integers(0, 2, count).astype(np.float32))
        images[:, :, :, 4:] += sides[:, None, None, None]
        return images, sides
