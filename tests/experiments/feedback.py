"""How many planted edits of readers are told right, by kind: what feedback can know of a saved report.

    python -m tests.experiments.feedback [--edits 2000] [--seed 0]

Prints the tables of docs/experiments/feedback.md; 1 where an edit that can be told is told wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from deeplesion_miner.feedback import feedback
from deeplesion_miner.feedback_rows import FeedbackRow
from deeplesion_miner.studies import StudyQuery
from dicom_io.feedback_reading import study_reports
from dicom_io.opening import ArchiveOpener, ArchiveSettings
from tests.experiments.planted_edits import Planted, Said, plant

Table = Counter[tuple[str, str]]
"""How often what was done (first) was told as what (second)."""


def told(folder: Path) -> list[FeedbackRow]:
    """The feedback of all studies of a folder."""
    rows: list[FeedbackRow] = []
    with ArchiveOpener(ArchiveSettings(paths=(folder,))) as opener, closing(opener.open()) as archive:
        for study in study_reports(archive, StudyQuery()):
            rows += feedback(study.reports, study.notes, study.planes).rows
    return rows


def compare(planted: Planted, rows: Iterable[FeedbackRow]) -> Table:
    """Every lesion and every added mark, by what was done and what was told; 'nothing' on the side that lacks it."""
    found: Table = Counter()
    added: Counter[str] = Counter()
    for row in rows:
        if row.verdict == "added":
            added[row.sop_instance_uid] += 1
            continue
        said = planted.lesions[row.sop_instance_uid, row.label]
        found[_word(said), _word(said_of(row))] += 1
    for uid, wanted in planted.added.items():
        both = min(wanted, added[uid])
        found["added", "added"] += both
        found["added", "nothing"] += wanted - both
        found["nothing", "added"] += added[uid] - both
    return found


def said_of(row: FeedbackRow) -> Said:
    """What a row tells of a lesion."""
    is_elsewhere = row.corrected_image_sop_instance_uid not in ("", row.image_sop_instance_uid)
    return Said(row.verdict, row.geometry_change, row.label_change, is_elsewhere)


def _word(said: Said) -> str:
    changes = [*filter(None, said.geometry_change.split("_")), *(["relabelled"] if said.label_change else [])]
    if said.is_on_another_slice:
        changes[0] += " to another slice"
    return " and ".join(changes) or said.verdict


def wrong(found: Table) -> int:
    """How many were not told as what they were."""
    return sum(count for (done, said), count in found.items() if done != said)


def markdown(found: Table) -> str:
    """One row for what was done and told."""
    lines = ["| done | told | so often |", "|---|---|---|"]
    lines += [
        f"| {done} | {said if said != done else 'the same'} | {count:,} |"
        for (done, said), count in sorted(found.items(), key=lambda one: (one[0][0], one[0][0] != one[0][1], one[0]))
        if count
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Plants, reads, prints; 1 where what can be told is told wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.feedback")
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    mistakes = 0
    for ambiguous in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            planted = plant(Path(folder), options.edits, options.seed, ambiguous=ambiguous)
            started = time.process_time()
            found = compare(planted, told(Path(folder)))
            took = (time.process_time() - started) / len(planted.links)
        kind = "with what a file cannot tell" if ambiguous else "what can be told"
        print(
            f"\n{kind}: {planted.edits:,} edits in {len(planted.links):,} studies of {len(planted.lesions):,} lesions,"
        )
        print(f"{wrong(found)} told wrong; {took:.2f} s of processor time a study\n\n{markdown(found)}", flush=True)
        mistakes += 0 if ambiguous else wrong(found)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
