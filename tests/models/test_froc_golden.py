"""The evaluator gives what the LENS authors' own function gave, case by case and criterion by criterion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.evaluation.froc import Pool, Ties, count, curve, pool
from models.evaluation.froc_reading import sensitivity_at
from models.evaluation.overlap import Criterion, Space

pytestmark = pytest.mark.real
VECTOR_SORT = "AVX512_SKX"


@pytest.fixture(scope="module")
def golden(real_data: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((real_data / "deeplesion" / "froc_golden_visible.json").read_text("utf-8"))
    return cases


def pooled(case: dict[str, Any], criterion: str) -> Pool:
    marked, detected = ([np.array(one, np.float64) for one in case[key]] for key in ("gts", "predictions"))
    return pool(marked, detected, Space(case["dim"]), Criterion(criterion))


def rows(golden: list[dict[str, Any]]) -> list[tuple[str, Pool, float, list[float], list[float]]]:
    return [
        (f"{case['case']} {name}", pooled(case, name.split("@")[0]), float(name.split("@")[1]), case["fp_values"], want)
        for case in golden
        for name, want in case["expected"].items()
    ]


def test_all_cases_and_criteria_are_there(golden: list[dict[str, Any]]) -> None:
    assert {case["dim"] for case in golden} == {space.value for space in Space}
    assert len(rows(golden)) == 30


def test_every_row_equals_the_authors_function(golden: list[dict[str, Any]]) -> None:
    if not vector_sort():
        pytest.skip("numpy.argsort orders equal scores as the authors' run did on processors with AVX-512 only")
    wrong = {}
    for name, pool_of_case, threshold, asked, wanted in rows(golden):
        found = sensitivity_at(curve(count(pool_of_case, threshold)), asked)
        if np.abs(found - wanted).max() > 1e-6:
            wrong[name] = found.tolist()
    assert wrong == {}


def test_rows_that_no_tie_touches_equal_it_on_any_processor_and_the_others_lie_between_the_bounds(
    golden: list[dict[str, Any]],
) -> None:
    untouched = 0
    for name, pool_of_case, threshold, asked, wanted in rows(golden):
        low, high = (
            sensitivity_at(curve(count(pool_of_case, threshold, ties=ties)), asked)
            for ties in (Ties.HITS_LAST, Ties.HITS_FIRST)
        )
        assert (low - 1e-6 <= wanted).all(), name
        assert (wanted <= high + 1e-6).all(), name
        untouched += bool(np.array_equal(low, high))
    assert untouched == 27


def vector_sort() -> bool:
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", ())
    return VECTOR_SORT in found or "X86_V4" in found
