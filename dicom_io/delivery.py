"""Takes objects of an outbox to their archive: claim, confirm whose study it is, send, have it committed or prove it.

Every step is recorded only after the archive's answer, so that a kill at any instant repeats a question, never an
object: what may be under way is asked for before it is sent again.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from deeplesion_miner.errors import ArchiveError
from dicom_io.delivery_questions import Questions, is_lost
from dicom_io.delivery_rules import AWAITED, Event, Happening, State, identity_refusal, of_answer, of_listing
from dicom_io.object_file import ObjectFile
from dicom_io.outbox import Outbox
from dicom_io.outbox_rows import Parcel
from dicom_io.proof import Inquiry, QuestionRefused
from dicom_io.store_status import StoreAnswer

logger = logging.getLogger(__name__)

_DAY_S = 86_400.0
"""A clock that is wrong by less makes nobody wait for longer than that."""
_HOUR_S = 3600.0
_GLANCE_S = 0.25
"""So often the outbox is looked at while reports are awaited."""


class Sender(Protocol):
    """Stores objects; `dicom_io.sending.StoreSender` and `dicom_io.stow.StowSender`."""

    def send(self, objects: Iterable[ObjectFile]) -> Iterator[StoreAnswer]:
        """The answer for each object as it comes; raises ArchiveError where the archive is away or lost."""

    def close(self) -> None:
        """Releases what is held."""


class Committer(Protocol):
    """Asks for storage commitment; `dicom_io.committing.Committer`. Reports go to `Outbox.report` as they come."""

    def request(self, transaction_uid: str, objects: Sequence[tuple[str, str]]) -> bool:
        """Requests commitment of (SOP class, SOP instance) UIDs; False where the archive does not offer it to us."""


@dataclass(frozen=True)
class Wire:
    """The ways to one archive."""

    sender: Sender
    inquiry: Inquiry
    committer: Committer | None = None
    differs: Callable[[Parcel, ObjectFile], bool | None] | None = None
    """Whether the archive's object is another one than ours (None: it cannot tell), where it may silently keep one."""
    must_compare: bool = False
    """What cannot be compared counts as not there."""
    on_close: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Releases what is held."""
        self.sender.close()
        self.on_close()


@dataclass(frozen=True)
class Pace:
    """How much at a time, and how long a run waits; seconds."""

    batch: int = 200
    """Objects claimed at one time."""
    record_every: int = 50
    """Objects that are sent between two records: so many questions a kill may cost, no object."""
    bytes_at_once: int = 64_000_000
    """Objects in memory at one time, unless it is a single larger one."""
    patience_s: float = 30.0
    """A run that is not told to wait ends when nothing has moved for so long."""
    report_within_s: float = 3600.0
    """After this a commitment report counts as lost."""
    identity_valid_s: float = 600.0
    longest_pause_s: float = 30.0
    """Between attempts to reach an archive that is away."""


@dataclass
class Tally:
    """What a run did."""

    events: Counter[str] = field(default_factory=Counter)
    """Recorded events by name."""
    refused: Counter[str] = field(default_factory=Counter)
    """Objects that did not arrive, by reason."""
    away: ArchiveError | None = None
    """Why the archive could not be reached in the end."""


class Delivery:
    """Works on the objects for one destination; several may run at once, in several processes."""

    def __init__(
        self,
        outbox: Outbox,
        destination: str,
        wire: Wire,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        stopwatch: Callable[[], float] = time.monotonic,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """`clock` tells the time of day, which may be set; `stopwatch` runs on."""
        self._outbox = outbox
        self._destination = destination
        self._wire = wire
        self._policy = outbox.policy
        self._pace = pace or Pace()
        self._clock = clock
        self._sleep = sleep
        self._stopwatch = stopwatch
        self._stop = stop
        self._offers_commitment = wire.committer is not None and self._policy.commitment != "never"
        self._questions = Questions(wire.inquiry, self._pace.identity_valid_s, stopwatch)
        self._reached = False
        self._prune_s = -math.inf
        self.tally = Tally()

    def run(self, wait: bool = False) -> Tally:
        """Delivers until nothing is left to do; unless told to wait, also until nothing moves any more.

        What waits for its study holds up only a run that is told to wait. An archive that has answered no question in
        the whole run counts as away.

        Raises the ArchiveError that no repetition can help.
        """
        moved_s, pause_s, pending = self._stopwatch(), 0.5, self._outbox.pending(self._destination)
        while not self._stop():
            moved, looked_s = False, self._stopwatch()
            try:
                moved = self.step()
                self.tally.away = None
            except ArchiveError as error:
                if not error.temporary:
                    raise
                logger.info("%s", error)
                self.tally.away = error
            now_s, before, pending = self._clock(), pending, self._outbox.pending(self._destination)
            if moved or pending < before:
                moved_s, pause_s = self._stopwatch(), 0.5
                continue
            if pending <= (0 if wait else self._outbox.awaiting(self._destination, now_s, AWAITED)):
                break
            # By when it looked: what has become due since, in a long step or a standstill, is not waited for in vain.
            if not wait and looked_s - moved_s >= self._pace.patience_s:
                break
            self._sleep(self._until_due(now_s, pause_s))
            if self.tally.away is not None:
                pause_s = min(2 * pause_s, self._pace.longest_pause_s)
        self.tally.away = self.tally.away or self._questions.refusal
        return self.tally

    def step(self) -> bool:
        """One batch to be sent and one to be confirmed, of what is due; False where nothing was, or was told."""
        self._prune()
        refused: ArchiveError | None = None
        sent = False
        try:
            with self._outbox.sending(self._destination) as is_alone:
                sent = is_alone and self._claimed("send", self._deliver)
        except ArchiveError as error:
            if error.status is None:
                raise
            refused = error  # it is there, and may confirm all the same
        confirmed = self._claimed("confirm", self._confirm)
        if refused is not None:
            raise refused
        return sent or confirmed

    def _prune(self) -> None:
        """Forgets what arrived long ago, a little at each step until nothing is left of it, and then each hour."""
        now_s = self._stopwatch()
        if now_s >= self._prune_s and self._outbox.prune(self._destination, self._clock()) == 0:
            self._prune_s = now_s + _HOUR_S

    def _until_due(self, now_s: float, pause_s: float) -> float:
        """How long to sleep: reports come any time, and other processes queue."""
        if self.tally.away is not None:
            return pause_s
        due_s = self._outbox.next_due_s(self._destination)
        if due_s is None or due_s <= now_s:  # what is due, another process is sending
            return _GLANCE_S
        return min(due_s - now_s, _GLANCE_S)

    def _claimed(self, work: str, job: Callable[[tuple[Parcel, ...]], None]) -> bool:
        """Claims a batch and works on it; gives back what is left of it where the archive is away."""
        assert work in ("send", "confirm")
        now_s = self._clock()
        longest_s = max(_DAY_S, self._policy.longest_pause_s, self._pace.report_within_s)
        claimed = self._outbox.claim(
            self._destination, "send" if work == "send" else "confirm", now_s, self._pace.batch, longest_s
        )
        if not claimed:
            return False
        untold = self.tally.events[Event.UNTOLD]
        try:
            job(claimed)
        except BaseException:
            self._outbox.release(claimed)
            raise
        return len(claimed) > self.tally.events[Event.UNTOLD] - untold

    def _record(self, happened: Sequence[tuple[Parcel, Happening]]) -> None:
        if not happened:
            return
        standings = self._outbox.record(happened, self._clock())
        for parcel, happening in happened:
            self.tally.events[happening.event] += 1
            if standings[parcel.number].state in (State.FAILED, State.DEAD):
                self.tally.refused[happening.reason] += 1

    # --- sending -------------------------------------------------------------------------------------

    def _deliver(self, claimed: Sequence[Parcel]) -> None:
        self._reached = self._questions.answered = False
        left: list[Parcel] = []
        for study, group in groupby(claimed, key=lambda one: one.study_instance_uid):
            own = list(group)
            try:
                own = self._of_right_patient(study, own)
                left.extend(self._not_there_yet(own))
            except ArchiveError as error:
                self._pass_over(own, error)
        self._reached = self._questions.answered
        self._send(left)

    def _pass_over(self, parcels: Sequence[Parcel], error: ArchiveError) -> None:
        """Notes that the archive did not speak of their study, so that others need not wait for it.

        Raises the error where it is no matter of the study, or not of it alone.
        """
        untold = self._questions.untold(error)
        logger.info("%s", error)
        self._record([(one, untold) for one in parcels])
        if is_lost(error):
            raise error

    def _of_right_patient(self, study: str, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Those whose study in the archive is the object's own patient's; the others wait or are dead, by name."""
        in_archive = self._questions.identity(study)
        issued = self._policy.issuers
        refusals = [identity_refusal((one.patient_id, one.issuer_of_patient_id), in_archive, issued) for one in parcels]
        event = Event.NO_STUDY if in_archive is None else Event.IMPOSSIBLE
        judged = list(zip(parcels, refusals, strict=True))
        self._record([(one, Happening(event, *refusal)) for one, refusal in judged if refusal[0]])
        return [one for one, refusal in judged if not refusal[0]]

    def _not_there_yet(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Those that the archive does not have, of what may have gone out before; the others are not sent again now."""
        asked = [one for one in parcels if one.standing.maybe_there]
        listed = self._questions.listed(asked)
        there: list[tuple[Parcel, Happening]] = []
        try:
            for one in asked:
                if one.sop_instance_uid not in listed:
                    continue
                doubt = self._doubt(one)
                if doubt is None:
                    there.append((one, of_listing(one.standing)))
                elif doubt.event is Event.UNTOLD:
                    there.append((one, doubt))
        finally:
            self._record(there)
        return [one for one in parcels if one.number not in {known.number for known, _ in there}]

    def _send(self, parcels: Sequence[Parcel]) -> None:
        """Sends some at a time over one association."""
        for some in self._some_at_a_time(parcels):
            files = {}
            for one in some:
                try:
                    content = self._outbox.content(one)
                except OSError as error:
                    self._record([(one, Happening(Event.AGAIN, "file_unreadable", str(error)))])
                    continue
                if content is None:
                    self._record([(one, Happening(Event.IMPOSSIBLE, "file_damaged"))])
                else:
                    files[one.sop_instance_uid] = _object_file(one, content)
            going = {one.sop_instance_uid: one for one in some if one.sop_instance_uid in files}
            if going:
                self._outbox.going_out(going.values())
                self._send_some(going, list(files.values()))

    def _some_at_a_time(self, parcels: Sequence[Parcel]) -> Iterator[Sequence[Parcel]]:
        """As many as are recorded together and fit into memory."""
        some: list[Parcel] = []
        for one in parcels:
            together_bytes = sum(parcel.size_bytes for parcel in some) + one.size_bytes
            if some and (len(some) >= self._pace.record_every or together_bytes > self._pace.bytes_at_once):
                yield some
                some = []
            some.append(one)
        if some:
            yield some

    def _send_some(self, unanswered: dict[str, Parcel], files: Sequence[ObjectFile]) -> None:
        """Sends; what was answered is recorded, whatever ends it."""
        answered: list[tuple[Parcel, Happening]] = []
        compares = self._wire.differs is not None
        try:
            for answer in self._wire.sender.send(files):
                self._reached = True
                answered.append((unanswered.pop(answer.sop_instance_uid), of_answer(answer, compares=compares)))
        except ArchiveError as error:
            self._lost(list(unanswered.values()), str(error))
            raise
        finally:
            self._record(answered)
        self._record([(one, Happening(Event.AGAIN, "no_answer")) for one in unanswered.values()])

    def _lost(self, unanswered: Sequence[Parcel], text: str) -> None:
        """Any of them may be there. Where the archive was reached just now, it may have stumbled over the first."""
        if self._reached:
            self._record([(one, Happening(Event.AGAIN, "lost", text)) for one in unanswered[:1]])

    # --- confirming ----------------------------------------------------------------------------------

    def _confirm(self, claimed: Sequence[Parcel]) -> None:
        """Commitment for what it was not yet asked for; proof by query for the others, and where there is none."""
        required = self._policy.commitment == "required"
        fresh = [one for one in claimed if required or not one.standing.transaction_uid]
        if fresh and self._offers_commitment:
            fresh = self._not_another(fresh)
            self._offers_commitment = not fresh or self._request(fresh)
        if self._offers_commitment:
            self._prove([one for one in claimed if one.standing.transaction_uid and not required])
        elif required:
            text = "it gives no storage commitment, and [send] commitment is required"
            raise ArchiveError(text, peer=self._destination, operation="N-ACTION", temporary=False)
        else:
            self._prove(claimed)

    def _not_another(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Those of which the archive has not kept another object: commitment knows UIDs, not contents."""
        doubts = [(one, self._doubt(one)) for one in parcels]
        self._record([(one, doubt) for one, doubt in doubts if doubt is not None])
        return [one for one, doubt in doubts if doubt is None]

    def _request(self, parcels: Sequence[Parcel]) -> bool:
        """Asks for commitment; False where the archive does not offer it. What fails leaves the objects due at once."""
        assert self._wire.committer is not None
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        now_s = self._clock()
        self._outbox.request(transaction_uid, parcels, now_s, now_s + self._pace.report_within_s)
        taken = False
        try:
            references = [(one.sop_class_uid, one.sop_instance_uid) for one in parcels]
            taken = self._wire.committer.request(transaction_uid, references)
        except ArchiveError as error:
            if error.status is None or self._policy.commitment == "required":
                raise
            logger.info("%s", error)
            return True
        finally:
            if not taken:
                self._outbox.expect_no_report(transaction_uid, self._clock())
        self.tally.events["commitment requested"] += len(parcels) * taken
        return taken

    def _prove(self, parcels: Sequence[Parcel]) -> None:
        """Proof by query: what the archive lists, it has."""
        happened: list[tuple[Parcel, Happening]] = []
        try:
            for _, group in groupby(parcels, key=lambda one: one.study_instance_uid):
                own = list(group)
                try:
                    listed = self._questions.listed(own)
                except ArchiveError as error:
                    self._pass_over(own, error)
                    continue
                for one in own:
                    if one.sop_instance_uid in listed:
                        happened.append((one, self._doubt(one) or Happening(Event.LISTED)))
                    else:
                        happened.append((one, Happening(Event.UNLISTED, "not_listed")))
        finally:
            # Comparing takes a retrieval each, and the archive may be lost at any of them.
            self._record(happened)

    def _doubt(self, parcel: Parcel) -> Happening | None:
        """Why an object that is listed does not count as there: it is another one, or cannot be compared with ours.

        Where the archive fails over it just now it is asked for again later, and the others need not wait.
        """
        if self._wire.differs is None:
            return None
        try:
            content = self._outbox.content(parcel)
        except OSError as error:
            logger.warning("%s", error)
            content = None
        try:
            differs = None if content is None else self._wire.differs(parcel, _object_file(parcel, content))
        except QuestionRefused as error:
            return self._questions.untold(error)
        if differs:
            return Happening(Event.REFUSED, "kept_another")
        if differs is None and self._wire.must_compare:
            return Happening(Event.UNLISTED, "not_fetched")
        return None


def _object_file(parcel: Parcel, content: bytes) -> ObjectFile:
    return ObjectFile(parcel.sop_instance_uid, parcel.sop_class_uid, parcel.transfer_syntax_uid, content)
