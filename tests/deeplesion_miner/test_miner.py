"""The mining story: every bookmark has one verdict, every study is durable on its own, a stop costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_world import (
    MemoryArchive,
    MemoryLedger,
    MemoryStage,
    StudyWorld,
    Watcher,
    ct_uid,
    mark,
    with_bookmarks,
    worlds,
)

from deeplesion_miner.errors import ArchiveError, SumsDoNotHold
from deeplesion_miner.miner import MineSettings, RunSummary, find, mine, mine_study
from deeplesion_miner.ports import Archive
from deeplesion_miner.rules import Rules
from deeplesion_miner.studies import StudyOutcome, StudyQuery, StudyRef
from deeplesion_miner.types import ImageRef, Kind, Unreadable


def away(temporary: bool = True) -> ArchiveError:
    return ArchiveError("no answer", peer="PACS", operation="C-FIND", temporary=temporary)


def run(
    archive: MemoryArchive,
    ledger: MemoryLedger | None = None,
    *,
    workers: int = 1,
    watcher: Watcher | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[RunSummary, MemoryLedger]:
    ledger = ledger or MemoryLedger()

    def opened() -> Archive:
        return archive

    settings = MineSettings(workers=workers, digest="settings")
    summary = mine(opened, ledger, MemoryStage(), StudyQuery(), settings, watcher or Watcher(), should_stop=should_stop)
    return summary, ledger


def outcome_of(world: StudyWorld, rules: Rules | None = None) -> tuple[StudyOutcome, MemoryArchive]:
    archive = MemoryArchive([world])
    listing = archive.listing(StudyRef(world.uid))
    return mine_study(archive, MemoryStage(), listing, rules or Rules()), archive


def test_every_study_is_mined_and_its_lesions_are_placed() -> None:
    summary, ledger = run(MemoryArchive(worlds()))
    assert summary == RunSummary(found=6, mined=6)
    for outcome in ledger.outcomes():
        assert [(p.slice_number, p.slice_range) for p in outcome.placed] == [(8, (2, 15)), (9, (2, 15))]
        assert len(outcome.stacks[0].slices) == 14
        assert outcome.unreadable[0].why == "truncated"


def test_find_lists_studies_and_asks_for_no_image() -> None:
    archive = MemoryArchive(worlds(3))
    assert [listing.study.study_instance_uid for listing in find(archive, StudyQuery())] == ["1.7.1", "1.7.2", "1.7.3"]
    assert archive.asked == []


def test_the_number_of_workers_does_not_change_what_is_found() -> None:
    _, alone = run(MemoryArchive(worlds()))
    summary, together = run(MemoryArchive(worlds()), workers=3)
    assert summary.mined == 6
    assert list(alone.outcomes()) == list(together.outcomes())


def test_a_second_run_over_an_unchanged_archive_mines_nothing() -> None:
    _, ledger = run(MemoryArchive(worlds()))
    archive, watcher = MemoryArchive(worlds()), Watcher()
    summary, _ = run(archive, ledger, watcher=watcher)
    assert (summary.unchanged, summary.mined) == (6, 0)
    assert archive.asked == []
    assert watcher.events == ["found 6", *(f"skipped 1.7.{n}" for n in range(1, 7))]


def test_a_study_with_a_new_bookmark_is_mined_again() -> None:
    _, ledger = run(MemoryArchive(worlds(2)))
    first, second = worlds(2)
    changed = with_bookmarks(second, *second.bookmarks, mark(second.uid, "1.3", 12))
    summary, _ = run(MemoryArchive([first, changed]), ledger)
    assert (summary.unchanged, summary.mined) == (1, 1)
    assert len(ledger.known[second.uid][0].placed) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_that_fails_is_noted_and_the_run_goes_on(workers: int) -> None:
    failing = [replace(world, errors=[away()]) if world.uid == "1.7.2" else world for world in worlds()]
    watcher = Watcher()
    summary, ledger = run(MemoryArchive(failing), workers=workers, watcher=watcher)
    assert (summary.mined, summary.failed) == (5, 1)
    assert "C-FIND" in ledger.failures["1.7.2"]
    assert "failed 1.7.2" in watcher.events


def test_an_archive_that_is_away_ends_the_run_and_keeps_what_was_mined() -> None:
    failing = [replace(world, errors=[away()]) if world.uid > "1.7.2" else world for world in worlds()]
    ledger = MemoryLedger()
    with pytest.raises(ArchiveError):
        run(MemoryArchive(failing), ledger)
    assert sorted(ledger.known) == ["1.7.1", "1.7.2"]
    assert len(ledger.failures) == 3


def test_studies_that_are_refused_for_good_do_not_end_the_run() -> None:
    failing = [replace(world, errors=[away(temporary=False)]) for world in worlds()]
    summary, _ = run(MemoryArchive(failing))
    assert summary.failed == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_ends_after_the_current_study_and_the_next_run_goes_on(workers: int) -> None:
    summary, ledger = run(MemoryArchive(worlds()), workers=workers, should_stop=lambda: True)
    assert summary.stopped
    assert summary.mined == 1
    again, _ = run(MemoryArchive(worlds()), ledger)
    assert not again.stopped
    assert again.mined + again.unchanged == 6
    assert len(ledger.known) == 6


def test_a_worker_that_gets_no_association_fails_its_studies_only() -> None:
    opened = 0

    def open_once() -> Archive:
        nonlocal opened
        opened += 1
        if opened > 1:
            raise away(temporary=False)
        return MemoryArchive(worlds(3))

    ledger = MemoryLedger()
    settings = MineSettings(workers=2)
    summary = mine(open_once, ledger, MemoryStage(), StudyQuery(), settings, Watcher())
    assert summary.failed == 3
    assert len(ledger.failures) == 3


def test_objects_that_belong_to_no_study_are_remembered() -> None:
    aside = (Unreadable("some file", "truncated"),)
    summary, ledger = run(MemoryArchive(worlds(1), aside))
    assert summary.set_aside == 1
    assert ledger.aside == aside


def test_an_image_that_is_listed_as_no_ct_is_not_fetched_to_know_that() -> None:
    world = worlds(1)[0]
    outcome, archive = outcome_of(with_bookmarks(world, mark(world.uid, "1.1", 1, modality_series=".4")))
    (rejected,) = outcome.rejected
    assert (rejected.reason, dict(rejected.facts)) == ("not_ct", {"modality": "MR"})
    assert archive.asked == []


def test_a_kind_that_is_not_read_asks_for_no_image() -> None:
    world = worlds(1)[0]
    outcome, archive = outcome_of(with_bookmarks(world, replace(mark(world.uid, "1.1", 1), kind=Kind.ELLIPSE)))
    assert outcome.rejected[0].reason == "unsupported_source"
    assert archive.asked == []


def test_an_image_that_the_archive_does_not_have_is_missing() -> None:
    world = worlds(1)[0]
    outcome, _ = outcome_of(with_bookmarks(world, mark(world.uid, "1.1", 99)))
    assert outcome.rejected[0].reason == "image_missing"


def test_a_frame_that_the_object_does_not_have_is_named() -> None:
    world = worlds(1)[0]
    wrong = mark(world.uid, "1.1", 8)
    image = ImageRef(world.uid, f"{world.uid}.3", ct_uid(world.uid, 8), frame_number=4)
    outcome, _ = outcome_of(with_bookmarks(world, replace(wrong, images=(image,))))
    assert outcome.rejected[0].reason == "bad_geometry"
    assert dict(outcome.rejected[0].facts) == {"what": "frame"}


def test_a_key_slice_that_cannot_be_decoded_rejects_its_lesion_and_not_its_neighbour() -> None:
    outcome, _ = outcome_of(replace(worlds(1)[0], undecodable=frozenset({8})))
    assert [(r.bookmark.item_path, r.reason) for r in outcome.rejected] == [("1.1", "pixels_unreadable")]
    (lesion,) = outcome.placed
    assert lesion.slice_number == 9
    assert any(problem.why == "broken_pixels" for problem in outcome.unreadable)


def test_context_that_is_not_delivered_is_noted_with_its_count() -> None:
    outcome, _ = outcome_of(replace(worlds(1)[0], withheld=frozenset({3, 4})))
    notes = {p.kept.bookmark.item_path: {n.code: dict(n.facts) for n in p.kept.notes} for p in outcome.placed}
    assert notes["1.1"]["context_missing"] == {"missing": 2, "wanted": 13}
    assert 3 not in {s.slice_number for s in outcome.stacks[0].slices}


def test_a_study_whose_only_lesion_has_no_pixels_gives_no_slices() -> None:
    world = worlds(1)[0]
    outcome, _ = outcome_of(replace(with_bookmarks(world, mark(world.uid, "1.1", 8)), undecodable=frozenset({8})))
    assert outcome.placed == ()
    assert outcome.stacks == ()


def test_a_bookmark_that_would_be_counted_twice_is_a_failed_run() -> None:
    world = worlds(1)[0]
    twice = mark(world.uid, "1.1", 8)
    with pytest.raises(SumsDoNotHold):
        outcome_of(replace(world, bookmarks=(twice, twice)))


def test_reports_without_a_patient_fall_back_on_what_the_archive_listed() -> None:
    world = replace(worlds(1)[0], patient_id="")
    archive = MemoryArchive([world])
    listing = archive.listing(StudyRef(world.uid, "LISTED", "20200102"))
    outcome = mine_study(archive, MemoryStage(), listing, Rules())
    assert (outcome.patient.patient_id, outcome.patient.study_date) == ("LISTED", "20200102")


@pytest.mark.parametrize("why", ["not_delivered", "no_codec"])
def test_a_study_with_an_object_that_may_come_another_time_is_mined_again(why: str) -> None:
    world = replace(worlds(1)[0], broken_report=why)
    _, ledger = run(MemoryArchive([world]))
    again, _ = run(MemoryArchive([replace(world, broken_report="truncated")]), ledger)
    settled, _ = run(MemoryArchive([replace(world, broken_report="truncated")]), ledger)
    assert (again.mined, settled.unchanged) == (1, 1)


def test_a_report_that_names_its_own_series_as_that_of_its_images_finds_them_all_the_same() -> None:
    world = worlds(1)[0]
    outcome, _ = outcome_of(with_bookmarks(world, mark(world.uid, "1.1", 8, modality_series=".9")))
    assert [lesion.slice_number for lesion in outcome.placed] == [8]
