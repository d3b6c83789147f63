"""Where a training runs: its device, and what must stay the same for results to be equal to the bit."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch

from deeplesion_miner.errors import ConfigError
from models.recipe import TrainingRecipe

DEVICES = ("auto", "cpu", "cuda")
CUBLAS_WORKSPACE = ":4096:8"
"""Makes cuBLAS deterministic; https://docs.nvidia.com/cuda/cublas/#results-reproducibility."""


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a process: 'auto' takes a GPU where there is one. ConfigError for a GPU that is not there."""
    if name not in DEVICES:
        raise ConfigError(f"device {name!r}: write one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': torch sees no GPU here; take 'cpu' or 'auto', or install torch for your GPU")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def facts(plan: TrainingRecipe, device: torch.device, world_size: int) -> dict[str, str]:
    """What results depend on to the bit beside recipe and data; stored with every checkpoint."""
    return {
        "torch": str(torch.__version__),
        # batches are drawn by the one and resampled by the other
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "machine": platform.machine(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(plan.threads),
        "memory format": "channels_last" if plan.channels_last else "contiguous",
        "processes": str(world_size),
    }


def differences(stored: Mapping[str, str], here: Mapping[str, str]) -> tuple[str, ...]:
    """Every fact that changed, as 'threads was 1, is 2'."""
    names = [*stored, *(name for name in here if name not in stored)]
    return tuple(
        f"{name} was {stored.get(name, 'not stored')}, is {here.get(name, 'not known')}"
        for name in names
        if stored.get(name) != here.get(name)
    )


@contextmanager
def reproducible(plan: TrainingRecipe, device: torch.device) -> Iterator[None]:
    """Sets torch's threads and deterministic kernels for a training, and puts back what was there before.

    On a GPU a kernel without a deterministic form is used with torch's warning; on the CPU it is an error.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    fill = memory.fill_uninitialized_memory
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.set_num_threads(plan.threads)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    memory.fill_uninitialized_memory = False  # costs time; our code writes before it reads
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill


def seed_step(seed: int, step: int, rank: int) -> None:
    """Sets torch's generators for one step from its number, so that a resumed run needs no generator's state."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
