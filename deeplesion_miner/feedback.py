"""What readers made of our reports: their re-saves and rejection notes, compared lesion by lesion.

Each lesion of each report of ours gives exactly one row, each mark that a reader added one more. Which report is a
re-save of which is found by `feedback_links`, which mark is which lesion by `feedback_marks`. Identified side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import schemas
from deeplesion_miner.errors import SumsDoNotHold
from deeplesion_miner.feedback_links import Chain, chains
from deeplesion_miner.feedback_marks import Change, FeedbackSettings, Mark, Planes, change, marks_of, pairs
from deeplesion_miner.feedback_reports import ReadReport, RejectionNote
from deeplesion_miner.types import Bookmark, Code, Segment

FourNumbers = tuple[float, float, float, float]


class FeedbackVerdict(StrEnum):
    """What became of a lesion. Of several changes the first of moved, resized, relabelled is the verdict."""

    KEPT = "kept"
    MOVED = "moved"
    RESIZED = "resized"
    RELABELLED = "relabelled"
    DELETED = "deleted"
    ADDED = "added"
    REJECTED = "rejected"
    """With the whole report, by a rejection note."""
    UNREVIEWED = "unreviewed"
    """Nobody has saved the report again nor rejected it: no word of praise."""


@dataclass(frozen=True)
class FeedbackRow:
    """One row of the feedback table; columns, units and meanings are those of `schemas/feedback.toml`."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    model_name: str
    model_version: str
    tracking_uid: str
    label: str
    kind: str
    image_sop_instance_uid: str
    frame_number: int | None
    verdict: str
    geometry_change: str
    label_change: str
    reason: str
    new_label: str
    new_site: str
    long_axis_px: FourNumbers | None
    short_axis_px: FourNumbers | None
    corrected_long_axis_px: FourNumbers | None
    corrected_short_axis_px: FourNumbers | None
    shift_mm: float | None
    long_axis_change_mm: float | None
    short_axis_change_mm: float | None
    shown_displaced: bool
    link: str
    saves: int
    reader: str
    said_at: str
    source_series_instance_uid: str
    source_sop_instance_uid: str


@dataclass(frozen=True)
class Feedback:
    """The rows of a study, and the reports of readers that answer none of ours."""

    rows: tuple[FeedbackRow, ...]
    unlinked: tuple[str, ...] = ()
    """SOP Instance UIDs, sorted."""


def feedback(
    reports: Iterable[ReadReport],
    notes: Iterable[RejectionNote],
    planes: Planes,
    settings: FeedbackSettings | None = None,
) -> Feedback:
    """The feedback of one study: rows of our reports in the order of their UIDs and lesions, then what was added.

    The newest re-save of a report counts; a rejected one does not. A report that was saved again is judged by its
    re-save even where it was itself rejected, since that says more. SumsDoNotHold for a lesion without its one row.
    """
    settings = settings or FeedbackSettings()
    read = sorted(reports, key=lambda one: one.uid)
    judged = list(notes)
    rejected = {uid: note for note in sorted(judged, key=_newest_last) for uid in note.rejected}
    found = chains(read, frozenset(rejected), planes, settings)
    by_uid = {one.uid: one for one in read}
    rows: list[FeedbackRow] = []
    for tip in sorted({chain.tip for chain in found.values() if chain.tip}):
        rows += _of_save(by_uid[tip], found, by_uid, planes, settings)
    for uid, chain in sorted(found.items()):
        if not chain.tip:
            rows += _unsaved(by_uid[uid], chain, rejected.get(uid), planes)
    check_sums(rows, [mark for uid in found for mark in marks_of(by_uid[uid], planes) if mark.is_measured])
    linked = {uid for chain in found.values() for uid in chain.saves}
    return Feedback(_ordered(rows), tuple(one.uid for one in read if one.author is None and one.uid not in linked))


def counts(rows: Iterable[FeedbackRow]) -> Mapping[str, int]:
    """How many rows have each verdict, all verdicts in their order."""
    verdicts = [row.verdict for row in rows]
    return {str(one): verdicts.count(one) for one in FeedbackVerdict}


def _newest_last(note: RejectionNote) -> tuple[str, str]:
    return note.written_at, note.sop_instance_uid


def _ordered(rows: Sequence[FeedbackRow]) -> tuple[FeedbackRow, ...]:
    """By our report; within it lesions in their order, then what was added (sorting is stable)."""
    return tuple(sorted(rows, key=lambda row: (row.sop_instance_uid, row.verdict == FeedbackVerdict.ADDED)))


def check_sums(rows: Iterable[FeedbackRow], lesions: Iterable[Mark]) -> None:
    """SumsDoNotHold unless each lesion of ours has exactly one row."""
    judged = sorted((row.sop_instance_uid, row.tracking_uid) for row in rows if row.verdict != FeedbackVerdict.ADDED)
    ours = sorted((one.bookmark.source.sop_instance_uid, one.bookmark.tracking_uid) for one in lesions)
    if judged != ours:
        raise SumsDoNotHold(f"{len(ours)} lesions of ours gave {len(judged)} rows of feedback, not one each")


# --- reports that were saved again -----------------------------------------------------------------------


def _of_save(
    save: ReadReport,
    found: Mapping[str, Chain],
    by_uid: Mapping[str, ReadReport],
    planes: Planes,
    settings: FeedbackSettings,
) -> list[FeedbackRow]:
    """Rows of the reports whose newest re-save this is. Lesions of others that it once held are no additions."""
    family = [uid for uid in sorted(found) if save.uid in found[uid].saves]
    before = [mark for uid in family for mark in marks_of(by_uid[uid], planes)]
    ours = [mark for mark in before if mark.is_measured]
    after = marks_of(save, planes)
    measured = [mark for mark in after if mark.is_measured]
    matched = dict(pairs(ours, measured, settings))
    rows = []
    for number, lesion in enumerate(ours):
        chain = found[lesion.bookmark.source.sop_instance_uid]
        if chain.tip == save.uid:
            other = measured[matched[number]] if number in matched else None
            rows.append(_row(by_uid[lesion.bookmark.source.sop_instance_uid], chain, lesion, save, other, settings))
    mine = min((uid for uid in family if found[uid].tip == save.uid), key=lambda uid: (_age(by_uid[uid]), uid))
    new = [mark for number, mark in enumerate(measured) if number not in matched.values()]
    new += _surplus(before, [mark for mark in after if not mark.is_measured])
    return rows + [_added(by_uid[mine], found[mine], mark, save) for mark in new]


def _age(report: ReadReport) -> str:
    return report.source.content_datetime


def _surplus(before: Sequence[Mark], after: Sequence[Mark]) -> list[Mark]:
    """Marks of other tools beyond those of the same kind that our reports drew on the image."""
    known = [(mark.image, mark.bookmark.kind) for mark in before if not mark.is_measured]
    new = []
    for mark in after:
        what = (mark.image, mark.bookmark.kind)
        if what in known:
            known.remove(what)
        elif mark.image is not None:
            new.append(mark)
    return new


def _row(
    report: ReadReport, chain: Chain, lesion: Mark, save: ReadReport, other: Mark | None, settings: FeedbackSettings
) -> FeedbackRow:
    said = _said(chain, save, other)
    if other is None:
        return _lesion_row(report, lesion, FeedbackVerdict.DELETED, **said)
    found = change(lesion, other, settings)
    label_change = _label_change(lesion.bookmark, other.bookmark)
    return _lesion_row(
        report,
        lesion,
        _verdict(found, label_change),
        **said,
        geometry_change=found.geometry,
        label_change=label_change,
        shift_mm=found.shift_mm,
        long_axis_change_mm=found.long_axis_mm,
        short_axis_change_mm=found.short_axis_mm,
        shown_displaced=other.is_displaced,
    )


def _verdict(found: Change, label_change: str) -> FeedbackVerdict:
    for verdict in (FeedbackVerdict.MOVED, FeedbackVerdict.RESIZED):
        if verdict in found.geometry.split("_"):
            return verdict
    return FeedbackVerdict.RELABELLED if label_change else FeedbackVerdict.KEPT


def _label_change(before: Bookmark, after: Bookmark) -> str:
    """'label', 'site', 'label_site' or ''; a site that the viewer lost or wrote as free text is no change."""
    changed = ["label"] if before.label != after.label else []
    old, new = _site(before), _site(after)
    if old is not None and new is not None and (old.value, old.scheme) != (new.value, new.scheme):
        changed.append("site")
    return "_".join(changed)


def _site(bookmark: Bookmark) -> Code | None:
    site = bookmark.finding_site
    return None if site is None or site.scheme in schemas.load("feedback")["free_text_schemes"] else site


def _added(report: ReadReport, chain: Chain, mark: Mark, save: ReadReport) -> FeedbackRow:
    return _blank(report, mark, FeedbackVerdict.ADDED, **_said(chain, save, mark), shown_displaced=mark.is_displaced)


def _said(chain: Chain, save: ReadReport, mark: Mark | None) -> dict[str, object]:
    """What every row of a re-save tells of it, and of the mark in it."""
    reader = mark.bookmark.reader if mark is not None else save.reader
    told: dict[str, object] = {
        "link": chain.link,
        "saves": len(chain.saves),
        "reader": "" if reader in schemas.load("feedback")["nobody"] else reader,
        "said_at": save.source.content_datetime,
        "source_series_instance_uid": save.source.series_instance_uid,
        "source_sop_instance_uid": save.uid,
    }
    if mark is not None:
        site = _site(mark.bookmark)
        told["new_label"] = mark.bookmark.label
        told["new_site"] = "" if site is None else site.meaning
        told["corrected_long_axis_px"], told["corrected_short_axis_px"] = map(_numbers, mark.true_lines)
    return told


# --- reports that were not -------------------------------------------------------------------------------


def _unsaved(report: ReadReport, chain: Chain, note: RejectionNote | None, planes: Planes) -> list[FeedbackRow]:
    lesions = [mark for mark in marks_of(report, planes) if mark.is_measured]
    if note is None:
        reason = "corrected_by_us" if chain.is_corrected else ""
        return [_lesion_row(report, one, FeedbackVerdict.UNREVIEWED, reason=reason) for one in lesions]
    said = {
        "reason": note.reason,
        "link": "rejection_note",
        "reader": note.reader,
        "said_at": note.written_at,
        "source_series_instance_uid": note.series_instance_uid,
        "source_sop_instance_uid": note.sop_instance_uid,
    }
    return [_lesion_row(report, one, FeedbackVerdict.REJECTED, **said) for one in lesions]


# --- rows ------------------------------------------------------------------------------------------------


def _lesion_row(report: ReadReport, lesion: Mark, verdict: FeedbackVerdict, **told: object) -> FeedbackRow:
    long_axis, short_axis = lesion.true_lines
    return _blank(
        report,
        lesion,
        verdict,
        **{
            "tracking_uid": lesion.bookmark.tracking_uid,
            "label": lesion.bookmark.label,
            "long_axis_px": _numbers(long_axis),
            "short_axis_px": _numbers(short_axis),
            **told,
        },
    )


def _blank(report: ReadReport, mark: Mark, verdict: FeedbackVerdict, **told: object) -> FeedbackRow:
    """A row in which nothing is said that `told` does not say."""
    empty: dict[str, object] = dict.fromkeys(FeedbackRow.__annotations__)
    texts = ("tracking_uid", "label", "geometry_change", "label_change", "reason", "new_label", "new_site", "link",
             "reader", "said_at", "source_series_instance_uid", "source_sop_instance_uid")  # fmt: skip
    empty.update(dict.fromkeys(texts, ""))
    values = {
        **empty,
        "study_instance_uid": report.source.study_instance_uid,
        "series_instance_uid": report.source.series_instance_uid,
        "sop_instance_uid": report.uid,
        "model_name": report.author.name if report.author else "",
        "model_version": report.author.version if report.author else "",
        "kind": str(mark.bookmark.kind),
        "image_sop_instance_uid": mark.image[0] if mark.image else "",
        "frame_number": mark.image[1] if mark.image else None,
        "verdict": str(verdict),
        "shown_displaced": False,
        "saves": 0,
        **told,
    }
    return FeedbackRow(**values)  # type: ignore[arg-type]


def _numbers(line: Segment | None) -> FourNumbers | None:
    return None if line is None else (*line.start, *line.end)
