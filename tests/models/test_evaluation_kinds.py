"""The share of false positives on planted mimics is the share that was planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation_world import World, beside, evaluated, key_slice, mark, on_mark

from deeplesion_miner.errors import ConfigError
from models.evaluation.evaluate import Extras, Predictions
from models.evaluation.kinds import KnownNonLesion, read_known

SLICES = tuple(key_slice(patient, 10, mark(f"m{patient}", (30, 30))) for patient in (1, 2, 3, 4))
WORLD = World(SLICES)
HALF = 5.0
MIMICS = tuple(
    KnownNonLesion(one.file_name, (x - HALF, 100 - HALF, x + HALF, 100 + HALF), kind)
    for one in SLICES
    for x, kind in ((40, "vessel"), (70, "bowel"))
)
# on every slice: the lesion, then one vessel (sure), and three others of which one is bowel
FOUND = [
    detection
    for number, one in enumerate(SLICES)
    for detection in (
        on_mark(one, 0, 0.95),
        beside(one.file_name, 0.9 - number / 100, (40, 100)),
        beside(one.file_name, 0.5 - number / 100, (70, 100)),
        beside(one.file_name, 0.4 - number / 100, (100, 60)),
        beside(one.file_name, 0.3 - number / 100, (100, 90)),
    )
]


def shares(detections: list, **more: object) -> dict[tuple[str, str], tuple[int, int, float]]:
    told = evaluated(WORLD, detections, extras=Extras(known=MIMICS, scores=(0.45,)), **more)
    return {(one.point.words, one.kind): (one.of_kind, one.false_positives, one.share.estimate) for one in told.kinds}


def test_shares_are_told_at_each_operating_point() -> None:
    assert shares(FOUND) == {
        ("at 1 FP per image", "bowel"): (0, 4, 0.0),
        ("at 1 FP per image", "vessel"): (4, 4, 1.0),
        ("at 4 FP per image", "bowel"): (4, 16, 0.25),
        ("at 4 FP per image", "vessel"): (4, 16, 0.25),
        ("from score 0.45", "bowel"): (4, 8, 0.5),
        ("from score 0.45", "vessel"): (4, 8, 0.5),
    }


def test_a_detection_on_a_mimic_that_is_also_on_a_mark_is_no_false_positive() -> None:
    on_lesion = KnownNonLesion(SLICES[0].file_name, (20, 25, 40, 35), "vessel")
    told = evaluated(WORLD, [on_mark(SLICES[0], 0, 0.9)], extras=Extras(known=(on_lesion,)))
    assert {one.of_kind for one in told.kinds} == {0}


@pytest.mark.parametrize(("shift", "hits"), [(5.0, 4), (6.5, 0)])
def test_half_of_the_one_box_must_lie_in_the_other(shift: float, hits: int) -> None:
    moved = [beside(one.file_name, 0.5, (40 + shift, 100)) for one in SLICES]
    assert shares(moved)["at 1 FP per image", "vessel"][0] == hits


def test_the_share_differs_from_that_of_others_by_what_was_planted() -> None:
    blind = [one for one in FOUND if one.score not in {0.9 - number / 100 for number in range(4)}]
    told = evaluated(WORLD, blind, extras=Extras(known=MIMICS), against=[Predictions("seeing", tuple(FOUND))])
    found = {(one.words, one.kind): one.difference for one in told.kind_differences}
    assert found["at 1 FP per image", "vessel"].estimate == -1.0
    assert found["at 1 FP per image", "vessel"].high < 0
    same = evaluated(WORLD, FOUND, extras=Extras(known=MIMICS), against=[Predictions("same", tuple(FOUND))])
    assert {(one.difference.low, one.difference.high) for one in same.kind_differences} == {(0.0, 0.0)}


def test_a_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "known.csv"
    path.write_text("file_name,x_min,y_min,x_max,y_max,kind\n000001_01_01/010.png,1,2,3.5,4,vessel\n", "utf-8")
    assert read_known(path, WORLD) == (KnownNonLesion("000001_01_01/010.png", (1, 2, 3.5, 4), "vessel"),)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("000001_01_01/010.png,1,2,x,4,vessel", r"known\.csv:2: a coordinate is no number"),
        ("000001_01_01/010.png,5,2,3,4,vessel", "ends before it begins"),
        ("000001_01_01/099.png,1,2,3,4,vessel", "holds no slice 000001_01_01/099"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, row: str, words: str) -> None:
    path = tmp_path / "known.csv"
    path.write_text(f"file_name,x_min,y_min,x_max,y_max,kind\n{row}\n", "utf-8")
    with pytest.raises(ConfigError, match=words):
        read_known(path, WORLD)
