"""What becomes of an object on its way to an archive: pure decisions over a table of states and events."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import schemas
from deeplesion_miner.errors import ConfigError
from dicom_io.issuers import STRICT, Issuers
from dicom_io.store_status import StoreAnswer, Verdict, commitment_failure


class State(StrEnum):
    """Where an object is."""

    QUEUED = "queued"
    SENT = "sent"
    """The archive said that it stored it; that is not yet confirmed."""
    COMMITTED = "committed"
    """The archive committed to keeping it (PS3.4 annex J)."""
    VERIFIED = "verified"
    """The archive lists it."""
    FAILED = "failed"
    """Refused; it is tried a few more times, far apart."""
    DEAD = "dead"
    """Not tried again by itself."""

    @property
    def is_delivered(self) -> bool:
        """Whether the archive is known to have the object."""
        return self in (State.COMMITTED, State.VERIFIED)


class Event(StrEnum):
    """What happened to an object."""

    STORED = "stored"
    ALREADY_THERE = "already_there"
    SEEN = "seen"
    """The archive lists what nobody answered for; it may yet take it back."""
    AGAIN = "again"
    NO_STUDY = "no_study"
    """The archive does not have the object's study, perhaps not yet."""
    UNTOLD = "untold"
    """The archive is there and does not say whose the study is, or what it has of it."""
    REFUSED = "refused"
    IMPOSSIBLE = "impossible"
    COMMITTED = "committed"
    UNCOMMITTED = "uncommitted"
    LISTED = "listed"
    UNLISTED = "unlisted"


DELIVERED = frozenset({State.COMMITTED, State.VERIFIED})
"""States in which the archive is known to have the object."""
OPEN = frozenset({State.QUEUED, State.SENT, State.FAILED})
"""States in which something is still to be done."""

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.QUEUED: {
        Event.STORED: State.SENT,
        Event.ALREADY_THERE: State.VERIFIED,
        Event.SEEN: State.QUEUED,
        Event.LISTED: State.VERIFIED,
        Event.COMMITTED: State.COMMITTED,
        Event.AGAIN: State.QUEUED,
        Event.NO_STUDY: State.QUEUED,
        Event.UNTOLD: State.QUEUED,
        Event.REFUSED: State.FAILED,
        Event.IMPOSSIBLE: State.DEAD,
    },
    State.FAILED: {
        Event.STORED: State.SENT,
        Event.ALREADY_THERE: State.VERIFIED,
        Event.SEEN: State.FAILED,
        Event.LISTED: State.VERIFIED,
        Event.COMMITTED: State.COMMITTED,
        Event.AGAIN: State.FAILED,
        Event.NO_STUDY: State.FAILED,
        Event.UNTOLD: State.FAILED,
        Event.REFUSED: State.FAILED,
        Event.IMPOSSIBLE: State.DEAD,
    },
    State.SENT: {
        Event.LISTED: State.VERIFIED,
        Event.COMMITTED: State.COMMITTED,
        Event.UNLISTED: State.QUEUED,
        Event.UNCOMMITTED: State.QUEUED,
        Event.UNTOLD: State.SENT,
        Event.REFUSED: State.FAILED,
        Event.IMPOSSIBLE: State.DEAD,
    },
    # A report may come hours after a query has shown the object.
    State.VERIFIED: {Event.COMMITTED: State.COMMITTED, Event.UNCOMMITTED: State.QUEUED},
    State.COMMITTED: {},
    State.DEAD: {Event.COMMITTED: State.COMMITTED},
}
"""By state and event; an event without an entry changes nothing, so that reports may be repeated and come late."""

AWAITED = "study_awaited"
"""The reason of an object that waits until the archive has its study."""
UNTOLD = "study_untold"
"""The reason of an object about whose study the archive does not speak."""
SEEN_ONCE = "seen_once"
"""The reason of an object that the archive listed after it was cut off on its way."""
WARNED = "stored_with_warning"
"""The reason that stays with an object that is delivered."""
_MOST_QUESTIONS = 100_000
"""About one study, however short the pauses are set."""
_LONGEST_S = 1e9
_PASSING = frozenset({Event.AGAIN, Event.UNCOMMITTED, Event.UNLISTED})

Commitment = Literal["auto", "required", "never"]
Identity = tuple[str, str]
"""PatientID and IssuerOfPatientID; '' for what is not told."""


@dataclass(frozen=True)
class Policy:
    """How often and how far apart an object is tried."""

    attempts: int = 12
    """Failures for passing reasons before an object is dead."""
    refusals: int = 3
    """Refusals before an object is dead."""
    first_pause_s: float = 2.0
    longest_pause_s: float = 3600.0
    refusal_pause_s: float = 60.0
    """First pause after a refusal; it doubles as the others do."""
    study_patience_s: float = 86_400.0
    """So long an object waits until the archive has its study: results are often faster than the images' routing."""
    second_look_s: float = 10.0
    """After this an object that was cut off on its way and is listed all the same is looked at again: dcmqrscp lists
    what it received, and deletes it where it then cannot send its answer."""
    seed: int = 0
    """Of the jitter."""
    commitment: Commitment = "auto"
    """'required' takes no query for a proof."""
    issuers: Issuers = STRICT
    """How issuers of PatientIDs are compared."""
    keep_done_s: float | None = None
    """So long after it is proven to have arrived an object is forgotten; None keeps it."""

    def __post_init__(self) -> None:
        for name in ("attempts", "refusals"):
            if getattr(self, name) < 1:
                raise ConfigError(f"[send] {name} = {getattr(self, name)}: at least 1 is needed")
        pauses_s = (self.first_pause_s, self.longest_pause_s, self.refusal_pause_s, self.study_patience_s)
        if not all(0 <= one <= _LONGEST_S for one in (*pauses_s, self.second_look_s)):
            raise ConfigError("[send] pauses are seconds and patience is hours, from 0 to 30 years")
        if self.keep_done_s is not None and not 0 <= self.keep_done_s < math.inf:
            raise ConfigError("[send] keep_done_days: 0 or more is needed")


@dataclass(frozen=True)
class Standing:
    """What changes of an object in the outbox; times are seconds of Unix time."""

    state: State = State.QUEUED
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    refusals: int = 0
    maybe_there: bool = False
    due_s: float = 0.0
    transaction_uid: str = ""
    sent_s: float | None = None
    settled_s: float | None = None
    awaited_since_s: float | None = None
    """Since when the archive is known not to have the study, or does not speak of it; None where that is not waited
    for."""


@dataclass(frozen=True)
class Happening:
    """An event with its reason (a name of `schemas/delivery.toml` [reason]) and what the archive said."""

    event: Event
    reason: str = ""
    detail: str = ""


def after(standing: Standing, happening: Happening, policy: Policy, now_s: float, key: str) -> Standing:
    """The standing after an event; the same one where the event means nothing to its state.

    `key` names the object in the jitter, so that a run can be repeated.
    """
    event = happening.event
    if event is Event.NO_STUDY:
        return _without_study(standing, happening, policy, now_s)
    if event is Event.UNTOLD:
        return _untold(standing, happening, policy, now_s)
    if event is Event.ALREADY_THERE and policy.commitment == "required":
        event = Event.STORED
    state = TRANSITIONS[standing.state].get(event)
    if state is None:
        return standing
    said = happening
    if state in DELIVERED and standing.reason == WARNED and not happening.reason:
        said = Happening(event, standing.reason, standing.detail)
    attempts = standing.attempts + (event in _PASSING)
    refusals = standing.refusals + (event is Event.REFUSED)
    pause_s = 0.0
    if event in _PASSING:
        state = State.DEAD if attempts >= policy.attempts else state
        pause_s = pause(policy, policy.first_pause_s, attempts, key)
    elif event is Event.REFUSED:
        state = State.DEAD if refusals >= policy.refusals else state
        pause_s = pause(policy, policy.refusal_pause_s, refusals, key)
    elif event is Event.SEEN:
        pause_s = min(policy.second_look_s, policy.longest_pause_s)
    return replace(
        standing,
        state=state,
        reason=said.reason,
        detail=said.detail,
        attempts=attempts,
        refusals=refusals,
        maybe_there=True,
        due_s=now_s + pause_s,
        transaction_uid="" if state in (State.QUEUED, State.SENT) else standing.transaction_uid,
        sent_s=now_s if state is State.SENT else standing.sent_s,
        settled_s=None if state in OPEN else now_s,
        awaited_since_s=None,
    )


def _without_study(standing: Standing, happening: Happening, policy: Policy, now_s: float) -> Standing:
    """The standing of an object whose study the archive does not have: it waits, in the end it is dead.

    No attempt is counted, since nothing went out. Each pause is as long as it has been waited for, so that all
    objects of a study are due together and a day takes some thirty questions.
    """
    state = TRANSITIONS[standing.state].get(Event.NO_STUDY)
    if state is None:
        return standing
    since_s = _since_s(standing, now_s) if standing.reason == AWAITED else now_s
    end_s = since_s + policy.study_patience_s
    if now_s >= end_s:
        return replace(
            standing,
            state=State.DEAD,
            reason=happening.reason,
            detail=happening.detail,
            due_s=now_s,
            settled_s=now_s,
            awaited_since_s=None,
        )
    pause_s = max(_waiting_pause_s(policy, now_s - since_s), policy.study_patience_s / _MOST_QUESTIONS)
    due_s = min(now_s + pause_s, end_s)
    return replace(standing, state=state, reason=AWAITED, detail=happening.detail, due_s=due_s, awaited_since_s=since_s)


def _untold(standing: Standing, happening: Happening, policy: Policy, now_s: float) -> Standing:
    """The standing of an object about whose study the archive does not speak: it is asked less and less often.

    Nothing went out and nothing speaks against the object, so no attempt is counted and it never dies of it, as with
    an archive that is away. What was known of it before is kept.
    """
    state = TRANSITIONS[standing.state].get(Event.UNTOLD)
    if state is None:
        return standing
    since_s = _since_s(standing, now_s)
    waiting = replace(standing, due_s=now_s + _waiting_pause_s(policy, now_s - since_s), awaited_since_s=since_s)
    if standing.reason == WARNED:
        return waiting
    reason = AWAITED if standing.reason == AWAITED else happening.reason
    return replace(waiting, reason=reason, detail=happening.detail)


def _since_s(standing: Standing, now_s: float) -> float:
    """Since when it is waited for; a clock that was set back must not have it wait for longer."""
    return now_s if standing.awaited_since_s is None else min(standing.awaited_since_s, now_s)


def _waiting_pause_s(policy: Policy, waited_s: float) -> float:
    return min(max(waited_s, policy.first_pause_s), policy.longest_pause_s)


def awaited_until_s(standing: Standing, policy: Policy) -> float | None:
    """When an object that waits for its study becomes a dead letter; None for one that does not wait."""
    if standing.awaited_since_s is None or standing.reason != AWAITED or standing.state not in OPEN:
        return None
    return standing.awaited_since_s + policy.study_patience_s


def pause(policy: Policy, first_s: float, failures: int, key: str) -> float:
    """Seconds until the next try: doubled with each failure, half to all of it at random, from seed and key."""
    whole_s = min(first_s * 2.0 ** min(failures - 1, 60), policy.longest_pause_s)
    digest = hashlib.sha256(f"{policy.seed}/{key}/{failures}".encode("utf-8", "surrogateescape")).digest()
    return whole_s * (0.5 + int.from_bytes(digest[:4], "big") / 2**33)


def of_answer(answer: StoreAnswer, *, compares: bool = False) -> Happening:
    """What an archive's answer means for the object.

    Where the sender `compares` what it finds there with ours, a duplicate is taken for sent, and so is looked at.
    """
    event, reason = _ANSWERS[answer.verdict]
    if compares and event is Event.ALREADY_THERE:
        event = Event.STORED
    return Happening(event, reason, answer.text if reason else "")


_ANSWERS = {
    Verdict.STORED: (Event.STORED, ""),
    Verdict.WARNING: (Event.STORED, WARNED),
    Verdict.THERE: (Event.ALREADY_THERE, ""),
    Verdict.TEMPORARY: (Event.AGAIN, "not_taken"),
    Verdict.PERMANENT: (Event.REFUSED, "refused"),
}


def of_listing(standing: Standing) -> Happening:
    """What it means that the archive lists an object whose sending nobody answered: it is there at the second look."""
    return Happening(Event.ALREADY_THERE) if standing.reason == SEEN_ONCE else Happening(Event.SEEN, SEEN_ONCE)


def of_commitment_failure(failure_reason: int) -> Happening:
    """What the failure reason (0008,1197) of a commitment report means."""
    text, send_again = commitment_failure(failure_reason)
    if send_again:
        return Happening(Event.UNCOMMITTED, "not_committed", text)
    return Happening(Event.IMPOSSIBLE, "commitment_refused", text)


def identity_refusal(
    own: Identity, in_archive: Collection[Identity] | None, issued: Issuers = STRICT
) -> tuple[str, str]:
    """Why an object must not go to the archive's study, and what is told of it; '' where patient and study are its own.

    `in_archive` holds who the study's patients are there, None where the archive does not have it. PatientIDs must
    be told on both sides; issuers (PS3.3 C.7.1.1) are compared where both tell one, since objects and archives often
    leave them out; `issued` says which of them mean the same.
    """
    if in_archive is None:
        return "study_unknown", ""
    own_id, own_issuer = (one.strip(" \0") for one in own)
    found = {(patient.strip(" \0"), issuer.strip(" \0")) for patient, issuer in in_archive}
    ids, issuers = {patient for patient, _ in found}, sorted({issuer for _, issuer in found if issued.key(issuer)})
    if not own_id or not ids or "" in ids:
        return "patient_untold", ""
    if own_id not in ids:
        return "patient_mismatch", ""
    if len(ids) > 1:
        return "patient_ambiguous", ""
    theirs = f"the archive's {', '.join(map(repr, issuers))}"
    keys = {issued.key(issuer) for issuer in issuers}
    if issued.key(own_issuer) and keys and issued.key(own_issuer) not in keys:
        return "patient_mismatch", f"IssuerOfPatientID: ours {own_issuer!r}, {theirs}"
    return ("patient_ambiguous", f"IssuerOfPatientID: {theirs}") if len(keys) > 1 else ("", "")


def reason_text(reason: str) -> tuple[str, str]:
    """Message and advice of a reason. KeyError for a name that the table does not hold."""
    row = schemas.load("delivery")["reason"][reason]
    return str(row["message"]), str(row["advice"])
