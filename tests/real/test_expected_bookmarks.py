"""Every TID 1500 report of the real data against an independent reader's reading of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.bookmark_table import Line, import_everything, lines, table

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore:Invalid value")]


@pytest.fixture(scope="module")
def rows(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    return lines(real_data, import_everything(real_data, tmp_path_factory.mktemp("bookmarks")))


def test_the_table_is_about_many_reports(rows: list[Line]) -> None:
    assert len(rows) >= 25
    assert {kind for row in rows for kind, _ in row.expected} >= {"bidirectional", "length", "point", "ellipse"}


def test_every_report_is_read_as_the_independent_reader_did_or_set_aside(rows: list[Line]) -> None:
    differing = [row for row in rows if not row.holds]
    assert differing == [], table(differing)


def test_only_reports_without_an_identity_are_set_aside(rows: list[Line]) -> None:
    set_aside = [row for row in rows if row.found and row.found[0][0] == "object set aside"]
    assert {Path(row.file).name.partition("-")[0] for row in set_aside} == {"dwv_v034_sr"}
    assert {row.found[0][1] for row in set_aside} == {"missing_attribute"}
