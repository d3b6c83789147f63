"""What a reader's marks say of a patient at one time by RECIST 1.1: targets, non-targets, candidates for new lesions.

The baseline is the first day on which the reader marked anything. A lesion that has no mark now is not evaluable: no
mark says that a lesion is gone. A lesion without an earlier mark is a candidate for a new one, which a person confirms.
A mark is one of a lymph node where a code of the lesion's finding or site has said so up to then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeplesion_miner.lymph_nodes import is_lymph_node
from deeplesion_miner.organs import organ_of
from deeplesion_miner.overall import NonTargetResponse, Overall, Standing, non_target_response, overall
from deeplesion_miner.response import Assessment, Target, assess
from deeplesion_miner.same_lesion import Day, When, measured
from deeplesion_miner.targets import NORMAL_NODE, BaselineLesion, choose_targets
from deeplesion_miner.types import Kept

LYMPH_NODES = "lymph nodes"
"""One organ, wherever they lie."""


@dataclass(frozen=True)
class FollowedLesion:
    """A lesion of the baseline, as it was and as it is now."""

    name: str
    """Key of the bookmark that it had first."""
    label: str
    """Of the baseline; may be ''."""
    reason: str
    """'' of a target lesion, else why it is none: a code of `schemas/follow_up.toml` no_target."""
    is_organ_known: bool
    before: Target | None
    """None for a lymph node without its short axis."""
    now: Target | None
    """None where it is not evaluable."""
    not_evaluable: str = ""
    """Why: a code of `schemas/follow_up.toml` not_evaluable."""

    @property
    def is_target(self) -> bool:
        """Whether its diameter is part of the sum."""
        return not self.reason

    @property
    def standing(self) -> Standing:
        """Of a non-target lesion."""
        if self.now is None:
            return Standing.NOT_EVALUABLE
        return Standing.NORMAL if self.now.is_node and self.now.is_gone else Standing.PRESENT


@dataclass(frozen=True)
class NewLesionCandidate:
    """A lesion that the baseline has no mark of, or had as a normal node; whether it is new, a person decides."""

    name: str
    label: str
    reason: str
    """A code of `schemas/follow_up.toml` candidate."""
    since: When
    """When it was first marked as what may be a new lesion."""
    size: Target | None
    """As it was then; None for a lymph node without its short axis."""
    is_marked_now: bool


@dataclass(frozen=True)
class Assessed:
    """The response at one time, and what it was computed from."""

    assessment: Assessment | None
    """Of the target lesions; None where the baseline has none."""
    baseline: When
    nadir: When
    """Of the smallest sum before; the baseline's where no later one was smaller."""
    lesions: tuple[FollowedLesion, ...]
    """Of the baseline, the largest first."""
    normal_nodes: tuple[FollowedLesion, ...]
    """Lymph nodes of the baseline that were of normal size, and so no lesions."""
    candidates: tuple[NewLesionCandidate, ...]
    """Up to now, the first one first."""
    names: Mapping[str, str]
    """By key of each bookmark of this time, which lesion it is."""

    @property
    def targets(self) -> tuple[FollowedLesion, ...]:
        """The target lesions."""
        return tuple(one for one in self.lesions if one.is_target)

    @property
    def non_targets(self) -> tuple[FollowedLesion, ...]:
        """All other lesions of the baseline."""
        return tuple(one for one in self.lesions if not one.is_target)

    @property
    def nodes(self) -> int:
        """How many targets are lymph nodes by their codes."""
        return sum(one.before is not None and one.before.is_node for one in self.targets)

    @property
    def non_target_response(self) -> NonTargetResponse | None:
        """Where none has progressed unequivocally; None without any."""
        return non_target_response(one.standing for one in self.non_targets)

    def overall(self, has_new_lesion: bool) -> Overall:
        """Where no non-target lesion has progressed unequivocally, and a new lesion is there or not."""
        response = None if self.assessment is None else self.assessment.response
        return overall(response, self.non_target_response, has_new_lesion)


def assessed(days: Sequence[Day], names: Sequence[Mapping[str, str]]) -> Assessed:
    """The last of a reader's days against those before it; two or more, the first is the baseline.

    `names` are those of `deeplesion_miner.same_lesion.lesion_names`, day by day.
    """
    marks = [measured(day, of_day) for day, of_day in zip(days, names, strict=True)]
    nodes = {name for found in marks for name, one in found.items() if is_lymph_node(one.bookmark)}
    sizes = [{name: size(one, name in nodes) for name, one in found.items()} for found in marks]
    reasons = choose_targets(_at_baseline(name, one, name in nodes) for name, one in marks[0].items())
    found = [_followed(name, reason, marks[0][name], sizes[0][name], sizes[-1]) for name, reason in reasons.items()]
    lesions = tuple(one for one in found if one.reason != NORMAL_NODE)
    normal_nodes = tuple(one for one in found if one.reason == NORMAL_NODE)
    assessment = _response(sizes, [one.name for one in lesions if one.is_target])
    first, nadir_at = days[0].when(), 0 if assessment is None else assessment.nadir_at
    candidates = _candidates(days, marks, sizes, {one.name for one in lesions})
    return Assessed(assessment, first, days[nadir_at].when(), lesions, normal_nodes, candidates, names[-1])


def size(one: Kept, is_node: bool) -> Target | None:
    """What a mark measures; None for a lymph node without its short axis."""
    short_axis_mm = one.lesion.short_axis_mm
    if short_axis_mm is None:
        return None if is_node else Target(one.lesion.long_axis_mm)
    return Target(one.lesion.long_axis_mm, short_axis_mm, is_node)


def _at_baseline(name: str, one: Kept, is_node: bool) -> BaselineLesion:
    organ = LYMPH_NODES if is_node else organ_of(one.bookmark)
    return BaselineLesion(name, size(one, is_node), organ, one.lesion.plane.slice_thickness_mm)


def _followed(
    name: str, reason: str, one: Kept, before: Target | None, now: Mapping[str, Target | None]
) -> FollowedLesion:
    found = now.get(name)
    why = "" if found else "node_without_short_axis" if name in now else "not_marked"
    is_organ_known = bool((before is not None and before.is_node) or organ_of(one.bookmark))
    return FollowedLesion(name, one.bookmark.label, reason, is_organ_known, before, found, why)


def _response(sizes: Sequence[Mapping[str, Target | None]], targets: Sequence[str]) -> Assessment | None:
    if not targets:
        return None
    baseline, *between, now = (
        {name: found for name in targets if (found := of_day.get(name)) is not None} for of_day in sizes
    )
    return assess(baseline, between, now)


# --- candidates for new lesions --------------------------------------------------------------------------


def _candidates(
    days: Sequence[Day],
    marks: Sequence[Mapping[str, Kept]],
    sizes: Sequence[Mapping[str, Target | None]],
    old: set[str],
) -> tuple[NewLesionCandidate, ...]:
    """What was marked after the baseline, is none of its lesions and no normal lymph node."""
    found: dict[str, NewLesionCandidate] = {}
    normal_before = {name for name in marks[0] if name not in old}
    for number, day in enumerate(days[1:], start=1):
        for name, one in marks[number].items():
            if name in old or name in found:
                continue
            now = sizes[number][name]
            if (now is None and name in normal_before) or (now is not None and now.is_node and now.is_gone):
                normal_before.add(name)
                continue
            reason = "node_was_normal" if name in normal_before else _why_new(one, days[: number + 1])
            found[name] = NewLesionCandidate(
                name, one.bookmark.label, reason, day.when(), now, is_marked_now=name in marks[-1]
            )
    return tuple(found.values())


def _why_new(one: Kept, days: Sequence[Day]) -> str:
    """Why nothing ties the mark to a lesion of the days before its own, which is the last."""
    label, uid = one.bookmark.label, one.bookmark.tracking_uid
    if uid and any(mark.bookmark.tracking_uid == uid for day in days[:-1] for mark in day.kept()):
        return "uid_of_another"
    if not label:
        return "no_label"
    *before, now = (Counter(mark.bookmark.label for mark in day.kept())[label] for day in days)
    return "label_of_several" if any(before) or now > 1 else "not_marked_before"
