"""The page of `tests.experiments.detection`: every run, differences with intervals, who and what was found.

python -m tests.experiments.detection_report CORPUS OUT [--page docs/experiments/detection.md]
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation import figures
from models.evaluation.cases import Cases, Slices, assign, counted_slices, pooled
from models.evaluation.froc import Count, Pool, count
from models.evaluation.intervals import Draws, Interval
from models.evaluation.kinds import KnownNonLesion, kind_shares
from models.evaluation.protocol import FALSE_POSITIVES, Protocol
from models.evaluation.resampling import Resample
from models.evaluation.strata import by_edges
from models.predictions_table import read_predictions
from models.reading.folder import DatasetFolder
from tests.experiments.corpus_truth import CorpusTruth
from tests.experiments.detection import BLOBS, real_key_slices

DRAWS = Draws(seed=0, replicates=2000)
SIZE_EDGES_MM = (12.0, 20.0)
SHOWN = (0.5, 1.0, 2.0, 4.0, 8.0)
PAGE = Path("docs/experiments/detection.md")
MEANING = Path(__file__).with_name("detection.md.in")
"""What people made of the figures: the end of the page."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One run on the test patients."""

    recipe: str
    facts: dict[str, Any]
    cases: Cases
    pool: Pool
    count: Count


@dataclass(frozen=True, eq=False)
class Field:
    """The test patients: slices, truth, and two ways to draw them."""

    dataset: DatasetFolder
    truth: CorpusTruth
    slices: Slices
    by_patient: Resample
    by_image: Resample
    names: dict[str, str]
    """Patient of the dataset -> name of the CT volume."""

    @classmethod
    def open(cls, corpus: Path) -> Field:
        """The test dataset of a corpus."""
        dataset, truth = DatasetFolder.open(corpus / "test"), CorpusTruth.open(corpus / "test-truth.json")
        slices = counted_slices(dataset, "all", Protocol(), {})
        images = [one.file_name for one in slices.counted]
        volume_of = {lesion.key_slice: lesion.volume for lesion in truth.lesions}
        names = {one.patient: volume_of[one.file_name] for one in slices.counted}
        by_patient, by_image = Resample.of(slices.patients, DRAWS), Resample.of(images, DRAWS)
        return cls(dataset, truth, slices, by_patient, by_image, names)

    @property
    def mimics(self) -> tuple[KnownNonLesion, ...]:
        """Where the mimics are on the key slices."""
        return tuple(
            KnownNonLesion(one.file_name, tuple(box), "mimic")
            for one in self.slices.counted
            for box in self.truth.mimic_boxes(one.file_name).tolist()
        )

    @property
    def words(self) -> NDArray[np.str_]:
        """What each mark of the pool is, by the truth's nearest lesion on its slice."""
        words = []
        for one, mark in self.slices.marks:
            near = self.truth.lesions_by_key_slice[one.file_name]
            apart = [np.abs(np.array(lesion.tight_box_px) - mark.tight_box_px).sum() for lesion in near]
            words.append(near[int(np.argmin(apart))].word)
        return np.array(words)


def scored(field: Field, folder: Path) -> Scored:
    """One run, counted by the protocol."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    protocol = Protocol()
    cases = assign(read_predictions(folder / "predictions.parquet"), field.dataset, field.slices, protocol)
    pool = pooled(cases, protocol)
    return Scored(facts["recipe"], facts, cases, pool, count(pool, protocol.threshold, ties=protocol.ties))


# --- tables ----------------------------------------------------------------------------------------------


def figures_line(one: Scored, field: Field) -> str:
    """A run's sensitivities, both averages and its cost."""
    row = dict(zip(FALSE_POSITIVES, figures.once(one.count), strict=False))
    average, to_eight = figures.once(one.count)[-2:]
    read = " | ".join(f"{row[level]:.3f}" for level in SHOWN)
    interval = figures.figures_of(figures.replicates(one.count, field.by_image), 0, field.by_image).average_to_eight
    return (
        f"| {one.recipe} | {one.facts['seed']} | {read} | {average:.3f} | **{to_eight:.3f}** "
        f"({interval.low:.2f}-{interval.high:.2f}) | {one.facts['train_cpu_s']:.0f} |"
    )


def averages(runs: Sequence[Scored], resample: Resample, column: int) -> NDArray[np.float64]:
    """(1 + replicates,) an average, mean over the runs (seeds); the estimate first."""
    values: NDArray[np.float64] = np.mean([figures.replicates(one.count, resample)[:, column] for one in runs], axis=0)
    return values


def difference_lines(groups: dict[str, list[Scored]], field: Field, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Differences of the mean over seeds, paired: by image and by patient."""
    lines = []
    for more, less in pairs:
        if more in groups and less in groups:
            by_image, by_patient = (
                resample.interval(averages(groups[more], resample, -1) - averages(groups[less], resample, -1))
                for resample in (field.by_image, field.by_patient)
            )
            lines.append(f"| {more} - {less} | {by_image.estimate:+.3f} | {_range(by_image)} | {_range(by_patient)} |")
    return lines


def stratum_lines(groups: dict[str, list[Scored]], field: Field) -> list[str]:
    """Average to eight by patient, size and type: mean over seeds, least and most."""
    patient = np.array([field.names[one.patient] for one, _ in field.slices.marks])
    size = by_edges("size", np.array([mark.long_axis_mm for _, mark in field.slices.marks]), SIZE_EDGES_MM, "mm")
    strata = {f"long axis {one.name}": one.marks for one in size}
    strata |= {f"type {word}": field.words == word for word in sorted(set(field.words.tolist()))}
    lines = []
    for name in sorted(set(patient.tolist())):
        cells = [_spread([_of_patient(one, field, name) for one in runs]) for runs in groups.values()]
        lines.append(f"| {name} | {int((patient == name).sum())} | {' | '.join(cells)} |")
    for stratum, marks in strata.items():
        cells = [
            _spread([figures.once(count(one.pool, 0.5, marks=marks, ties=Protocol().ties))[-1] for one in runs])
            for runs in groups.values()
        ]
        lines.append(f"| {stratum} | {int(marks.sum())} | {' | '.join(cells)} |")
    return lines


def _of_patient(one: Scored, field: Field, name: str) -> float:
    found = figures.patient_figures(one.count, field.by_patient)
    return next(row.average_to_eight for row in found if field.names[row.patient] == name)


def mimic_lines(groups: dict[str, list[Scored]], field: Field) -> list[str]:
    """Share of the mimics among false positives."""
    lines = []
    for recipe, runs in groups.items():
        shares = [kind_shares(one.cases, one.count, field.mimics, field.by_image, (0.3,))[0] for one in runs]
        points = [[share for share in each if share.kind == "mimic"] for each in shares]
        cells = [_spread([each[number].share.estimate for each in points]) for number in range(min(map(len, points)))]
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    words = [share.point.words for share in shares[0] if share.kind == "mimic"]
    return [f"| recipe | {' | '.join(words)} |", "|---|" + "---|" * len(words), *lines]


def real_lines(groups: dict[str, list[Scored]], out: Path) -> list[str]:
    """DeepLesion's own key slices, scored as they are."""
    real = real_key_slices()
    if real is None:
        return ["The real key slices were not at hand."]
    slices = counted_slices(real, "all", Protocol(), {})
    lines = [
        f"n = {len(slices.marks)} marks on {len(slices.counted)} key slices; the context of most is missing"
        " (the key slice is repeated).",
        "",
        "| recipe | 1 FP | 4 FP | 8 FP | average to eight, each seed |",
        "|---|---|---|---|---|",
    ]
    for recipe, runs in groups.items():
        rows = []
        for one in runs:
            folder = out / (BLOBS if recipe == BLOBS else f"{recipe}-seed{one.facts['seed']}")
            cases = assign(read_predictions(folder / "real.parquet"), real, slices, Protocol())
            rows.append(figures.once(count(pooled(cases, Protocol()), 0.5, ties=Protocol().ties)))
        means = np.mean(rows, axis=0)
        read = dict(zip(FALSE_POSITIVES, means, strict=False))
        cells = " | ".join(f"{read[level]:.2f}" for level in (1.0, 4.0, 8.0))
        lines.append(f"| {recipe} | {cells} | {', '.join(f'{row[-1]:.2f}' for row in rows)} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _range(interval: Interval) -> str:
    return f"[{interval.low:+.3f}, {interval.high:+.3f}]"


# --- page ------------------------------------------------------------------------------------------------


def page(corpus: Path, out: Path, trained_at: str) -> str:
    """The whole page as Markdown; `trained_at` is the commit whose code trained."""
    field = Field.open(corpus)
    folders = sorted(path.parent for path in out.glob("*/run.json"))
    groups: dict[str, list[Scored]] = {}
    for one in sorted((scored(field, folder) for folder in folders), key=lambda one: _order(one.recipe)):
        groups.setdefault(one.recipe, []).append(one)
    train = DatasetFolder.open(corpus / "train")
    names = list(groups)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    pairs = [("lesionnet-s-3", "lesionnet-s-1"), ("lesionnet-s-9", "lesionnet-s-3"), ("lesionnet-s-9", "lesionnet-s-1")]
    every = [line for runs in groups.values() for line in (figures_line(one, field) for one in runs)]
    return "\n".join(
        [
            "# Detection on synthetic lesions in real CT",
            "",
            f"Made on {date.today()} as below; trained at commit {trained_at or commit}, counted at {commit}.",
            "",
            "```",
            "python -m tests.experiments.corpus CORPUS",
            "python -m tests.experiments.detection CORPUS OUT",
            "python -m tests.experiments.detection CORPUS OUT --recipes lesionnet-hour --seeds 0",
            "python -m tests.experiments.detection_report CORPUS OUT",
            "```",
            "",
            _setting(train, field),
            "",
            "| recipe | seed | 0.5 FP | 1 FP | 2 FP | 4 FP | 8 FP | average of four |"
            " average to eight (95 % by image) | CPU s |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *every,
            "",
            "## Differences (average to eight, mean over seeds, paired)",
            "",
            f"| | difference | by image | by patient ({len(field.names)} patients) |",
            "|---|---|---|---|",
            *difference_lines(groups, field, pairs),
            "",
            "## By patient, size and type (average to eight; mean over seeds, least-most)",
            "",
            f"| | n | {' | '.join(names)} |",
            "|---|---|" + "---|" * len(names),
            *stratum_lines(groups, field),
            "",
            "## Share of mimics among false positives",
            "",
            *mimic_lines(groups, field),
            "",
            "## DeepLesion's own key slices, never trained on",
            "",
            *real_lines(groups, out),
            "",
        ]
    )


def _setting(train: DatasetFolder, field: Field) -> str:
    """What was trained on and what was tested, and what the figures do not say."""
    marks, patients = sum(len(one.marks) for one in train.key_slices), len({one.patient for one in train.key_slices})
    tested = f"{len(field.slices.counted)} key slices with {len(field.slices.marks)} lesions"
    return (
        f"Trained on {len(train.key_slices)} key slices with {marks} lesions of {patients} patients (digest"
        f" {train.digest[:12]}), tested on {tested}"
        f" of {len(field.names)} other patients (digest {field.dataset.digest[:12]}). Lesions and mimics are painted,"
        " backgrounds are real and hold real, unmarked lesion-like things: false positives are an upper bound, and no"
        " figure here may be set beside DeepLesion's. IoU >= 0.5 with the tight box of the RECIST ends, one key slice"
        " is one image."
    )


def _order(recipe: str) -> tuple[int, str]:
    known = (BLOBS, "lesionnet-s-1", "lesionnet-s-3", "lesionnet-s-9")
    return (known.index(recipe) if recipe in known else len(known), recipe)


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--trained-at", default="", help="commit that trained, where it is not this one")
    given = parser.parse_args()
    meaning = [MEANING.read_text(encoding="utf-8")] if MEANING.exists() else []
    text = "\n".join([page(given.corpus, given.out, given.trained_at), *meaning])
    given.page.write_text(text, encoding="utf-8")
    print(given.page)


if __name__ == "__main__":
    main()
