"""What a training batch costs to read: from PNG, from a blosc2 cache, from memory. Writes docs/experiments/reading.md.

    DLM_REAL_DATA=FOLDER python -m tests.experiments.reading_speed

The complete real sub-volume of DeepLesion (13 slices of 512 x 512) stands for every patient of a made-up folder, as
only its size and its noise matter here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from models import recipe as recipes
from models.reading.folder import DatasetFolder
from models.reading.samples import Samples

SERIES, KEY = "000001_01_01", 109
PATIENTS = 24
STEPS = 12
RECIPES = ("lesionnet-s-1", "lesionnet-s-3", "lesionnet-s-9")
COMMAND = "DLM_REAL_DATA=FOLDER python -m tests.experiments.reading_speed"


def folder_of_copies(real: Path, folder: Path) -> Path:
    """NIH's layout with the sub-volume as that of many patients."""
    png = real / "deeplesion" / "png"
    header, *rows = (png / "DL_info_png_visible.csv").read_text().splitlines()
    (row,) = (one for one in rows if one.startswith(f"{SERIES}_{KEY}.png,1,"))
    lines = [header]
    for patient in range(1, PATIENTS + 1):
        series = f"{patient:06d}_01_01"
        shutil.copytree(png / "Images_png" / SERIES, folder / "Images_png" / series)
        lines.append(row.replace(f"{SERIES}_{KEY}.png,1,", f"{series}_{KEY}.png,{patient},"))
    (folder / "DL_info.csv").write_text("\n".join(lines) + "\n")
    return folder


def cpu_ms(action: Callable[[int], object], count: int) -> float:
    """Mean CPU milliseconds of an action over `count` calls."""
    start = time.process_time()
    for number in range(count):
        action(number)
    return (time.process_time() - start) / count * 1e3


def row(name: str, samples: Samples) -> str:
    """One line of the table: a batch, a whole slice."""
    batch = cpu_ms(samples.training, STEPS)
    whole = cpu_ms(lambda number: samples.whole(samples.key_slices[number]), STEPS)
    return f"| {name} | {batch:.1f} | {whole:.1f} |"


def table(folder: Path, cache: Path) -> list[str]:
    """The lines of the table."""
    splits = ("train", "val", "test")
    lines = ["| recipe and source | CPU ms / batch of 8 crops | CPU ms / whole slice |", "|---|---|---|"]
    for name in RECIPES:
        recipe = recipes.load(name)
        plain = Samples(DatasetFolder.open(folder, memory_bytes=0), recipe, splits)
        lines.append(row(f"{name}, PNG", plain))
        kept = Samples(DatasetFolder.open(folder, memory_bytes=0, cache=cache), recipe, splits)
        for number in range(STEPS):
            kept.training(number)
        lines.append(row(f"{name}, blosc2 on disk", kept))
        held = Samples(DatasetFolder.open(folder, memory_bytes=1024**3), recipe, splits)
        for number in range(STEPS):
            held.training(number)
        lines.append(row(f"{name}, memory", held))
    still = recipes.load(RECIPES[-1], ["augmentation.noise_hu=0.0"])
    held = Samples(DatasetFolder.open(folder, memory_bytes=1024**3), still, splits)
    for number in range(STEPS):
        held.training(number)
    lines.append(row(f"{RECIPES[-1]} without noise, memory", held))
    return lines


def main() -> None:
    """Measures and writes the page."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = folder_of_copies(Path(os.environ["DLM_REAL_DATA"]), Path(place) / "data")
        lines = table(folder, Path(place) / "cache")
        size = sum(one.stat().st_size for one in Path(place, "cache").rglob("*.blosc2"))
        files = len(list(Path(place, "cache").rglob("*.blosc2")))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    page = [
        "# What reading costs",
        "",
        f"`OMP_NUM_THREADS=1 {COMMAND}` at commit {commit.strip()}, seed 0 of the recipes, {torch.__version__}.",
        "CPU time of one thread; real slices of 512 x 512 pixels, 0.49 mm, 5 mm apart, onto crops of 128 x 128 pixels",
        "of 1.5 mm: nine seen slices are made of seven.",
        "",
        *lines,
        "",
        f"A blosc2 copy of a slice takes {size / files / 1e3:.0f} KB, about what its PNG takes. Memory holds 1,024",
        "such slices by default (512 MiB in each process); a larger dataset wants a cache folder.",
        "",
    ]
    Path("docs/experiments/reading.md").write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
