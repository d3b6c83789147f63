"""From the ledger to the dataset: indices, the population rule, the door, the sink. Deterministic and repeatable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from deeplesion_miner.deidentify import DeidentifyOptions, Indices, PublicIds, crosswalk, deidentify
from deeplesion_miner.errors import SumsDoNotHold
from deeplesion_miner.outliers import judge_population
from deeplesion_miner.ports import Ledger, Sink
from deeplesion_miner.pseudonyms import Pseudonyms
from deeplesion_miner.records import Sample
from deeplesion_miner.rules import Rules
from deeplesion_miner.studies import StudyOutcome
from deeplesion_miner.types import Kept, Rejected, Verdict


@dataclass(frozen=True)
class BuildSettings:
    """How a dataset is made from what the ledger knows."""

    rules: Rules = field(default_factory=Rules)
    deidentification: DeidentifyOptions = field(default_factory=DeidentifyOptions)


@dataclass(frozen=True)
class BuildSummary:
    """What was written."""

    lesions: int
    slices: int
    bookmarks: int
    rejected: int
    digest: str


def build(ledger: Ledger, sink: Sink, pseudonyms: Pseudonyms, settings: BuildSettings) -> BuildSummary:
    """Writes the dataset of everything in the ledger and remembers the way back; returns its digest.

    Raises SumsDoNotHold where bookmarks, rows and verdicts do not add up.
    """
    outcomes = _judged_as_population(_each_once(list(ledger.outcomes())), settings.rules)
    options = settings.deidentification
    indices = _indices(ledger, pseudonyms, outcomes, options)
    samples = [
        deidentify(outcome, pseudonyms, indices.get(outcome.study.study_instance_uid), options) for outcome in outcomes
    ]
    summary = _sums(outcomes, samples)
    # The way back exists before anything that needs it is public.
    ledger.record_crosswalk(
        (row.public_id, row.kind, row.original)
        for outcome in outcomes
        for row in crosswalk(outcome, pseudonyms, options)
    )
    return replace(summary, digest=sink.write(samples))


def _each_once(outcomes: Sequence[StudyOutcome]) -> list[StudyOutcome]:
    """The outcomes in their order; a bookmark that several studies hold is kept in the earliest of them.

    An archive holds one report in two studies after a merge of patients, or when it gave a copy a new study UID.
    """
    kept_by: dict[str, str] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.patient.study_date, o.patient.study_time, o.study)):
        for placed in outcome.placed:
            kept_by.setdefault(placed.kept.bookmark.key, outcome.study.study_instance_uid)
    return [
        _with_verdicts(
            outcome,
            {
                key: placed.kept
                if kept_by[key] == outcome.study.study_instance_uid
                else Rejected(placed.kept.bookmark, "duplicate", (), placed.kept.notes)
                for placed in outcome.placed
                for key in (placed.kept.bookmark.key,)
            },
        )
        for outcome in outcomes
    ]


def _judged_as_population(outcomes: Sequence[StudyOutcome], rules: Rules) -> list[StudyOutcome]:
    """The outcomes with the population rule's flags, or with its rejections where they are asked for."""
    verdicts = judge_population([p.kept for outcome in outcomes for p in outcome.placed], rules)
    by_key = {verdict.bookmark.key: verdict for verdict in verdicts}
    return [_with_verdicts(outcome, by_key) for outcome in outcomes]


def _with_verdicts(outcome: StudyOutcome, verdicts: Mapping[str, Verdict]) -> StudyOutcome:
    """The outcome with new verdicts for its placed lesions; slices that no lesion needs any more are left out."""
    judged = [(placed, verdicts[placed.kept.bookmark.key]) for placed in outcome.placed]
    placed = tuple(replace(lesion, kept=verdict) for lesion, verdict in judged if isinstance(verdict, Kept))
    rejected = tuple(verdict for _, verdict in judged if isinstance(verdict, Rejected))
    if not rejected:
        return replace(outcome, placed=placed)
    ranges: dict[str, set[tuple[int, int]]] = {}
    for lesion in placed:
        ranges.setdefault(lesion.stack_key, set()).add(lesion.slice_range)
    stacks = tuple(
        replace(
            stack,
            slices=tuple(s for s in stack.slices if any(a <= s.slice_number <= b for a, b in ranges[stack.key])),
        )
        for stack in outcome.stacks
        if stack.key in ranges
    )
    return replace(outcome, placed=placed, rejected=outcome.rejected + rejected, stacks=stacks)


def _indices(
    ledger: Ledger, pseudonyms: Pseudonyms, outcomes: Sequence[StudyOutcome], options: DeidentifyOptions
) -> dict[str, Indices]:
    """Numbers of studies with kept lesions: patients by pseudonym, studies by date, series by number.

    What got a number before keeps it (the ledger remembers).
    """
    by_patient: dict[str, list[StudyOutcome]] = {}
    for outcome in outcomes:
        if outcome.placed:
            by_patient.setdefault(PublicIds(pseudonyms, outcome.patient, options).patient_id, []).append(outcome)
    patients = ledger.patient_index(sorted(by_patient))
    found: dict[str, Indices] = {}
    for patient_id, studies in by_patient.items():
        ids = {o.study.study_instance_uid: PublicIds(pseudonyms, o.patient, options) for o in studies}
        ordered = sorted(
            studies,
            key=lambda o: (o.patient.study_date, o.patient.study_time, ids[o.study.study_instance_uid].study_id),
        )
        numbers = ledger.study_index(patient_id, [ids[o.study.study_instance_uid].study_id for o in ordered])
        for outcome in ordered:
            own = ids[outcome.study.study_instance_uid]
            stacks = sorted(
                outcome.stacks,
                key=lambda s: (math.inf if s.series_number is None else s.series_number, own.series(s.key)),
            )
            series = ledger.series_index(own.study_id, [own.series(stack.key) for stack in stacks])
            found[outcome.study.study_instance_uid] = Indices(
                patients[patient_id],
                numbers[own.study_id],
                {stack.key: series[own.series(stack.key)] for stack in stacks},
            )
    return found


def _sums(outcomes: Sequence[StudyOutcome], samples: Sequence[Sample]) -> BuildSummary:
    """Bookmarks found = kept + rejected; lesions kept = rows written; every row has its key slice."""
    bookmarks = [record for sample in samples for record in sample.bookmarks]
    lesions = [record for sample in samples for record in sample.lesions]
    slices = [record for sample in samples for record in sample.slices]
    kept = sum(len(outcome.placed) for outcome in outcomes)
    rejected = sum(len(outcome.rejected) for outcome in outcomes)
    files = {record.file_name for record in slices}
    if not (
        len(bookmarks) == kept + rejected
        and len(lesions) == kept
        and len({record.bookmark_id for record in bookmarks}) == len(bookmarks)
        and len(files) == len(slices)
        and all(record.file_name in files for record in lesions)
    ):
        raise SumsDoNotHold(
            f"{kept} kept and {rejected} rejected bookmarks gave {len(lesions)} rows, {len(bookmarks)} bookmark "
            f"rows and {len(slices)} slices ({len(files)} files)"
        )
    return BuildSummary(len(lesions), len(slices), len(bookmarks), rejected, digest="")
