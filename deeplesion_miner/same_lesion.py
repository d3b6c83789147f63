"""One reader's marks of a patient by day, and which of them are the same lesion.

Two bookmarks of one reader are one lesion where they share a tracking UID, or where each is the only one of its label
on its day that no tracking UID ties to another. What is known again from any earlier day is known from the first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeplesion_miner.types import Kept


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
class Day:
    """All that one reader marked in a patient's studies of one day."""

    study_date: str
    studies: tuple[TimedStudy, ...]

    def kept(self) -> tuple[Kept, ...]:
        """Study by study, in the order of their UIDs."""
        return tuple(one for study in self.studies for one in study.kept)

    def when(self) -> When:
        """The day with the UIDs of its studies."""
        return When(self.study_date, tuple(sorted({study.study_instance_uid for study in self.studies})))


def by_day(studies: Sequence[TimedStudy]) -> list[Day]:
    """The studies of one patient and reader, the first day first."""
    days: dict[str, list[TimedStudy]] = defaultdict(list)
    for study in sorted(studies, key=lambda one: one.study_instance_uid):
        days[study.study_date].append(study)
    return [Day(day, tuple(found)) for day, found in sorted(days.items())]


def same_lesions(kept: Sequence[Kept], others: Sequence[Kept]) -> dict[str, Kept]:
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


def lesion_names(days: Sequence[Day]) -> list[dict[str, str]]:
    """Day by day the name of each mark's lesion, by bookmark key: the key of the mark that it had first.

    The first day decides before later ones do, and a name is given to marks of one day from one earlier day alone.
    """
    named: list[dict[str, str]] = []
    for day in days:
        kept = day.kept()
        names: dict[str, str] = {}
        for before, known in zip(days, named, strict=False):  # the days before this one
            if len(names) == len(kept):
                break
            taken = set(names.values())
            links = same_lesions(kept, before.kept())
            found = {key: known[other.bookmark.key] for key, other in links.items() if key not in names}
            names.update((key, name) for key, name in found.items() if name not in taken)
        named.append(names | _first_names([one for one in kept if one.bookmark.key not in names]))
    return named


def _first_names(kept: Sequence[Kept]) -> dict[str, str]:
    """Of lesions seen for the first time: marks of one tracking UID are one lesion."""
    by_uid: dict[str, str] = {}
    names = {}
    for one in kept:
        key, uid = one.bookmark.key, one.bookmark.tracking_uid
        names[key] = by_uid.setdefault(uid, key) if uid else key
    return names


def measured(day: Day, names: Mapping[str, str]) -> dict[str, Kept]:
    """A day's marks by the name of their lesion; of several of one lesion the last."""
    return {names[one.bookmark.key]: one for one in day.kept()}
