from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_archive import ABORT, SILENT, VANISH
from listing_archive import ListingArchive
from little_objects import sr
from little_results import result
from pydicom.dataset import Dataset
from servers import Server, free_port

from deeplesion_miner.errors import ArchiveError
from dicom_io.association import Limits
from dicom_io.delivery import Delivery, Pace, Tally
from dicom_io.delivery_rules import Event, Happening, Policy, State
from dicom_io.destination import WireSettings, open_wire
from dicom_io.emit import EmittedObject
from dicom_io.object_file import ObjectFile
from dicom_io.outbox import Outbox
from dicom_io.outbox_rows import Parcel
from tests.waiting import PATIENCE_S

QUICK = Policy(first_pause_s=0.01, longest_pause_s=0.05, refusal_pause_s=0.01, study_patience_s=0.0)
PACE = Pace(batch=50, patience_s=PATIENCE_S, report_within_s=3600.0)
REPORTS_GET_LOST = replace(PACE, report_within_s=0.2)
"""An association that is lost takes along the report that was to come on it."""


RESULTS = [result(number) for number in range(1, 7)]
STUDY = RESULTS[0].study_instance_uid
UIDS = [one.sop_instance_uid for one in RESULTS]
FIRST = UIDS[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def an_archive(*, fates: dict[str, list[int | str]] | None = None, **rest: Any) -> ListingArchive:
    return ListingArchive(RESULTS, {STUDY: ["P1"]}, fates=fates, **{"report_on_same": 1, **rest})


def deliver(
    folder: Path,
    archive: ListingArchive,
    *,
    policy: Policy = QUICK,
    pace: Pace = PACE,
    results: list[EmittedObject] = RESULTS,
    before: Callable[[Outbox, str], None] = lambda outbox, destination: None,
) -> dict[str, Any]:
    """Queues and delivers; the standing of each object by SOP Instance UID."""
    destination = str(archive.address)
    with Outbox.open(folder, policy) as outbox:
        outbox.put(results, destination)
        before(outbox, destination)
        run(outbox, destination, pace)
        return {one.sop_instance_uid: one.standing for one in outbox.parcels()}


def run(outbox: Outbox, destination: str, pace: Pace = PACE) -> Tally:
    # Longer than an archive thinks, and short for those that fall silent.
    settings = WireSettings(limits=Limits(idle_s=2.0 if pace is REPORTS_GET_LOST else PATIENCE_S))
    with closing(open_wire(destination, settings, outbox)) as wire:
        return Delivery(outbox, destination, wire, pace=pace).run()


def states(found: dict[str, Any]) -> set[str]:
    return {str(one.state) for one in found.values()}


# --- the way there ---


def test_what_is_queued_is_sent_once_and_committed(folder: Path) -> None:
    with an_archive() as archive:
        found = deliver(folder, archive)
    assert states(found) == {"committed"}
    assert archive.arrivals == UIDS
    assert archive.associations == 2, "one for sending, one for asking"


def test_where_nobody_commits_each_object_is_proven_by_query(folder: Path) -> None:
    with an_archive(commitment=False) as archive:
        found = deliver(folder, archive)
    assert states(found) == {"verified"}
    assert archive.arrivals == UIDS


def test_commitment_is_not_asked_for_where_it_is_not_wanted(folder: Path) -> None:
    with an_archive() as archive:
        found = deliver(folder, archive, policy=replace(QUICK, commitment="never"))
    assert states(found) == {"verified"}
    assert archive.report_statuses == []


def test_what_has_arrived_is_never_sent_again(folder: Path) -> None:
    with an_archive() as archive:
        deliver(folder, archive)
        deliver(folder, archive)
    assert archive.arrivals == UIDS


def test_the_archive_has_the_very_bytes(folder: Path) -> None:
    with an_archive() as archive:
        deliver(folder, archive)
    for one in RESULTS:
        assert one.encoded.endswith(archive.stored[one.sop_instance_uid][1])


def test_a_run_forgets_what_arrived_longer_ago_than_it_is_to_be_kept(folder: Path) -> None:
    def as_masks(outbox: Outbox, destination: str) -> None:
        """Reports would stay."""
        with closing(sqlite3.connect(outbox.folder / "outbox.sqlite")) as database, database:
            database.execute("UPDATE object SET sop_class_uid = '1.2.840.10008.5.1.4.1.1.66.4' WHERE number > 2")

    keeping = replace(QUICK, keep_done_s=3600.0)
    with an_archive() as archive:
        destination = str(archive.address)
        assert states(deliver(folder, archive, policy=keeping)) == {"committed"}
        with Outbox.open(folder, keeping) as outbox, closing(open_wire(destination, WireSettings(), outbox)) as wire:
            as_masks(outbox, destination)
            Delivery(outbox, destination, wire, pace=PACE).run()
            assert len(outbox.parcels()) == 6, "an hour has not gone by"
            Delivery(outbox, destination, wire, pace=PACE, clock=lambda: time.time() + 7200.0).run()
            assert [one.sop_instance_uid for one in outbox.parcels()] == UIDS[:2]
            assert len(list((folder / "objects").glob("*/*.dcm"))) == 2


# --- whose study it is ---


@pytest.mark.parametrize(
    ("patients", "reason"),
    [
        ({}, "study_unknown"),
        ({STUDY: ["P2"]}, "patient_mismatch"),
        ({STUDY: ["P1", "P2"]}, "patient_ambiguous"),
        ({STUDY: [""]}, "patient_untold"),
    ],
)
def test_nothing_is_sent_into_a_study_that_is_not_the_results_own(
    folder: Path, patients: dict[str, list[str]], reason: str
) -> None:
    with ListingArchive(RESULTS, patients) as archive:
        found = deliver(folder, archive)
    assert archive.arrivals == []
    assert {(str(one.state), one.reason) for one in found.values()} == {("dead", reason)}


@pytest.mark.parametrize(("told", "state"), [("P1^^^A", "committed"), ("P1", "committed"), ("P1^^^B", "dead")])
def test_one_number_of_two_hospitals_is_two_patients_where_both_tell_whose_number_it_is(
    folder: Path, told: str, state: str
) -> None:
    own = result(1, issuer="A")
    with ListingArchive([own], {STUDY: [told]}, report_on_same=1) as archive:
        found = deliver(folder, archive, results=[own])
    assert states(found) == {state}
    assert found[FIRST].reason == ("patient_mismatch" if state == "dead" else "")
    assert archive.arrivals == ([FIRST] if state == "committed" else [])


WAITS = replace(QUICK, study_patience_s=3600.0, first_pause_s=0.05, longest_pause_s=0.1)


def test_a_run_that_does_not_wait_leaves_what_is_faster_than_its_study_in_the_outbox_and_ends(folder: Path) -> None:
    other = result(9, study=2)
    with an_archive() as archive:
        archive._known[other.sop_instance_uid] = other
        slow = replace(WAITS, first_pause_s=600.0, longest_pause_s=600.0)
        found = deliver(folder, archive, results=[other, *RESULTS], policy=slow, pace=replace(PACE, patience_s=600.0))
        waiting = found.pop(other.sop_instance_uid)
        assert (waiting.state, waiting.reason, waiting.attempts) == (State.QUEUED, "study_awaited", 0)
        assert states(found) == {"committed"}
        assert archive.finds == ["STUDY"] * 2
        archive.patients[other.study_instance_uid] = ["P1"]
        with Outbox.open(folder, slow) as outbox:
            assert outbox.retry_dead(str(archive.address)) == 0, "nothing is dead, and what waits is asked for now"
            run(outbox, str(archive.address))
            assert outbox.counts()[str(archive.address)] == {"committed": 7}


def test_a_run_that_waits_sends_what_waited_when_the_study_comes(folder: Path) -> None:
    with ListingArchive(RESULTS, {}, report_on_same=1) as archive, Outbox.open(folder, WAITS) as outbox:
        destination = str(archive.address)
        outbox.put(RESULTS, destination)

        def come_at_last(seconds: float) -> None:
            if len(archive.finds) == 3:
                archive.patients[STUDY] = ["P1"]
            time.sleep(seconds)

        settings = WireSettings(limits=Limits(connect_s=2.0, negotiate_s=2.0, idle_s=0.5))
        with closing(open_wire(destination, settings, outbox)) as wire:
            Delivery(outbox, destination, wire, pace=PACE, sleep=come_at_last).run(wait=True)
        assert outbox.counts()[destination] == {"committed": 6}
        assert archive.finds == ["STUDY"] * 4, "one question for all objects of a study"
        assert archive.arrivals == UIDS


def test_one_planted_mismatch_is_refused_and_the_rest_arrives(folder: Path) -> None:
    wrong = result(9, patient="P9")
    with ListingArchive([*RESULTS, wrong], {STUDY: ["P1"]}, report_on_same=1) as archive:
        found = deliver(folder, archive, results=[*RESULTS, wrong])
    assert wrong.sop_instance_uid not in archive.arrivals
    assert found.pop(wrong.sop_instance_uid).reason == "patient_mismatch"
    assert states(found) == {"committed"}


def test_patient_and_study_are_confirmed_once_for_many_objects(folder: Path) -> None:
    with an_archive() as archive:
        deliver(folder, archive)
    assert archive.finds == ["STUDY"]


# --- answers ---


@pytest.mark.parametrize("status", [0xA700, 0xC000, 0x0110])
def test_what_is_refused_for_now_is_sent_again(folder: Path, status: int) -> None:
    with an_archive(fates={FIRST: [status, status]}) as archive:
        found = deliver(folder, archive)
    assert states(found) == {"committed"}
    assert archive.arrivals.count(FIRST) == 3
    assert found[FIRST].attempts == 2


@pytest.mark.parametrize("status", [0xA900, 0x0122])
def test_what_is_refused_for_good_becomes_a_dead_letter_and_the_rest_arrives(folder: Path, status: int) -> None:
    with an_archive(fates={FIRST: [status] * 9}) as archive:
        found = deliver(folder, archive)
    dead = found.pop(FIRST)
    assert (dead.state, dead.reason, dead.refusals) == (State.DEAD, "refused", 3)
    assert states(found) == {"committed"}


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_is_stored_and_noted(folder: Path, status: int) -> None:
    with an_archive(fates={FIRST: [status]}) as archive:
        found = deliver(folder, archive)
    assert states(found) == {"committed"}
    assert found[FIRST].reason == "stored_with_warning"
    assert archive.arrivals.count(FIRST) == 1


def test_a_duplicate_counts_as_there(folder: Path) -> None:
    with an_archive(fates={FIRST: [0x0111]}) as archive:
        found = deliver(folder, archive)
    assert found[FIRST].state is State.VERIFIED
    assert archive.arrivals.count(FIRST) == 1


@pytest.mark.parametrize("fate", [ABORT, VANISH, SILENT])
def test_a_lost_association_loses_no_object(folder: Path, fate: str) -> None:
    with an_archive(fates={UIDS[2]: [fate, fate, fate]}) as archive:
        found = deliver(folder, archive, pace=REPORTS_GET_LOST)
    assert all(one.state.is_delivered for one in found.values())
    assert set(archive.stored) == set(UIDS)


def test_an_object_over_which_the_archive_stumbles_each_time_dies_and_holds_up_no_other(folder: Path) -> None:
    with an_archive(fates={FIRST: [VANISH] * 99}) as archive:
        found = deliver(folder, archive, policy=replace(QUICK, attempts=3), pace=REPORTS_GET_LOST)
    assert found.pop(FIRST).state is State.DEAD
    assert all(one.state.is_delivered for one in found.values())


# --- resending ---


def perhaps_sent(outbox: Outbox, destination: str) -> None:
    """As if a process had died with all of it under way."""
    parcels = outbox.claim(destination, "send", 1.0, 99)
    outbox.going_out(parcels)
    outbox.release(parcels)


def test_before_anything_is_sent_again_the_archive_is_asked_whether_it_has_it(folder: Path) -> None:
    with an_archive() as archive:
        archive.there_before = set(UIDS[:4])
        found = deliver(folder, archive, before=perhaps_sent)
    assert archive.arrivals == UIDS[4:]
    assert [str(found[uid].state) for uid in UIDS] == ["verified"] * 4 + ["committed"] * 2


def test_what_was_cut_off_and_is_listed_is_looked_at_again_before_it_counts_as_there(folder: Path) -> None:
    with an_archive(commitment=False) as archive:
        archive.there_before, archive.taken_back = set(UIDS), {FIRST}
        found = deliver(folder, archive, before=perhaps_sent)
    assert archive.arrivals == [FIRST]
    assert states(found) == {"verified"}


def test_where_commitment_is_required_an_object_that_is_there_is_committed_without_a_second_sending(
    folder: Path,
) -> None:
    with an_archive() as archive:
        archive.stored = dict.fromkeys(UIDS, ("", b""))
        found = deliver(folder, archive, before=perhaps_sent, policy=replace(QUICK, commitment="required"))
    assert archive.arrivals == []
    assert states(found) == {"committed"}


# --- confirming ---


def test_an_object_that_is_not_committed_goes_again(folder: Path) -> None:
    with an_archive() as archive:
        forgets = archive.stored = ForgetfulStore(FIRST)
        found = deliver(folder, archive)
    assert forgets.forgotten == 1
    assert archive.arrivals.count(FIRST) == 2
    assert states(found) == {"committed"}


class ForgetfulStore(dict[str, tuple[str, bytes]]):
    """Loses one object the first time that it is stored."""

    def __init__(self, uid: str) -> None:
        super().__init__()
        self._uid = uid
        self.forgotten = 0

    def __setitem__(self, uid: str, value: tuple[str, bytes]) -> None:
        if uid == self._uid and not self.forgotten:
            self.forgotten += 1
            return
        super().__setitem__(uid, value)


def test_an_object_that_was_taken_and_is_not_listed_goes_again(folder: Path) -> None:
    with an_archive(commitment=False) as archive:
        forgets = archive.stored = ForgetfulStore(FIRST)
        found = deliver(folder, archive)
    assert forgets.forgotten == 1
    assert archive.arrivals.count(FIRST) == 2
    assert states(found) == {"verified"}


def test_an_archive_that_takes_and_never_lists_makes_dead_letters(folder: Path) -> None:
    with an_archive(commitment=False) as archive:
        archive.hidden = {FIRST}
        found = deliver(folder, archive, policy=replace(QUICK, attempts=3))
    assert (found[FIRST].state, found[FIRST].reason) == (State.DEAD, "not_listed")


def test_a_lost_report_is_replaced_by_proof(folder: Path) -> None:
    with an_archive(report_on_same=0) as archive:
        found = deliver(folder, archive, pace=REPORTS_GET_LOST)
    assert states(found) == {"verified"}
    assert archive.arrivals == UIDS


def test_until_a_report_counts_as_lost_a_run_leaves_objects_sent(folder: Path) -> None:
    with an_archive(report_on_same=0) as archive:
        found = deliver(folder, archive, pace=replace(PACE, patience_s=0.1))
    assert states(found) == {"sent"}


def test_a_report_that_comes_hours_later_on_another_association_is_taken_by_who_listens_then(folder: Path) -> None:
    with an_archive(report_on_same=0) as archive:
        destination, port = str(archive.address), free_port()
        assert states(deliver(folder, archive, pace=replace(PACE, patience_s=0.1))) == {"sent"}
        settings = WireSettings(report_host="127.0.0.1", report_port=port)
        with Outbox.open(folder) as outbox, closing(open_wire(destination, settings, outbox)):
            assert archive.report_to(port) == 0x0000
            assert outbox.counts()[destination] == {"committed": 6}
            archive.requests[-1].TransactionUID = "2.25.1"
            assert archive.report_to(port) != 0x0000


def test_of_two_processes_one_listens_for_reports_and_both_work(folder: Path) -> None:
    settings = WireSettings(report_host="127.0.0.1", report_port=free_port())
    with an_archive() as archive, Outbox.open(folder) as outbox:
        destination = str(archive.address)
        outbox.put(RESULTS, destination)
        with (
            closing(open_wire(destination, settings, outbox)),
            closing(open_wire(destination, settings, outbox)) as second,
        ):
            Delivery(outbox, destination, second, pace=PACE).run()
        assert outbox.counts()[destination] == {"committed": 6}


def test_while_another_process_sends_to_the_archive_a_run_only_confirms(folder: Path) -> None:
    with an_archive() as archive, Outbox.open(folder) as outbox:
        destination = str(archive.address)
        outbox.put(RESULTS, destination)
        with outbox.sending(destination):
            run(outbox, destination, replace(PACE, patience_s=0.1))
        assert archive.arrivals == []
        assert outbox.counts()[destination] == {"queued": 6}


def test_a_repeated_report_does_no_harm(folder: Path) -> None:
    with an_archive(report_on_same=3) as archive:
        found = deliver(folder, archive)
        assert states(found) == {"committed"}
    assert archive.report_statuses[0] == 0x0000


@pytest.mark.parametrize("status", [0x0110, ABORT])
def test_a_request_for_commitment_that_fails_is_replaced_by_proof(folder: Path, status: int | str) -> None:
    with an_archive(action_status=status) as archive:
        found = deliver(folder, archive)
    assert states(found) == {"verified"}
    assert archive.arrivals == UIDS


def test_where_commitment_is_required_and_not_offered_the_run_says_so_and_nothing_counts_as_delivered(
    folder: Path,
) -> None:
    with an_archive(commitment=False) as archive:
        with pytest.raises(ArchiveError, match="required"):
            deliver(folder, archive, policy=replace(QUICK, commitment="required"))
        with Outbox.open(folder) as outbox:
            assert outbox.counts()[str(archive.address)] == {"sent": 6}


# --- comparing ---


def compared(folder: Path, archive: ListingArchive, said: list[bool | None], must_compare: bool = True) -> Any:
    """Delivers over a wire whose comparison of the first object says these things in turn; its standing."""

    def differs(parcel: Parcel, own: ObjectFile) -> bool | None:
        return said.pop(0) if parcel.sop_instance_uid == FIRST and said else False

    destination = str(archive.address)
    with Outbox.open(folder, QUICK) as outbox:
        outbox.put(RESULTS, destination)
        with closing(open_wire(destination, WireSettings(), outbox)) as wire:
            wire = replace(wire, committer=None, differs=differs, must_compare=must_compare)
            Delivery(outbox, destination, wire, pace=PACE).run()
        return outbox.parcels()[0].standing


def test_an_object_in_whose_place_the_archive_has_another_is_sent_again(folder: Path) -> None:
    with an_archive() as archive:
        found = compared(folder, archive, [True, True, False])
    assert (found.state, archive.arrivals.count(FIRST)) == (State.VERIFIED, 2)


def test_an_archive_that_keeps_another_object_is_told_by_a_dead_letter(folder: Path) -> None:
    with an_archive() as archive:
        found = compared(folder, archive, [True] * 9)
    assert (found.state, found.reason) == (State.DEAD, "kept_another")


@pytest.mark.parametrize(("differs", "state"), [(True, State.DEAD), (False, State.VERIFIED)])
def test_what_the_archive_calls_a_duplicate_is_compared_with_ours_like_all_else(
    folder: Path, differs: bool, state: State
) -> None:
    with an_archive(fates={FIRST: [0x0111] * 9}) as archive:
        archive.there_before = {FIRST}
        found = compared(folder, archive, [differs] * 9)
    assert (found.state, found.reason) == (state, "kept_another" if differs else "")


@pytest.mark.parametrize(("must_compare", "state"), [(True, State.DEAD), (False, State.VERIFIED)])
def test_what_cannot_be_compared_counts_as_there_unless_it_must_be(
    folder: Path, must_compare: bool, state: State
) -> None:
    with an_archive() as archive:
        found = compared(folder, archive, [None] * 99, must_compare)
    assert found.state is state
    assert found.reason == ("not_fetched" if must_compare else "")


def test_what_was_compared_before_the_archive_was_lost_need_not_be_compared_again(folder: Path) -> None:
    asked: list[str] = []

    def differs(parcel: Parcel, own: ObjectFile) -> bool | None:
        asked.append(parcel.sop_instance_uid)
        if len(asked) == 4:
            raise ArchiveError("lost", peer="archive", operation="C-GET", temporary=True)
        return False

    with an_archive() as archive, Outbox.open(folder, QUICK) as outbox:
        destination = str(archive.address)
        outbox.put(RESULTS, destination)
        with closing(open_wire(destination, WireSettings(), outbox)) as wire:
            Delivery(outbox, destination, replace(wire, committer=None, differs=differs), pace=PACE).run()
        assert outbox.counts()[destination] == {"verified": 6}
    assert asked == [*UIDS[:4], *UIDS[3:]]


# --- a world that breaks ---


class StandsStill(Delivery):
    """A machine that stands still for an hour after the first step in which nothing moved."""

    stood_s = 0.0

    def step(self) -> bool:
        moved = super().step()
        if not moved:
            self.stood_s = 3600.0
        return moved


def test_what_becomes_due_while_the_machine_stands_still_is_sent_before_patience_ends(folder: Path) -> None:
    slow = replace(QUICK, first_pause_s=600.0, longest_pause_s=600.0, refusal_pause_s=600.0)
    with an_archive(fates={FIRST: [0xA700]}) as archive, Outbox.open(folder, slow) as outbox:
        destination = str(archive.address)
        outbox.put(RESULTS, destination)
        with closing(open_wire(destination, WireSettings(limits=Limits(idle_s=PATIENCE_S)), outbox)) as wire:
            delivery = StandsStill(
                outbox,
                destination,
                wire,
                pace=PACE,
                clock=lambda: time.time() + delivery.stood_s,
                stopwatch=lambda: time.monotonic() + delivery.stood_s,
            )
            delivery.run()
        assert {str(one.standing.state) for one in outbox.parcels()} == {"committed"}


def test_an_archive_that_is_away_leaves_everything_queued_and_costs_no_attempt(folder: Path) -> None:
    with an_archive() as archive:
        destination = str(archive.address)
    with Outbox.open(folder, QUICK) as outbox:
        outbox.put(RESULTS, destination)
        tally = run(outbox, destination, replace(PACE, patience_s=0.2))
        assert tally.away is not None
        assert {(str(one.standing.state), one.standing.attempts) for one in outbox.parcels()} == {("queued", 0)}


class Dying(ListingArchive):
    """Goes away with the third object that it is sent."""

    def _store(self, event: Any) -> int:
        if len(self.arrivals) == 2:
            self._entity.maximum_associations = 0
            self.arrivals.append(str(event.request.AffectedSOPInstanceUID))
            return self._suffer(event, VANISH)
        return super()._store(event)

    def come_back(self) -> None:
        """As if it had been started again."""
        self._entity.maximum_associations = 20


def test_an_archive_that_dies_while_it_is_sent_to_is_asked_first_when_it_is_back(folder: Path) -> None:
    with Dying(RESULTS, {STUDY: ["P1"]}, report_on_same=1) as archive:
        destination = str(archive.address)
        with Outbox.open(folder, QUICK) as outbox:
            outbox.put(RESULTS, destination)
            tally = run(outbox, destination, replace(PACE, patience_s=0.2))
            assert tally.away is not None
            found = {one.sop_instance_uid: one.standing for one in outbox.parcels()}
            assert [str(found[uid].state) for uid in UIDS] == ["sent"] * 2 + ["queued"] * 4
            assert found[UIDS[2]].attempts > 0
            assert [found[uid].attempts for uid in UIDS if uid != UIDS[2]] == [0] * 5
            assert all(found[uid].maybe_there for uid in UIDS)
            archive.come_back()
            run(outbox, destination)
            assert {str(one.standing.state) for one in outbox.parcels()} <= {"committed", "verified"}
    assert "IMAGE" in archive.finds
    assert sorted(archive.arrivals) == sorted([*UIDS[:3], *UIDS[2:]])


def test_objects_that_do_not_fit_into_memory_together_go_one_by_one(folder: Path) -> None:
    with an_archive() as archive:
        found = deliver(folder, archive, pace=replace(PACE, bytes_at_once=1))
    assert states(found) == {"committed"}
    assert archive.arrivals == UIDS


def test_a_damaged_copy_is_a_dead_letter_and_the_rest_arrives(folder: Path) -> None:
    def damage(outbox: Outbox, destination: str) -> None:
        outbox.path(outbox.parcels()[0]).write_bytes(b"rotten")

    with an_archive() as archive:
        found = deliver(folder, archive, before=damage)
    assert found.pop(FIRST).reason == "file_damaged"
    assert states(found) == {"committed"}
    assert FIRST not in archive.arrivals


def test_a_copy_that_cannot_be_read_is_tried_again_and_the_rest_arrives(folder: Path) -> None:
    def hide(outbox: Outbox, destination: str) -> None:
        path = outbox.path(outbox.parcels()[0])
        path.unlink()
        path.mkdir()

    with an_archive() as archive:
        found = deliver(folder, archive, before=hide, policy=replace(QUICK, attempts=2))
    broken = found.pop(FIRST)
    assert (broken.state, broken.reason, broken.attempts) == (State.DEAD, "file_unreadable", 2)
    assert states(found) == {"committed"}


def test_where_all_must_be_compared_a_damaged_copy_proves_nothing(folder: Path) -> None:
    with an_archive() as archive, Outbox.open(folder, QUICK) as outbox:
        destination = str(archive.address)
        outbox.put(RESULTS, destination)
        with closing(open_wire(destination, WireSettings(), outbox)) as wire:
            wire = replace(wire, committer=None, differs=lambda parcel, own: False, must_compare=True)
            delivery = Delivery(outbox, destination, wire, pace=replace(PACE, batch=1))
            claimed = outbox.claim(destination, "send", 0.0, 1)
            outbox.record([(claimed[0], Happening(Event.STORED))], 0.0)
            archive.there_before = {FIRST}
            outbox.path(claimed[0]).write_bytes(b"rotten")
            delivery.run()
        found = {one.sop_instance_uid: one.standing for one in outbox.parcels()}
    assert (found.pop(FIRST).reason) == "file_damaged"
    assert states(found) == {"verified"}


class Particular(ListingArchive):
    """Refuses to answer about one study."""

    refused_study = ""

    def _rows(self, level: str, study: str) -> Iterator[Dataset]:
        if study == self.refused_study:
            raise ValueError(study)  # pynetdicom answers C311H
        return super()._rows(level, study)


def test_a_study_about_which_the_archive_refuses_to_speak_keeps_no_other_back(folder: Path) -> None:
    other = result(9, study=2)
    with (
        Particular([*RESULTS, other], {STUDY: ["P1"]}, report_on_same=1) as archive,
        Outbox.open(folder, QUICK) as outbox,
    ):
        archive.refused_study = other.study_instance_uid
        destination = str(archive.address)
        outbox.put([other, *RESULTS], destination)
        arrived = {"queued": 1, "committed": len(RESULTS)}
        with closing(open_wire(destination, WireSettings(), outbox)) as wire:
            done = lambda: outbox.counts()[destination] == arrived  # noqa: E731
            Delivery(outbox, destination, wire, pace=PACE, stop=done).run()
        assert outbox.counts()[destination] == arrived
        found = {one.sop_instance_uid: one.standing for one in outbox.parcels()}
    assert found[other.sop_instance_uid].attempts == 0


def test_a_clock_that_runs_backwards_holds_up_no_run_and_no_question(folder: Path) -> None:
    with an_archive() as archive:
        destination = str(archive.address)
    rounds: list[float] = []

    def backwards() -> float:
        return 1e9 - 1000.0 * len(rounds)

    def stop() -> bool:
        rounds.append(0.0)
        return len(rounds) > 200

    with Outbox.open(folder, QUICK) as outbox:
        outbox.put(RESULTS, destination)
        settings = WireSettings(limits=Limits(connect_s=2.0))
        with closing(open_wire(destination, settings, outbox)) as wire:
            pace = replace(PACE, patience_s=0.3)
            tally = Delivery(
                outbox, destination, wire, pace=pace, clock=backwards, stop=stop, sleep=lambda s: time.sleep(0.02)
            ).run()
    assert tally.away is not None
    assert len(rounds) < 200


def test_interrupted_in_the_middle_nothing_is_forgotten_and_nothing_sent_twice(folder: Path) -> None:
    class Interrupting(Outbox):
        def record(self, happened: Any, now_s: float) -> Any:
            raise KeyboardInterrupt

    with an_archive() as archive:
        destination = str(archive.address)
        with Interrupting.open(folder, QUICK) as outbox, pytest.raises(KeyboardInterrupt):
            outbox.put(RESULTS, destination)
            run(outbox, destination)
        found = deliver(folder, archive)
    assert sorted(archive.arrivals) == sorted(UIDS)
    assert states(found) == {"verified"}


# --- real archives ---


@pytest.fixture
def seeded(target: Server, tmp_path: Path) -> Iterator[Server]:
    """An archive that has one image of the study."""
    from little_objects import ct, write

    image = ct(1, 1)
    image.PatientID = "P1"
    write(tmp_path / "image", image)
    target.send(tmp_path / "image")
    yield target


@pytest.mark.servers
def test_a_real_archive_takes_results_and_they_are_proven_there(seeded: Server, folder: Path) -> None:
    with Outbox.open(folder, replace(QUICK, commitment="never")) as outbox:
        outbox.put([*RESULTS, result(9, patient="P9")], seeded.address)
        run(outbox, seeded.address)
        assert outbox.counts()[seeded.address] == {"verified": 6, "dead": 1}


@pytest.mark.servers
def test_a_real_archive_tells_whose_number_the_patients_is(target: Server, tmp_path: Path) -> None:
    from little_objects import ct, write

    image = ct(31, 1)
    image.PatientID, image.IssuerOfPatientID = "1234", "HOSPITAL A"
    write(tmp_path / "image", image)
    target.send(tmp_path / "image")
    own, other, untold = (result(n, study=31, patient="1234", issuer=one) for n, one in
                          ((1, "HOSPITAL A"), (2, "HOSPITAL B"), (3, "")))  # fmt: skip
    with Outbox.open(tmp_path / "outbox", replace(QUICK, commitment="never")) as outbox:
        outbox.put([own, other, untold], target.address)
        run(outbox, target.address)
        found = {one.sop_instance_uid: (str(one.standing.state), one.standing.reason) for one in outbox.parcels()}
    assert found == {
        own.sop_instance_uid: ("verified", ""),
        other.sop_instance_uid: ("dead", "patient_mismatch"),
        untold.sop_instance_uid: ("verified", ""),
    }


@pytest.mark.servers
def test_an_older_object_that_a_web_archive_silently_keeps_is_found_out_and_one_that_is_only_coerced_is_ours(
    orthanc_web: Server, folder: Path, tmp_path: Path
) -> None:
    from little_objects import ct, write

    older, image = sr(1, 1), ct(1, 1)
    older.PatientID = image.PatientID = "P1"
    older.SeriesInstanceUID = f"{older.SeriesInstanceUID}.1"
    older.ContentSequence[0].TextValue = "something to see"
    coerced = sr(1, 2)
    coerced.PatientID, coerced.PatientName, coerced.StudyDescription = "P1", "Coerced^Name", "by the archive"
    coerced.SeriesInstanceUID = f"{coerced.SeriesInstanceUID}.2"
    write(tmp_path / "older", older, coerced, image)
    orthanc_web.send(tmp_path / "older")
    with Outbox.open(folder, QUICK) as outbox:
        outbox.put(RESULTS, orthanc_web.web)
        run(outbox, orthanc_web.web)
        found = {one.sop_instance_uid: one.standing for one in outbox.parcels()}
    assert (found[FIRST].state, found[FIRST].reason) == (State.DEAD, "kept_another")
    assert {str(found[uid].state) for uid in UIDS[1:]} == {"verified"}
