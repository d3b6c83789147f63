"""Batches in the order of their steps, made ahead by other processes where asked, and their way to the device."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.training.distributed import World
from models.training.task import Batch, Task


class _Steps(Dataset[Batch]):
    """A task's batches by step, as a `DataLoader` wants them."""

    def __init__(self, task: Task, world: World) -> None:
        self._task = task
        self._world = world

    def __getitem__(self, step: int) -> Batch:
        """The batch that this process takes at a step."""
        return self._task.batch(self._world.batch_number(step))


def batches(task: Task, world: World, steps: range, loaders: int) -> Iterator[Batch]:
    """The batches of `steps`, on the CPU; by `loaders` processes ahead, or in this one where it is 0.

    A batch is a pure function of its step, so the number of processes changes nothing but the pace.
    """
    if not steps:
        return iter(())
    pinned = world.device.type == "cuda"
    loader = DataLoader(
        _Steps(task, world),
        batch_size=None,
        sampler=steps,
        num_workers=loaders,
        pin_memory=pinned,
        worker_init_fn=_leave_stopping_to_the_parent,
    )
    return iter(loader)


def _leave_stopping_to_the_parent(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; a loader ends when its parent does, after the step."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)


def to_device(batch: Batch, device: torch.device, channels_last: bool) -> Batch:
    """The batch on a device, its images (B, C, H, W) in the memory format of the model."""

    def moved(tensor: Tensor) -> Tensor:
        if channels_last and tensor.ndim == 4:
            return tensor.to(device, memory_format=torch.channels_last, non_blocking=True)
        return tensor.to(device, non_blocking=True)

    return {
        name: [moved(one) for one in value] if isinstance(value, list) else moved(value)
        for name, value in batch.items()
    }
