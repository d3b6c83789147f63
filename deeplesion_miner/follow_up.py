"""The same lesion in several studies of a patient: what it measured before, and how the targets respond by RECIST 1.1.

Two bookmarks of one reader are one lesion where they share a tracking UID, or where each is the only one of its label
on its day that no tracking UID ties to another. Readers are followed apart: where two measure one lesion, neither found
a new one. A target is a lymph node, and counts by its short axis, where a code of its finding or site has said so up to
then; where none has, it counts by its long axis.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import schemas
from deeplesion_miner.lymph_nodes import is_lymph_node
from deeplesion_miner.response import Assessment, Target, TimePoint, assess
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
class When:
    """A time point: a day, and the patient's studies of that day."""

    study_date: str
    """YYYYMMDD."""
    study_instance_uids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.study_date} (study {', '.join(self.study_instance_uids)})"


@dataclass(frozen=True)
class NoTarget:
    """A lesion that does not count in the response."""

    study_instance_uid: str
    """Of the study in which it lacks what it needs."""
    bookmark_key: str
    label: str
    reason: str
    """A code of `schemas/follow_up.toml` no_target."""


@dataclass(frozen=True)
class Assessed:
    """The response of the target lesions at one time, and what it was computed from."""

    assessment: Assessment
    baseline: When
    nadir: When
    """Of the smallest sum before; the baseline's where no later one was smaller."""
    targets: int
    nodes: int
    """How many targets are lymph nodes by their codes."""

    @property
    def words(self) -> str:
        """The sums, whose they are, and by which axes the targets count."""
        found = self.assessment
        measured = f"sum of diameters {found.sum_mm:.2f} mm"
        if found.missing:
            measured += f" without {len(found.missing)} of {self.targets} target lesions, which were not measured"
        return (
            f"RECIST 1.1, target lesions: {measured}; "
            f"baseline {found.baseline_mm:.2f} mm on {self.baseline}{_percent(found.sum_mm, found.baseline_mm)}; "
            f"nadir {found.nadir_mm:.2f} mm on {self.nadir}{_percent(found.sum_mm, found.nadir_mm)}. "
            f"Of {self.targets} target lesions {self.nodes} count by the short axis, as lymph nodes by their codes, "
            f"and {self.targets - self.nodes} by the long axis, since no code says that they are nodes."
        )


def _percent(sum_mm: float, before_mm: float) -> str:
    return f", {100 * (sum_mm / before_mm - 1):+.1f} %" if before_mm else ""


@dataclass(frozen=True)
class FollowUp:
    """What earlier studies say."""

    priors: Mapping[str, Prior]
    """By bookmark key: the lesion at the latest earlier time."""
    responses: Mapping[tuple[str, str], Assessed]
    """Of the target lesions, which are the measurable ones of the reader's first study; by StudyInstanceUID and
    reader, from the second one on. Absent where there is no target."""
    no_targets: tuple[NoTarget, ...] = ()
    """Each lesion and reason once, sorted."""

    def told(self, result: Result) -> Result:
        """A mined result with what is known of earlier studies."""
        response = self.responses.get((result.study_instance_uid, result.author.name))
        return replace(
            result,
            lesions=tuple(replace(one, prior=self.priors.get(one.key)) for one in result.lesions),
            response=None if response is None else response.assessment.response.code,
            response_basis="" if response is None else response.words,
        )


def follow(studies: Iterable[TimedStudy]) -> FollowUp:
    """Links the lesions of each patient through time; studies without a date or a patient are linked to nothing."""
    patients: dict[tuple[str, str, str], list[TimedStudy]] = defaultdict(list)
    for study in studies:
        if study.patient_id and study.study_date and study.kept:
            patients[study.patient_id, study.issuer_of_patient_id, study.reader].append(study)
    priors: dict[str, Prior] = {}
    responses: dict[tuple[str, str], Assessed] = {}
    no_targets: set[NoTarget] = set()
    for found in patients.values():
        of_time = _by_time(found)
        for number, now in enumerate(of_time):
            priors.update(_priors(of_time[:number], now))
            if number:
                response, left = _response(of_time[: number + 1])
                no_targets |= left
                if response is not None:
                    responses.update(((study.study_instance_uid, study.reader), response) for study in now.studies)
    return FollowUp(priors, responses, tuple(sorted(no_targets, key=lambda one: (one.bookmark_key, one.reason))))


@dataclass(frozen=True)
class _TimePoint:
    """All that was kept of one patient on one day."""

    study_date: str
    studies: tuple[TimedStudy, ...]

    def kept(self) -> tuple[Kept, ...]:
        return tuple(one for study in self.studies for one in study.kept)

    def when(self) -> When:
        return When(self.study_date, tuple(sorted({study.study_instance_uid for study in self.studies})))


def _by_time(studies: Sequence[TimedStudy]) -> list[_TimePoint]:
    days: dict[str, list[TimedStudy]] = defaultdict(list)
    for study in sorted(studies, key=lambda one: one.study_instance_uid):
        days[study.study_date].append(study)
    return [_TimePoint(day, tuple(found)) for day, found in sorted(days.items())]


def _same(kept: Sequence[Kept], others: Sequence[Kept]) -> dict[str, Kept]:
    """The same lesion among others, by bookmark key; a tracking UID says more than a label."""
    by_uid = {one.bookmark.tracking_uid: one for one in others if one.bookmark.tracking_uid}
    found = {one.bookmark.key: by_uid[one.bookmark.tracking_uid] for one in kept if one.bookmark.tracking_uid in by_uid}
    taken = {one.bookmark.key for one in found.values()}
    left = [one for one in kept if one.bookmark.key not in found]
    free = [one for one in others if one.bookmark.key not in taken]
    mine, theirs = (Counter(one.bookmark.label for one in some) for some in (left, free))
    by_label = {one.bookmark.label: one for one in free}
    for one in left:
        label = one.bookmark.label
        if label and mine[label] == theirs[label] == 1:
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


# --- the response of the targets -------------------------------------------------------------------------


def _response(of_time: Sequence[_TimePoint]) -> tuple[Assessed | None, set[NoTarget]]:
    """Of the target lesions at the last time point, None without one; a new lesion is none of them, and stands without
    a prior.
    """
    first = of_time[0]
    measured = [_measured(first, then) for then in of_time]
    nodes = {name for found in measured for name, one in found.items() if is_lymph_node(one.bookmark)}
    left: set[NoTarget] = set()
    baseline = {name: target for name, one in measured[0].items() if (target := _at_baseline(one, name in nodes, left))}
    if not baseline:
        return None, left
    *between, now = [_later(found, baseline, left) for found in measured[1:]]
    assessment = assess(baseline, between, now)
    found = Assessed(
        assessment,
        first.when(),
        of_time[assessment.nadir_at].when(),
        len(baseline),
        len(nodes & baseline.keys()),
    )
    return found, left


def _measured(first: _TimePoint, then: _TimePoint) -> dict[str, Kept]:
    """The first study's lesions as they were measured then, by the bookmark key that they had first."""
    if then is first:
        return {one.bookmark.key: one for one in first.kept()}
    measured = {one.bookmark.key: one for one in then.kept()}
    return {before.bookmark.key: measured[key] for key, before in _same(then.kept(), first.kept()).items()}


def _at_baseline(one: Kept, is_node: bool, left: set[NoTarget]) -> Target | None:
    """The lesion as a target; None, with its reason, where it is none."""
    target = _target(one, is_node)
    if target is None:
        left.add(_no_target(one, "node_without_short_axis"))
    elif not target.is_measurable:
        left.add(_no_target(one, "node_below_15_mm" if is_node else "mass_below_10_mm"))
        return None
    return target


def _later(found: Mapping[str, Kept], baseline: TimePoint, left: set[NoTarget]) -> dict[str, Target]:
    """The targets as they were measured; a node without its short axis was not, and has its reason."""
    targets = {}
    for name, before in baseline.items():
        if name not in found:
            continue
        target = _target(found[name], before.is_node)
        if target is None:
            left.add(_no_target(found[name], "node_without_short_axis"))
        else:
            targets[name] = target
    return targets


def _target(one: Kept, is_node: bool) -> Target | None:
    short_axis_mm = one.lesion.short_axis_mm
    if short_axis_mm is None:
        return None if is_node else Target(one.lesion.long_axis_mm)
    return Target(one.lesion.long_axis_mm, short_axis_mm, is_node)


def _no_target(one: Kept, reason: str) -> NoTarget:
    study = one.lesion.header.ref.study_instance_uid
    return NoTarget(study, one.bookmark.key, one.bookmark.label, reason)


def advice(reason: str) -> str:
    """Why lesions do not count, and what to do, in a line. KeyError for a code that the schema does not hold."""
    facts = schemas.load("follow_up")["no_target"][reason]
    return f"{facts['message']}; {facts['advice']}"
