"""Trainings killed at random steps and at named instants, resumed, and compared with one that was not.

`python -m tests.experiments.resume` writes docs/experiments/resume.md; a small form is among the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.training.model_folder import ModelFolder, weights_digest
from tests.experiments.killed_training import INSTANTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "experiments" / "resume.md"
SEED = 0
STEPS = 60
EVERY = 7
"""Steps between checkpoints: no divisor of the steps, so that the last one is not on the way."""
RECIPE = f"""
kind = "lesionnet"
[model]
size = "XS"
[data]
crop_px = 64
[training]
batch = 2
steps = {STEPS}
checkpoint_every = {EVERY}
"""
RUNS, KILLS = 5, 4
LONGEST_STEP_S = 0.2
"""A kill comes so long after its step at most: within the step, its line or its checkpoint."""
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Ending:
    """What is left of one training."""

    weights: str
    """SHA-256 of all weights."""
    journal: str
    left_over: tuple[str, ...]
    """Names beside the model that should not be there."""
    kills: int
    resumed_after: tuple[int, ...]
    """The step that each later attempt went on after; 0 = from the start."""


def arguments(dataset: Path, out: Path) -> list[str]:
    """A small but whole training: all heads, augmentation, averaged weights."""
    recipe = out.parent / "resumed.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return ["train", str(dataset), "--recipe", str(recipe), "--out", str(out)]


def undisturbed(dataset: Path, out: Path) -> Ending:
    """A training that nobody kills."""
    _finish(arguments(dataset, out))
    return _ending(out, 0, ())


def killed_at_steps(dataset: Path, out: Path, steps: Sequence[int], seed: int) -> Ending:
    """A training killed by SIGKILL when each of the given steps stands in its journal, and a random moment later."""
    random = np.random.default_rng([SEED, seed])
    after = []
    for step in steps:
        process = _start([sys.executable, "-c", "from cli.main import main; main()", *arguments(dataset, out)])
        _wait_for(process, _work(out) / "metrics.jsonl", step)
        time.sleep(float(random.uniform(0, LONGEST_STEP_S)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after.append(_latest(out))
    _finish(arguments(dataset, out))
    return _ending(out, len(steps), tuple(after))


def killed_at_instant(dataset: Path, out: Path, instant: str, number: int) -> Ending:
    """A training killed at the `number`-th occurrence of a named instant."""
    words = ["-m", "tests.experiments.killed_training", instant, str(number), *arguments(dataset, out)]
    process = _start([sys.executable, *words])
    _, err = process.communicate(timeout=PATIENCE_S)
    if process.returncode != -signal.SIGKILL:
        raise AssertionError(f"{instant}: the training ended with {process.returncode} instead of being killed: {err}")
    after = _latest(out)
    _finish(arguments(dataset, out))
    return _ending(out, 1, (after,))


def main() -> None:
    """Runs all of it and writes the page."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _finish(["demo", "--small", "--no-train", "--out", str(folder / "demo")])
        dataset = folder / "demo" / "dataset"
        whole = undisturbed(dataset, folder / "whole")
        random = np.random.default_rng(SEED)
        rows = []
        for number in range(RUNS):
            steps = sorted(int(one) for one in random.choice(np.arange(1, STEPS), KILLS, replace=False))
            ending = killed_at_steps(dataset, folder / f"steps-{number}", steps, number)
            rows.append(_row(f"at step {', '.join(map(str, steps))}", ending, whole))
        for instant in INSTANTS:
            number = 3 if instant.startswith("checkpoint") else 1
            ending = killed_at_instant(dataset, folder / instant.replace(" ", "-"), instant, number)
            rows.append(_row(instant, ending, whole))
            PAGE.write_text(_page(whole, rows), "utf-8")


def _row(name: str, ending: Ending, whole: Ending) -> str:
    went_on = ", ".join(map(str, ending.resumed_after))
    same = "yes" if ending.weights == whole.weights else "NO"
    lines = "yes" if ending.journal == whole.journal else "NO"
    return f"| {name} | {ending.kills} | {went_on} | {same} | {lines} | {', '.join(ending.left_over) or 'nothing'} |"


def _page(whole: Ending, rows: Sequence[str]) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    failed = sum("NO" in row for row in rows)
    lines = [
        "# Trainings that were killed",
        "",
        "**Question.** Does a training that is killed and started again end with the same weights, to the bit?",
        "",
        f"**Method.** `mine train` on the phantoms of `mine demo --small`: lesionnet XS, nine slices, {STEPS} steps of"
        f" two 64 x 64 crops, a checkpoint every {EVERY} steps, one thread. It is killed with SIGKILL when a drawn step"
        f" stands in its journal and up to {LONGEST_STEP_S} s later, {KILLS} times in a row in each of {RUNS} trainings"
        ", and at named instants of writing (third checkpoint; the model folder), which"
        " `tests/experiments/killed_training.py` wraps from outside; each time the same command is given again."
        " Compared with the undisturbed training: SHA-256 of all weights and buffers, and every line of"
        " `metrics.jsonl`. SIGKILL keeps the operating system's cache: the half-written file stands for a power cut.",
        "",
        "**Run it.** `python -m tests.experiments.resume` (a small form is part of `make test`). Seed"
        f" {SEED}, commit {commit.strip() or 'not known'}.",
        "",
        f"**Result.** {len(rows)} trainings, {RUNS * KILLS + len(INSTANTS)} kills, {failed} that ended with other"
        " weights or lines. SHA-256 of the weights:"
        f" `{whole.weights}` (this machine; another CPU or torch gives another one).",
        "",
        "| killed | kills | went on after step | same weights | same lines | left over |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _finish(words: Sequence[str]) -> None:
    """Runs a `mine` to its end."""
    process = _start([sys.executable, "-c", "from cli.main import main; main()", *words])
    _, err = process.communicate(timeout=PATIENCE_S)
    if process.returncode:
        raise AssertionError(f"{words[0]} ended with {process.returncode}: {err}")


def _wait_for(process: subprocess.Popen[str], journal: Path, step: int) -> None:
    """Until the journal holds the step, or the training is over (a later step was reached before the last kill)."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and not (journal.exists() and _last_step(journal) >= step):
        if time.monotonic() > end:
            raise AssertionError(f"step {step} was not reached within {PATIENCE_S:g} s")
        time.sleep(0.002)


def _last_step(journal: Path) -> int:
    whole_lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
    return int(json.loads(whole_lines[-1])["step"]) if whole_lines else 0


def _latest(out: Path) -> int:
    names = sorted(path.name for path in (_work(out) / "checkpoints").glob("step-*.pt"))
    return int(names[-1][5:13]) if names else 0


def _work(out: Path) -> Path:
    return out.parent / f"{out.name}.training"


def _ending(out: Path, kills: int, resumed_after: tuple[int, ...]) -> Ending:
    left_over = [path.name for path in out.parent.iterdir() if path.name != out.name and out.name in path.name]
    journal = (out / "metrics.jsonl").read_text(encoding="utf-8")
    return Ending(weights_digest(ModelFolder.load(out).weights), journal, tuple(left_over), kills, resumed_after)


if __name__ == "__main__":
    main()
