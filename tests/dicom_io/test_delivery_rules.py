from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from deeplesion_miner.errors import ConfigError
from dicom_io import delivery, delivery_rules
from dicom_io.delivery_rules import (
    AWAITED,
    DELIVERED,
    OPEN,
    SEEN_ONCE,
    UNTOLD,
    WARNED,
    Event,
    Happening,
    Policy,
    Standing,
    State,
    after,
    awaited_until_s,
    identity_refusal,
    of_answer,
    of_commitment_failure,
    of_listing,
    pause,
    reason_text,
)
from dicom_io.store_status import StoreAnswer, Verdict

POLICY = Policy(attempts=4, refusals=2, first_pause_s=2.0, longest_pause_s=100.0, refusal_pause_s=10.0)
HAPPENINGS = st.builds(Happening, st.sampled_from(Event))


def happen(*events: Event, policy: Policy = POLICY, state: State = State.QUEUED) -> Standing:
    standing = Standing(state=state)
    for event in events:
        standing = after(standing, Happening(event), policy, standing.due_s, "1.2.3")
    return standing


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((Event.STORED,), State.SENT),
        ((Event.STORED, Event.COMMITTED), State.COMMITTED),
        ((Event.STORED, Event.LISTED), State.VERIFIED),
        ((Event.STORED, Event.LISTED, Event.COMMITTED), State.COMMITTED),
        ((Event.STORED, Event.UNLISTED), State.QUEUED),
        ((Event.STORED, Event.UNCOMMITTED), State.QUEUED),
        ((Event.STORED, Event.LISTED, Event.UNCOMMITTED), State.QUEUED),
        ((Event.STORED, Event.IMPOSSIBLE), State.DEAD),
        ((Event.STORED, Event.REFUSED), State.FAILED),
        ((Event.STORED, Event.REFUSED, Event.STORED, Event.LISTED), State.VERIFIED),
        ((Event.ALREADY_THERE,), State.VERIFIED),
        ((Event.SEEN,), State.QUEUED),
        ((Event.SEEN, Event.ALREADY_THERE), State.VERIFIED),
        ((Event.SEEN, Event.STORED), State.SENT),
        ((Event.REFUSED, Event.SEEN), State.FAILED),
        ((Event.NO_STUDY,), State.QUEUED),
        ((Event.NO_STUDY, Event.STORED), State.SENT),
        ((Event.NO_STUDY, Event.IMPOSSIBLE), State.DEAD),
        ((Event.REFUSED, Event.NO_STUDY), State.FAILED),
        ((Event.STORED, Event.NO_STUDY), State.SENT),
        ((Event.UNTOLD,) * 9, State.QUEUED),
        ((Event.UNTOLD, Event.STORED), State.SENT),
        ((Event.STORED, Event.UNTOLD), State.SENT),
        ((Event.REFUSED, Event.UNTOLD), State.FAILED),
        ((Event.IMPOSSIBLE, Event.UNTOLD), State.DEAD),
        ((Event.AGAIN,), State.QUEUED),
        ((Event.AGAIN, Event.STORED), State.SENT),
        ((Event.AGAIN,) * 3, State.QUEUED),
        ((Event.AGAIN,) * 4, State.DEAD),
        ((Event.REFUSED,), State.FAILED),
        ((Event.REFUSED, Event.AGAIN), State.FAILED),
        ((Event.REFUSED, Event.STORED), State.SENT),
        ((Event.REFUSED,) * 2, State.DEAD),
        ((Event.IMPOSSIBLE,), State.DEAD),
        ((Event.IMPOSSIBLE, Event.COMMITTED), State.COMMITTED),
        ((Event.IMPOSSIBLE, Event.STORED), State.DEAD),
        ((Event.COMMITTED, Event.UNCOMMITTED), State.COMMITTED),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else str(value),
)
def test_events_lead_from_queued_to(events: tuple[Event, ...], state: State) -> None:
    assert happen(*events).state is state


def test_where_commitment_is_required_no_listing_of_an_object_on_its_way_counts() -> None:
    required = Policy(commitment="required")
    assert happen(Event.ALREADY_THERE, policy=required).state is State.SENT


def test_what_is_listed_without_an_answer_is_there_at_the_second_look_and_not_at_the_first() -> None:
    first = after(Standing(), of_listing(Standing()), POLICY, 100.0, "")
    assert (first.state, first.reason, first.due_s) == (State.QUEUED, SEEN_ONCE, 100.0 + POLICY.second_look_s)
    second = after(first, of_listing(first), POLICY, first.due_s, "")
    assert (second.state, second.reason) == (State.VERIFIED, "")


def test_what_is_cut_off_once_more_is_looked_at_twice_once_more() -> None:
    seen = after(Standing(), of_listing(Standing()), POLICY, 0.0, "")
    cut_off = after(seen, Happening(Event.AGAIN, "lost"), POLICY, seen.due_s, "")
    assert of_listing(cut_off).event is Event.SEEN


@given(st.lists(HAPPENINGS))
def test_what_is_committed_stays_committed(happenings: list[Happening]) -> None:
    standing = Standing(state=State.COMMITTED)
    for one in happenings:
        standing = after(standing, one, POLICY, 0.0, "")
    assert standing == Standing(state=State.COMMITTED)


@given(st.lists(HAPPENINGS, max_size=60))
def test_every_change_is_dated_and_only_what_is_open_is_due(happenings: list[Happening]) -> None:
    standing, now_s = Standing(), 100.0
    for one in happenings:
        before, standing = standing, after(standing, one, POLICY, now_s, "")
        if standing != before:
            assert (standing.settled_s is None) == (standing.state in OPEN)
            assert now_s <= standing.due_s <= now_s + POLICY.longest_pause_s
            assert standing.maybe_there or one.event in (Event.NO_STUDY, Event.UNTOLD)
        now_s += 1.0


def test_an_object_of_whose_study_the_archive_does_not_speak_waits_longer_and_longer_and_never_dies_of_it() -> None:
    standing, now_s, pauses = Standing(), 1000.0, []
    for _ in range(12):
        standing = after(standing, Happening(Event.UNTOLD, UNTOLD, "no"), POLICY, now_s, "")
        pauses.append(standing.due_s - now_s)
        now_s = standing.due_s
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (POLICY.first_pause_s, POLICY.longest_pause_s)
    assert (standing.reason, standing.detail, standing.attempts, standing.maybe_there) == (UNTOLD, "no", 0, False)
    assert awaited_until_s(standing, POLICY) is None


def test_what_is_known_of_an_object_outlasts_that_nothing_more_is_told() -> None:
    awaited = after(Standing(), Happening(Event.NO_STUDY, "study_unknown"), POLICY, 100.0, "")
    standing = after(awaited, Happening(Event.UNTOLD, UNTOLD), POLICY, 200.0, "")
    assert (standing.reason, standing.awaited_since_s) == (AWAITED, 100.0)
    warned = Standing(state=State.SENT, reason=WARNED, detail="changed")
    standing = after(warned, Happening(Event.UNTOLD, UNTOLD, "no"), POLICY, 200.0, "")
    assert (standing.reason, standing.detail, standing.awaited_since_s) == (WARNED, "changed", 200.0)


def test_patience_for_a_study_begins_when_it_is_known_not_to_be_there() -> None:
    untold = after(Standing(), Happening(Event.UNTOLD, UNTOLD), POLICY, 100.0, "")
    later_s = 100.0 + 2 * POLICY.study_patience_s
    standing = after(untold, Happening(Event.NO_STUDY, "study_unknown"), POLICY, later_s, "")
    assert (standing.state, standing.reason, standing.awaited_since_s) == (State.QUEUED, AWAITED, later_s)


@given(st.lists(st.sampled_from([Event.AGAIN, Event.REFUSED]), min_size=6, max_size=6))
def test_no_object_is_tried_for_ever(events: list[Event]) -> None:
    assert happen(*events).state is State.DEAD


def test_a_warning_stays_with_a_delivered_object() -> None:
    standing = after(Standing(), of_answer(StoreAnswer("1.2", Verdict.WARNING, "changed", 0xB000)), POLICY, 0.0, "")
    for event in (Event.LISTED, Event.COMMITTED):
        standing = after(standing, Happening(event), POLICY, 0.0, "")
        assert (standing.reason, standing.detail) == ("stored_with_warning", "changed")


def test_a_transient_reason_goes_when_the_object_has_arrived() -> None:
    standing = after(Standing(), Happening(Event.AGAIN, "not_taken", "A700"), POLICY, 0.0, "")
    standing = after(standing, Happening(Event.STORED), POLICY, 0.0, "")
    assert (standing.reason, standing.detail) == ("", "")


@given(st.integers(1, 2000), st.integers(0, 9), st.text())
def test_pauses_double_up_to_a_limit_and_come_again_by_the_seed(failures: int, seed: int, key: str) -> None:
    policy = Policy(first_pause_s=2.0, longest_pause_s=100.0, seed=seed)
    whole_s = min(2.0 * 2.0 ** min(failures - 1, 10), 100.0)
    assert whole_s / 2 <= pause(policy, 2.0, failures, key) <= whole_s
    assert pause(policy, 2.0, failures, key) == pause(policy, 2.0, failures, key)


def test_pauses_of_objects_differ() -> None:
    assert len({pause(POLICY, 2.0, 1, str(number)) for number in range(100)}) == 100


@pytest.mark.parametrize(
    ("verdict", "event"),
    [
        (Verdict.STORED, Event.STORED),
        (Verdict.WARNING, Event.STORED),
        (Verdict.THERE, Event.ALREADY_THERE),
        (Verdict.TEMPORARY, Event.AGAIN),
        (Verdict.PERMANENT, Event.REFUSED),
    ],
)
def test_an_answer_means(verdict: Verdict, event: Event) -> None:
    assert of_answer(StoreAnswer("1.2", verdict, "words")).event is event


@pytest.mark.parametrize(("reason", "event"), [(0x0110, Event.UNCOMMITTED), (0x0112, Event.UNCOMMITTED),
                                               (0x0213, Event.UNCOMMITTED), (0x0119, Event.IMPOSSIBLE),
                                               (0x0122, Event.IMPOSSIBLE), (0x9999, Event.UNCOMMITTED)])  # fmt: skip
def test_a_failure_of_commitment_means(reason: int, event: Event) -> None:
    assert of_commitment_failure(reason).event is event


@pytest.mark.parametrize(
    ("own", "in_archive", "refusal"),
    [
        (("P1", ""), [("P1", "")], ""),
        (("P1 ", ""), [(" P1\0", "")], ""),
        (("P1", ""), None, "study_unknown"),
        (("P1", ""), [("P2", "")], "patient_mismatch"),
        (("P1", ""), [("p1", "")], "patient_mismatch"),
        (("P1", ""), [("P1", ""), ("P2", "")], "patient_ambiguous"),
        (("P1", ""), [("", "")], "patient_untold"),
        (("P1", ""), [("P1", ""), ("", "")], "patient_untold"),
        (("", ""), [("P1", "")], "patient_untold"),
        (("", ""), [("", "")], "patient_untold"),
        (("P1", ""), [], "patient_untold"),
        (("P1", "A"), [("P1", "A")], ""),
        (("P1", " A "), [("P1", "A\0")], ""),
        (("P1", "A"), [("P1", "B")], "patient_mismatch"),
        (("P1", "A"), [("P1", "")], ""),
        (("P1", ""), [("P1", "B")], ""),
        (("P1", "A"), [("P1", "A"), ("P1", "")], ""),
        (("P1", "A"), [("P1", "A"), ("P1", "B")], "patient_ambiguous"),
        (("P1", ""), [("P1", "A"), ("P1", "B")], "patient_ambiguous"),
        (("P1", "A"), [("P2", "A")], "patient_mismatch"),
        (("", "A"), [("", "A")], "patient_untold"),
    ],
)
def test_an_object_goes_only_where_patient_and_study_are_its_own(
    own: tuple[str, str], in_archive: list[tuple[str, str]] | None, refusal: str
) -> None:
    assert identity_refusal(own, in_archive)[0] == refusal


def test_where_only_the_issuers_differ_both_are_told() -> None:
    assert identity_refusal(("P1", "A"), [("P1", "B")])[1] == "IssuerOfPatientID: ours 'A', the archive's 'B'"
    assert identity_refusal(("P1", ""), [("P1", "A"), ("P1", "B")])[1] == "IssuerOfPatientID: the archive's 'A', 'B'"
    assert identity_refusal(("P1", "A"), [("P2", "B")])[1] == "", "nobody's number is told"


# --- studies that come later ---

PATIENT = replace(POLICY, study_patience_s=1000.0)
UNKNOWN = Happening(Event.NO_STUDY, "study_unknown")


def test_an_object_waits_for_its_study_asking_less_and_less_often_and_then_is_dead() -> None:
    standing, now_s, asked_s = Standing(), 5000.0, []
    while standing.state in OPEN:
        asked_s.append(now_s - 5000.0)
        standing = after(standing, UNKNOWN, PATIENT, now_s, "")
        if standing.state in OPEN:
            assert standing.reason == "study_awaited"
            assert awaited_until_s(standing, PATIENT) == 6000.0
        now_s = standing.due_s
    assert (standing.state, standing.reason, standing.settled_s) == (State.DEAD, "study_unknown", 6000.0)
    assert asked_s[:6] == [0.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert asked_s[-1] == 1000.0
    assert max(late - early for early, late in pairwise(asked_s)) == POLICY.longest_pause_s
    assert awaited_until_s(standing, PATIENT) is None


def test_waiting_for_a_study_costs_no_attempt_and_nothing_is_thought_to_have_gone_out() -> None:
    standing = after(Standing(attempts=2, refusals=1), UNKNOWN, PATIENT, 0.0, "")
    assert (standing.attempts, standing.refusals, standing.maybe_there) == (2, 1, False)


def test_without_patience_an_unknown_study_is_a_dead_letter_at_once() -> None:
    standing = after(Standing(), UNKNOWN, replace(POLICY, study_patience_s=0.0), 7.0, "")
    assert (standing.state, standing.reason) == (State.DEAD, "study_unknown")


def test_without_pauses_the_archive_is_not_asked_without_a_pause() -> None:
    hasty = replace(PATIENT, first_pause_s=0.0, longest_pause_s=0.0)
    assert after(Standing(), UNKNOWN, hasty, 7.0, "").due_s > 7.0


def test_when_the_study_has_come_the_waiting_is_forgotten() -> None:
    standing = after(after(Standing(), UNKNOWN, PATIENT, 0.0, ""), Happening(Event.STORED), PATIENT, 2.0, "")
    assert (standing.state, standing.reason, standing.awaited_since_s) == (State.SENT, "", None)


def test_a_clock_that_was_set_back_makes_nobody_wait_longer() -> None:
    standing = after(Standing(), UNKNOWN, PATIENT, 1e9, "")
    standing = after(standing, UNKNOWN, PATIENT, 500.0, "")
    assert awaited_until_s(standing, PATIENT) == 1500.0


@pytest.mark.parametrize("reason", sorted(schemas.load("delivery")["reason"]))
def test_every_reason_says_what_and_what_to_do(reason: str) -> None:
    message, advice = reason_text(reason)
    assert message and not message.endswith(".")
    assert advice.endswith(".")


def test_every_reason_of_the_table_is_given_and_every_reason_given_is_in_the_table() -> None:
    sources = [Path(module.__file__ or "").read_text("utf-8") for module in (delivery, delivery_rules)]
    said = {text for source in sources for text in re.findall(r'"([a-z]+(?:_[a-z]+)*)"', source)}
    table = set(schemas.load("delivery")["reason"])
    assert table <= said
    for source in sources:
        assert set(re.findall(r'Happening\([A-Za-z.]+, "([a-z_]+)"', source)) <= table


def test_states_are_open_delivered_or_dead() -> None:
    assert OPEN | DELIVERED | {State.DEAD} == set(State)
    assert {state for state in State if state.is_delivered} == DELIVERED


@pytest.mark.parametrize(
    "values",
    [
        {"attempts": 0},
        {"refusals": 0},
        {"first_pause_s": -1.0},
        {"study_patience_s": -1.0},
        {"study_patience_s": float("nan")},
        {"longest_pause_s": float("inf")},
        {"study_patience_s": 1e12},
    ],
)
def test_a_policy_that_cannot_work_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Policy(**values)  # type: ignore[arg-type]
