"""Results on their way to real archives while archive, network and sender break: each arrives once and unchanged.

The whole, with ten thousand: `python -m tests.experiments.sending`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.experiments.killed_archive import KilledArchive
from tests.experiments.sending import CALM, FINDSCU, PLANTED, REPORTS, STORM, Plan, bench

if not Path(FINDSCU).exists():
    pytest.skip("DCMTK's clients are not installed (apt-get install dcmtk)", allow_module_level=True)

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ROUGH = replace(STORM, reset_after=0.02, lie={0xC000: 0.03}, refuse={0xA700: 0.03}, warn={0xB000: 0.05}, silence=0.0)
PLAN = Plan(
    objects=60,
    studies=4,
    seed=3,
    planted=2,
    archive_lives=(40, 80),
    archive_rests_s=(0.1, 0.3),
    process_lives=(30, 90),
    idle_s=3.0,
    report_within_s=4.0,
    storm=ROUGH,
    reports=REPORTS,
)


@pytest.mark.parametrize("kind", ["orthanc", "dcmqrscp"])
def test_through_a_storm_every_result_arrives_once_and_unchanged_and_the_outbox_knows_it(
    tmp_path: Path, kind: str
) -> None:
    if not KilledArchive.is_installed(kind):
        pytest.skip(f"{kind} is not installed")
    for turn in range(5):  # where this process stands still, all is settled before the kills come
        with bench(tmp_path / str(turn), kind, PLAN) as stand:
            outcome = stand.run()
        assert outcome.problems == [], outcome
        assert outcome.states["dead"] == PLAN.planted * len(PLANTED)
        if outcome.archive_kills > 0 and outcome.process_kills > 0:
            return
    pytest.fail("no kill came in the middle")


def test_the_look_notices_what_is_lost_changed_or_doubled(tmp_path: Path) -> None:
    if not KilledArchive.is_installed("dcmqrscp"):
        pytest.skip("dcmqrscp is not installed")
    calm = replace(PLAN, objects=6, studies=1, **CALM)
    with bench(tmp_path, "dcmqrscp", calm) as stand:
        lost, changed = list(stand.wanted)[:2]
        (tmp_path / "results" / f"{lost}.dcm").unlink()
        stand.wanted[changed] = replace(
            stand.wanted[changed], encoded=stand.wanted[changed].encoded.replace(b"Stamp^Test", b"Stamp^Tess")
        )
        stand.planted["1.2.3"] = "mismatch"
        outcome = stand.run()
    text = "\n".join(outcome.problems)
    assert "not what the archive lists: 1" in text
    assert f"changed: 1, for instance {changed}" in text
    assert "dead letters are not those that were planted" in text
