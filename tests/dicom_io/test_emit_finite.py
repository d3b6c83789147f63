"""A number that is none is a lesion left out with its reason, in objects of every kind; the others are written."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest
from phantom_results import Phantoms, changed

import schemas
from deeplesion_miner.results import Prior
from deeplesion_miner.types import Box, Segment
from dicom_io.emit import KINDS, EmitSettings, emit
from dicom_io.emit.finite import all_finite

BROKEN = {
    "score": {"score": nan},
    "score in percent": {"score": 1e307},
    "volume": {"volume_mm3": inf},
    "long axis": {"long_axis": Segment((nan, 5.0), (9.0, 5.0))},
    "short axis": {"short_axis": Segment((7.0, 3.0), (7.0, -inf))},
    "box": {"box": Box(1.0, 2.0, inf, 4.0)},
    "prior": {"prior": Prior("20180101", nan)},
    "prior's short axis": {"prior": Prior("20180101", 8.0, inf)},
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    return Phantoms.write(tmp_path_factory.getbasetemp() / "phantom_results")


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_the_lesion_is_left_out_of_every_kind_and_the_others_are_as_without_it(
    phantoms: Phantoms, change: dict[str, object]
) -> None:
    result, boxes = phantoms.result("chiara/0"), EmitSettings(planar_boxes=True)
    emission = emit(changed(result, **change), phantoms.source(result), KINDS, boxes)
    assert {(one.key, one.kind, one.why) for one in emission.left_out} == {
        (result.lesions[0].key, kind, "not_finite") for kind in KINDS
    }
    alone = emit(replace(result, lesions=result.lesions[1:]), phantoms.source(result), KINDS, boxes)
    assert emission.objects == alone.objects
    assert {one.kind for one in alone.objects} == set(KINDS)


def test_where_all_numbers_are_numbers_nothing_is_copied(phantoms: Phantoms) -> None:
    result = phantoms.result("chiara/0")
    assert all_finite(result) is result


@pytest.mark.parametrize("why", ["not_finite", "beyond_most"])
def test_the_reason_is_told_in_words(why: str) -> None:
    reason = schemas.load("emit")["left_out"][why]
    assert reason["message"]
    assert reason["advice"]
