"""The ledger forgets nothing that it was told, tells it to one process at a time, and keeps it private."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_builder.ledger import FILE_NAME, CrosswalkRow, Loss, SqliteLedger
from dataset_builder.ledger_file import SCHEMA_VERSION, LedgerNotWorking
from dataset_builder.outcome_json import from_json, to_json
from deeplesion_miner.errors import ConfigError, LedgerInUse
from deeplesion_miner.ports import TRY_AGAIN, Ledger
from deeplesion_miner.studies import PatientFacts, PlacedLesion, Stack, StackSlice, StudyOutcome, StudyRef, Transfers
from deeplesion_miner.types import (
    Axis,
    Bookmark,
    Box,
    ImageHeader,
    ImagePlane,
    ImageRef,
    Kept,
    Kind,
    Lesion,
    Note,
    Rejected,
    Segment,
    SegmentMm,
    Source,
    Unreadable,
)

# Numbers that become columns are those of SQLite: 64 bits.
INTEGERS = st.integers(-(2**63), 2**63 - 1)
st.register_type_strategy(ImageRef, st.builds(ImageRef, frame_number=INTEGERS))
st.register_type_strategy(Transfers, st.builds(Transfers, *[INTEGERS] * len(fields(Transfers))))


def bookmark(study: str, item: str) -> Bookmark:
    source = Source(study, "2.5", f"{study}.9", "1.2.840.10008.5.1.4.1.1.88.33", "tid1500", writer="ohif")
    image = ImageRef(study, "2.7", f"{study}.7")
    return Bookmark(source, item, Kind.BIDIRECTIONAL, (image,), Axis(SegmentMm((0.0, 0.0, 0.0), (9.0, 0.0, 0.0))))


def stack_slice(image: ImageRef) -> StackSlice:
    return StackSlice(image, 12, -40.5, "ab" * 32, rows=64, columns=64, row_spacing_mm=0.7, col_spacing_mm=0.7)


def kept(study: str, item: str) -> PlacedLesion:
    mark = bookmark(study, item)
    plane = ImagePlane((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 0.7, 0.7, 512, 512)
    header = ImageHeader(mark.images[0], "1.2.840.10008.5.1.4.1.1.2", "CT", ("ORIGINAL",), plane)
    lesion = Lesion(mark, header, Segment((1.0, 2.0), (9.0, 2.0)), None, Box(-4.0, -3.0, 14.0, 7.0), 5.6, None, 0.25)
    flags = (Note("not_perpendicular", (("deviation_deg", 7.0),)),)
    return PlacedLesion(Kept(lesion, flags), "2.7", 12, (10, 14), float("nan"), None)


def outcome(study: str = "1.2.3", fingerprint: str = "as listed") -> StudyOutcome:
    """A study with one kept and two rejected bookmarks, two objects read and one unreadable."""
    return StudyOutcome(
        StudyRef(study, "patient", "20200102"),
        PatientFacts(study, "patient", study_date="20200102"),
        fingerprint,
        (f"{study}.7", f"{study}.9"),
        (Unreadable(f"{study}.8", "truncated", (("what", "count"),), "the file ends at byte 132"),),
        (
            Rejected(bookmark(study, "1.2"), "no_second_axis"),
            Rejected(bookmark(study, "1.3"), "non_axial", (("tilt_deg", 41.5), ("limit_deg", 10))),
        ),
        (kept(study, "1.1"),),
        (Stack("2.7", 3, "rank", (stack_slice(ImageRef(study, "2.7", f"{study}.7")),)),),
        Transfers(2, 2000, 1, 1500, 100, 99, 99000),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work" / FILE_NAME


# --- what goes in comes out -------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.from_type(StudyOutcome))
def test_every_outcome_survives_its_json(anything: StudyOutcome) -> None:
    # Compared as text: NaN is unlike itself, and 5 must not come back as 5.0.
    assert repr(from_json(to_json(anything))) == repr(anything)


@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(outcomes=st.lists(st.from_type(StudyOutcome), max_size=3, unique_by=lambda o: o.study.study_instance_uid))
def test_every_outcome_survives_the_ledger_sorted_by_study(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[StudyOutcome]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "work" / FILE_NAME
    with SqliteLedger(path) as ledger:
        for each in outcomes:
            ledger.record(each, "rules")
    with SqliteLedger(path) as ledger:
        found = list(ledger.outcomes())
    expected = sorted(outcomes, key=lambda o: o.study.study_instance_uid)
    assert [repr(o) for o in found] == [repr(o) for o in expected]


def test_text_of_a_broken_character_set_does_not_stop_the_ledger(path: Path) -> None:
    odd = replace(outcome(), study=StudyRef("1.2.\udcff", "M\udce4rz\0", "20200102"))
    with SqliteLedger(path) as ledger:
        ledger.record(odd, "rules")
        assert list(ledger.outcomes()) == pytest.approx([odd], nan_ok=True) or repr(list(ledger.outcomes())) == repr(
            [odd]
        )
        assert ledger.is_done("1.2.\udcff", "as listed", "rules")


def test_it_is_a_ledger_of_the_core(path: Path) -> None:
    with SqliteLedger(path) as opened:
        ledger: Ledger = opened  # checked by mypy, and by the calls of the story
        assert list(ledger.outcomes()) == []


# --- which study is done ----------------------------------------------------------------------------------


def test_a_study_is_done_in_exactly_the_state_and_under_exactly_the_settings_it_was_mined(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        assert not ledger.is_done("1.2.3", "as listed", "rules")
        ledger.record(outcome(), "rules")
        assert ledger.is_done("1.2.3", "as listed", "rules")
        assert not ledger.is_done("1.2.3", "one object more", "rules")
        assert not ledger.is_done("1.2.3", "as listed", "other rules")
        assert not ledger.is_done("1.2.4", "as listed", "rules")


def test_recording_again_replaces_everything_known_of_the_study(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome(), "rules")
        ledger.record(replace(outcome(), rejected=(), unreadable=(), transfers=Transfers()), "rules")
        funnel = ledger.funnel()
        assert (funnel.bookmarks, dict(funnel.rejected), dict(funnel.unreadable)) == (1, {}, {})
        assert ledger.transfers() == Transfers()
        assert len(list(ledger.outcomes())) == 1


def test_a_failed_study_is_tried_again_but_what_was_learned_stays(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome(), "rules")
        ledger.record_failure(StudyRef("1.2.3"), "the archive is away")
        ledger.record_failure(StudyRef("1.2.4"), "the archive is away")
        assert not ledger.is_done("1.2.3", "as listed", "rules")
        assert [o.study.study_instance_uid for o in ledger.outcomes()] == ["1.2.3"]
        assert [(s.state, s.last_error, s.bookmarks) for s in ledger.studies()] == [
            ("failed", "the archive is away", 3),
            ("failed", "the archive is away", 0),
        ]
        assert ledger.outcome("1.2.4") is None


def test_attempts_are_counted_since_the_study_was_last_done(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        attempts = []
        for _ in range(2):
            ledger.record_failure(StudyRef("1.2.3"), "the archive is away")
            attempts.append(ledger.studies()[0].attempts)
        for _ in range(2):
            ledger.record(outcome(), "rules")
            attempts.append(ledger.studies()[0].attempts)
        assert attempts == [1, 2, 3, 1]


# --- sums -------------------------------------------------------------------------------------------------


def test_the_funnel_counts_each_loss_by_its_reason(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome("1.2.3"), "rules")
        ledger.record(outcome("1.2.4"), "rules")
        ledger.record_failure(StudyRef("1.2.5"), "the archive is away")
        ledger.record_set_aside([Unreadable("a/b.txt", "not_dicom")])
        funnel = ledger.funnel()
    assert (funnel.studies_done, funnel.studies_failed, funnel.objects_read) == (2, 1, 4)
    assert funnel.unreadable == {"not_dicom": Loss(1, "not a DICOM file"), "truncated": Loss(2, "the file ends early")}
    assert (funnel.bookmarks, funnel.kept, funnel.lesions) == (6, 2, 2)
    assert funnel.rejected == {
        "no_second_axis": Loss(2, "there is no short axis"),
        "non_axial": Loss(2, "the plane is tilted 41.5 degrees from axial (limit 10.0)"),
    }
    assert dict(funnel.flags) == {"not_perpendicular": 2}
    assert funnel.problems() == ()


def test_sums_that_do_not_hold_are_said_in_words(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome(), "rules")
        funnel = ledger.funnel()
    assert replace(funnel, bookmarks=4).problems() == ("4 bookmarks are not 1 kept and 2 rejected",)
    assert replace(funnel, lesions=2).problems() == ("1 bookmarks were kept, 2 lesions recorded",)


def test_transfers_are_summed_over_studies(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome("1.2.3"), "rules")
        ledger.record(outcome("1.2.4"), "rules")
        assert ledger.transfers() == Transfers(4, 4000, 2, 3000, 200, 198, 198000)


def test_what_belongs_to_no_study_is_replaced_by_the_next_run(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record_set_aside([Unreadable("a", "not_dicom"), Unreadable("b", "truncated")])
        ledger.record_set_aside([Unreadable("b", "truncated")])
        ledger.record(outcome(), "rules")
        found = ledger.unreadable()
    assert [(number, broken.source, broken.why) for number, broken in found] == [
        (None, "b", "truncated"),
        (1, "1.2.3.8", "truncated"),
    ]
    assert found[1][1] == outcome().unreadable[0]


# --- names ------------------------------------------------------------------------------------------------


def test_a_bookmark_is_found_by_its_key_its_source_and_its_image(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome("1.2.3"), "rules")
        ledger.record(outcome("1.2.4"), "rules")
        assert ledger.find_bookmarks("1.2.3.9#1.2") == [("1.2.3", "1.2.3.9#1.2")]
        of_study = [("1.2.4", f"1.2.4.9#1.{item}") for item in (1, 2, 3)]
        assert ledger.find_bookmarks("1.2.4.9") == of_study
        assert ledger.find_bookmarks("1.2.4.7") == of_study
        assert ledger.find_bookmarks("1.2.4") == []
        assert repr(ledger.outcome("1.2.3")) == repr(outcome("1.2.3"))


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=5), max_size=5))
@settings(deadline=None, max_examples=30)
def test_an_index_once_given_never_changes_and_is_given_once(
    tmp_path_factory: pytest.TempPathFactory, growth: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "work" / FILE_NAME
    given_so_far: dict[str, int] = {}
    for names in growth:
        with SqliteLedger(path) as ledger:
            answers = [
                ledger.patient_index(names),
                ledger.study_index("patient", sorted(names)),
                ledger.series_index("study", sorted(names)),
            ]
        for answer in answers:
            assert set(answer) == set(names)
            given_so_far |= {name: given_so_far.get(name, number) for name, number in answer.items()}
            assert all(given_so_far[name] == number for name, number in answer.items())
    assert sorted(given_so_far.values()) == list(range(1, len(given_so_far) + 1))


def test_new_patients_are_numbered_in_sorted_order_and_studies_and_series_in_the_given_one(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        assert ledger.patient_index(["c", "a"]) == {"a": 1, "c": 2}
        assert ledger.patient_index(["d", "b", "a"]) == {"a": 1, "b": 3, "d": 4}
        assert ledger.study_index("a", ["z", "y"]) == {"z": 1, "y": 2}
        assert ledger.study_index("b", ["y"]) == {"y": 1}
        assert ledger.series_index("z", ["s", "r", "s"]) == {"s": 1, "r": 2}


def test_the_way_back_is_kept_once_and_found_by_public_id(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        for _ in range(2):
            ledger.record_crosswalk([("f00d", "lesion", "1.2.9#1.1"), ("beef", "patient", "4711^^^")])
        ledger.record_crosswalk([("beef", "patient", "4711 ^^^")])
        assert ledger.crosswalk("f00d") == [CrosswalkRow("f00d", "lesion", "1.2.9#1.1")]
        assert [row.original for row in ledger.crosswalk()] == ["4711 ^^^", "4711^^^", "1.2.9#1.1"]
        assert ledger.crosswalk("nothing") == []
        assert ledger.ways_to("4711^^^") == [CrosswalkRow("beef", "patient", "4711^^^")]


def test_what_is_bound_to_a_ledger_cannot_change(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.bind("key", "one", "give the old key")
    with SqliteLedger(path) as ledger:
        ledger.bind("key", "one", "give the old key")
        with pytest.raises(ConfigError, match="another key; give the old key"):
            ledger.bind("key", "two", "give the old key")


def test_a_run_without_an_end_is_seen(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        first, second = ledger.start_run("run", "PACS@host:104"), ledger.start_run("run", "PACS@host:104")
        ledger.finish_run(second, {"mined": 3})
        runs = ledger.runs()
    assert [(run["number"], run["summary"], run["finished"] is None) for run in runs] == [
        (first, None, True),
        (second, {"mined": 3}, False),
    ]


# --- one process, private, durable ------------------------------------------------------------------------


def test_a_second_writer_is_refused_until_the_first_one_ends(path: Path) -> None:
    with SqliteLedger(path), pytest.raises(LedgerInUse, match="another `mine` works here"):
        SqliteLedger(path)
    SqliteLedger(path).close()


def test_a_reader_sees_what_was_recorded_while_a_run_goes_on_and_cannot_write(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome(), "rules")
        with SqliteLedger.reader(path) as reader:
            assert reader.funnel().kept == 1
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.record(outcome(), "rules")


def test_reading_where_nothing_was_mined_says_what_to_do(path: Path) -> None:
    with pytest.raises(ConfigError, match="no ledger here; mine something first"):
        SqliteLedger.reader(path)


def test_ledger_and_folder_are_closed_to_others(path: Path) -> None:
    before = os.umask(0)
    try:
        with SqliteLedger(path) as ledger:
            ledger.record(outcome(), "rules")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert set(modes) == {FILE_NAME, f"{FILE_NAME}.lock", f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}


def test_a_folder_that_others_can_read_is_refused_unless_it_is_empty(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)  # whatever the umask
    SqliteLedger(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    other = path.parent.parent / "shared"
    other.mkdir()
    other.chmod(0o755)
    (other / "thesis.txt").write_text("not ours")
    with pytest.raises(ConfigError, match="chmod 700"):
        SqliteLedger(other / FILE_NAME)
    assert stat.S_IMODE(other.stat().st_mode) == 0o755


def test_a_ledger_of_another_version_is_refused(path: Path) -> None:
    SqliteLedger(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for open_it in (SqliteLedger, SqliteLedger.reader):
        with pytest.raises(ConfigError, match=f"version {SCHEMA_VERSION + 1}, this program knows"):
            open_it(path)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"not a database" * 100)
    for open_it in (SqliteLedger, SqliteLedger.reader):
        with pytest.raises(ConfigError, match="not a ledger"):
            open_it(path)
    assert path.read_bytes() == b"not a database" * 100


def test_an_outcome_that_cannot_be_written_leaves_the_old_one(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.record(outcome(), "rules")
        broken = replace(outcome(fingerprint="new"), rejected=(Rejected(bookmark("1.2.3", "1"), None),))  # type: ignore[arg-type]
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record(broken, "rules")
        assert ledger.is_done("1.2.3", "as listed", "rules")
        assert ledger.funnel().bookmarks == 3


def test_threads_record_at_once_and_nothing_is_lost(path: Path) -> None:
    studies = [f"1.2.{number}" for number in range(60)]
    with SqliteLedger(path) as ledger:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda uid: ledger.record(outcome(uid), "rules"), studies))
        assert [o.study.study_instance_uid for o in ledger.outcomes()] == sorted(studies)
        assert ledger.funnel().bookmarks == 180


RECORD_UNTIL_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from dataset_builder.ledger import SqliteLedger
from test_ledger import outcome
with SqliteLedger(Path(sys.argv[1])) as ledger:
    number = len(ledger.studies())
    while True:
        ledger.record(outcome(f"1.2.{number}"), "rules")
        print(f"1.2.{number}", flush=True)
        number += 1
"""


@pytest.mark.parametrize("lines_before_kill", [1, 7, 20])
def test_a_kill_at_any_instant_loses_nothing_recorded_and_frees_the_lock(path: Path, lines_before_kill: int) -> None:
    command = [sys.executable, "-c", RECORD_UNTIL_KILLED, str(path), str(Path(__file__).parent)]
    said: list[str] = []
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said += [process.stdout.readline().strip() for _ in range(lines_before_kill)]
            process.send_signal(signal.SIGKILL)
            said += process.stdout.read().split()
    with SqliteLedger(path) as ledger:
        recorded = {o.study.study_instance_uid for o in ledger.outcomes()}
        funnel = ledger.funnel()
    assert set(said) <= recorded
    assert len(recorded - set(said)) <= 2  # recorded, but killed before it could say so
    assert funnel.bookmarks == 3 * len(recorded)
    assert funnel.problems() == ()


def test_a_full_disk_is_one_line_with_what_to_do_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "work" / FILE_NAME
    with SqliteLedger(path) as ledger:
        ledger.record_failure(StudyRef("1.2.3", "P", ""), "archive away")
        # SQLite answers as on a full disk where a file may not grow.
        ((pages,),) = ledger._rows("PRAGMA page_count")
        ledger._rows(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerNotWorking, match=r"full: free some space and run the same command again") as error:
            ledger.record_failure(StudyRef("1.2.4", "P", ""), "x" * 100_000)
        assert "\n" not in str(error.value)
        ledger._rows("PRAGMA max_page_count = 100000")
        ledger.record_failure(StudyRef("1.2.4", "P", ""), "archive away")
        assert [state.study.study_instance_uid for state in ledger.studies()] == ["1.2.3", "1.2.4"]


def test_a_ledger_that_another_program_holds_open_is_named(tmp_path: Path) -> None:
    path = tmp_path / "work" / FILE_NAME
    with SqliteLedger(path) as ledger:
        ledger._rows("PRAGMA busy_timeout = 1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerNotWorking, match="end the other program"):
            ledger.record_set_aside([])
        other.execute("ROLLBACK")
        other.close()
        ledger.record_set_aside([])


def test_an_error_in_a_query_stays_an_error_of_ours(tmp_path: Path) -> None:
    with SqliteLedger(tmp_path / "work" / FILE_NAME) as ledger, pytest.raises(sqlite3.OperationalError):
        ledger._rows("SELECT * FROM nowhere")


def test_studies_are_counted_by_the_settings_under_which_they_were_mined(tmp_path: Path) -> None:
    with SqliteLedger(tmp_path / "work" / FILE_NAME) as ledger:
        for study, digest in (("1.1", "old"), ("1.2", "old"), ("1.3", "new"), ("1.4", TRY_AGAIN)):
            ledger.record(outcome(study), digest)
        ledger.record_failure(StudyRef("1.5", "P", ""), "archive away")
        assert ledger.studies_by_settings() == {"old": 2, "new": 1}
        ledger.record_failure(StudyRef("1.1", "P", ""), "archive away")
        assert ledger.studies_by_settings() == {"old": 2, "new": 1}
