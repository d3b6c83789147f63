"""The whole job: `mine import` on real slices against plain scripts that write the same PNGs and a table.

usage: python benchmarks/import_job.py [--slices 300] [--real-data DIR] [--baselines DIR] [--rounds 3]
                                       [--as-found] [--json FILE]

The contenders run in turns in one run, each in a process of its own on one core's worth of threads; what counts is the
best round of each: CPU seconds (user + system, by RUSAGE_CHILDREN) and wall seconds of the whole process, start-up
included. The images written are compared after decoding. `mine import` de-identifies, numbers slices, keeps a
ledger, makes every file durable and writes tables, DL_info.csv, report and manifest beside the PNGs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image
from real_slices import write_input

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
PACKAGES = ("numpy", "pydicom", "pillow", "opencv-python-headless", "pandas", "imagecodecs", "zlib-ng", "pyjpegls")


@dataclass(frozen=True)
class Contender:
    """A program that turns a folder of slices into PNGs: its name and its command line for an output folder."""

    name: str
    command: tuple[str, ...]
    """'{out}' stands for the output folder, which does not exist yet."""


@dataclass
class Result:
    """Best of all rounds."""

    name: str
    cpu_s: float = float("inf")
    wall_s: float = float("inf")
    images: int = 0
    png_bytes: int = 0

    def take(self, cpu_s: float, wall_s: float) -> None:
        """Counts one more round."""
        self.cpu_s, self.wall_s = min(self.cpu_s, cpu_s), min(self.wall_s, wall_s)


def contenders(folder: Path, baselines: Path) -> list[Contender]:
    """`mine import` first, then each baseline script that is there."""
    key = folder / "key"
    mine = (str(Path(sys.executable).with_name("mine")), "import", str(folder / "input"))
    places = ("--out", "{out}/dataset", "--work", "{out}/work", "--key-file", str(key))
    scripts = sorted(baselines.glob("baseline_*.py"))
    if not scripts:
        raise SystemExit(f"{baselines}: no baseline_*.py here; name their folder with --baselines")
    plain = [
        Contender(script.stem, (sys.executable, str(script), str(folder / "input" / "images"), "{out}"))
        for script in scripts
    ]
    return [Contender("mine import", (*mine, *places)), *plain]


def timed(contender: Contender, out: Path) -> tuple[float, float]:
    """CPU and wall seconds of one run; SystemExit with the program's own words where it fails."""
    command = [part.format(out=out) for part in contender.command]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    wall_s = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{contender.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def images(out: Path) -> Counter[str]:
    """How often each picture was written: sha256 of shape and decoded pixels of every PNG below `out`."""
    found: Counter[str] = Counter()
    for path in sorted(out.rglob("*.png")):
        with Image.open(path) as opened:
            pixels = np.asarray(opened, dtype=np.uint16)
        found[hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()] += 1
    return found


def png_folder(out: Path) -> Path:
    """Where a contender's slices lie: `mine` has other things beside them."""
    own = out / "dataset" / "Images_png"
    return own if own.is_dir() else out


def measure(programs: list[Contender], folder: Path, rounds: int) -> list[Result]:
    """All contenders in turns; ends with SystemExit where they did not write the same images."""
    results = {program.name: Result(program.name) for program in programs}
    first = programs[0].name
    expected: Counter[str] = Counter()
    for number in range(rounds):
        for program in programs:
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            result = results[program.name]
            result.take(*timed(program, out))
            if number == 0:
                found = images(png_folder(out))
                expected = expected or found
                if found != expected:
                    raise SystemExit(
                        f"{program.name} wrote {(found - expected).total()} images that {first} did not, "
                        f"{first} wrote {(expected - found).total()} that {program.name} did not"
                    )
                result.images = found.total()
                result.png_bytes = sum(path.stat().st_size for path in png_folder(out).rglob("*.png"))
    return list(results.values())


def table(results: list[Result], slices: int) -> str:
    """A Markdown table; x = how many times the CPU or wall time of `mine import`."""
    mine = results[0]
    lines = [
        "| | CPU s | ms / slice | x CPU | wall s | x wall | images | PNG MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.name} | {r.cpu_s:.2f} | {1000 * r.cpu_s / slices:.1f} | {r.cpu_s / mine.cpu_s:.2f} | {r.wall_s:.2f} "
        f"| {r.wall_s / mine.wall_s:.2f} | {r.images} | {r.png_bytes / 1e6:.1f} |"
        for r in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Builds the input, runs the contenders, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300, help="at least so many slices")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--real-data", type=Path, default=None, help="the unpacked real data")
    parser.add_argument("--baselines", type=Path, default=SHARED / "baselines")
    parser.add_argument("--as-found", action="store_true", help="keep the compression that the series came with")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "import_job.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="import-job-") as name:
        folder = Path(name)
        (folder / "key").write_text("a key for the benchmark, 32 characters or more\n", "utf-8")
        (folder / "key").chmod(0o600)
        source = real_data(options.real_data, folder)
        slices = write_input(source, folder / "input", options.slices, not options.as_found)
        results = measure(contenders(folder, options.baselines), folder, options.rounds)
    facts = {
        "slices": slices,
        "rounds": options.rounds,
        "input": "as found (JPEG-LS and uncompressed)" if options.as_found else "uncompressed",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "results": [asdict(result) for result in results],
    }
    print(f"{slices} slices, {facts['input']}, best of {options.rounds}\n")
    print(table(results, slices))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def real_data(named: Path | None, folder: Path) -> Path:
    """The folder of real data: as named, by DLM_REAL_DATA, or unpacked from beside the checkout."""
    if named or os.environ.get("DLM_REAL_DATA"):
        return named or Path(os.environ["DLM_REAL_DATA"])
    unpack = SHARED / "data" / "unpack.sh"
    if not unpack.exists():
        raise SystemExit("the real data do not lie beside this checkout; name them with --real-data")
    subprocess.run(["sh", str(unpack), str(folder / "real")], check=True, stdout=subprocess.DEVNULL)
    return folder / "real"


if __name__ == "__main__":
    main()
