"""A study's outcome as flat rows of the ledger's query tables (`schemas/ledger.sql`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from typing import TypeAlias

from dataset_builder.outcome_json import facts_to_json
from deeplesion_miner.studies import StudyOutcome
from deeplesion_miner.types import Kept, Unreadable, Verdict

Row: TypeAlias = tuple[str | int | None, ...]


def column(value: str) -> str:
    """Text that SQLite can hold: lone surrogates, which a broken character set may leave, are escaped."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def verdicts(outcome: StudyOutcome) -> list[Verdict]:
    """One verdict for each bookmark of the study."""
    return [*(placed.kept for placed in outcome.placed), *outcome.rejected]


def flat_rows(outcome: StudyOutcome) -> dict[str, list[Row]]:
    """The rows of every query table, in the order of the table's columns."""
    uid = column(outcome.study.study_instance_uid)
    return {
        "bookmark": [(uid, *_bookmark(verdict)) for verdict in verdicts(outcome)],
        "bookmark_image": [
            (uid, column(verdict.bookmark.key), column(image.sop_instance_uid), image.frame_number)
            for verdict in verdicts(outcome)
            for image in verdict.bookmark.images
        ],
        "note": [
            (uid, column(verdict.bookmark.key), _word(verdict), note.code, facts_to_json(note.facts))
            for verdict in verdicts(outcome)
            for note in verdict.notes
        ],
        "unreadable": unreadable_rows(uid, outcome.unreadable),
        "transfer": [(uid, *astuple(outcome.transfers))],
    }


def unreadable_rows(study_instance_uid: str | None, objects: Iterable[Unreadable]) -> list[Row]:
    """Rows of the table of unreadable objects; None for those that belong to no study."""
    return [
        (
            study_instance_uid,
            column(broken.source),
            broken.why,
            facts_to_json(broken.facts),
            column(broken.detail),
        )
        for broken in objects
    ]


def _word(verdict: Verdict) -> str:
    return "kept" if isinstance(verdict, Kept) else "rejected"


def _bookmark(verdict: Verdict) -> Row:
    bookmark, source = verdict.bookmark, verdict.bookmark.source
    reason, facts = ("", "{}") if isinstance(verdict, Kept) else (verdict.reason, facts_to_json(verdict.facts))
    return (
        column(bookmark.key),
        column(source.sop_instance_uid),
        bookmark.kind.value,
        source.dialect,
        source.writer,
        _word(verdict),
        reason,
        facts,
    )
