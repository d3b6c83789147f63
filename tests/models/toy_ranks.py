"""One of the processes that torchrun starts for a test: trains the toy task whole, and in two halves."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from toy_task import ToyTask, recipe

from models.training.distributed import join, leave
from models.training.loop import train
from models.training.model_folder import weights_digest
from models.training.task import Batch

folder = Path(sys.argv[1])
plan = recipe()
seen: list[int] = []
networks: list[torch.nn.Module] = []


class Watched(ToyTask):
    """Keeps the network that this process trains and the numbers of its batches."""

    def build(self) -> torch.nn.Module:
        networks.append(super().build())
        return networks[-1]

    def batch(self, step: int) -> Batch:
        seen.append(step)
        return super().batch(step)


def main() -> None:
    trained = train(Watched(plan), plan, folder / "whole")
    batches = sorted(seen)
    asked = iter([False] * 4 + [True])
    train(ToyTask(plan), plan, folder / "halves", should_stop=lambda: next(asked))
    resumed = train(ToyTask(plan), plan, folder / "halves")
    rank = join("cpu").rank
    leave()
    record = {
        "threads": [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")],
        "batches": batches,
        "whole": weights_digest(trained.weights),
        "resumed": weights_digest(resumed.weights),
        "parameters": {name: one.detach().clone() for name, one in networks[0].named_parameters()},
    }
    torch.save(record, folder / f"rank-{rank}.pt")


if __name__ == "__main__":
    main()
