"""The training loop: batch, loss, gradient, step; validated, logged and saved on the way.

Everything that a step depends on is a function of the recipe and the step's number (batch, learning rate, torch's
random numbers) or lies in the checkpoint (`State`), so that a run that was killed and resumed ends with the same
weights to the bit as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deeplesion_miner.errors import MinerError
from models.recipe import Recipe
from models.training import checkpoints, environment
from models.training.batches import batches, to_device
from models.training.distributed import join
from models.training.journal import Journal, NoJournal
from models.training.optimisation import learning_rate
from models.training.places import CHECKPOINTS
from models.training.progress import Progress, Silent
from models.training.state import State
from models.training.task import Batch, Task


class NonFiniteLoss(MinerError):
    """A loss or gradient is not a number: the batch or the recipe must change."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training leaves behind."""

    weights: Mapping[str, Tensor]
    """Of the best validation (the averaged weights), or the last ones without a validation split; on the CPU."""
    step: int
    """After which those weights were taken."""
    steps_done: int
    figures: Mapping[str, float]
    """Of the validation of those weights; {} without one."""
    interrupted: bool
    """True where a stop was asked for: train again with the same arguments to go on."""
    environment: Mapping[str, str]
    """Torch, device, threads and what else results depend on to the bit."""


def train(
    task: Task,
    recipe: Recipe,
    folder: Path,
    *,
    dataset_digest: str = "",
    device: str = "cpu",
    resume: bool = True,
    exact: bool = False,
    loaders: int = 0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains a task and returns its best weights; checkpoints and journal lie in `folder`.

    With `resume` it goes on from the latest whole checkpoint there. `exact` refuses to go on where results could
    differ in the last bits (another torch, CPU ...) instead of saying so. `loaders` processes make batches ahead;
    their number changes no result. Started by torchrun it is one of several processes (DDP). ConfigError for a
    checkpoint of another recipe or dataset; NonFiniteLoss, with the batch's names, for a loss or gradient that is
    not finite (the checkpoints before it stay).
    """
    world = join(device)
    with environment.reproducible(recipe.training, world.device):
        tell = progress if progress is not None and world.leads else Silent()
        state = State(task, recipe, dataset_digest, world)
        if resume:
            state.resume(folder / CHECKPOINTS, exact, tell)
        elif world.leads:
            checkpoints.remove_all(folder / CHECKPOINTS)
        with closing(Journal(folder, state.steps_done) if world.leads else NoJournal()) as journal:
            if not journal.has_board:
                tell.noticed(
                    "TensorBoard is not installed: no logs for it (pip install 'deeplesion-miner[models-more]')"
                )
            _run(state, task, folder, journal, loaders, tell, should_stop)
        world.meet()  # or one could look for the last checkpoint before it is there
        return Trained(
            weights=state.best_weights or state.weights(),
            step=state.best_step or state.steps_done,
            steps_done=state.steps_done,
            figures=state.best_figures,
            interrupted=state.steps_done < recipe.training.steps and not state.gave_up,
            environment=state.facts(),
        )


def _run(
    state: State,
    task: Task,
    folder: Path,
    journal: Journal | NoJournal,
    loaders: int,
    tell: Progress,
    should_stop: Callable[[], bool],
) -> None:
    """The steps that are left."""
    plan, world = state.recipe.training, state.world
    tell.began(state.steps_done, plan.steps)
    left = range(state.steps_done, state.steps_done if state.gave_up else plan.steps)
    for batch in batches(task, world, left, loaders):
        figures = _step(state, task, folder, batch)
        done = state.steps_done
        tell.stepped(done, figures)
        if done % plan.log_every == 0:
            journal.write("step", done, figures)
        if done % plan.validate_every == 0 or done == plan.steps:
            _validate(state, task, journal, tell)
        stops = world.any(should_stop()) or state.gave_up
        if world.leads and (stops or done % plan.checkpoint_every == 0 or done == plan.steps):
            journal.sync()
            state.save(folder / CHECKPOINTS)
        if stops:
            return


def _step(state: State, task: Task, folder: Path, batch: Batch) -> dict[str, float]:
    """One step of the optimiser; the losses, the learning rate and the gradient's length before it was clipped."""
    plan, world, step = state.recipe.training, state.world, state.steps_done
    rate = learning_rate(plan, step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    environment.seed_step(plan.seed, step, world.rank)
    state.model.train()
    state.optimizer.zero_grad()
    with state.autocast():
        losses = state.losses(to_device(batch, world.device, plan.channels_last))
    figures = {name: float(loss.detach()) for name, loss in losses.items()}
    _refuse_non_finite(state, task, folder, figures)
    state.scaler.scale(losses["loss"]).backward()
    state.scaler.unscale_(state.optimizer)
    length = torch.nn.utils.clip_grad_norm_(state.model.parameters(), plan.gradient_clip or math.inf)
    figures |= {"gradient": float(length), "learning_rate": rate}
    if not state.scaler.is_enabled():  # the scaler skips such a step by itself and scales less from then on
        _refuse_non_finite(state, task, folder, figures)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.steps_done += 1
    state.averaged.update(state.model, state.steps_done)
    return figures


def _validate(state: State, task: Task, journal: Journal | NoJournal, tell: Progress) -> None:
    """Validates the averaged weights in the leading process, and keeps them if they are the best so far."""
    with torch.no_grad():
        figures = state.world.from_lead(task.validate(state.averaged.module) if state.world.leads else {})
    if figures:
        is_best = state.judge(figures)
        journal.write("validation", state.steps_done, figures)
        tell.validated(state.steps_done, figures, is_best)


def _refuse_non_finite(state: State, task: Task, folder: Path, figures: Mapping[str, float]) -> None:
    """NonFiniteLoss, in every process, if one of them has a figure that is not finite."""
    bad = {name: value for name, value in figures.items() if not math.isfinite(value)}
    for rank, found in enumerate(state.world.gather(bad)):
        if found:
            step = state.steps_done
            names = task.names(step * state.world.size + rank)
            kept = checkpoints.found(folder / CHECKPOINTS)
            raise NonFiniteLoss(
                f"training stopped at step {step}, not finite: {', '.join(f'{one} {found[one]}' for one in found)};"
                f" its batch: {', '.join(names)}; {f'kept: {kept[0]}' if kept else 'there was no checkpoint yet'};"
                " look at these images, or train afresh with a lower training.learning_rate"
            )
