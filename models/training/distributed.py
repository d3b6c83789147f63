"""The processes that train together (DDP, started by torchrun), and what they tell each other."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from models.training.environment import pick_device

TIME_OUT = timedelta(hours=2)
"""Of the processes that wait while the first one validates."""
LOOPBACK_NAMES = ("127.0.0.1", "::1", "localhost")
LOOPBACK_INTERFACES = ("lo", "lo0")

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """One process among `size`; a training without torchrun is a world of one, which talks to nobody."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """True in the one process that validates, logs and writes files."""
        return self.rank == 0

    def batch_number(self, step: int) -> int:
        """Which of a task's batches this process takes at a step: no two processes share one."""
        return step * self.size + self.rank

    def any(self, flag: bool) -> bool:
        """True in every process if it is true in one."""
        return any(self.gather(flag))

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.size == 1:
            return [value]
        values = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def meet(self) -> None:
        """Waits until every process is here."""
        self.gather(None)

    def from_lead(self, value: T) -> T:
        """The leading process's value, in every process."""
        return self.gather(value)[0]


def join(device: str) -> World:
    """The world that torchrun describes in the environment (gloo on CPUs, nccl on GPUs), or a world of one.

    A process joins once and stays until it ends: torchrun's store does not let the same processes meet twice.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    picked = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        return World(0, 1, picked)
    if picked.type == "cuda":
        torch.cuda.set_device(picked)
    if not dist.is_initialized():
        stay_on_this_machine()
        # Its functions keep, as their default, the group that is there when they are imported: DDP imports them, and
        # gloo's threads would outlive the group and abort the process at its end.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if picked.type == "cuda" else "gloo", timeout=TIME_OUT)
        atexit.register(leave)
    return World(dist.get_rank(), size, picked)


def leave() -> None:
    """Parts from the other processes and ends the threads that talked to them; nothing if it has not joined.

    At the end of a process it happens by itself.
    """
    if dist.is_initialized():
        gc.collect()  # a model in a cycle of references still holds the group
        dist.destroy_process_group()


def stay_on_this_machine() -> None:
    """Lets gloo talk over the loopback interface where the leading process is reached by it.

    By itself gloo binds to what the host's own name resolves to: nothing at all, or an address out of reach, on
    many a container.
    """
    if os.environ.get("MASTER_ADDR") not in LOOPBACK_NAMES:
        return
    for _, name in socket.if_nameindex():
        if name in LOOPBACK_INTERFACES:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
