"""Reports of ours that were opened, edited by mouse and saved in OHIF 3.13 and 3.11, read back as feedback."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread

from deeplesion_miner.feedback import Feedback, feedback
from deeplesion_miner.feedback_rows import FeedbackRow
from deeplesion_miner.studies import StudyQuery
from dicom_io.feedback_reading import StudyReports, study_reports
from dicom_io.opening import ArchiveOpener, ArchiveSettings

pytestmark = pytest.mark.real

OURS, G1, G6, G7 = (
    "ours_B.dcm",
    "g1_bidirectional_3.13.dcm",
    "g6_resave_of_ours_3.13.dcm",
    "g7_resave_of_ours_3.11.dcm",
)
BEFORE_MM, AFTER_G6_MM, AFTER_G7_MM = 16.88, 20.5, 24.1
"""Length of the long axis as written by us and as the viewer showed it after each edit; the short axis kept its own."""


@pytest.fixture(scope="module")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as they are, but for our report: a model signs what Doe^Jane did, whose report has no feedback."""
    found = tmp_path_factory.mktemp("ohif")
    for name in ("ct_B", G1, G6, G7):
        (found / name).symlink_to(real_data / "ohif_phantom" / name)
    report = dcmread(real_data / "ohif_phantom" / OURS)
    (observer,) = (item for item in report.ContentSequence if item.ValueType == "PNAME")
    observer.ValueType, observer.TextValue = "TEXT", "a model"
    observer.ConceptNameCodeSequence[0].CodeValue = "121013"
    observer.ConceptNameCodeSequence[0].CodeMeaning = "Device Observer Name"
    del observer.PersonName
    report.save_as(found / OURS)
    return found


def read(folder: Path, *names: str) -> list[StudyReports]:
    paths = (*sorted((folder / "ct_B").iterdir()), *(folder / name for name in names))
    with ArchiveOpener(ArchiveSettings(paths=paths)) as opener, closing(opener.open()) as archive:
        return list(study_reports(archive, StudyQuery()))


def told(folder: Path, *names: str) -> Feedback:
    (found,) = read(folder, *names)
    return feedback(found.reports, found.notes, found.planes)


def test_what_becomes_of_a_reader_s_own_report_is_no_feedback(real_data: Path) -> None:
    assert read(real_data / "ohif_phantom", OURS, G6, G7) == []


def only(found: Feedback) -> FeedbackRow:
    (row,) = found.rows
    return row


def test_a_moved_handle_in_3_13_is_found_by_the_predecessor(folder: Path) -> None:
    row = only(told(folder, OURS, G6))
    assert (row.verdict, row.geometry_change, row.label_change, row.link) == ("resized", "resized", "", "predecessor")
    assert row.long_axis_change_mm == pytest.approx(AFTER_G6_MM - BEFORE_MM, abs=0.06)
    assert row.short_axis_change_mm == pytest.approx(0.0, abs=0.001)


@pytest.mark.parametrize("names", [(OURS, G7), (OURS, G6, G7)], ids=["alone", "after another save"])
def test_a_moved_handle_in_3_11_is_found_without_a_predecessor(folder: Path, names: tuple[str, ...]) -> None:
    row = only(told(folder, *names))
    assert (row.verdict, row.label_change, row.link, row.saves) == ("resized", "", "label_and_place", len(names) - 1)
    assert row.long_axis_change_mm == pytest.approx(AFTER_G7_MM - BEFORE_MM, abs=0.06)


def test_what_a_reader_drew_alone_answers_nothing_of_ours(folder: Path) -> None:
    found = told(folder, OURS, G1)
    assert only(found).verdict == "unreviewed"
    assert len(found.unlinked) == 1
