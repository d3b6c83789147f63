"""The viewer's own reader of reports finds in ours what we wrote, and in broken ones no more than lint foretells."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import viewer_adapters
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from deeplesion_miner import geometry
from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ObjectRef, Prior, ReportedLesion, Result, coded
from deeplesion_miner.types import Box, Code, ImagePlane, ImageRef, Segment
from dicom_io.emit import KINDS, EmitSettings, emit
from dicom_io.emit.source import SourceImages
from dicom_io.lint import VERSIONS, Linted, StudyImages, check_before_sending, examine, examine_object
from tests.dicom_io import little_objects
from tests.dicom_io.lint_breakages import breakages
from tests.dicom_io.ohif_variants import FIRST, LONG_PX, SHORT_PX, Variant, variants

VARIANTS, BREAKAGES = variants(), breakages()
WITHIN_MM = 0.001
"""GraphicData is float32."""


@pytest.fixture(scope="module")
def images() -> list[Dataset]:
    return [little_objects.ct(1, number) for number in (1, 2)]


@pytest.fixture(scope="module")
def image_files(images: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{number}.dcm" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save_as(path, enforce_file_format=True)
    return paths


@pytest.fixture(scope="module")
def found(images: list[Dataset]) -> dict[str, viewer_adapters.Opened]:
    """What the adapters read from all reports, good and broken."""
    reports = {one.name: one.dataset for one in VARIANTS}
    reports |= {f"{number}": one.dataset for number, one in enumerate(BREAKAGES)}
    return viewer_adapters.opened(reports, images)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
def test_the_adapters_load_of_a_measured_report_as_many_as_were_counted(
    variant: Variant, found: dict[str, viewer_adapters.Opened]
) -> None:
    assert len(found[variant.name].measurements) == variant.by_adapters


@pytest.mark.parametrize(
    "number", range(len(BREAKAGES)), ids=lambda one: f"{BREAKAGES[one].rule}.{BREAKAGES[one].case}"
)
def test_the_adapters_load_of_a_broken_report_what_its_breakage_says(
    number: int, found: dict[str, viewer_adapters.Opened]
) -> None:
    assert len(found[str(number)].measurements) == BREAKAGES[number].by_adapters


def test_lint_never_foretells_more_than_the_adapters_load(
    found: dict[str, viewer_adapters.Opened], image_files: list[Path]
) -> None:
    study = StudyImages.read(image_files)
    reports = {one.name: one.dataset for one in VARIANTS} | {str(n): one.dataset for n, one in enumerate(BREAKAGES)}
    for name, report in reports.items():
        foretold = examine_object(report, study).outlooks[0].measurements
        assert foretold <= len(found[name].measurements), name


def test_a_report_written_by_hand_lies_where_its_coordinates_say(
    found: dict[str, viewer_adapters.Opened], image_files: list[Path]
) -> None:
    (measurement,) = found["v00_base"].measurements
    plane = StudyImages.read(image_files).plane(FIRST, 1)
    assert plane is not None
    ends = np.reshape([*LONG_PX, *SHORT_PX], (4, 2)) - 0.5
    np.testing.assert_allclose(measurement["points_mm"], [plane_mm(plane, end) for end in ends], atol=WITHIN_MM)


def plane_mm(plane: ImagePlane, point_px: tuple[float, float]) -> tuple[float, float, float]:
    return geometry.to_patient_mm(plane, (float(point_px[0]), float(point_px[1])))


# --- what we write ---------------------------------------------------------------------------------------

LESIONS = (
    ("Lesion 1", 1, Segment((2.0, 8.0), (12.0, 8.0)), Segment((7.0, 4.25), (7.0, 12.0))),
    ("Läsion 2 – Leber", 2, Segment((3.0, 3.0), (9.5, 11.0)), Segment((4.0, 9.0), (9.0, 5.5))),
)


def result(source: SourceImages, author: Author) -> Result:
    lesions = []
    for number, (label, image, long_axis, short_axis) in enumerate(LESIONS, start=1):
        ref: ImageRef = source.headers[little_objects.ct_uid(1, image)][0].ref
        corners = [long_axis.start, long_axis.end, short_axis.start, short_axis.end]
        columns, rows = zip(*corners, strict=True)
        lesions.append(
            ReportedLesion(
                key=str(number),
                image=ref,
                label=label,
                finding=coded("finding", "lesion"),
                site=coded("site", "liver"),
                score=0.75,
                long_axis=long_axis,
                short_axis=short_axis,
                box=Box(min(columns), min(rows), max(columns), max(rows)),
                volume_mm3=321.5,
            )
        )
    return Result(little_objects.study_uid(1), author, tuple(lesions), datetime(2024, 3, 19, 8, 30))


ALGORITHM = Author("detector", "1.2", "deeplesion_miner", parameters=(("weights", "0f3c"),))
READER = Author("Doe^Jane", is_algorithm=False)


@pytest.mark.parametrize("author", [ALGORITHM, READER], ids=["algorithm", "reader"])
@pytest.mark.parametrize("planar_boxes", [False, True], ids=["crosses", "with boxes"])
def test_our_reports_are_good_and_the_viewers_reader_finds_our_lines_and_labels(
    author: Author, planar_boxes: bool, images: list[Dataset], image_files: list[Path]
) -> None:
    source = SourceImages.read(image_files)
    emission = emit(result(source, author), source, ["dicom-sr"], EmitSettings(planar_boxes=planar_boxes))
    (written,) = emission.objects
    assert check_before_sending(written.encoded, StudyImages.read(image_files)) == ()
    linted = examine(written.encoded)
    assert isinstance(linted, Linted)
    boxes = len(LESIONS) if planar_boxes else 0
    assert [one.measurements for one in linted.outlooks] == [len(LESIONS) + boxes, len(LESIONS)]
    found = viewer_adapters.opened({"ours": dcmread(BytesIO(written.encoded))}, images)["ours"]
    assert found.problems == ()
    assert len(found.measurements) == len(LESIONS) + boxes
    crosses = [one for one in found.measurements if one["tool"] == "Bidirectional"]
    for (label, image, long_axis, short_axis), cross in zip(LESIONS, crosses, strict=True):
        assert (cross["label"], cross["sop_instance_uid"]) == (label, little_objects.ct_uid(1, image))
        plane = source.plane(source.headers[cross["sop_instance_uid"]][0].ref)
        assert isinstance(plane, ImagePlane)
        ends = [long_axis.start, long_axis.end, short_axis.start, short_axis.end]
        np.testing.assert_allclose(cross["points_mm"], [plane_mm(plane, end) for end in ends], atol=WITHIN_MM)
        stated = cross["stated"]
        assert (stated["unit"], stated["widthUnit"]) == ("mm", "mm")
        for value, axis in ((stated["length"], long_axis), (stated["width"], short_axis)):
            assert float(value) == pytest.approx(axis.length_px * plane.row_spacing_mm, abs=0.01)


def full(source: SourceImages) -> Result:
    """A result with all that a lesion can have: prior, response, type, masks."""
    before = ObjectRef("1.2.3", "1.2.4", "1.2.5", uid.ComprehensiveSRStorage)
    mask = PixelMask(3, 3, np.ones((4, 4), np.bool_))
    plain = result(source, ALGORITHM)
    lesions = tuple(
        replace(
            one,
            prior=Prior("20230101", 9.0, 6.0, before),
            lesion_type=coded("finding", "lesion"),
            masks=((one.image, mask),),
        )
        for one in plain.lesions
    )
    return replace(plain, lesions=lesions, response=Code("112042", "DCM", "Stable Disease"))


def test_priors_and_responses_do_not_stand_in_the_way_of_editing(
    images: list[Dataset], image_files: list[Path]
) -> None:
    source = SourceImages.read(image_files)
    (written,) = emit(full(source), source, ["dicom-sr"]).objects
    assert check_before_sending(written.encoded, StudyImages.read(image_files)) == ()
    found = viewer_adapters.opened({"ours": dcmread(BytesIO(written.encoded))}, images)["ours"]
    assert [one["label"] for one in found.measurements] == [label for label, *_ in LESIONS]


OPENS = {
    "dicom-sr": "editable",
    "volume-sr": "text",
    "dicom-seg": "overlay",
    "rtstruct": "overlay",
    "gsps": "fails",
}
"""What OHIF makes of our objects; presentation states are for other viewers."""


def test_of_every_kind_that_we_write_it_is_known_what_the_viewer_does(image_files: list[Path]) -> None:
    source = SourceImages.read(image_files)
    foretold = {}
    for one in emit(full(source), source, KINDS).objects:
        linted = examine(one.encoded)
        assert isinstance(linted, Linted)
        if linted.outlooks:
            (foretold[one.kind],) = {look.opens for look in linted.outlooks}
        assert linted.is_good or one.kind == "gsps"
    assert foretold == OPENS


def test_our_report_of_volumes_is_shown_as_text(image_files: list[Path]) -> None:
    source = SourceImages.read(image_files)
    (written,) = emit(result(source, ALGORITHM), source, ["volume-sr"]).objects
    linted = examine(written.encoded)
    assert isinstance(linted, Linted)
    assert linted.findings == ()
    assert [one.opens for one in linted.outlooks] == ["text"] * len(VERSIONS)
