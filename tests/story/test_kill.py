"""kill -9 in the middle of the work, then the same command: the dataset of the undisturbed run, and nothing left over.

The whole, with every instant of the work: `python -m tests.experiments.kills`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.kills import Bench, Instant, bench

if not Path("/usr/bin/dcmsend").exists():
    pytest.skip("DCMTK's dcmsend is not installed (apt-get install dcmtk)", allow_module_level=True)

pytestmark = [pytest.mark.servers, pytest.mark.slow]

MINING = (
    Instant("finding: before a study's series", 2),
    Instant("receiving an object: before flush", 9, torn=True),
    Instant("staging a PNG: before flush", 5, torn=True),
    Instant("ledger, a study: before commit", 1),
)
BUILDING = (
    Instant("ledger, a study: after commit", 1),
    Instant("writing Parquet: before flush", 2, torn=True),
    Instant("swap, old one aside: after rename", 1),
)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("kills"), people=("bertram", "elena")) as made:
        yield made


@pytest.mark.parametrize("instants", [MINING, BUILDING], ids=["mining", "building"])
def test_killed_again_and_again_a_run_that_replaces_a_dataset_ends_as_if_undisturbed(
    stand: Bench, instants: tuple[Instant, ...]
) -> None:
    before = stand.result.kills
    stand.kill_at(stand.growing, instants)
    assert stand.result.problems == []
    assert stand.result.kills - before == len(instants), "a kill came too late"
