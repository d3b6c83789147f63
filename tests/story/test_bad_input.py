"""Broken and hostile objects: each is set aside or rejected with its reason, and the run goes on around it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from tests.experiments import handwritten
from tests.experiments.handwritten import Cross, CtSeries, Patient, Study
from tests.experiments.mined import Ended, Mined, mine

DEPTH = 10_000
PARTIAL = 3
LONG_AXIS, SHORT_AXIS = ((101.25, 120.5), (131.75, 120.5)), ((110.5, 112.0), (110.5, 130.25))


@dataclass(frozen=True)
class Case:
    """One bad study: a series, a report over it, and what is done to them."""

    name: str
    spoil: Callable[[Path, Path], None]
    """Changes the report's file and the key slice's file."""
    unreadable: str = ""
    """Reason for which an object is set aside; '' = none is."""
    rejected: str = ""
    """Reason for which the bookmark is rejected; '' = none is."""
    kept: bool = False
    """The cross is read all the same."""


def cut(report: Path, keep: float) -> None:
    content = report.read_bytes()
    report.write_bytes(content[: int(len(content) * keep)])


def edited(path: Path, change: Callable[[Dataset], None]) -> None:
    """The file again with something changed, whatever the standard says."""
    ds = dcmread(path)
    change(ds)
    ds.save_as(path)


def lines_of(report: Dataset) -> list[Dataset]:
    """The SCOORD items of a report of ours."""
    (group,) = report.ContentSequence[3].ContentSequence
    return [num.ContentSequence[0] for num in group.ContentSequence if num.ValueType == "NUM"]


def coordinates(*values: float) -> Callable[[Path, Path], None]:
    """The long axis gets these numbers."""

    def change(report: Dataset) -> None:
        lines_of(report)[0].GraphicData = list(values)

    return lambda report, image: edited(report, change)


def header(**values: Any) -> Callable[[Path, Path], None]:
    """The key slice gets these attributes; None removes one."""

    def change(ds: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    return lambda report, image: edited(image, change)


def cycle(report: Path, image: Path) -> None:
    """Every NUM is inferred from its own group, by reference, beside its line."""

    def change(ds: Dataset) -> None:
        (group,) = ds.ContentSequence[3].ContentSequence
        for num in group.ContentSequence:
            if num.ValueType == "NUM":
                loop = Dataset()
                loop.RelationshipType, loop.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 4, 1]
                num.ContentSequence.append(loop)

    edited(report, change)


def only_cycles(report: Path, image: Path) -> None:
    """Every NUM is inferred from itself and from nothing else."""

    def change(ds: Dataset) -> None:
        (group,) = ds.ContentSequence[3].ContentSequence
        for place, num in enumerate(group.ContentSequence, start=1):
            if num.ValueType == "NUM":
                loop = Dataset()
                loop.RelationshipType, loop.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 4, 1, place]
                num.ContentSequence = Sequence([loop])

    edited(report, change)


def nested(report: Path, image: Path) -> None:
    """The measurement group lies ten thousand containers deep; written byte by byte, as no library can."""
    ds = dcmread(report)
    (group,) = ds.ContentSequence[3].ContentSequence
    content_tag, item_tag = b"\x40\x00\x30\xa7", b"\xfe\xff\x00\xe0"
    open_sequence = content_tag + b"SQ\0\0" + b"\xff\xff\xff\xff"
    open_item = item_tag + b"\xff\xff\xff\xff"
    container = encoded(_container())
    close = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    body = encoded(group)
    innermost = open_sequence + item_tag + struct.pack("<L", len(body)) + body + b"\xfe\xff\xdd\xe0\0\0\0\0"
    deep = (open_sequence + open_item + container) * DEPTH + innermost + close * DEPTH
    del ds.ContentSequence
    written = BytesIO()
    ds.save_as(written)
    # ContentSequence (0040,A730) comes after everything that is left in the report but nothing else.
    assert max(element.tag for element in ds) < 0x0040A730
    report.write_bytes(written.getvalue() + deep)


def _container() -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "CONTAINER"
    return item


def encoded(ds: Dataset) -> bytes:
    """The data set in Explicit VR Little Endian, without preamble."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def overlong(report: Path, image: Path) -> None:
    """An element says that it is four gigabytes long."""
    content = report.read_bytes()
    at = content.index(b"\x40\x00\x43\xa0SQ") + 8
    report.write_bytes(content[:at] + b"\xfe\xff\xff\xff" + content[at + 4 :])


nan, inf = float("nan"), float("inf")
CASES = (
    Case("a report cut in half", lambda r, i: cut(r, 0.5), unreadable="truncated"),
    Case("a report cut near its end", lambda r, i: cut(r, 0.98), unreadable="truncated"),
    Case("a report cut in its first elements", lambda r, i: cut(r, 0.12), unreadable="truncated"),
    Case("an element longer than the file", overlong, unreadable="truncated"),
    Case("an empty file for a report", lambda r, i: r.write_bytes(b"") and None, unreadable="not_dicom"),
    Case("content that refers to itself beside a line", cycle, kept=True),
    Case("content that refers to nothing but itself", only_cycles, rejected="unsupported_source"),
    Case("content ten thousand deep", nested, kept=True),
    Case("coordinates that are no numbers", coordinates(nan, 1, 2, 3), rejected="bad_coordinates"),
    Case("coordinates without end", coordinates(inf, 1, 2, 3), rejected="bad_coordinates"),
    Case("three coordinates", coordinates(1, 2, 3), rejected="bad_coordinates"),
    Case("one point for a line", coordinates(1, 2), rejected="bad_coordinates"),
    Case("coordinates far outside", coordinates(1e30, 0, -1e30, 0), rejected="stated_value_mismatch"),
    Case("directions at 60 degrees", header(ImageOrientationPatient=[1, 0, 0, 0.5, 0.866, 0]), rejected="bad_geometry"),
    Case("directions of length two", header(ImageOrientationPatient=[2, 0, 0, 0, 2, 0]), rejected="bad_geometry"),
    Case("directions of length zero", header(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), rejected="bad_geometry"),
    Case("five numbers for directions", header(ImageOrientationPatient=[1, 0, 0, 0, 1]), rejected="bad_geometry"),
    Case("a spacing of zero", header(PixelSpacing=[0, 0]), rejected="bad_geometry"),
    Case("a negative spacing", header(PixelSpacing=[-0.7, 0.7]), rejected="bad_geometry"),
    Case("no position", header(ImagePositionPatient=None), rejected="bad_geometry"),
    Case("no rows", header(Rows=0), rejected="bad_geometry"),
)  # fmt: skip


@dataclass(frozen=True)
class Story:
    """The run over all cases at once."""

    ended: Ended
    mined: Mined
    reports: dict[str, tuple[Path, str]]
    """Path and SOP Instance UID of each case's report."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("bad")
    reports = {}
    for number, case in enumerate(CASES):
        home = folder / "files" / f"{number:02d}"
        report, uid = good_study(home, number)
        case.spoil(report, home / "0002.dcm")
        reports[case.name] = (report, uid)
    good_study(folder / "files" / "good", 99)
    (folder / "files" / "notes.txt").write_text("no DICOM here")
    os.mkfifo(folder / "files" / "pipe.dcm")
    mined = Mined(folder / "dataset", folder / "work")
    ended = mine("import", folder / "files", "--out", mined.out, "--work", mined.work, timeout_s=1000)
    return Story(ended, mined, reports)


def good_study(home: Path, number: int) -> tuple[Path, str]:
    """Three slices and a report with one cross on the middle one."""
    study = Study(Patient(f"BAD{number:02d}"), "20200101", handwritten.uid_of("bad study", number))
    series = CtSeries(
        study, handwritten.uid_of("bad series", number), 1, 256, 256, Decimal("0.7"), Decimal("5"), (-175.0, 275.0)
    )
    header = handwritten.ct_header(series)
    for place in (1, 2, 3):
        handwritten.write_slice(header, series, place, home / f"{place:04d}.dcm", None)
    cross = Cross(series, 2, LONG_AXIS, SHORT_AXIS, (30.5 * 0.7, 18.25 * 0.7))
    report = handwritten.write_report(study, [cross], home / "report.dcm", "bad", number)
    return home / "report.dcm", report.sop_instance_uid


def test_the_run_goes_on_and_says_that_it_is_partial(story: Story) -> None:
    assert story.ended.code == PARTIAL, story.ended.stderr
    assert "Traceback" not in story.ended.stderr
    assert len(story.mined.table("lesions")) == 1 + sum(case.kept for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_is_set_aside_rejected_or_read(case: Case, story: Story) -> None:
    path, uid = story.reports[case.name]
    bookmarks = story.mined.sql("SELECT verdict, reason FROM bookmark WHERE source_uid = ?", uid)
    aside = story.mined.sql("SELECT why FROM unreadable WHERE source IN (?, ?)", str(path), uid)
    assert [why for (why,) in aside] == ([case.unreadable] if case.unreadable else [])
    assert {reason for _, reason in bookmarks if reason} == ({case.rejected} if case.rejected else set())
    assert [verdict for verdict, _ in bookmarks].count("kept") == case.kept


@pytest.mark.parametrize("case", [case for case in CASES if case.unreadable], ids=lambda case: case.name)
def test_what_is_set_aside_is_told_in_one_line_that_names_it(case: Case, story: Story) -> None:
    path, uid = story.reports[case.name]
    ((detail,),) = story.mined.sql("SELECT detail FROM unreadable WHERE source IN (?, ?)", str(path), uid)
    assert detail
    assert "\n" not in detail


def test_a_cross_ten_thousand_deep_is_read_as_it_stands(story: Story) -> None:
    _, uid = story.reports["content ten thousand deep"]
    ids = {public for key, public in story.mined.crosswalk("lesion").items() if key.startswith(f"{uid}#")}
    (row,) = [row for row in story.mined.table("lesions") if row["lesion_id"] in ids]
    expected = [value - 1 for end in LONG_AXIS for value in end]
    assert list(row["long_axis_px"]) == pytest.approx(expected, abs=1e-4)


def test_the_dataset_of_the_rest_is_sound(story: Story) -> None:
    assert mine("check", story.mined.out).code == 0


def test_good_studies_are_good(tmp_path: Path) -> None:
    """What is spoilt above is kept unspoilt: each reason is that of the damage."""
    good_study(tmp_path / "files", 0)
    mined = Mined(tmp_path / "dataset", tmp_path / "work")
    assert mine("import", tmp_path / "files", "--out", mined.out, "--work", mined.work).code == 0
    assert len(mined.table("lesions")) == 1
