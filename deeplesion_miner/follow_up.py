"""The same lesion in several studies of a patient: what it measured before, and the response by RECIST 1.1.

Readers are followed apart: where two measure one lesion, neither found a new one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from deeplesion_miner.assessed import Assessed, assessed
from deeplesion_miner.follow_up_words import candidate_note, response_basis, response_notes
from deeplesion_miner.results import ObjectRef, Prior, ReportedLesion, Result, coded
from deeplesion_miner.same_lesion import Day, TimedStudy, by_day, lesion_names, same_lesions
from deeplesion_miner.types import Bookmark


@dataclass(frozen=True)
class FollowUp:
    """What earlier studies say."""

    priors: Mapping[str, Prior]
    """By bookmark key: the lesion at the latest earlier time."""
    responses: Mapping[tuple[str, str], Assessed]
    """By StudyInstanceUID and reader, from the second day on that the reader marked anything."""

    @property
    def no_targets(self) -> frozenset[tuple[str, str]]:
        """Lesions of all baselines that are no target lesions: names and reasons."""
        found = (lesion for one in self.responses.values() for lesion in (*one.non_targets, *one.normal_nodes))
        return frozenset((one.name, one.reason) for one in found)

    @property
    def candidates(self) -> frozenset[str]:
        """Names of all that may be a new lesion."""
        return frozenset(candidate.name for one in self.responses.values() for candidate in one.candidates)

    def told(self, result: Result) -> Result:
        """A mined result with what is known of earlier studies."""
        found = self.responses.get((result.study_instance_uid, result.author.name))
        if found is None:
            return result
        return replace(
            result,
            lesions=tuple(self._told_of(one, found) for one in result.lesions),
            response=None if found.assessment is None else found.assessment.response.code,
            response_basis=response_basis(found),
            response_notes=response_notes(found),
        )

    def _told_of(self, one: ReportedLesion, found: Assessed) -> ReportedLesion:
        name = found.names.get(one.key)
        lesion = next((lesion for lesion in found.lesions if lesion.name == name), None)
        candidate = next((candidate for candidate in found.candidates if candidate.name == name), None)
        category = None if lesion is None else coded("lesion_type", "target" if lesion.is_target else "non_target")
        return replace(
            one,
            prior=self.priors.get(one.key),
            lesion_type=category,
            prior_note="" if candidate is None else candidate_note(candidate),
        )


def follow(studies: Iterable[TimedStudy]) -> FollowUp:
    """Links the lesions of each patient through time; studies without a date or a patient are linked to nothing."""
    patients: dict[tuple[str, str, str], list[TimedStudy]] = defaultdict(list)
    for study in studies:
        if study.patient_id and study.study_date and study.kept:
            patients[study.patient_id, study.issuer_of_patient_id, study.reader].append(study)
    priors: dict[str, Prior] = {}
    responses: dict[tuple[str, str], Assessed] = {}
    for found in patients.values():
        days = by_day(found)
        names = lesion_names(days)
        for number, day in enumerate(days[1:], start=1):
            priors.update(_priors(days[:number], day))
            response = assessed(days[: number + 1], names[: number + 1])
            responses.update(((study.study_instance_uid, study.reader), response) for study in day.studies)
    return FollowUp(priors, responses)


def _priors(earlier: Sequence[Day], now: Day) -> dict[str, Prior]:
    found: dict[str, Prior] = {}
    kept = now.kept()
    for before in reversed(earlier):
        if len(found) == len(kept):
            break
        for key, one in same_lesions(kept, before.kept()).items():
            lesion = one.lesion
            prior = Prior(before.study_date, lesion.long_axis_mm, lesion.short_axis_mm, _report(one.bookmark))
            found.setdefault(key, prior)
    return found


def _report(bookmark: Bookmark) -> ObjectRef:
    source = bookmark.source
    return ObjectRef(
        source.study_instance_uid, source.series_instance_uid, source.sop_instance_uid, source.sop_class_uid
    )
