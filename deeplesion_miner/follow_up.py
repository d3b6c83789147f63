"""The same lesion in several studies of a patient: what it measured before, and how the targets respond by RECIST 1.1.

Two bookmarks of one reader are one lesion where they share a tracking UID, or where each is the only one of its label
on its day. Readers are followed apart: where two measure one lesion, neither found a new one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from deeplesion_miner.response import Response, Target, assess
from deeplesion_miner.results import ObjectRef, Prior, Result
from deeplesion_miner.types import Bookmark, Kept


@dataclass(frozen=True)
class TimedStudy:
    """What was kept of one reader's bookmarks in one study of a patient."""

    patient_id: str
    reader: str
    study_date: str
    """YYYYMMDD; '' where it is not known."""
    study_instance_uid: str
    kept: tuple[Kept, ...]
    issuer_of_patient_id: str = ""
    """Who gave the patient the ID: another hospital's patient of the same ID is another person."""


@dataclass(frozen=True)
class FollowUp:
    """What earlier studies say."""

    priors: Mapping[str, Prior]
    """By bookmark key: the lesion at the latest earlier time."""
    responses: Mapping[tuple[str, str], Response]
    """Of the target lesions, which are those of the reader's first study; by StudyInstanceUID and reader, from the
    second one on."""

    def told(self, result: Result) -> Result:
        """A mined result with what is known of earlier studies."""
        response = self.responses.get((result.study_instance_uid, result.author.name))
        return replace(
            result,
            lesions=tuple(replace(one, prior=self.priors.get(one.key)) for one in result.lesions),
            response=None if response is None else response.code,
        )


def follow(studies: Iterable[TimedStudy]) -> FollowUp:
    """Links the lesions of each patient through time; studies without a date or a patient are linked to nothing."""
    patients: dict[tuple[str, str, str], list[TimedStudy]] = defaultdict(list)
    for study in studies:
        if study.patient_id and study.study_date and study.kept:
            patients[study.patient_id, study.issuer_of_patient_id, study.reader].append(study)
    priors: dict[str, Prior] = {}
    responses: dict[tuple[str, str], Response] = {}
    for found in patients.values():
        of_time = _by_time(found)
        for number, now in enumerate(of_time):
            priors.update(_priors(of_time[:number], now))
            if number:
                response = _response(of_time[: number + 1])
                responses.update(((study.study_instance_uid, study.reader), response) for study in now.studies)
    return FollowUp(priors, responses)


@dataclass(frozen=True)
class _TimePoint:
    """All that was kept of one patient on one day."""

    study_date: str
    studies: tuple[TimedStudy, ...]

    def kept(self) -> tuple[Kept, ...]:
        return tuple(one for study in self.studies for one in study.kept)


def _by_time(studies: Sequence[TimedStudy]) -> list[_TimePoint]:
    days: dict[str, list[TimedStudy]] = defaultdict(list)
    for study in sorted(studies, key=lambda one: one.study_instance_uid):
        days[study.study_date].append(study)
    return [_TimePoint(day, tuple(found)) for day, found in sorted(days.items())]


def _same(kept: Sequence[Kept], others: Sequence[Kept]) -> dict[str, Kept]:
    """The same lesion among others, by bookmark key."""
    by_uid = {one.bookmark.tracking_uid: one for one in others if one.bookmark.tracking_uid}
    mine, theirs = (Counter(one.bookmark.label for one in some) for some in (kept, others))
    by_label = {one.bookmark.label: one for one in others}
    found: dict[str, Kept] = {}
    for one in kept:
        label = one.bookmark.label
        if one.bookmark.tracking_uid in by_uid:
            found[one.bookmark.key] = by_uid[one.bookmark.tracking_uid]
        elif label and mine[label] == theirs[label] == 1:
            found[one.bookmark.key] = by_label[label]
    return found


def _priors(earlier: Sequence[_TimePoint], now: _TimePoint) -> dict[str, Prior]:
    found: dict[str, Prior] = {}
    for before in earlier:  # the latest one last, so that it stands
        for key, one in _same(now.kept(), before.kept()).items():
            lesion = one.lesion
            found[key] = Prior(before.study_date, lesion.long_axis_mm, lesion.short_axis_mm, _report(one.bookmark))
    return found


def _report(bookmark: Bookmark) -> ObjectRef:
    source = bookmark.source
    return ObjectRef(
        source.study_instance_uid, source.series_instance_uid, source.sop_instance_uid, source.sop_class_uid
    )


def _response(of_time: Sequence[_TimePoint]) -> Response:
    """Of the target lesions at the last time point; a new lesion is none of them, and stands without a prior."""
    first, *between, now = of_time
    baseline = {one.bookmark.key: _target(one) for one in first.kept()}
    return assess(baseline, [_targets(first, one) for one in between], _targets(first, now)).response


def _targets(first: _TimePoint, then: _TimePoint) -> dict[str, Target]:
    """The first study's lesions as they measure then, by the bookmark key that they had first."""
    measured = {one.bookmark.key: one for one in then.kept()}
    return {before.bookmark.key: _target(measured[key]) for key, before in _same(then.kept(), first.kept()).items()}


def _target(one: Kept) -> Target:
    return Target(one.lesion.long_axis_mm, one.lesion.short_axis_mm or 0.0)
