"""What readers made of our models' reports: re-saves and rejection notes, compared lesion by lesion.

Each lesion of each report of a model gives exactly one row for each reader who answered it on their own, or one where
nobody did; each mark that a reader added is one more. A report of ours that passes on what a person measured gives
none: what becomes of it says nothing of a model. Which report is a re-save of which is found by `feedback_links`,
which mark is which lesion by `feedback_pairs`. Identified side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deeplesion_miner.errors import SumsDoNotHold
from deeplesion_miner.feedback_geometry import change
from deeplesion_miner.feedback_links import Chain, chains
from deeplesion_miner.feedback_marks import FeedbackSettings, ImageKey, Mark, Planes, marks_of
from deeplesion_miner.feedback_pairs import pairs
from deeplesion_miner.feedback_reports import ReadReport, RejectionNote
from deeplesion_miner.feedback_rows import FeedbackRow, FeedbackVerdict, Saved, rejected, unreviewed
from deeplesion_miner.types import Kind


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

    The newest re-save of a report counts, of readers who each opened the report itself the newest of each; a rejected
    one does not. A report that was saved again is judged by its re-save even where it was itself rejected, since that
    says more. SumsDoNotHold for a lesion without its one row.
    """
    settings = settings or FeedbackSettings.of_schema()
    read = sorted(reports, key=lambda one: one.uid)
    notes_by_uid = _rejections(notes)
    found = chains(read, frozenset(notes_by_uid), planes, settings)
    study = _Study(
        {one.uid: one for one in read}, {one.uid: marks_of(one, planes, settings) for one in read}, found, settings
    )
    rows = [row for save in sorted({tip.uid for chain in found.values() for tip in chain.tips})
            for row in study.of_save(save)]  # fmt: skip
    for uid in study.judged:
        if not found[uid].tips:
            rows += study.unsaved(uid, notes_by_uid.get(uid))
    check_sums(rows, [mark for uid in study.judged for mark in study.lesions(uid) * max(1, len(found[uid].tips))])
    linked = {uid for chain in found.values() for uid in chain.saves}
    return Feedback(_ordered(rows), tuple(one.uid for one in read if one.author is None and one.uid not in linked))


def _rejections(notes: Iterable[RejectionNote]) -> Mapping[str, RejectionNote]:
    """By rejected object the newest note that rejects it; a note that a newer one rejects is void."""
    found: dict[str, RejectionNote] = {}
    for note in sorted(notes, key=lambda one: (one.written_at, one.sop_instance_uid), reverse=True):
        if note.sop_instance_uid not in found:
            for uid in note.rejected:
                found.setdefault(uid, note)
    return found


def _ordered(rows: Sequence[FeedbackRow]) -> tuple[FeedbackRow, ...]:
    """By our report; within it lesions in their order, then what was added (sorting is stable)."""
    return tuple(sorted(rows, key=lambda row: (row.sop_instance_uid, row.verdict == FeedbackVerdict.ADDED)))


def check_sums(rows: Iterable[FeedbackRow], lesions: Iterable[Mark]) -> None:
    """SumsDoNotHold unless each lesion of ours has exactly one row for each time that it is given."""
    judged = Counter((row.sop_instance_uid, row.tracking_uid) for row in rows if row.verdict != FeedbackVerdict.ADDED)
    ours = Counter((one.bookmark.source.sop_instance_uid, one.bookmark.tracking_uid) for one in lesions)
    if judged != ours:
        raise SumsDoNotHold(f"{ours.total()} lesions of ours gave {judged.total()} rows of feedback, not one each")


@dataclass(frozen=True)
class _Study:
    """All reports of a study with their marks, and what followed ours."""

    by_uid: Mapping[str, ReadReport]
    marks: Mapping[str, list[Mark]]
    found: Mapping[str, Chain]
    settings: FeedbackSettings

    @property
    def judged(self) -> list[str]:
        """The reports of models, sorted."""
        return [uid for uid in sorted(self.found) if self.by_uid[uid].is_of_model]

    def lesions(self, uid: str) -> list[Mark]:
        """The lesions of a report."""
        return [mark for mark in self.marks[uid] if mark.is_measured]

    def of_save(self, save: str) -> list[FeedbackRow]:
        """Rows of the reports that this re-save answers. Lesions of others that it once held are no additions."""
        answered = {uid: self._saved(uid, save) for uid in self.judged if self.found[uid].tip_of(save)}
        if not answered:
            return []
        family = [uid for uid in sorted(self.found) if save in self.found[uid].saves]
        ours = [mark for uid in family for mark in self.lesions(uid)]
        now = self.lesions(save)
        matched = dict(pairs(ours, now, self.settings))
        rows = []
        for number, lesion in enumerate(ours):
            saved = answered.get(lesion.bookmark.source.sop_instance_uid)
            if saved is None:
                continue
            if number in matched:
                other = now[matched[number]]
                rows.append(saved.kept(lesion, other, change(lesion, other, self.settings)))
            else:
                rows.append(saved.deleted(lesion))
        new = [mark for number, mark in enumerate(now) if number not in matched.values()]
        new += _surplus([mark for uid in family for mark in self.marks[uid]], self.marks[save])
        oldest = min(answered, key=lambda uid: (self.by_uid[uid].source.content_datetime, uid))
        return rows + [answered[oldest].added(mark) for mark in new]

    def _saved(self, uid: str, save: str) -> Saved:
        tip = self.found[uid].tip_of(save)
        assert tip is not None
        return Saved(self.by_uid[uid], self.found[uid], tip, self.by_uid[save])

    def unsaved(self, uid: str, note: RejectionNote | None) -> list[FeedbackRow]:
        """Rows of a report that nobody has saved again."""
        report = self.by_uid[uid]
        if note is None:
            return [unreviewed(report, self.found[uid], one) for one in self.lesions(uid)]
        return [rejected(report, note, one) for one in self.lesions(uid)]


def _surplus(before: Sequence[Mark], after: Sequence[Mark]) -> list[Mark]:
    """Marks of other tools beyond those of the same kind that our reports drew on the image."""
    known: Counter[tuple[ImageKey | None, Kind]] = Counter(
        (mark.image, mark.bookmark.kind) for mark in before if not mark.is_measured
    )
    new = []
    for mark in after:
        what = (mark.image, mark.bookmark.kind)
        if mark.is_measured or mark.image is None:
            continue
        if known[what]:
            known[what] -= 1
        else:
            new.append(mark)
    return new
