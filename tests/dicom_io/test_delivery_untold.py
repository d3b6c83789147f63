"""Studies of which an archive does not speak: their objects wait, and take nothing from the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from listing_archive import ListingArchive
from little_objects import study_uid
from little_results import result
from pydicom.dataset import Dataset
from web_server import Answer, Request, WebServer

from dicom_io.association import Limits
from dicom_io.delivery import Delivery, Pace
from dicom_io.delivery_rules import Event, Happening, Policy, State
from dicom_io.destination import WireSettings, open_wire
from dicom_io.outbox import Outbox
from tests.waiting import PATIENCE_S

BATCH = 4
SECRETIVE = [result(1, study=study) for study in range(1, BATCH + 3)]
"""More than one batch, and of studies that come before the others."""
OTHERS = [result(number, study=9) for number in range(1, 4)]
SLOW = Policy(first_pause_s=600.0, longest_pause_s=3600.0, commitment="never")
PACE = Pace(batch=BATCH, patience_s=60.0)


class Particular(ListingArchive):
    """Does not answer about some studies, at one level."""

    refused: frozenset[str] = frozenset()
    level = "STUDY"
    cuts = False
    """It aborts the association instead."""

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        if asked.StudyInstanceUID not in self.refused or asked.QueryRetrieveLevel != self.level:
            yield from super()._find(event)
        elif self.cuts:
            self.finds.append("cut")
            event.assoc.abort()
        else:
            self.finds.append("refused")
            yield 0xC001, None


@pytest.fixture
def archive() -> Iterator[Particular]:
    studies = [*SECRETIVE, OTHERS[0]]
    with Particular([*SECRETIVE, *OTHERS], {one.study_instance_uid: ["P1"] for one in studies}) as opened:
        opened.refused = frozenset(one.study_instance_uid for one in SECRETIVE)
        yield opened


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox.open(tmp_path / "outbox", SLOW) as opened:
        yield opened


def deliver_others(outbox: Outbox, destination: str, *, pace: Pace = PACE) -> Delivery:
    """Runs until the others have arrived, or nothing moves for long."""
    others = {one.sop_instance_uid for one in OTHERS}

    def done() -> bool:
        return all(one.standing.state.is_delivered for one in outbox.parcels() if one.sop_instance_uid in others)

    settings = WireSettings(limits=Limits(idle_s=PATIENCE_S))
    with closing(open_wire(destination, settings, outbox)) as wire:
        wire = replace(wire, differs=None)
        delivery = Delivery(outbox, destination, wire, pace=pace, stop=done)
        delivery.run()
    assert done()
    return delivery


def the_secretive(outbox: Outbox) -> list[Any]:
    uids = {one.sop_instance_uid for one in SECRETIVE}
    return [one.standing for one in outbox.parcels() if one.sop_instance_uid in uids]


def test_studies_that_the_archive_refuses_to_speak_of_keep_no_other_from_its_turn(
    archive: Particular, outbox: Outbox
) -> None:
    destination = str(archive.address)
    outbox.put([*SECRETIVE, *OTHERS], destination)
    deliver_others(outbox, destination)
    assert archive.finds.count("refused") == len(SECRETIVE), "each study was asked about once, and waits then"
    for standing in the_secretive(outbox):
        assert (standing.state, standing.reason, standing.attempts) == (State.QUEUED, "study_untold", 0)
        assert "refused or failed (status C001H)" in standing.detail
    assert outbox.awaiting(destination, 0.0) == len(SECRETIVE)


def test_a_study_over_which_the_archive_cuts_the_association_keeps_no_other_from_its_turn(
    archive: Particular, outbox: Outbox
) -> None:
    archive.cuts, archive.refused = True, frozenset([SECRETIVE[0].study_instance_uid])
    destination = str(archive.address)
    outbox.put([SECRETIVE[0], *OTHERS], destination)
    deliver_others(outbox, destination)
    assert archive.finds.count("cut") == 1
    (standing,) = the_secretive(outbox)
    assert (standing.state, standing.reason, standing.attempts) == (State.QUEUED, "study_untold", 0)


def test_what_was_taken_and_cannot_be_proven_keeps_no_other_from_being_proven(
    archive: Particular, outbox: Outbox
) -> None:
    archive.level = "IMAGE"
    destination = str(archive.address)
    outbox.put([*SECRETIVE, *OTHERS], destination)
    deliver_others(outbox, destination)
    assert {(one.state, one.reason) for one in the_secretive(outbox)} == {(State.SENT, "study_untold")}
    assert len(archive.arrivals) == len(set(archive.arrivals)) == len(SECRETIVE) + len(OTHERS)


def test_what_the_archive_speaks_of_again_is_sent_like_the_others(archive: Particular, outbox: Outbox) -> None:
    destination = str(archive.address)
    outbox.put([*SECRETIVE, *OTHERS], destination)
    deliver_others(outbox, destination)
    archive.refused = frozenset()
    assert outbox.retry_dead(destination) == 0, "nothing is dead, and what waits is asked for now"
    with closing(open_wire(destination, WireSettings(), outbox)) as wire:
        Delivery(outbox, destination, wire, pace=PACE).run()
    assert outbox.counts()[destination] == {"verified": len(SECRETIVE) + len(OTHERS)}
    assert {one.reason for one in the_secretive(outbox)} == {""}


def test_an_archive_that_answers_no_question_counts_as_away(archive: Particular, outbox: Outbox) -> None:
    destination = str(archive.address)
    outbox.put(SECRETIVE, destination)
    with closing(open_wire(destination, WireSettings(), outbox)) as wire:
        tally = Delivery(outbox, destination, wire, pace=replace(PACE, patience_s=0.2)).run()
    assert tally.away is not None and tally.away.status == 0xC001


def test_what_has_waited_longest_comes_first_however_short_pauses_are_set(outbox: Outbox) -> None:
    """Else what comes back before the others had their turn would have it again."""
    outbox.put([*SECRETIVE, *OTHERS], "PACS@archive:104")
    seen = set()
    for now_s in (1.0, 2.0, 3.0):
        claimed = outbox.claim("PACS@archive:104", "send", now_s * 10_000.0, BATCH)
        seen |= {one.sop_instance_uid for one in claimed}
        outbox.record([(one, Happening(Event.UNTOLD, "study_untold")) for one in claimed], now_s)
    assert seen == {one.sop_instance_uid for one in [*SECRETIVE, *OTHERS]}


@pytest.mark.parametrize("status", [400, 500])
def test_by_the_web_such_a_study_keeps_no_other_from_its_turn(outbox: Outbox, status: int) -> None:
    secretive = {one.study_instance_uid for one in SECRETIVE}
    stored: list[str] = []

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            came = [one.sop_instance_uid for one in OTHERS if one.encoded in request.body]
            stored.extend(came)
            items = ", ".join(f'{{"00081155": {{"vr": "UI", "Value": ["{uid}"]}}}}' for uid in came)
            return Answer(200, f'{{"00081199": {{"vr": "SQ", "Value": [{items}]}}}}'.encode())
        if any(f"{one}&" in request.path for one in secretive):
            return Answer(status)
        if "/studies?" in request.path:
            whose = f'"0020000D": {{"vr": "UI", "Value": ["{study_uid(9)}"]}}'
            return Answer(200, f'[{{{whose}, "00100020": {{"vr": "LO", "Value": ["P1"]}}}}]'.encode())
        rows = [f'{{"00080018": {{"vr": "UI", "Value": ["{uid}"]}}}}' for uid in stored]
        return Answer(200, f"[{', '.join(rows)}]".encode())

    with WebServer(answer) as server:
        outbox.put([*SECRETIVE, *OTHERS], server.url)
        deliver_others(outbox, server.url)
    assert {one.reason for one in the_secretive(outbox)} == {"study_untold"}


@pytest.mark.parametrize("there_before", [False, True])
def test_an_object_that_the_server_fails_to_give_for_comparison_keeps_no_other_from_its_turn(
    outbox: Outbox, there_before: bool
) -> None:
    first, *others = OTHERS
    outbox.policy = replace(SLOW, second_look_s=0.0)

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            came = [one.sop_instance_uid for one in OTHERS if one.encoded in request.body]
            items = ", ".join(f'{{"00081155": {{"vr": "UI", "Value": ["{uid}"]}}}}' for uid in came)
            return Answer(200, f'{{"00081199": {{"vr": "SQ", "Value": [{items}]}}}}'.encode())
        if "/studies?" in request.path:
            whose = f'"0020000D": {{"vr": "UI", "Value": ["{study_uid(9)}"]}}'
            return Answer(200, f'[{{{whose}, "00100020": {{"vr": "LO", "Value": ["P1"]}}}}]'.encode())
        given = [one for one in others if request.path.endswith(one.sop_instance_uid)]
        if "/instances?" not in request.path:
            return Answer(200, given[0].encoded, "application/dicom") if given else Answer(500)
        rows = [f'{{"00080018": {{"vr": "UI", "Value": ["{one.sop_instance_uid}"]}}}}' for one in OTHERS]
        return Answer(200, f"[{', '.join(rows)}]".encode())

    with WebServer(answer) as server:
        outbox.put(OTHERS, server.url)
        if there_before:
            parcels = outbox.claim(server.url, "send", 1.0, 99)
            outbox.going_out(parcels)
            outbox.release(parcels)
        with closing(open_wire(server.url, WireSettings(), outbox)) as wire:
            Delivery(outbox, server.url, wire, pace=replace(PACE, patience_s=1.0)).run()
        sent = [request for request in server.requests if request.method == "POST"]
    (kept, *proven) = outbox.parcels()
    assert kept.sop_instance_uid == first.sop_instance_uid
    assert {one.standing.state for one in proven} == {State.VERIFIED}
    assert (kept.standing.state, kept.standing.reason) == (State.QUEUED if there_before else State.SENT, "study_untold")
    assert len(sent) == (0 if there_before else 1), "what may be there is not sent again before that is known"
