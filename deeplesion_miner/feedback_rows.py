"""Rows of the feedback table: what is told of one lesion of ours, or of one mark that a reader added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import schemas
from deeplesion_miner.feedback_geometry import Change
from deeplesion_miner.feedback_links import Chain, Tip
from deeplesion_miner.feedback_marks import Mark
from deeplesion_miner.feedback_reports import ReadReport, RejectionNote, known_reader
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
    corrected_image_sop_instance_uid: str
    corrected_frame_number: int | None
    shift_mm: float | None
    slice_shift_mm: float | None
    long_axis_change_mm: float | None
    short_axis_change_mm: float | None
    shown_displaced: bool
    link: str
    saves: int
    reader: str
    said_at: str
    source_series_instance_uid: str
    source_sop_instance_uid: str


def counts(rows: Iterable[FeedbackRow]) -> Mapping[str, int]:
    """How many rows have each verdict, all verdicts in their order."""
    verdicts = [row.verdict for row in rows]
    return {str(one): verdicts.count(one) for one in FeedbackVerdict}


# --- of a report that was saved again --------------------------------------------------------------------


@dataclass(frozen=True)
class Saved:
    """A report of ours and one of the re-saves that answer it."""

    report: ReadReport
    chain: Chain
    tip: Tip
    save: ReadReport

    def kept(self, lesion: Mark, now: Mark, found: Change) -> FeedbackRow:
        """Of a lesion that is still there, changed or not."""
        label_change = _label_change(lesion.bookmark, now.bookmark)
        return _lesion_row(
            self.report,
            lesion,
            _verdict(found, label_change),
            **self._said(now),
            geometry_change=found.geometry,
            label_change=label_change,
            shift_mm=found.shift_mm,
            slice_shift_mm=found.slice_shift_mm,
            long_axis_change_mm=found.long_axis_mm,
            short_axis_change_mm=found.short_axis_mm,
            shown_displaced=now.is_displaced,
        )

    def deleted(self, lesion: Mark) -> FeedbackRow:
        """Of a lesion that is there no more."""
        return _lesion_row(self.report, lesion, FeedbackVerdict.DELETED, **self._said(None))

    def added(self, mark: Mark) -> FeedbackRow:
        """Of a mark that is none of ours."""
        said = self._said(mark)
        return _row(self.report, mark, FeedbackVerdict.ADDED, **said, shown_displaced=mark.is_displaced)

    def _said(self, mark: Mark | None) -> dict[str, object]:
        """What every row of a re-save tells of it, and of the mark in it."""
        told: dict[str, object] = {
            "link": self.tip.link,
            "saves": len(self.chain.saves),
            "reader": known_reader(self.save.reader if mark is None else mark.bookmark.reader),
            "said_at": self.save.source.content_datetime,
            "source_series_instance_uid": self.save.source.series_instance_uid,
            "source_sop_instance_uid": self.save.uid,
        }
        if mark is not None:
            site = _site(mark.bookmark)
            told["new_label"] = mark.bookmark.label
            told["new_site"] = "" if site is None else site.meaning
            told["corrected_long_axis_px"], told["corrected_short_axis_px"] = map(_numbers, mark.true_lines)
            if mark.image is not None:
                told["corrected_image_sop_instance_uid"], told["corrected_frame_number"] = mark.image
        return told


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


# --- of a report that was not ----------------------------------------------------------------------------


def unreviewed(report: ReadReport, chain: Chain, lesion: Mark) -> FeedbackRow:
    """Of a lesion that nobody has judged."""
    reason = "corrected_by_us" if chain.is_corrected else ""
    return _lesion_row(report, lesion, FeedbackVerdict.UNREVIEWED, reason=reason)


def rejected(report: ReadReport, note: RejectionNote, lesion: Mark) -> FeedbackRow:
    """Of a lesion that was rejected with its report."""
    return _lesion_row(
        report,
        lesion,
        FeedbackVerdict.REJECTED,
        reason=note.reason,
        link="rejection_note",
        reader=note.reader,
        said_at=note.written_at,
        source_series_instance_uid=note.series_instance_uid,
        source_sop_instance_uid=note.sop_instance_uid,
    )


# --- columns ---------------------------------------------------------------------------------------------


def _lesion_row(report: ReadReport, lesion: Mark, verdict: FeedbackVerdict, **told: object) -> FeedbackRow:
    long_axis, short_axis = lesion.true_lines
    return _row(
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


def _row(report: ReadReport, mark: Mark, verdict: FeedbackVerdict, **told: object) -> FeedbackRow:
    """A row in which nothing is said that `told` does not say."""
    empty: dict[str, object] = dict.fromkeys(FeedbackRow.__annotations__)
    texts = ("tracking_uid", "label", "geometry_change", "label_change", "reason", "new_label", "new_site", "link",
             "corrected_image_sop_instance_uid", "reader", "said_at",
             "source_series_instance_uid", "source_sop_instance_uid")  # fmt: skip
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
