"""What detectors cost: `seed` beside `lesionnet` in one run, and lesionnet's speed by number format and processes.

usage: python benchmarks/detectors.py [--rounds 5] [--only cost|step|speed|scores] [--model FOLDER --dataset FOLDER]
                                      [--json FILE]

Everything runs in processes of its own with one thread each. Times are CPU seconds (user + system) of the process,
so that other work on the machine disturbs little: the median of all rounds, contenders taking turns within a round,
after one round that does not count. An image is a slice with its context on a network's grid of 512 x 512 pixels;
what is timed is what follows: input channels, network, proposals and pooling where there are any, boxes and
suppression. Weights are drawn, not trained, since only cost is told; the exception is `--model`, a trained lesionnet
whose scores on the marked slices of `--dataset` are compared between number formats.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.detectors import inputs, lesionnet
from models.detectors.decoding import decode
from models.detectors.looking import look
from models.detectors.seed_losses import losses
from models.detectors.seed_network import SeedNetwork, found_boxes
from models.detectors.seed_options import SeedOptions
from models.reading.folder import DatasetFolder
from models.reading.samples import Samples
from models.training import registry
from models.training.model_folder import ModelFolder

SIDE_PX = 512
SLICES = 9
KEY = SLICES // 2
GRID_SIDE_PX = 288
"""512 pixels of 0.8 mm, DeepLesion's median, on lesionnet's own grid of 1.5 mm, padded to a multiple of 32."""
SEEDS = {
    "seed, 3 slices (Faster R-CNN)": SeedOptions(),
    "seed, 9 slices (3DCE, 3 images)": SeedOptions(head="3dce", images=3),
}
MODES = ("fp32", "fp32 channels_last", "bf16 autocast", "bf16 channels_last")
DEFAULT = MODES[0]
AS_SHIPPED = MODES[1]
SHIPPED = {"fp32 as shipped": torch.float32, "bf16 as shipped": torch.bfloat16}
"""The path of `mine predict`: normalisations worked into convolutions, heads where they are needed, all masks."""
BARE = {"fp32 convolutions alone": torch.float32, "bf16 convolutions alone": torch.bfloat16}
"""Nothing but the network's convolutions, all of its cells, with channels_last: what the processor can do."""
SPEEDS = (*MODES, *SHIPPED, *BARE)
GOAL = 40
"""Times that lesionnet S shall be cheaper than the seed."""
SCORED_SLICES = 12

Answer = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Contender:
    """A network in one number format, with an image to judge."""

    model: nn.Module
    answer: Answer


def main() -> None:
    """Measures, prints tables and, if asked, writes all figures as JSON."""
    asked = _arguments()
    if asked.child:
        torch.set_num_threads(1)
        print(json.dumps(CHILDREN[asked.child](asked)))
        return
    figures: dict[str, Any] = {"machine": _machine()}
    print(json.dumps(figures["machine"]))
    if asked.only in (None, "cost"):
        figures["cost"] = _run(asked, "cost")[0]
        _print_cost(figures["cost"])
    if asked.only in (None, "step"):
        figures["step"] = {name: _run(asked, "step", size=name)[0] for name in SEEDS}
        _print_steps(figures["step"])
    if asked.only in (None, "speed"):
        figures["speed"] = {
            size: {"1": _run(asked, "speed", size=size), "2": _run(asked, "speed", size=size, processes=2)}
            for size in lesionnet.SIZES
        }
        figures["memory_mb"] = {
            size: {mode: _run(asked, "memory", size=size, mode=mode)[0] for mode in (*MODES, *SHIPPED)}
            for size in lesionnet.SIZES
        }
        figures["memory_mb"]["nothing but torch"] = _run(asked, "memory")[0]
        _print_speed(figures["speed"], figures["memory_mb"])
    if asked.model is not None and asked.only in (None, "scores"):
        figures["scores"] = _run(asked, "scores")[0]
        _print_scores(figures["scores"])
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(figures, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("cost", "step", "speed", "scores"))
    parser.add_argument("--model", type=Path, help="folder of a trained lesionnet, for the scores")
    parser.add_argument("--dataset", type=Path, help="dataset folder with slices to score")
    parser.add_argument("--json", type=Path, help="e.g. benchmarks/results/detectors.json")
    for internal in ("child", "size", "mode"):
        parser.add_argument(f"--{internal}", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(asked: argparse.Namespace, child: str, size: str = "", mode: str = "", processes: int = 1) -> list[Any]:
    """What each of so many processes that run at once printed."""
    words = [sys.executable, __file__, "--child", child, "--size", size, "--mode", mode, "--rounds", str(asked.rounds)]
    for name in ("model", "dataset"):
        if getattr(asked, name) is not None:
            words += [f"--{name}", str(getattr(asked, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) for _ in range(processes)]
    printed = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        raise SystemExit(f"{' '.join(words)} failed")
    return [json.loads(text.splitlines()[-1]) for text in printed]


def _machine() -> dict[str, object]:
    return {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True and "bf16" in name),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


# --- contenders ------------------------------------------------------------------------------------------


def _slices(count: int, side_px: int) -> Tensor:
    """(1, count, side, side) HU: a smooth body with noise, so that nothing is constant."""
    random = np.random.default_rng([count, side_px])
    rows, columns = np.mgrid[:side_px, :side_px] / side_px
    body = np.where((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.16, 40.0, -1000.0)
    return torch.from_numpy((body + random.normal(0, 20, (1, count, side_px, side_px))).astype(np.float32))


def lesionnet_contender(size: str, mode: str, side_px: int) -> Contender:
    """A lesionnet of nine slices."""
    built = lesionnet.build(size, inputs.channel_count(SLICES))
    hu = _slices(SLICES, side_px)
    if mode in SHIPPED:
        ready = _channels_last(lesionnet.fused(built), SHIPPED[mode])
        return Contender(ready, lambda: look(ready, hu[0], KEY))
    if mode in BARE:
        ready = _channels_last(lesionnet.fused(built), BARE[mode])
        return Contender(ready, _convolutions_of(ready, inputs.channels_in(hu, KEY, BARE[mode])))
    model = _in_mode(built, mode)
    return Contender(model, lambda: decode(judge(model, hu, mode)))


def judge(model: nn.Module, hu: Tensor, mode: str) -> lesionnet.Maps:
    """A lesionnet's maps of (1, slices, rows, columns) HU in a number format."""
    images = inputs.channels(hu, KEY)
    if mode != DEFAULT:
        images = images.contiguous(memory_format=torch.channels_last)
    maps: lesionnet.Maps
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16 autocast"):
        maps = model(images.bfloat16() if mode == "bf16 channels_last" else images)
    return maps


def _channels_last(model: lesionnet.Lesionnet, dtype: torch.dtype) -> lesionnet.Lesionnet:
    model.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _convolutions_of(model: nn.Module, images: Tensor) -> Answer:
    """Runs each convolution of a network on what it was given once."""
    given: list[tuple[nn.Conv2d, Tensor]] = []
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(lambda one, seen: given.append((one, seen[0]))) for layer in layers]
    with torch.inference_mode():
        model(images)
    for hook in hooks:
        hook.remove()
    return lambda: [layer(seen) for layer, seen in given]


def seed_contender(options: SeedOptions, mode: str) -> Contender:
    """A seed network that judges 300 regions."""
    model = SeedNetwork(options)
    _in_mode(model, mode)
    hu = _slices(options.slices, SIDE_PX)

    def answer() -> int:
        judged = model(hu)
        found_boxes(judged, SIDE_PX, SIDE_PX, options)
        return len(judged.regions[0])

    return Contender(model, answer)


def _in_mode(model: nn.Module, mode: str) -> nn.Module:
    model.eval()
    if mode != DEFAULT:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.bfloat16() if mode == "bf16 channels_last" else model


# --- measuring, in a process of its own ------------------------------------------------------------------


def cost(asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Parameters, multiplications and CPU seconds an image, of every contender in turns."""
    makers: dict[str, Callable[[str], Contender]] = {
        name: lambda mode, options=options: seed_contender(options, mode) for name, options in SEEDS.items()
    }
    for size in lesionnet.SIZES:
        for side in (SIDE_PX, GRID_SIDE_PX):
            makers[f"lesionnet {size}, 9 slices, {side} px"] = lambda mode, size=size, side=side: lesionnet_contender(
                size, mode, side
            )
    figures: dict[str, dict[str, Any]] = {}
    turns: dict[str, Answer] = {}
    for name, make in makers.items():
        for mode in (DEFAULT, AS_SHIPPED):
            contender = make(mode)
            turns[f"{name}|{mode}"] = contender.answer
            if mode == DEFAULT:
                with torch.inference_mode(), counted(contender.model) as multiplications:
                    answered = contender.answer()
                figures[name] = {
                    "parameters": lesionnet.parameter_count(contender.model),
                    "gmac": sum(multiplications) / 1e9,
                    "regions": answered if isinstance(answered, int) else None,
                }
    for name, seconds in _in_turns(turns, asked.rounds).items():
        contender_name, mode = name.split("|")
        figures[contender_name][mode] = seconds
    return figures


@contextmanager
def counted(model: nn.Module) -> Iterator[list[int]]:
    """Multiplications of convolutions and fully connected layers, one number each time that one runs."""
    found: list[int] = []

    def count(layer: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            found.append(result.numel() * layer.in_channels // layer.groups * height * width)
        elif isinstance(layer, nn.Linear):
            found.append(result.numel() * layer.in_features)

    hooks = [
        layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def speed(asked: argparse.Namespace) -> dict[str, list[float]]:
    """CPU seconds an image of one size of lesionnet, in every number format."""
    turns = {mode: lesionnet_contender(asked.size, mode, SIDE_PX).answer for mode in SPEEDS}
    return _in_turns(turns, asked.rounds * 2)


def memory(asked: argparse.Namespace) -> float:
    """Peak memory in MB of a process that judges three images, or none where no size is asked for."""
    if asked.size:
        contender = lesionnet_contender(asked.size, asked.mode, SIDE_PX)
        with torch.inference_mode():
            for _ in range(3):
                contender.answer()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def scores(asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Differences from fp32 of a trained model's centre scores over whole slices, and of its best score on each."""
    folder = ModelFolder.load(asked.model)
    model = folder.fill(registry.network(folder.recipe))
    data = folder.recipe.data
    samples = Samples(DatasetFolder.open(asked.dataset), folder.recipe, ("train", "val", "test"))
    assert inputs.key_index(data.slice_offsets_mm) == KEY
    found: dict[str, list[Tensor]] = {}
    for mode in MODES:
        used = _in_mode(copy.deepcopy(model), mode)
        with torch.inference_mode():
            found[mode] = [
                torch.sigmoid(judge(used, samples.whole(one).hu[None], mode).centre.float())
                for one in samples.key_slices[:SCORED_SLICES]
            ]
    return {
        mode: {
            "slices": len(planes),
            "largest_score": max(float(plane.max()) for plane in planes),
            "largest_difference": max(
                float((plane - other).abs().max()) for plane, other in zip(planes, found[DEFAULT], strict=True)
            ),
            "difference_of_best": max(
                abs(float(plane.max() - other.max())) for plane, other in zip(planes, found[DEFAULT], strict=True)
            ),
        }
        for mode, planes in found.items()
    }


def step(asked: argparse.Namespace) -> dict[str, Any]:
    """One step of SGD of a whole seed on one sample of SIDE_PX: its losses, CPU seconds and peak memory in MB."""
    options = SEEDS[asked.size]
    torch.manual_seed(0)
    model, hu = SeedNetwork(options), _slices(options.slices, SIDE_PX)
    lesions = [torch.tensor([[200.0, 220.0, 231.0, 248.0], [300.0, 150.0, 340.0, 200.0]])]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    began = time.process_time()
    parts = losses(model(hu, lesions), lesions, SIDE_PX, SIDE_PX, options)
    parts["loss"].backward()
    optimizer.step()
    return {
        "cpu_s": time.process_time() - began,
        "losses": {name: float(part.detach()) for name, part in parts.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _in_turns(turns: dict[str, Answer], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each answer, round by round, every other one backwards; one round before does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, answer in list(turns.items())[:: 1 if number % 2 else -1]:
                began = time.process_time()
                answer()
                if number:
                    seconds[name].append(time.process_time() - began)
    return seconds


CHILDREN: dict[str, Callable[[argparse.Namespace], object]] = {
    "cost": cost,
    "step": step,
    "speed": speed,
    "memory": memory,
    "scores": scores,
}


# --- tables ----------------------------------------------------------------------------------------------


def _print_cost(figures: dict[str, dict[str, Any]]) -> None:
    print(
        "\n| fp32, one thread | parameters | GMAC | regions | CPU s | channels_last | seed / this |\n"
        + "| --- " * 7
        + "|"
    )
    seed = _shortest(figures[next(iter(SEEDS))])
    for name, row in figures.items():
        times = [statistics.median(row[mode]) for mode in (DEFAULT, AS_SHIPPED)]
        print(
            f"| {name} | {row['parameters'] / 1e6:.2f} M | {row['gmac']:.1f} | {row['regions'] or ''} |"
            f" {times[0]:.3f} | {times[1]:.3f} | {seed / min(times):.1f} |"
        )
    context = _shortest(figures[list(SEEDS)[1]])
    small, on_its_grid = (_shortest(figures[f"lesionnet S, 9 slices, {side} px"]) for side in (SIDE_PX, GRID_SIDE_PX))
    for what, times in (
        (f"of one slice, each on its own grid ({SIDE_PX} and {GRID_SIDE_PX} px)", seed / on_its_grid),
        (f"of 9 slices, both of {SIDE_PX} px", context / small),
        (f"of {SIDE_PX} px, the seed's of 3 slices, lesionnet's of 9", seed / small),
    ):
        verdict = "reached" if times >= GOAL else "missed"
        print(f"\nlesionnet S is {times:.0f} times cheaper per image {what}; goal {GOAL}: {verdict}")


def _print_steps(figures: dict[str, dict[str, Any]]) -> None:
    print("\n| one step of SGD, batch 1, 512 px, fp32 | CPU s | peak MB | loss |\n" + "| --- " * 4 + "|")
    for name, row in figures.items():
        print(f"| {name} | {row['cpu_s']:.1f} | {row['peak_mb']:.0f} | {row['losses']['loss']:.3f} |")


def _shortest(row: dict[str, Any]) -> float:
    """Median CPU seconds in the memory format that is better for this network."""
    return min(statistics.median(row[mode]) for mode in (DEFAULT, AS_SHIPPED))


def _print_speed(figures: dict[str, dict[str, list[dict[str, list[float]]]]], memory_mb: dict[str, Any]) -> None:
    print(
        "\n| lesionnet, 9 slices, 512 px | CPU ms | images/s | 2 processes | faster | peak MB |\n" + "| --- " * 6 + "|"
    )
    for size, runs in figures.items():
        base = runs["1"][0][DEFAULT]
        for mode in SPEEDS:
            times = runs["1"][0][mode]
            one = statistics.median(times)
            both = sum(1 / statistics.median(process[mode]) for process in runs["2"])
            faster = statistics.median(eager / this for eager, this in zip(base, times, strict=True))
            held = f"{memory_mb[size][mode]:.0f}" if mode in memory_mb[size] else ""
            print(f"| {size}, {mode} | {one * 1000:.1f} | {1 / one:.1f} | {both:.1f} | {faster:.2f} | {held} |")
    print(f"\na process with torch alone: {memory_mb['nothing but torch']:.0f} MB")


def _print_scores(figures: dict[str, dict[str, float]]) -> None:
    print("\n| format | slices | largest score | largest difference | difference of best |\n" + "| --- " * 5 + "|")
    for mode, row in figures.items():
        print(
            f"| {mode} | {row['slices']} | {row['largest_score']:.3f} | {row['largest_difference']:.5f} |"
            f" {row['difference_of_best']:.5f} |"
        )


if __name__ == "__main__":
    main()
