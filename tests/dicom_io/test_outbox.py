from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import schemas
from deeplesion_miner.errors import ConfigError
from dicom_io.delivery_rules import Event, Happening, Policy, State
from dicom_io.emit import EmittedObject
from dicom_io.outbox import Outbox
from dicom_io.outbox_file import OutboxNotWorking
from dicom_io.outbox_reports import reports_of
from dicom_io.outbox_rows import Parcel

PACS, OTHER = "PACS@archive:104", "OTHER@archive:104"
STORED = Happening(Event.STORED)


def an_object(number: int, *, study: int = 1, content: bytes = b"") -> EmittedObject:
    return EmittedObject(
        kind="dicom-sr",
        patient_id=f"P{study}",
        study_instance_uid=f"1.2.{study}",
        series_instance_uid=f"1.2.{study}.{number}",
        sop_instance_uid=f"1.2.{study}.{number}.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        encoded=content or f"object {number} of {study}".encode(),
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox.open(tmp_path / "outbox", Policy(first_pause_s=2.0)) as opened:
        yield opened


def claimed(outbox: Outbox, now_s: float = 0.0, limit: int = 100, destination: str = PACS) -> tuple[Parcel, ...]:
    return outbox.claim(destination, "send", now_s, limit)


def to_be_confirmed(outbox: Outbox, now_s: float = 0.0) -> tuple[Parcel, ...]:
    return outbox.claim(PACS, "confirm", now_s, 100)


def send_all(outbox: Outbox, now_s: float = 0.0) -> None:
    outbox.record([(one, STORED) for one in claimed(outbox, now_s)], now_s)


def states(outbox: Outbox) -> dict[str, str]:
    return {one.sop_instance_uid: str(one.standing.state) for one in outbox.parcels()}


# --- putting in ---


def test_an_object_is_queued_once_for_a_destination_whatever_became_of_it(outbox: Outbox) -> None:
    uid = an_object(1).sop_instance_uid
    assert outbox.put([an_object(1)], PACS) == {uid: "queued"}
    send_all(outbox)
    assert outbox.put([an_object(1)], PACS) == {uid: "sent"}
    assert outbox.put([an_object(1)], OTHER) == {uid: "queued"}
    assert outbox.counts() == {PACS: {"sent": 1}, OTHER: {"queued": 1}}


def test_what_is_queued_is_what_is_handed_out(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    (parcel,) = claimed(outbox)
    assert outbox.content(parcel) == an_object(1).encoded
    assert parcel.patient_id == "P1"
    assert parcel.study_instance_uid == "1.2.1"
    assert parcel.size_bytes == len(an_object(1).encoded)


def test_of_two_contents_of_one_uid_the_first_is_kept_and_the_second_leaves_no_file(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    outbox.put([an_object(1, content=b"another")], PACS)
    (parcel,) = claimed(outbox)
    assert outbox.content(parcel) == an_object(1).encoded
    assert len(list((outbox.folder / "objects").glob("*/*"))) == 1


def test_a_damaged_copy_is_not_handed_out_and_is_mended_when_the_object_is_put_in_again(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    (parcel,) = claimed(outbox)
    outbox.path(parcel).write_bytes(b"rotten")
    assert outbox.content(parcel) is None
    outbox.put([an_object(1)], PACS)
    assert outbox.content(parcel) == an_object(1).encoded


def test_text_that_is_no_unicode_does_not_stop_an_object(outbox: Outbox) -> None:
    odd = EmittedObject("SR", "P\udcff", "1.2", "1.2.3", "1.2.3.4", "1.2.840", "1.2.840.10008.1.2.1", b"x")
    assert outbox.put([odd], PACS) == {"1.2.3.4": "queued"}
    assert len(claimed(outbox)) == 1


def test_folders_and_files_are_private(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    modes = {path: path.stat().st_mode & 0o777 for path in [outbox.folder, *outbox.folder.rglob("*")]}
    assert {path: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_a_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)  # whatever the umask
    (tmp_path / "open" / "somebody's").write_text("")
    with pytest.raises(ConfigError, match="chmod 700"):
        Outbox.open(tmp_path / "open")


def test_what_is_no_outbox_or_one_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    Outbox.open(folder).close()
    with closing(sqlite3.connect(folder / "outbox.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="version 99"):
        Outbox.open(folder)
    (tmp_path / "no").mkdir(mode=0o700)
    (tmp_path / "no" / "outbox.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(ConfigError, match="not an outbox"):
        Outbox.open(tmp_path / "no")


def test_an_older_outbox_is_brought_up_to_date_with_everything_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    with Outbox.open(folder) as outbox:
        outbox.put([an_object(1)], PACS)
    path = folder / "outbox.sqlite"
    with closing(sqlite3.connect(path)) as database:
        for column in ("issuer_of_patient_id", "awaited_since_s", "stored_sha256"):
            database.execute(f"ALTER TABLE object DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 1")
    with Outbox.open(folder) as opened:
        (parcel,) = claimed(opened)
        assert opened.content(parcel) == an_object(1).encoded
        assert (parcel.issuer_of_patient_id, parcel.standing.awaited_since_s) == ("", None)
    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(":memory:")) as newest:
        newest.executescript(schemas.text("outbox.sql"))
        columns = "SELECT name, type, \"notnull\" FROM pragma_table_info('object') ORDER BY name"
        assert database.execute(columns).fetchall() == newest.execute(columns).fetchall()


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """As if the disk were full: writes beyond fail."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def test_a_disk_that_is_full_of_objects_leaves_no_rows_and_no_halves_and_later_all_is_well(outbox: Outbox) -> None:
    large = an_object(2, content=bytes(50_000))
    with no_file_larger_than(20_000), pytest.raises(OSError):
        outbox.put([an_object(1), large], PACS)
    assert outbox.counts() == {}
    assert list((outbox.folder / "objects").rglob("*.part")) == []
    outbox.put([an_object(1), large], PACS)
    assert [outbox.content(one) for one in claimed(outbox)] == [an_object(1).encoded, large.encoded]


def test_a_disk_that_is_full_of_rows_says_so_and_keeps_what_was_recorded(outbox: Outbox) -> None:
    outbox.put([an_object(0)], PACS)
    many = [an_object(number) for number in range(1, 300)]
    with no_file_larger_than(70_000), pytest.raises(OutboxNotWorking, match="run the same command again"):
        outbox.put(many, PACS)
    assert outbox.counts() == {PACS: {"queued": 1}}
    outbox.put(many, PACS)
    assert outbox.counts() == {PACS: {"queued": 300}}


# --- what is forgotten ---

DAY_S = 86_400.0
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def segmentation(number: int, study: int = 1, content: bytes = b"") -> EmittedObject:
    return replace(an_object(number, study=study, content=content), sop_class_uid=SEG, kind="dicom-seg")


@pytest.fixture
def pruned(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox.open(tmp_path / "pruned", Policy(keep_done_s=30 * DAY_S)) as opened:
        yield opened


def arrive(outbox: Outbox, now_s: float, event: Event = Event.LISTED) -> None:
    send_all(outbox, now_s)
    outbox.record([(one, Happening(event)) for one in to_be_confirmed(outbox, now_s)], now_s)


@pytest.mark.parametrize("event", [Event.LISTED, Event.COMMITTED])
def test_what_arrived_longer_ago_than_it_is_to_be_kept_leaves_row_and_file(pruned: Outbox, event: Event) -> None:
    pruned.put([segmentation(1)], PACS)
    arrive(pruned, 0.0, event)
    pruned.put([segmentation(2)], PACS)
    arrive(pruned, 20 * DAY_S, event)
    assert pruned.prune(PACS, 29 * DAY_S) == 0
    assert pruned.prune(PACS, 31 * DAY_S) == 1
    assert list(states(pruned)) == [segmentation(2).sop_instance_uid]
    assert len(list((pruned.folder / "objects").glob("*/*.dcm"))) == 1
    assert pruned.put([segmentation(1)], PACS) == {segmentation(1).sop_instance_uid: "queued"}


def test_nothing_that_is_not_proven_to_have_arrived_is_ever_forgotten(pruned: Outbox) -> None:
    pruned.put([segmentation(number) for number in range(1, 5)], PACS)
    first, second, third, _ = claimed(pruned)
    pruned.record([(first, STORED), (second, Happening(Event.REFUSED, "refused"))], 0.0)
    pruned.record([(third, Happening(Event.IMPOSSIBLE, "patient_mismatch"))], 0.0)
    before = states(pruned)
    assert sorted(before.values()) == ["dead", "failed", "queued", "sent"]
    assert pruned.prune(PACS, 1e9) == 0
    assert states(pruned) == before
    assert len(list((pruned.folder / "objects").glob("*/*.dcm"))) == 4


def test_where_commitment_is_required_only_what_is_committed_is_forgotten(tmp_path: Path) -> None:
    with Outbox.open(tmp_path / "strict", Policy(keep_done_s=0.0, commitment="required")) as outbox:
        outbox.put([segmentation(1)], PACS)
        arrive(outbox, 0.0, Event.LISTED)
        assert outbox.prune(PACS, 1e9) == 0
        outbox.put([segmentation(2)], PACS)
        arrive(outbox, 0.0, Event.COMMITTED)
        assert outbox.prune(PACS, 1e9) == 1


def test_reports_stay_since_corrected_ones_name_them(pruned: Outbox) -> None:
    pruned.put([an_object(1), segmentation(2)], PACS)
    arrive(pruned, 0.0)
    assert pruned.prune(PACS, 1e9) == 1
    assert list(reports_of(pruned, PACS, "1.2.1")) == [an_object(1).sop_instance_uid]
    assert all(path.exists() for path in reports_of(pruned, PACS, "1.2.1").values())


def test_a_file_that_another_archive_is_still_to_get_stays(pruned: Outbox) -> None:
    pruned.put([segmentation(1)], PACS)
    arrive(pruned, 0.0)
    pruned.put([segmentation(1)], OTHER)
    assert pruned.prune(OTHER, 1e9) == 0
    assert pruned.prune(PACS, 1e9) == 1
    (parcel,) = claimed(pruned, destination=OTHER)
    assert pruned.content(parcel) == segmentation(1).encoded


def test_commitment_requests_of_which_nothing_is_left_are_forgotten_with_their_objects(pruned: Outbox) -> None:
    pruned.put([segmentation(1), segmentation(2)], PACS)
    send_all(pruned)
    first, second = to_be_confirmed(pruned)
    pruned.request("2.25.1", [first], 0.0, 10.0)
    pruned.request("2.25.2", [second], 0.0, 10.0)
    assert pruned.report("2.25.1", [first.sop_instance_uid], {}, 5.0)
    assert pruned.prune(PACS, 1e9) == 1
    assert not pruned.report("2.25.1", [first.sop_instance_uid], {}, 5.0), "nobody knows it any more"
    assert pruned.report("2.25.2", [second.sop_instance_uid], {}, 5.0), "a report may yet come"


def test_unless_it_is_set_nothing_is_forgotten(outbox: Outbox) -> None:
    outbox.put([segmentation(1)], PACS)
    arrive(outbox, 0.0)
    assert outbox.prune(PACS, 1e12) == 0
    assert len(states(outbox)) == 1


# --- working on it ---


def test_what_is_claimed_is_nobody_elses_until_it_is_given_back(outbox: Outbox) -> None:
    outbox.put([an_object(number) for number in range(10)], PACS)
    with Outbox.open(outbox.folder) as second:
        first_half, second_half = claimed(outbox, limit=5), claimed(second, limit=9)
        assert (len(first_half), len(second_half)) == (5, 5)
        assert not {one.number for one in first_half} & {one.number for one in second_half}
        outbox.release(first_half)
        assert {one.number for one in claimed(second)} == {one.number for one in first_half}
        assert claimed(outbox) == ()
    assert len(claimed(outbox)) == 10


def test_what_a_clock_noted_that_has_been_set_back_since_is_due_now(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    later_s = 1_000_000.0
    outbox.record([(one, Happening(Event.AGAIN, "not_taken")) for one in claimed(outbox)], later_s)
    assert outbox.claim(PACS, "send", later_s, 9, longest_s=3600.0) == (), "it pauses"
    assert outbox.claim(PACS, "send", later_s - 3000.0, 9, longest_s=3600.0) == (), "it may be a pause"
    assert len(outbox.claim(PACS, "send", 500.0, 9, longest_s=3600.0)) == 1, "no pause is so long"


def test_threads_share_an_outbox_and_never_a_parcel(outbox: Outbox) -> None:
    outbox.put([an_object(number) for number in range(200)], PACS)
    taken: list[int] = []

    def work() -> None:
        while batch := claimed(outbox, limit=7):
            taken.extend(one.number for one in batch)
            outbox.record([(one, STORED) for one in batch], 0.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(taken) == sorted(set(taken))
    assert outbox.counts()[PACS] == {"sent": 200}


def test_parcels_come_together_by_study(outbox: Outbox) -> None:
    outbox.put([an_object(number, study=number % 3) for number in range(9)], PACS)
    studies = [one.study_instance_uid for one in claimed(outbox)]
    assert studies == sorted(studies)


def test_what_was_noted_as_going_out_counts_as_perhaps_there_ever_after(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    outbox.release(claimed(outbox))
    (parcel,) = claimed(outbox)
    assert not parcel.standing.maybe_there
    outbox.going_out([parcel])
    outbox.release([parcel])
    (parcel,) = claimed(outbox)
    assert parcel.standing.maybe_there


def test_a_failure_lets_an_object_wait_longer_each_time(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    pauses, now_s = [], 0.0
    for _ in range(5):
        (parcel,) = claimed(outbox, now_s)
        (standing,) = outbox.record([(parcel, Happening(Event.AGAIN, "not_taken"))], now_s).values()
        assert claimed(outbox, standing.due_s - 0.001) == ()
        pauses.append(standing.due_s - now_s)
        now_s = standing.due_s
    assert outbox.next_due_s(PACS) == now_s
    for number, pause in enumerate(pauses):
        assert 2.0**number <= pause <= 2.0 ** (number + 1)


def test_dead_letters_go_out_again_when_they_are_told_to(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    outbox.record([(claimed(outbox)[0], Happening(Event.IMPOSSIBLE, "study_unknown"))], 1.0)
    assert outbox.pending(PACS) == 0
    assert claimed(outbox, 1e9) == ()
    assert outbox.retry_dead(OTHER) == 0
    assert outbox.retry_dead(PACS) == 1
    assert len(claimed(outbox)) == 1


def test_copies_are_deleted_when_they_have_arrived_everywhere_and_are_not_sent_again(outbox: Outbox) -> None:
    outbox.put([an_object(1), an_object(2)], PACS)
    outbox.put([an_object(2)], OTHER)
    for parcel in claimed(outbox):
        outbox.record([(parcel, Happening(Event.LISTED))], 0.0)
    count, freed_bytes = outbox.forget_delivered()
    assert (count, freed_bytes) == (1, len(an_object(1).encoded))
    assert [path.read_bytes() for path in (outbox.folder / "objects").glob("*/*")] == [an_object(2).encoded]
    assert outbox.put([an_object(1)], PACS) == {an_object(1).sop_instance_uid: "verified"}
    assert outbox.forget_delivered() == (0, 0)


def test_files_that_a_killed_process_left_without_a_row_go_with_the_delivered(outbox: Outbox) -> None:
    outbox.put([an_object(1)], PACS)
    orphan = outbox.folder / "objects" / "ab" / f"{'ab' * 32}.dcm"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"orphan")
    assert outbox.forget_delivered() == (0, 0)
    assert not orphan.exists()
    assert len(list((outbox.folder / "objects").glob("*/*"))) == 1


def test_only_one_at_a_time_sends_to_a_destination(outbox: Outbox) -> None:
    with Outbox.open(outbox.folder) as second:
        with outbox.sending(PACS) as first_alone, second.sending(PACS) as second_alone:
            assert (first_alone, second_alone) == (True, False)
            with second.sending(OTHER) as elsewhere:
                assert elsewhere
        with second.sending(PACS) as later:
            assert later


# --- kills ---

CHILD = """
import os, signal, sys
from pathlib import Path
from dicom_io.outbox import Outbox
from test_outbox import PACS, an_object, claimed

outbox = Outbox.open(Path(sys.argv[1]))
if sys.argv[2] == "claim":
    parcels = claimed(outbox, limit=5)
    outbox.going_out(parcels[:3])
    os.kill(os.getpid(), signal.SIGKILL)
rename = os.replace
count = 0
def killing(source, target):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = killing
outbox.put([an_object(number) for number in range(10)], PACS)
"""


def child(outbox: Outbox, what: str) -> subprocess.CompletedProcess[str]:
    places = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(outbox.folder), what],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done


def test_what_a_killed_process_had_claimed_goes_back_and_what_was_going_out_as_perhaps_there(outbox: Outbox) -> None:
    outbox.put([an_object(number) for number in range(8)], PACS)
    child(outbox, "claim")
    again = claimed(outbox)
    assert len(again) == 8
    assert sum(one.standing.maybe_there for one in again) == 3
    assert len(list((outbox.folder / "owners").iterdir())) == 1


def test_a_process_killed_while_it_put_in_leaves_no_row_without_a_file_and_no_temporary_file(outbox: Outbox) -> None:
    child(outbox, "put")
    for parcel in outbox.parcels():
        assert outbox.content(parcel) is not None
    outbox.put([an_object(number) for number in range(10)], PACS)
    outbox.take_back()
    assert len(outbox.parcels()) == 10
    assert list((outbox.folder / "objects").rglob("*.part")) == []


# --- commitment ---


def requested(outbox: Outbox, count: int = 2) -> tuple[str, list[str]]:
    """Sends and asks for commitment; the transaction and the UIDs."""
    outbox.put([an_object(number) for number in range(count)], PACS)
    send_all(outbox)
    parcels = to_be_confirmed(outbox)
    outbox.request("2.25.7", parcels, 10.0, 60.0)
    return "2.25.7", [one.sop_instance_uid for one in parcels]


def test_after_a_request_nothing_is_due_until_the_report_counts_as_lost(outbox: Outbox) -> None:
    requested(outbox)
    assert to_be_confirmed(outbox, 59.0) == ()
    assert {one.standing.transaction_uid for one in to_be_confirmed(outbox, 60.0)} == {"2.25.7"}


def test_a_report_commits_what_it_names_and_queues_what_failed_again(outbox: Outbox) -> None:
    transaction, (first, second) = requested(outbox)
    assert outbox.report(transaction, [first], {second: 0x0112}, 20.0)
    assert states(outbox) == {first: "committed", second: "queued"}
    (parcel,) = outbox.parcels(PACS, [State.QUEUED])
    assert parcel.standing.reason == "not_committed"
    assert parcel.standing.maybe_there


def test_a_failure_that_no_repetition_helps_makes_a_dead_letter(outbox: Outbox) -> None:
    transaction, (first, second) = requested(outbox)
    outbox.report(transaction, [first], {second: 0x0119}, 20.0)
    (parcel,) = outbox.parcels(PACS, [State.DEAD])
    assert (parcel.sop_instance_uid, parcel.standing.reason) == (second, "commitment_refused")


def test_a_report_may_be_repeated(outbox: Outbox) -> None:
    transaction, (first, second) = requested(outbox)
    for _ in range(3):
        assert outbox.report(transaction, [first], {second: 0x0112}, 20.0)
    assert states(outbox) == {first: "committed", second: "queued"}
    (parcel,) = outbox.parcels(PACS, [State.QUEUED])
    assert parcel.standing.attempts == 1


def test_a_report_of_a_transaction_that_is_not_ours_changes_nothing(outbox: Outbox) -> None:
    _, (first, second) = requested(outbox)
    assert not outbox.report("2.25.8", [first], {second: 0x0119}, 20.0)
    assert states(outbox) == {first: "sent", second: "sent"}


def test_a_report_that_names_others_objects_changes_nothing_of_theirs(outbox: Outbox) -> None:
    transaction, _ = requested(outbox)
    outbox.put([an_object(77)], OTHER)
    assert outbox.report(transaction, [an_object(77).sop_instance_uid, "1.2.3"], {}, 20.0)
    assert outbox.counts(OTHER)[OTHER] == {"queued": 1}


def test_a_late_failure_does_not_touch_what_was_sent_again_since(outbox: Outbox) -> None:
    transaction, (first, second) = requested(outbox)
    outbox.record([(one, Happening(Event.UNLISTED, "not_listed")) for one in to_be_confirmed(outbox, 60.0)], 60.0)
    send_all(outbox, 1000.0)
    assert outbox.report(transaction, [], {first: 0x0119, second: 0x0112}, 2000.0)
    assert states(outbox) == {first: "sent", second: "sent"}


def test_a_late_success_counts_also_for_what_was_proven_or_queued_again_meanwhile(outbox: Outbox) -> None:
    transaction, (first, second) = requested(outbox)
    one, other = to_be_confirmed(outbox, 60.0)
    outbox.record([(one, Happening(Event.LISTED)), (other, Happening(Event.UNLISTED, "not_listed"))], 60.0)
    assert states(outbox) == {first: "verified", second: "queued"}
    assert outbox.report(transaction, [first, second], {}, 2000.0)
    assert states(outbox) == {first: "committed", second: "committed"}


def test_a_report_that_comes_while_an_object_is_being_proven_stays(outbox: Outbox) -> None:
    transaction, (first, second) = requested(outbox)
    proving = to_be_confirmed(outbox, 60.0)
    outbox.report(transaction, [first, second], {}, 60.0)
    outbox.record([(one, Happening(Event.UNLISTED, "not_listed")) for one in proving], 61.0)
    assert states(outbox) == {first: "committed", second: "committed"}


def test_an_object_that_failed_just_before_the_next_request_is_not_held_back(outbox: Outbox) -> None:
    transaction, (first, second) = requested(outbox)
    again = to_be_confirmed(outbox, 60.0)
    outbox.report(transaction, [first], {second: 0x0112}, 60.0)
    outbox.request("2.25.9", again, 61.0, 120.0)
    assert states(outbox) == {first: "committed", second: "queued"}
    assert [one.sop_instance_uid for one in claimed(outbox, 1000.0)] == [second]


def test_what_a_request_was_not_taken_for_is_due_at_once(outbox: Outbox) -> None:
    transaction, _ = requested(outbox)
    outbox.expect_no_report(transaction, 11.0)
    assert len(to_be_confirmed(outbox, 11.0)) == 2


def test_a_damaged_outbox_is_told_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    with Outbox.open(folder) as outbox:
        outbox.put([an_object(number) for number in range(300)], PACS)
    path = folder / "outbox.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[: 8 * 4096] + b"\xa5" * (len(whole) - 8 * 4096))
    with pytest.raises((OutboxNotWorking, ConfigError), match=r"outbox\.sqlite"), Outbox.open(folder) as outbox:
        outbox.parcels()
        outbox.counts()
