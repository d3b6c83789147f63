"""A reader opens a phantom patient in OHIF 3.13, corrects one of our measurements and saves: mined as it was left.

One session of a real browser at a real archive; both versions and everything else: `tests/experiments/viewer.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import pytest
from pydicom import dcmread

from deeplesion_miner.geometry import to_patient_mm, to_px
from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Bookmark, Vector
from dicom_io.dialects import read_object
from dicom_io.emit import EmitSettings, emit
from tests.browser import archive, driver, ohif, overlay, phantom

pytestmark = [pytest.mark.browser, pytest.mark.servers, pytest.mark.slow]

KINDS = ("dicom-sr", "volume-sr", "dicom-seg")
MOVED_MM = (3.0, 5.0, 0.0)
WITHIN_MM, WITHIN_PX = 0.1, 0.01
MOUSE_MM = 0.5
"""The pointer stands on whole pixels of the screen, a few tenths of a millimetre apart."""


@dataclass(frozen=True)
class Session:
    """What the reader saw, did and left behind."""

    case: phantom.Case
    question: str
    opened: tuple[driver.Measured, ...]
    rows: tuple[list[str], ...]
    aimed_at: Vector
    corrected: driver.Measured
    """As the viewer held it before it was saved."""
    mined: tuple[Bookmark, ...]
    """Of the report that the viewer wrote."""
    ours: str
    """SOP Instance UID of our report."""
    segments: tuple[str, ...]
    overlap: float
    """Of the coloured pixels with the masks of the first lesion's slice."""
    complaints: tuple[str, ...]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("reader")
    with (
        archive.web_archive(tmp_path_factory.mktemp("orthanc")) as stored,
        ohif.serving(ohif.NEWER, stored.url) as url,
        driver.browser(url) as viewer,
    ):
        case = phantom.newcomer(folder, small=True)
        objects = emit(case.result, case.source, KINDS, EmitSettings()).objects
        stored.put(case.files())
        stored.send(objects)
        series = {one.kind: one.series_instance_uid for one in objects}
        viewer.open(case.result.study_instance_uid)
        question = viewer.load(series["dicom-sr"])
        opened = tuple(viewer.measurements())
        rows = tuple(viewer.rows("trackedMeasurements"))
        first = opened[0]
        aimed_at = tuple(a + b for a, b in zip(first.points_mm[1], MOVED_MM, strict=True))
        viewer.move_point(first, 1, aimed_at)
        corrected = viewer.measurements()[0]
        viewer.save()
        known = {one.sop_instance_uid for one in objects}
        (saved,) = (body for uid, body in stored.reports(case.result.study_instance_uid).items() if uid not in known)
        reading = read_object(dcmread(BytesIO(saved)), "saved")
        assert isinstance(reading, ObjectReading)
        viewer.load(series["dicom-seg"])
        key_image = case.result.lesions[0].image
        viewer.show(key_image.sop_instance_uid)
        yield Session(
            case=case,
            question=question,
            opened=opened,
            rows=rows,
            aimed_at=aimed_at,
            corrected=corrected,
            mined=reading.bookmarks,
            ours=next(one.sop_instance_uid for one in objects if one.kind == "dicom-sr"),
            segments=tuple(one["label"] for one in viewer.segments()),
            overlap=overlay.masks_overlap(viewer, case, key_image).dice,
            complaints=tuple(viewer.complaints),
        )


def test_the_viewer_offers_to_continue_with_our_report_and_complains_of_nothing(session: Session) -> None:
    assert session.question == "Do you want to continue tracking measurements for this study?"
    assert session.complaints == ()


def test_every_lesion_is_an_editable_cross_with_its_label_and_site(session: Session) -> None:
    shown = [(one.tool, one.label, one.sites, one.sop_instance_uid) for one in session.opened]
    assert shown == [
        ("Bidirectional", one.label, (one.site.meaning,), one.image.sop_instance_uid)
        for one in session.case.result.lesions
        if one.site is not None
    ]
    assert len(shown) == 4


def test_the_panel_shows_our_lengths(session: Session) -> None:
    for lesion, row in zip(session.case.result.lesions, session.rows, strict=True):
        plane = session.case.plane(lesion.image.sop_instance_uid)
        for axis, letter in ((lesion.long_axis, "L"), (lesion.short_axis, "W")):
            assert axis is not None
            length_mm = math.dist(to_patient_mm(plane, axis.start), to_patient_mm(plane, axis.end))
            (line,) = (line for line in row if line.startswith(f"{letter}: "))
            assert float(line.removeprefix(f"{letter}: ").removesuffix(" mm")) == pytest.approx(
                length_mm, abs=WITHIN_MM
            )


def test_the_crosses_end_where_geometry_has_the_lesions_edge(session: Session) -> None:
    for lesion, shown in zip(session.case.result.lesions, session.opened, strict=True):
        assert lesion.long_axis is not None and lesion.short_axis is not None
        plane = session.case.plane(lesion.image.sop_instance_uid)
        ends = (lesion.long_axis.start, lesion.long_axis.end, lesion.short_axis.start, lesion.short_axis.end)
        for end, point_mm in zip(ends, shown.points_mm, strict=True):
            assert to_px(plane, point_mm) == pytest.approx(end, abs=WITHIN_PX)


def test_a_handle_goes_where_the_mouse_drops_it(session: Session) -> None:
    assert math.dist(session.corrected.points_mm[1], session.aimed_at) < MOUSE_MM
    assert session.corrected.points_mm[0] == pytest.approx(session.opened[0].points_mm[0], abs=WITHIN_PX)


def test_the_masks_colour_their_own_pixels_and_no_other(session: Session) -> None:
    assert session.segments == tuple(one.label for one in session.case.result.lesions)
    assert session.overlap > 0.99


def test_the_saved_report_is_mined_as_the_reader_left_it(session: Session) -> None:
    assert [one.label for one in session.mined] == [one.label for one in session.opened]
    assert {one.source.writer for one in session.mined} == {"ohif"}
    assert {one.source.predecessors for one in session.mined} == {(session.ours,)}
    plane = session.case.plane(session.corrected.sop_instance_uid)
    mined = session.mined[0]
    assert mined.long_axis is not None and mined.short_axis is not None
    ends = (mined.long_axis.segment.start, mined.long_axis.segment.end)
    ends += (mined.short_axis.segment.start, mined.short_axis.segment.end)
    for end, point_mm in zip(ends, session.corrected.points_mm, strict=True):
        assert end == pytest.approx(to_px(plane, point_mm), abs=WITHIN_PX)


def test_what_the_reader_did_not_touch_comes_back_unchanged(session: Session) -> None:
    for lesion, mined in zip(session.case.result.lesions[1:], session.mined[1:], strict=True):
        assert lesion.long_axis is not None and mined.long_axis is not None
        assert mined.long_axis.segment.start == pytest.approx(lesion.long_axis.start, abs=WITHIN_PX)
        assert mined.long_axis.segment.end == pytest.approx(lesion.long_axis.end, abs=WITHIN_PX)
