"""What the loop trains: a task gives batches and losses; the loop knows nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from torch import Tensor, nn

Batch: TypeAlias = Mapping[str, "Tensor | list[Tensor]"]


class Task(Protocol):
    """One thing to learn from one dataset under one recipe."""

    def build(self) -> nn.Module:
        """A new model, its weights drawn from torch's global generator (seeded by the loop)."""

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0), on the CPU: a pure function of the recipe's seed and the step.

        Generators are made by `numpy.random.default_rng([seed, step])`, so that a resumed run sees what an
        uninterrupted one sees without saved state. Under DDP the loop adds the rank to the seed's list.
        """

    def names(self, step: int) -> tuple[str, ...]:
        """Names of the samples in that batch, for the message about a loss that is not finite."""

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Scalar losses, 'loss' being the sum to minimise; `batch` is on the model's device."""

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Figures on the validation split, 'score' being the one to maximise; {} without a validation split."""
