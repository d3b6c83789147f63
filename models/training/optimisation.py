"""The optimiser, the learning rate of each step and the averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from models.recipe import TrainingRecipe

FIRST_SHARE = 1 / 25
"""Of the highest learning rate, at the first step (as in one-cycle schedules, Smith and Topin 2018)."""
FALL = 0.1
"""What remains of the learning rate after each milestone."""


def optimizer(plan: TrainingRecipe, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW or SGD with momentum; biases and the scales of norms do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=plan.learning_rate)
    return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum)


def learning_rate(plan: TrainingRecipe, step: int) -> float:
    """Of a step (from 0): up in a line over the share `warm_up` of the steps, then down.

    Down to 0 along a cosine, or by a factor of ten at each of the recipe's milestones.
    """
    rising = plan.warm_up * plan.steps
    if step < rising:
        return plan.learning_rate * (FIRST_SHARE + (1 - FIRST_SHARE) * step / rising)
    if plan.milestones:
        passed = sum(step >= milestone * plan.steps for milestone in plan.milestones)
        return plan.learning_rate * FALL**passed
    falling = (step - rising) / max(plan.steps - rising, 1)
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * falling))


class AveragedModel:
    """A copy of a model whose weights and buffers follow the trained ones slowly (exponential moving average)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, steps_done: int) -> None:
        """Follows the model after its step number `steps_done` (from 1); the first steps are followed faster."""
        decay = min(self._decay, steps_done / (10 + steps_done)) if self._decay else 0.0
        for own, new in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(new, 1 - decay)
            else:
                own.copy_(new)
