"""`make experiments`: three archives with real data, and kills at every instant; their tables are printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.experiments import kills, three_archives

pytestmark = pytest.mark.skipif(os.environ.get("DLM_EXPERIMENTS") != "whole", reason="only as `make experiments`")


@pytest.mark.servers
@pytest.mark.real
def test_three_archives_give_one_dataset_of_phantoms_and_real_data(real_data: Path, tmp_path: Path) -> None:
    assert three_archives.main(["--data", str(real_data), "--keep", str(tmp_path)]) == 0


def test_killed_at_any_instant_a_restart_gives_the_undisturbed_dataset(tmp_path: Path) -> None:
    assert kills.main(["--keep", str(tmp_path)]) == 0
