"""What a synthetic corpus holds, as a page of tables.

python -m tests.experiments.corpus_page CORPUS [--out docs/experiments/corpus.md]
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.experiments.corpus_truth import CorpusTruth, TrueLesion

SIZES_MM = (0, 10, 15, 20, 30, 1000)


def page(corpus: Path) -> str:
    """Markdown about both datasets of a corpus."""
    report = json.loads((corpus / "report.json").read_text(encoding="utf-8"))
    truths = {word: CorpusTruth.open(corpus / f"{word}-truth.json") for word in ("train", "test")}
    lines = ["| | train | test |", "|---|---|---|"]
    for name, key in (
        ("studies", "studies"),
        ("lesions, all mined back", "lesion_count"),
        ("key slices", "key_slices"),
        ("mimics", "mimic_count"),
        ("sections of mimics on key slices, for each lesion", "mimics_per_lesion_on_key_slices"),
        ("farthest end from where it was drawn, px", "largest_error_px"),
        ("flagged as possibly noisy", "possibly_noisy"),
        ("CPU-s of `mine import`", "mine_cpu_s"),
    ):
        lines.append(f"| {name} | {_number(report['train'][key])} | {_number(report['test'][key])} |")
    lines.append(f"| lesions by split of the dataset | {_split(report['train'])} | {_split(report['test'])} |")
    parts = [
        "# The synthetic corpus",
        "Lesions of human mask shapes and tubes that share their law, painted into real CT, written as DICOM with "
        "reports,\nmined. Long axes are drawn log-uniform from 9 to 32 mm; large things find a place less often.",
        "\n".join(lines),
        f"Painting and writing both: {report['paint_and_write_cpu_s']} CPU-s.",
        "## Lesions by volume\n\n" + _table(truths, lambda lesion: f"{lesion.volume} ({lesion.patient})"),
        "## Lesions by kind\n\n" + _table(truths, lambda lesion: lesion.word),
        "## Lesions by long axis, mm\n\n" + _table(truths, _size),
        "## Lesions by contrast, HU\n\n" + _table(truths, _contrast),
    ]
    return "\n\n".join(parts) + "\n"


def _number(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) and value < 0.01 else str(value)


def _split(report: dict[str, Any]) -> str:
    return ", ".join(f"{name} {report['by_split'][name]}" for name in sorted(report["by_split"]))


def _size(lesion: TrueLesion) -> str:
    place = int(np.digitize(lesion.long_axis_mm, SIZES_MM))
    low, high = SIZES_MM[place - 1], SIZES_MM[place]
    return f"{low:02d} to {high}" if high < SIZES_MM[-1] else f"{low:02d} or more"


def _contrast(lesion: TrueLesion) -> str:
    if lesion.word in ("lung", "node"):
        return "denser than lung or fat"
    return f"{'+' if lesion.contrast_hu > 0 else '-'}25 to 70"


def _table(truths: dict[str, CorpusTruth], name_of: Callable[[TrueLesion], str]) -> str:
    counts = {word: Counter(map(name_of, truth.lesions)) for word, truth in truths.items()}
    names: Iterable[str] = sorted(set(counts["train"]) | set(counts["test"]))
    rows = [f"| {name} | {counts['train'][name]} | {counts['test'][name]} |" for name in names]
    return "\n".join(["| | train | test |", "|---|---|---|", *rows])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="What a synthetic corpus holds")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--made-by", default="python -m tests.experiments.corpus OUT", help="the corpus's own command")
    asked = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    text = f"{page(asked.corpus)}\nSeed 0, commit {commit.stdout.strip()}, `{asked.made_by}`.\n"
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
