"""From the ledger to the dataset: sums hold, indices never change, the population is judged once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_world import MemoryArchive, MemoryLedger, MemorySink, MemoryStage, StudyWorld, Watcher, mark, worlds

from deeplesion_miner.dataset import BuildSettings, BuildSummary, build
from deeplesion_miner.errors import SumsDoNotHold
from deeplesion_miner.miner import MineSettings, mine
from deeplesion_miner.pseudonyms import Pseudonyms
from deeplesion_miner.rules import Rules
from deeplesion_miner.studies import StudyQuery
from deeplesion_miner.types import Axis, Segment

PSEUDONYMS = Pseudonyms(bytes(range(32)))


def mined(studies: list[StudyWorld], ledger: MemoryLedger | None = None) -> MemoryLedger:
    ledger = ledger or MemoryLedger()
    mine(lambda: MemoryArchive(studies), ledger, MemoryStage(), StudyQuery(), MineSettings(), Watcher())
    return ledger


def built(ledger: MemoryLedger, rules: Rules | None = None) -> tuple[BuildSummary, MemorySink]:
    sink = MemorySink()
    return build(ledger, sink, PSEUDONYMS, BuildSettings(rules or Rules())), sink


def indices(sink: MemorySink) -> dict[str, tuple[int, int, int]]:
    return {
        lesion.lesion_id: (lesion.patient_index, lesion.study_index, lesion.series_index)
        for sample in sink.samples
        for lesion in sample.lesions
    }


def test_every_kept_bookmark_is_a_row_and_every_bookmark_is_told() -> None:
    first, *others = worlds()
    first = replace(first, bookmarks=(*first.bookmarks, mark(first.uid, "1.3", 99)))
    summary, sink = built(mined([first, *others]))
    assert (summary.lesions, summary.bookmarks, summary.rejected) == (12, 13, 1)
    assert sum(len(sample.lesions) for sample in sink.samples) == 12
    assert summary.slices == 6 * 14


def test_building_twice_gives_the_same_digest() -> None:
    ledger = mined(worlds())
    assert built(ledger)[0] == built(ledger)[0]


def test_studies_of_a_patient_are_numbered_by_their_dates() -> None:
    _, sink = built(mined(worlds()))
    by_patient: dict[int, list[int]] = {}
    for sample in sorted(sink.samples, key=lambda s: s.lesions[0].study_date_shifted):
        by_patient.setdefault(sample.lesions[0].patient_index, []).append(sample.lesions[0].study_index)
    assert by_patient == {1: [1, 2, 3], 2: [1, 2, 3]}


def test_indices_once_given_stay_when_data_are_added() -> None:
    late, *others = worlds()
    ledger = mined(others)
    before = indices(built(ledger)[1])
    after = indices(built(mined([late, *others], ledger))[1])
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2


def test_the_way_back_is_remembered_for_every_public_id() -> None:
    ledger = mined(worlds(1))
    _, sink = built(ledger)
    known = {public_id for public_id, _, _ in ledger.crosswalk}
    for sample in sink.samples:
        for lesion in sample.lesions:
            assert {lesion.lesion_id, lesion.bookmark_id, lesion.patient_id, lesion.study_id, lesion.series_id} <= known


def needle(world: StudyWorld) -> StudyWorld:
    """The same study with a third cross on a slice of its own, very wide and flat."""
    flat = replace(
        mark(world.uid, "1.9", 50),
        long_axis=Axis(Segment((10.0, 50.0), (90.0, 50.0))),
        short_axis=Axis(Segment((50.0, 49.0), (50.0, 51.0))),
    )
    return replace(world, slices=60, bookmarks=(*world.bookmarks, flat))


def population() -> list[StudyWorld]:
    """Crosses of slightly different shape, as a population has them."""
    studies = worlds(9)
    for number, world in enumerate(studies):
        studies[number] = replace(
            world,
            bookmarks=tuple(
                replace(
                    bookmark,
                    item_path=f"1.{10 * copy + item}",
                    long_axis=Axis(Segment((40.0 - 0.1 * number - copy, 50.0), (60.0 + copy, 50.0))),
                )
                for copy in range(2)
                for item, bookmark in enumerate(world.bookmarks, start=1)
            ),
        )
    return [needle(studies[0]), *studies[1:]]


def test_an_outlier_of_the_population_is_kept_and_possibly_noisy() -> None:
    summary, sink = built(mined(population()))
    noisy = [lesion for sample in sink.samples for lesion in sample.lesions if lesion.possibly_noisy]
    assert [lesion.notes for lesion in noisy] == [("population_outlier",)]
    assert summary.rejected == 0


def test_an_outlier_of_the_population_is_dropped_on_request_with_the_slices_that_only_it_needs() -> None:
    kept, _ = built(mined(population()))
    dropped, sink = built(mined(population()), Rules(drop_noisy=True))
    assert dropped.lesions == kept.lesions - 1
    assert dropped.bookmarks == kept.bookmarks
    reasons = [b.reason for sample in sink.samples for b in sample.bookmarks if b.verdict == "rejected"]
    assert reasons == ["population_outlier"]
    assert dropped.slices < kept.slices


def test_a_row_without_its_slice_is_a_failed_run() -> None:
    ledger = mined(worlds(1))
    ((uid, (outcome, digest)),) = ledger.known.items()
    stack = outcome.stacks[0]
    broken = replace(stack, slices=tuple(s for s in stack.slices if s.slice_number != 8))
    ledger.known[uid] = (replace(outcome, stacks=(broken,)), digest)
    with pytest.raises(SumsDoNotHold):
        built(ledger)


def test_a_report_that_two_studies_hold_gives_its_lesions_once() -> None:
    ledger = mined(worlds(2))
    (first, digest), (second, _) = ledger.known.values()
    patient = replace(first.patient, study_instance_uid=second.study.study_instance_uid, study_date="20210101")
    ledger.known[second.study.study_instance_uid] = (replace(first, study=second.study, patient=patient), digest)
    summary, sink = built(ledger)
    assert (summary.lesions, summary.bookmarks, summary.rejected) == (2, 4, 2)
    by_study = {sample.bookmarks[0].study_id: [b.reason for b in sample.bookmarks] for sample in sink.samples}
    assert sorted(by_study.values()) == [["", ""], ["duplicate", "duplicate"]]
