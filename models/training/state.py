"""What changes while a model is trained: all of it lies in a checkpoint, and comes back from one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deeplesion_miner.errors import ConfigError
from models.precision import dtype_of
from models.recipe import Recipe
from models.training import checkpoints, environment
from models.training.distributed import World
from models.training.optimisation import AveragedModel, optimizer
from models.training.progress import Progress
from models.training.task import Batch, Task


class Losses(nn.Module):
    """Model and losses as one module: what DDP wraps, so that a task may use its model as it likes."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self._task = task
        self.model = model

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """The task's losses on a batch."""
        return self._task.losses(self.model, batch)


class State:
    """Model, averaged model, optimiser, scaler, the best weights and how far it is."""

    def __init__(self, task: Task, recipe: Recipe, dataset_digest: str, world: World) -> None:
        plan = recipe.training
        if plan.precision == "fp16" and world.device.type == "cpu":
            raise ConfigError("recipe: training.precision 'fp16' needs a GPU; write 'bf16' or 'fp32' on a CPU")
        self.recipe = recipe
        self.world = world
        self._dataset_digest = dataset_digest
        torch.manual_seed(plan.seed)
        memory = torch.channels_last if plan.channels_last else torch.contiguous_format
        self.model = task.build().to(world.device, memory_format=memory)  # type: ignore[call-overload]
        self.averaged = AveragedModel(self.model, plan.ema_decay)
        self.optimizer = optimizer(plan, self.model)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=plan.precision == "fp16")
        self.losses: nn.Module = Losses(task, self.model)
        if world.size > 1:
            on = [world.device] if world.device.type == "cuda" else None
            self.losses = DistributedDataParallel(self.losses, device_ids=on, find_unused_parameters=True)
        self.steps_done = 0
        self.best_score = float("-inf")
        self.best_step = 0
        self.best_figures: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}
        self.validations_without_gain = 0

    @property
    def gave_up(self) -> bool:
        """True after `patience` validations without a better score."""
        return 0 < self.recipe.training.patience <= self.validations_without_gain

    def autocast(self) -> torch.autocast:
        """The recipe's precision for a forward pass."""
        name = self.recipe.training.precision
        return torch.autocast(self.world.device.type, dtype=dtype_of(name), enabled=name != "fp32")

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights and buffers, copied to the CPU."""
        return {name: one.detach().cpu().clone() for name, one in self.averaged.module.state_dict().items()}

    def judge(self, figures: Mapping[str, float]) -> bool:
        """Remembers the averaged weights if a validation's score beats all before it; whether it did."""
        if not figures["score"] > self.best_score:
            self.validations_without_gain += 1
            return False
        self.best_score, self.best_step = float(figures["score"]), self.steps_done
        self.best_figures = {name: float(value) for name, value in figures.items()}
        self.best_weights = self.weights()
        self.validations_without_gain = 0
        return True

    def save(self, folder: Path) -> Path:
        """Writes a checkpoint of it all."""
        return checkpoints.save(
            folder,
            self.steps_done,
            {
                "steps_done": self.steps_done,
                "model": self.model.state_dict(),
                "averaged": self.averaged.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "torch_generator": torch.get_rng_state(),
                "best": {
                    "score": self.best_score,
                    "step": self.best_step,
                    "figures": self.best_figures,
                    "weights": self.best_weights,
                    "validations_without_gain": self.validations_without_gain,
                },
                "recipe": self.recipe.to_json(),
                "dataset_digest": self._dataset_digest,
                "environment": self.facts(),
            },
        )

    def resume(self, folder: Path, exact: bool, tell: Progress) -> None:
        """Takes over the latest whole checkpoint of a folder, if there is one.

        ConfigError where it is of another recipe or dataset and, with `exact`, of another environment; without
        `exact` the latter is told.
        """
        for path in checkpoints.found(folder):
            if not checkpoints.is_whole(path):
                tell.noticed(f"{path}: the file is damaged; the checkpoint before it is taken")
                continue
            content = checkpoints.load(path)
            checkpoints.check_same_training(path, content, self.recipe, self._dataset_digest)
            self._check_environment(path, content["environment"], exact, tell)
            self._take(content)
            return

    def _check_environment(self, path: Path, stored: Mapping[str, str], exact: bool, tell: Progress) -> None:
        here = self.facts()
        if stored["processes"] != here["processes"]:
            raise ConfigError(
                f"{path}: was trained by {stored['processes']} processes, now there are {here['processes']}: each step"
                " would see other batches; start as many as before, or --fresh to start anew"
            )
        changed = "; ".join(environment.differences(stored, here))
        if changed and exact:
            raise ConfigError(
                f"{path}: cannot go on to the bit: {changed}; go on where it was trained, or drop --exact"
            )
        if changed:
            tell.noticed(f"{path}: weights may differ in the last bits from an uninterrupted run: {changed}")

    def _take(self, content: Mapping[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        self.averaged.module.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        torch.set_rng_state(content["torch_generator"])
        self.steps_done = content["steps_done"]
        best = content["best"]
        self.best_score, self.best_step = best["score"], best["step"]
        self.best_figures, self.best_weights = dict(best["figures"]), dict(best["weights"])
        self.validations_without_gain = best["validations_without_gain"]

    def facts(self) -> dict[str, str]:
        """What results depend on to the bit beside recipe and dataset."""
        return environment.facts(self.recipe.training, self.world.device, self.world.size)
