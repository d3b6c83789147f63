"""What a report says of a patient's follow-up: what was measured, and what only a reader can tell."""

from __future__ import annotations

import schemas
from deeplesion_miner.assessed import Assessed, FollowedLesion, NewLesionCandidate
from deeplesion_miner.overall import Overall
from deeplesion_miner.response import Assessment, Target


def response_basis(found: Assessed) -> str:
    """The sums that the response of the target lesions follows from, whose they are, and by which axes they count; ''
    without target lesions.
    """
    one = found.assessment
    if one is None:
        return ""
    targets, nodes = len(found.targets), found.nodes
    measured = f"sum of diameters {one.sum_mm:.2f} mm"
    if one.missing:
        measured += f" without {len(one.missing)} of {targets} target lesions, which were not measured"
    return (
        f"RECIST 1.1, target lesions only: {measured}; "
        f"baseline {one.baseline_mm:.2f} mm on {found.baseline}{_change(one, one.baseline_mm)}; "
        f"nadir {one.nadir_mm:.2f} mm on {found.nadir}{_change(one, one.nadir_mm)}. "
        f"Of {targets} target lesions {nodes} count by the short axis, as lymph nodes by their codes, "
        f"and {targets - nodes} by the long axis, since no code says that they are nodes."
    )


def _change(one: Assessment, before_mm: float) -> str:
    """In percent; '' where the sum lacks a lesion that the earlier one has."""
    return "" if one.missing or not before_mm else f", {100 * (one.sum_mm / before_mm - 1):+.1f} %"


def response_notes(found: Assessed) -> tuple[str, ...]:
    """Target lesions, non-target lesions, candidates for new lesions, each where there are any, and the overall
    response as far as marks tell it.
    """
    notes = [_targets(found), _non_targets(found), _normal_nodes(found), _candidates(found), _overall(found)]
    return tuple(note for note in notes if note)


def _targets(found: Assessed) -> str:
    if not found.targets:
        return "Target lesions: none, since no lesion of the baseline is measurable."
    rules = schemas.load("follow_up")["recist"]
    most, of_organ = rules["most_targets"], rules["most_targets_of_organ"]
    listed = "; ".join(f"{_named(one.label)} {_course(one)}" for one in found.targets)
    said = (
        f"Target lesions (the baseline's largest measurable marks, at most {most}, {of_organ} of an organ): {listed}."
    )
    unknown = sum(not one.is_organ_known for one in found.targets)
    if unknown and len(found.targets) > of_organ:
        said += f" No code names the organ of {unknown} of them: more than {of_organ} may be of one organ."
    return said


def _non_targets(found: Assessed) -> str:
    if not found.non_targets:
        return ""
    why = schemas.load("follow_up")["no_target"]
    listed = "; ".join(
        f"{_named(one.label)} {_course(one)}{f', {one.standing}' if one.now else ''} [{why[one.reason]['message']}]"
        for one in found.non_targets
    )
    return f"Non-target lesions: {listed}. Whether one has progressed unequivocally, a reader must judge."


def _normal_nodes(found: Assessed) -> str:
    if not found.normal_nodes:
        return ""
    listed = "; ".join(f"{_named(one.label)} {_size(one.before)}" for one in found.normal_nodes)
    return f"Lymph nodes of normal size at baseline (short axis below 10 mm), so no lesions: {listed}."


def _course(one: FollowedLesion) -> str:
    """What it measured at baseline, and now."""
    facts = schemas.load("follow_up")["not_evaluable"]
    before = _size(one.before)
    if one.now is None:
        return f"{before}, not evaluable now ({facts[one.not_evaluable]})"
    return f"{before}, now {one.now.diameter_mm:.2f} mm"


def _size(one: Target | None) -> str:
    if one is None:
        return "without a short axis"
    return f"{'short' if one.is_node else 'long'} axis {one.diameter_mm:.2f} mm"


def _candidates(found: Assessed) -> str:
    if not found.candidates:
        return ""
    reasons = schemas.load("follow_up")["candidate"]
    listed = "; ".join(
        f"{_named(one.label)} {_size(one.size)} on {one.since.study_date}"
        f"{'' if one.is_marked_now else ', not marked now'} [{reasons[one.reason]}]"
        for one in found.candidates
    )
    return f"Candidates for new lesions, none of them confirmed: {listed}."


def _overall(found: Assessed) -> str:
    """With and without a new lesion: which of both holds, a reader decides."""
    without, table = found.overall(has_new_lesion=False), 2 if found.assessment is None else 1
    said = f"Overall response by RECIST 1.1, table {table}: {without.words}"
    if without is Overall.PROGRESSIVE:
        return f"{said} by the target lesions alone, whether or not a lesion is new."
    terms = [_no_new_lesion(len(found.candidates))]
    if found.non_targets:
        terms.append("no non-target lesion has progressed unequivocally")
    return f"{said} if {', and '.join(terms)}, else {Overall.PROGRESSIVE.words}. A reader must decide; marks cannot."


def _no_new_lesion(candidates: int) -> str:
    if not candidates:
        return "there is no new lesion (no mark is a candidate)"
    return (
        "the candidate is no new lesion" if candidates == 1 else f"none of the {candidates} candidates is a new lesion"
    )


def candidate_note(one: NewLesionCandidate) -> str:
    """What the candidate's own measurement says."""
    reason = schemas.load("follow_up")["candidate"][one.reason]
    return f"Candidate for a new lesion since {one.since.study_date}, not confirmed: {reason}"


def _named(label: str) -> str:
    return f"'{label}'" if label else "unlabelled"


def advice(reason: str) -> str:
    """Why a lesion is no target, and what to do, in a line. KeyError for a code that the schema does not hold."""
    facts = schemas.load("follow_up")["no_target"][reason]
    return f"{facts['message']}; {facts['advice']}"
