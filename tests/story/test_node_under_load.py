"""The node while peers push at once and it is killed and abused: the small form of `tests.experiments.node_load`."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.experiments.node_load import Load, abused, ended_and_started, scenario
from tests.experiments.node_world import STORESCU
from tests.experiments.soak import slope

LOAD = Load(studies=5, images=8, rows=64)

pytestmark = pytest.mark.skipif(not Path(STORESCU).exists(), reason="DCMTK is not installed (apt-get install dcmtk)")


@pytest.mark.servers
def test_kills_in_the_middle_lose_nothing_that_was_answered_with_success(tmp_path: Path) -> None:
    for turn in range(5):  # where this process stands still, all is pushed before the kills come
        outcome = scenario("killed", LOAD, tmp_path / f"killed-{turn}", during=ended_and_started(signal.SIGKILL, LOAD))
        assert outcome.is_well, outcome
        assert outcome.exits[:2] == [-9, -9]
        if outcome.unanswered > 0:
            return
    pytest.fail("no kill came in the middle")


@pytest.mark.servers
def test_floods_lies_and_strangers_are_refused_while_everybody_else_is_served(tmp_path: Path) -> None:
    outcome = scenario("abused", LOAD, tmp_path / "abused", during=abused)
    assert outcome.is_well, outcome
    assert outcome.refused == outcome.unanswered == 0
    assert outcome.notes["half-open connections"] == 500
    assert outcome.notes["unknown AE"] == "Reason: Calling AE Title Not Recognized"
    assert outcome.notes["wrong called AE"] == "Reason: Called AE Title Not Recognized"
    assert outcome.notes["oversized PDU"] == "aborted, aborted, aborted"
    assert outcome.peak_mb < 200


@pytest.mark.servers
def test_what_is_refused_is_refused_with_a_status_and_leaves_nothing(tmp_path: Path) -> None:
    outcome = scenario("refused", LOAD, tmp_path / "refused", settings=["archive.max_object_mb=0.001"], is_refused=True)
    assert outcome.is_well, outcome
    assert outcome.refused == outcome.objects


def test_the_slope_of_a_soak_is_that_of_a_straight_line_through_its_settled_part() -> None:
    samples = [(float(second), 1e6 if second < 200 else 2e6 + 10.0 * second) for second in range(0, 1001, 10)]
    found = slope(samples, 1)
    assert found.per_hour == pytest.approx(36_000)
    assert found.least == 2e6 + 2000.0
