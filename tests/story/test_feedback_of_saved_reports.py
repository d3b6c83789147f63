"""Genuine files of the viewer: our report, edited by mouse in OHIF 3.13 and 3.11 and saved, told as feedback."""

from __future__ import annotations

import json
import math
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from deeplesion_miner.feedback import Feedback, feedback
from deeplesion_miner.feedback_rows import FeedbackRow
from deeplesion_miner.studies import StudyQuery
from dicom_io.feedback_reading import study_reports
from dicom_io.opening import ArchiveOpener, ArchiveSettings
from dicom_io.testbed.newcomer import write_newcomer

SAMPLES = Path(__file__).parents[1] / "feedback_samples"
SAVED: dict[str, dict[str, Any]] = {one["file"]: one for one in json.loads((SAMPLES / "samples.json").read_text())}
WITHIN_PX = 0.01
BY_EDITION = {"3.13.2": "predecessor", "3.11.1": "label_and_place"}
DRAGGED_MM = math.hypot(7, 5)
SITES = {"Lesion 1": "Lung", "Lesion 2": "Lung", "Lesion 3": "Liver", "Lesion 4": "Abdomen"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_newcomer(tmp_path_factory.mktemp("newcomer"), small=True).folder


@cache
def told(images: Path, *names: str) -> Feedback:
    paths = (images, *(SAMPLES / name for name in ("ours.dcm", *names)))
    with ArchiveOpener(ArchiveSettings(paths=paths)) as opener, closing(opener.open()) as archive:
        (found,) = study_reports(archive, StudyQuery())
    assert found.unreadable == ()
    return feedback(found.reports, found.notes, found.planes)


def by_label(found: Feedback) -> dict[str, FeedbackRow]:
    """Rows by our label, '' for an added one."""
    return {row.label: row for row in found.rows}


@pytest.mark.parametrize("name", SAVED)
def test_every_edit_by_a_hand_has_its_verdict(name: str, images: Path) -> None:
    found = told(images, name)
    assert found.unlinked == ()
    assert len(found.rows) == len(SAVED[name]["verdicts"])
    assert {label: row.verdict for label, row in by_label(found).items()} == SAVED[name]["verdicts"]
    assert {row.link for row in found.rows} == {BY_EDITION[SAVED[name]["viewer"]]}
    assert {(row.model_name, row.model_version) for row in found.rows} == {("phantom reader", "1")}


@pytest.mark.parametrize("name", SAVED)
def test_corrected_axes_are_those_that_the_viewer_held(name: str, images: Path) -> None:
    held = [[end for point in one["points_px"] for end in point] for one in SAVED[name]["held"]]
    rows = [row for row in told(images, name).rows if row.verdict != "deleted"]
    assert len(rows) == len(held)
    for row in rows:
        assert row.corrected_long_axis_px is not None and row.corrected_short_axis_px is not None
        ends = [*row.corrected_long_axis_px, *row.corrected_short_axis_px]
        assert min(max(abs(a - b) for a, b in zip(ends, one, strict=True)) for one in held) <= WITHIN_PX


@pytest.mark.parametrize("version", BY_EDITION)
def test_how_far_a_hand_dragged_is_told_in_millimetres(version: str, images: Path) -> None:
    row = by_label(told(images, f"moved_{version}.dcm"))["Lesion 1"]
    assert row.shift_mm == pytest.approx(DRAGGED_MM, abs=0.6), "the mouse stops on a pixel of the screen"
    assert row.long_axis_change_mm == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("version", BY_EDITION)
def test_sites_survive_both_editions(version: str, images: Path) -> None:
    rows = by_label(told(images, f"kept_{version}.dcm"))
    assert {label: row.new_site for label, row in rows.items()} == SITES


def test_of_all_saves_of_one_report_the_newest_counts(images: Path) -> None:
    found = told(images, *SAVED)
    assert {row.saves for row in found.rows} == {len(SAVED)}
    assert len({row.source_sop_instance_uid for row in found.rows}) == 1
    times = {
        str(one.SOPInstanceUID): f"{one.ContentDate}{one.ContentTime}"
        for one in map(dcmread, map(SAMPLES.joinpath, SAVED))
    }
    (newest,) = {row.source_sop_instance_uid for row in found.rows}
    assert times[newest] == max(times.values())
