"""`make experiments`: the whole DeepLesion replay and the table of all reports; their tables are printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.experiments import bookmark_table
from tests.experiments.replay import replay
from tests.experiments.replay_rows import made_up_rows, public_rows

pytestmark = pytest.mark.skipif(os.environ.get("DLM_EXPERIMENTS") != "whole", reason="only as `make experiments`")

MADE_UP_PATIENTS = 300


@pytest.mark.real
def test_every_public_row_comes_back_as_it_was(real_data: Path, tmp_path: Path) -> None:
    rows = public_rows(real_data / "deeplesion")
    assert len(rows) == 5488
    result = replay(rows, tmp_path)
    print(result.table())
    assert result.problems() == []


def test_every_made_up_row_comes_back_as_it_was(tmp_path: Path) -> None:
    result = replay(made_up_rows(MADE_UP_PATIENTS), tmp_path)
    print(result.table())
    assert result.problems() == []


@pytest.mark.real
def test_every_report_of_the_real_data_is_accounted_for(real_data: Path, tmp_path: Path) -> None:
    rows = bookmark_table.lines(real_data, bookmark_table.import_everything(real_data, tmp_path))
    print(bookmark_table.table(rows))
    assert [row.file for row in rows if not row.holds] == []
