"""Measurement reports, written by hand and by highdicom, become bookmarks: exactly what they say, in any order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from report_by_hand import (
    CT_SERIES,
    LENGTH,
    LONG,
    SEG_CLASS,
    SHORT,
    STUDY,
    by_reference,
    code,
    cross,
    evidence,
    group,
    image,
    measured,
    node,
    num,
    report,
    scoord,
    scoord3d,
    text,
)

from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Bookmark, Code, ImageRef, Kind, Segment, SegmentMm
from dicom_io.dialects import read_object

AREA = ("42798000", "SCT", "Area")
KEY_IMAGE = ImageRef(STUDY, CT_SERIES, "1.2.3.4.1")


def bookmarks(ds: Dataset) -> tuple[Bookmark, ...]:
    found = read_object(ds, "here")
    assert isinstance(found, ObjectReading)
    return found.bookmarks


def one(ds: Dataset) -> Bookmark:
    (found,) = bookmarks(ds)
    return found


def kinds(ds: Dataset) -> list[Kind]:
    return [bookmark.kind for bookmark in bookmarks(ds)]


# --- crosses and lengths ---------------------------------------------------------------------------------


def test_a_long_and_a_short_axis_are_one_bookmark_in_the_cores_pixels() -> None:
    found = one(measured(group(*cross())))
    assert found.kind is Kind.BIDIRECTIONAL
    assert found.long_axis is not None
    assert found.short_axis is not None
    assert found.long_axis.segment == Segment((9.5, 19.5), (49.5, 19.5))
    assert found.short_axis.segment == Segment((29.5, 9.5), (29.5, 33.5))
    assert found.images == (KEY_IMAGE,)
    assert found.axis_images == (KEY_IMAGE, KEY_IMAGE)
    assert found.item_path == "1.1.3"
    assert found.key == "1.2.3.5#1.1.3"
    assert found.problem == ""


ALGORITHM = ("111001", "DCM", "Algorithm Name")


def test_an_algorithm_is_known_by_its_name_in_the_report_in_a_group_or_in_a_number() -> None:
    long_axis, short_axis = cross()
    of_number = num(LONG, 40.0, children=[scoord((10, 20, 50, 20)), text(ALGORITHM, "lesionnet")])
    assert one(measured(group(*cross()))).algorithm == ""
    assert one(measured(group(*cross(), text(ALGORITHM, "lesionnet")))).algorithm == "lesionnet"
    assert one(measured(group(of_number, short_axis))).algorithm == "lesionnet"
    assert one(report(text(ALGORITHM, "lesionnet"), group(long_axis, short_axis))).algorithm == "lesionnet"


def test_a_length_alone_is_a_length_and_so_is_a_long_axis_alone() -> None:
    assert kinds(measured(group(num(LENGTH, 5, children=[scoord((0, 0, 3, 4))])))) == [Kind.LENGTH]
    assert kinds(measured(group(cross()[0]))) == [Kind.LENGTH]


def test_a_short_axis_alone_says_that_it_is_one() -> None:
    found = one(measured(group(cross()[1])))
    assert (found.kind, found.facts) == (Kind.LENGTH, (("axis", "short"),))
    assert found.long_axis is not None


@pytest.mark.parametrize(
    ("long_name", "short_name"),
    [
        (("G-A185", "SRT", "Long Axis"), ("G-A186", "SRT", "Short Axis")),
        (("G-A193", "SNM3", "Major Axis"), ("G-A194", "SNM3", "Minor Axis")),
        (("131187009", "SCT", "Major Axis"), ("131189007", "SCT", "Perpendicular Axis")),
        (("L", "99ACME", "longest diameter"), ("S", "99ACME", "Perpendicular axis")),
    ],
)
def test_axes_are_known_in_every_scheme(long_name: tuple[str, str, str], short_name: tuple[str, str, str]) -> None:
    axes = [num(long_name, 4, children=[scoord((1, 1, 5, 1))]), num(short_name, 2, children=[scoord((2, 0, 2, 2))])]
    assert kinds(measured(group(*axes))) == [Kind.BIDIRECTIONAL]


@pytest.mark.parametrize("unit", ["mm", "cm", "1", "{pixels}"])
def test_stated_values_keep_their_unit_as_written(unit: str) -> None:
    found = one(measured(group(num(LENGTH, 12.5, unit, [scoord((0, 0, 3, 4))]))))
    assert found.long_axis is not None
    assert found.long_axis.stated is not None
    assert (found.long_axis.stated.value, found.long_axis.stated.unit) == (12.5, unit)


def test_a_value_without_unit_and_a_line_without_value_are_read() -> None:
    without_unit = one(measured(group(num(LENGTH, 12.5, None, [scoord((0, 0, 3, 4))])))).long_axis
    assert without_unit is not None
    assert without_unit.stated is not None
    assert without_unit.stated.unit == ""
    without_value = one(measured(group(num(LENGTH, None, None, [scoord((0, 0, 3, 4))])))).long_axis
    assert without_value is not None
    assert without_value.stated is None


def test_several_crosses_of_one_group_are_paired_by_image() -> None:
    first, second = cross(sop="1.2.3.4.1"), cross((1, 1, 9, 1), (4, 0, 4, 5), sop="1.2.3.4.2")
    found = bookmarks(measured(group(first[0], second[0], second[1], first[1])))
    assert [b.kind for b in found] == [Kind.BIDIRECTIONAL] * 2
    assert [b.axis_images[0] for b in found] == [b.axis_images[1] for b in found]
    assert {b.images[0].sop_instance_uid for b in found} == {"1.2.3.4.1", "1.2.3.4.2"}


def test_axes_on_different_images_are_one_bookmark_that_names_both() -> None:
    long_axis, short_axis = cross(sop="1.2.3.4.1")[0], cross(sop="1.2.3.4.2")[1]
    found = one(measured(group(long_axis, short_axis)))
    assert [ref.sop_instance_uid for ref in found.images] == ["1.2.3.4.1", "1.2.3.4.2"]
    assert found.axis_images[0] != found.axis_images[1]


def test_a_cross_drawn_as_four_points_of_one_item_is_split() -> None:
    points = (10, 20, 50, 20, 30, 10, 30, 34)
    axes = [
        num(LONG, 40, children=[scoord(points, "MULTIPOINT")]),
        num(SHORT, 24, children=[by_reference(1, 1, 1, 3, 1)]),
    ]
    found = one(measured(group(*axes)))
    assert found.kind is Kind.BIDIRECTIONAL
    assert found.short_axis is not None
    assert found.short_axis.segment == Segment((29.5, 9.5), (29.5, 33.5))
    assert found.problem == ""


def test_lines_beside_their_numbers_belong_to_them() -> None:
    ruler = group(scoord((0, 0, 3, 4), relationship="CONTAINS"), num(LENGTH, 5))
    assert kinds(measured(ruler)) == [Kind.LENGTH]
    both = group(num(SHORT, 3), num(LONG, 4), scoord((2, 0, 2, 3), relationship="CONTAINS"), scoord((0, 0, 4, 0)))
    found = one(measured(both))
    assert found.kind is Kind.BIDIRECTIONAL
    assert found.short_axis is not None
    assert found.short_axis.segment == Segment((1.5, -0.5), (1.5, 2.5))


def test_a_line_beside_two_lengths_belongs_to_neither() -> None:
    unclear = group(scoord((0, 0, 3, 4)), num(LENGTH, 5), num(("81827009", "SCT", "Diameter"), 5))
    assert kinds(measured(unclear)) == [Kind.OPEN_POLYLINE]


# --- patient coordinates ---------------------------------------------------------------------------------


def test_patient_coordinates_stay_millimetres_with_their_frame_of_reference() -> None:
    axes = [
        num(LONG, 4, children=[scoord3d((0, 0, 7, 4, 0, 7)), image()]),
        num(SHORT, 2, children=[scoord3d((2, -1, 7, 2, 1, 7)), image()]),
    ]
    found = one(measured(group(*axes)))
    assert found.long_axis is not None
    assert found.long_axis.segment == SegmentMm((0, 0, 7), (4, 0, 7))
    assert found.frame_of_reference_uid == "1.2.3.7"
    assert found.images == (KEY_IMAGE,)


def test_patient_coordinates_decide_where_pixels_stand_beside_them() -> None:
    found = one(measured(group(num(LENGTH, 4, children=[scoord((0, 0, 4, 0)), scoord3d((0, 0, 7, 4, 0, 7))]))))
    assert found.long_axis is not None
    assert isinstance(found.long_axis.segment, SegmentMm)
    assert found.images == (KEY_IMAGE,)


# --- context ---------------------------------------------------------------------------------------------


def test_what_a_group_says_about_its_lesion_is_kept() -> None:
    site = code(("363698007", "SCT", "Finding Site"), ("39607008", "SCT", "Lung"), "HAS CONCEPT MOD")
    finding = code(("121071", "DCM", "Finding"), ("52988006", "SCT", "Lesion"))
    comment = text(("121106", "DCM", "Comment"), "Lesion 1")
    observer = node("PNAME", ("121008", "DCM", "Person Observer Name"), (), "HAS OBS CONTEXT")
    observer.PersonName = "Doe^Jane"
    container = node("CONTAINER", None, [group(site, *cross(), comment, finding, identifier="T1")])
    found = one(report(container, observer))
    assert found.finding == Code("52988006", "SCT", "Lesion")
    assert found.finding_site == Code("39607008", "SCT", "Lung")
    assert (found.label, found.reader) == ("Lesion 1", "Doe^Jane")
    assert (found.tracking_identifier, found.tracking_uid) == ("T1", "1.2.3.9")
    assert (found.source.dialect, found.source.content_datetime) == ("tid1500", "20240102030405.5")
    assert (found.source.study_instance_uid, found.source.sop_instance_uid) == (STUDY, "1.2.3.5")


def test_frames_of_multi_frame_images_are_named() -> None:
    found = one(measured(group(*cross(frames=[7]))))
    assert found.images == (replace(KEY_IMAGE, frame_number=7),)


def test_an_image_of_another_study_is_named_with_that_study() -> None:
    ds = measured(group(*cross(sop="1.9.9")))
    ds.PertinentOtherEvidenceSequence = [evidence("1.9.1", "1.9.2", "1.9.9")]
    assert one(ds).images == (ImageRef("1.9.1", "1.9.2", "1.9.9"),)


def test_an_image_without_evidence_is_looked_for_in_the_reports_own_study() -> None:
    assert one(measured(group(*cross(sop="1.9.9")))).images == (ImageRef(STUDY, "", "1.9.9"),)


def test_a_line_without_an_image_of_its_own_lies_on_its_numbers_or_its_groups_image() -> None:
    bare = scoord((0, 0, 3, 4), children=[])
    assert one(measured(group(num(LENGTH, 5, children=[bare, image()])))).images == (KEY_IMAGE,)
    bare = scoord((0, 0, 3, 4), children=[])
    assert one(measured(group(num(LENGTH, 5, children=[bare]), image()))).images == (KEY_IMAGE,)
    bare = scoord((0, 0, 3, 4), children=[])
    assert one(measured(group(num(LENGTH, 5, children=[bare])))).images == ()


def test_an_image_by_reference_is_found() -> None:
    library = node("CONTAINER", ("111028", "DCM", "Image Library"), [image()])
    line = scoord((0, 0, 3, 4), children=[by_reference(1, 1, 1, relationship="SELECTED FROM")])
    assert one(report(library, node("CONTAINER", None, [group(num(LENGTH, 5, children=[line]))]))).images == (
        KEY_IMAGE,
    )


# --- everything else is counted --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graphic", "values", "kind"),
    [
        ("POINT", (1, 2), Kind.POINT),
        ("MULTIPOINT", (1, 2, 3, 4, 5, 6), Kind.MULTIPOINT),
        ("POLYLINE", (0, 0, 4, 0, 4, 4), Kind.OPEN_POLYLINE),
        ("POLYLINE", (0, 0, 4, 0, 4, 4, 0, 0), Kind.CLOSED_POLYLINE),
        ("CIRCLE", (5, 5, 5, 9), Kind.CIRCLE),
        ("ELLIPSE", (0, 5, 10, 5, 5, 2, 5, 8), Kind.ELLIPSE),
    ],
)
def test_other_geometry_is_one_bookmark_of_its_kind(graphic: str, values: tuple[float, ...], kind: Kind) -> None:
    assert kinds(measured(group(num(AREA, 9, "mm2", [scoord(values, graphic)])))) == [kind]
    assert kinds(measured(group(scoord(values, graphic), num(AREA, 9, "mm2")))) == [kind]


@pytest.mark.parametrize(("graphic", "points"), [("POLYGON", 4), ("ELLIPSOID", 6)])
def test_geometry_in_space_is_one_bookmark_of_its_kind(graphic: str, points: int) -> None:
    expected = {"POLYGON": Kind.CLOSED_POLYLINE, "ELLIPSOID": Kind.ELLIPSOID}
    assert kinds(measured(group(scoord3d([float(n) for n in range(3 * points)], graphic)))) == [expected[graphic]]


def test_two_values_of_one_contour_are_one_bookmark() -> None:
    contour = (0, 0, 4, 0, 4, 4, 0, 0)
    perimeter = num(("131191004", "SCT", "Perimeter"), 13, children=[scoord(contour)])
    assert kinds(measured(group(perimeter, num(AREA, 8, "mm2", [scoord(contour)])))) == [Kind.CLOSED_POLYLINE]


def test_the_long_axis_of_an_ellipse_is_an_ellipse() -> None:
    ellipse = (0, 5, 10, 5, 5, 2, 5, 8)
    axes = [num(LONG, 10, children=[scoord(ellipse, "ELLIPSE")]), num(SHORT, 6, children=[scoord(ellipse, "ELLIPSE")])]
    assert kinds(measured(group(*axes))) == [Kind.ELLIPSE]


def test_a_curved_length_is_an_open_polyline() -> None:
    assert kinds(measured(group(num(LENGTH, 9, children=[scoord((0, 0, 4, 0, 4, 4))])))) == [Kind.OPEN_POLYLINE]


def test_groups_that_draw_nothing_are_counted() -> None:
    assert kinds(measured(group(num(AREA, 9, "mm2"), image()))) == [Kind.WHOLE_IMAGE_VALUE]
    assert kinds(measured(group(num(AREA, 9, "mm2"), image("1.2.8", sop_class=SEG_CLASS, segment=1)))) == [
        Kind.SEGMENT_REFERENCE
    ]
    assert kinds(measured(group())) == [Kind.WHOLE_IMAGE_VALUE]


def test_where_a_label_is_put_is_no_bookmark() -> None:
    reference_points = ("122438", "DCM", "Reference Points")
    label = text(("125309", "DCM", "Short label"), "a", [scoord((9, 9), "POINT", name=reference_points)])
    assert kinds(measured(group(*cross(), label))) == [Kind.BIDIRECTIONAL]


def test_lines_outside_any_group_count() -> None:
    assert kinds(report(node("CONTAINER", None, cross()))) == [Kind.BIDIRECTIONAL]
    assert kinds(report(node("CONTAINER", None, [group(*cross())]), *cross((1, 1, 9, 1)))) == [Kind.BIDIRECTIONAL] * 2


def test_a_group_in_a_group_is_a_group_of_its_own() -> None:
    inner = group(*cross((1, 1, 9, 1)), identifier="inner")
    found = bookmarks(measured(group(*cross(), inner, identifier="outer")))
    assert [(b.kind, b.tracking_identifier) for b in found] == [
        (Kind.BIDIRECTIONAL, "outer"),
        (Kind.BIDIRECTIONAL, "inner"),
    ]


def test_a_report_without_groups_and_one_without_template_say_so() -> None:
    assert kinds(report(text(("121106", "DCM", "Comment"), "nothing found"))) == [Kind.NO_MEASUREMENT_GROUPS]
    drawn_elsewhere = report(*cross(), title=("1", "99ACME", "Report"), template="")
    assert kinds(drawn_elsewhere) == [Kind.NO_MEASUREMENT_GROUPS]
    assert kinds(report(group(*cross()), title=("1", "99ACME", "Report"), template="")) == [Kind.BIDIRECTIONAL]


# --- broken geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "graphic", "what"),
    [
        ((math.nan, 0, 3, 4), "POLYLINE", "not_finite"),
        ((math.inf, 0, 3, 4), "POLYLINE", "not_finite"),
        ((0, 0), "POLYLINE", "count"),
        ((0, 0, 3), "POLYLINE", "count"),
        ((0, 0, 3, 4, 5, 5), "POLYLINE", "count"),
        ((), "POLYLINE", "missing"),
        ((3, 4), "POINT", "graphic_type"),
        ((0, 0, 3, 4), "SQUIGGLE", "graphic_type"),
    ],
)
def test_a_broken_axis_is_a_bookmark_with_its_problem(values: tuple[float, ...], graphic: str, what: str) -> None:
    axes = [num(LONG, 5, children=[scoord(values, graphic)]), cross()[1]]
    found = one(measured(group(*axes)))
    assert (found.kind, found.problem) == (Kind.BIDIRECTIONAL, "bad_coordinates")
    assert found.facts == (("what", what), ("axis", "long"))
    assert found.long_axis is None
    assert found.short_axis is not None


def test_a_broken_length_is_a_bookmark_with_its_problem() -> None:
    found = one(measured(group(num(LENGTH, 5, children=[scoord((0, 0))]))))
    assert (found.kind, found.problem, found.facts) == (Kind.LENGTH, "bad_coordinates", (("what", "count"),))


# --- viewers and their habits ----------------------------------------------------------------------------


def by_ohif(ds: Dataset) -> Dataset:
    ds.Manufacturer = ds.ManufacturerModelName = "Unspecified"
    return ds


TOOL = "Cornerstone3DTools@^0.1.0"


def test_ohif_is_known_by_tool_and_manufacturer_and_brings_its_quirks() -> None:
    source = one(by_ohif(measured(group(*cross(), identifier=f"{TOOL}:Bidirectional")))).source
    assert (source.writer, source.quirks) == ("ohif", ("swapped_spacing", "default_short_axis"))


def test_others_that_use_its_tool_names_do_not_bring_its_quirks() -> None:
    ds = measured(group(*cross(), identifier=f"{TOOL}:Bidirectional:lesion-1"))
    ds.Manufacturer = "Acme"
    assert (one(ds).kind, one(ds).source.quirks) == (Kind.BIDIRECTIONAL, ())
    assert one(by_ohif(measured(group(*cross())))).source.writer == ""


def test_the_tool_decides_what_an_item_is_not_the_code_of_its_number() -> None:
    arrow = group(num(("111010", "DCM", "label"), 0, "1", [scoord((1, 1, 9, 9))]), identifier=f"{TOOL}:ArrowAnnotate")
    ellipse = group(
        num(("G-D7FE", "SRT", "AREA"), 9, "1", [scoord((0, 5, 10, 5, 5, 2, 5, 8), "ELLIPSE")]),
        identifier="cornerstoneTools@^4.0.0:EllipticalRoi",
    )
    rectangle = group(num(AREA, 9, "mm2", [scoord((0, 0, 4, 0, 0, 3, 4, 3))]), identifier=f"{TOOL}:RectangleROI")
    angle = group(num(LENGTH, 9, children=[scoord((0, 0, 4, 0))]), identifier=f"{TOOL}:Angle")
    assert kinds(by_ohif(measured(arrow, ellipse, rectangle, angle))) == [
        Kind.POINT,
        Kind.ELLIPSE,
        Kind.CLOSED_POLYLINE,
        Kind.OPEN_POLYLINE,
    ]


def test_an_arrow_written_as_a_point_of_two_points_is_no_broken_item() -> None:
    arrow = num(("111010", "DCM", "Center"), None, None, [scoord((1, 1, 9, 9), "POINT")])
    found = one(by_ohif(measured(group(arrow, identifier=f"{TOOL}:ArrowAnnotate"))))
    assert (found.kind, found.problem) == (Kind.POINT, "")


def test_a_free_text_finding_is_the_label() -> None:
    finding = code(("121071", "DCM", "Finding"), ("CORNERSTONEFREETEXT", "CORNERSTONEJS", "liver 1"))
    assert one(by_ohif(measured(group(finding, *cross(), identifier=f"{TOOL}:Bidirectional")))).label == "liver 1"


def test_a_free_text_site_before_the_site_hides_nothing() -> None:
    """OHIF 3.11 writes the label of a lesion that it opened from a report so (seen)."""
    site = ("363698007", "SCT", "Finding Site")
    spoken = code(site, ("CORNERSTONEFREETEXT", "CORNERSTONEJS", "liver 1"))
    coded = code(site, ("10200004", "SCT", "Liver"))
    found = one(by_ohif(measured(group(spoken, coded, *cross(), identifier=f"{TOOL}:Bidirectional"))))
    assert (found.finding_site, found.label) == (Code("10200004", "SCT", "Liver"), "liver 1")
    alone = one(by_ohif(measured(group(spoken, *cross(), identifier=f"{TOOL}:Bidirectional"))))
    assert (alone.finding_site, alone.label) == (Code("CORNERSTONEFREETEXT", "CORNERSTONEJS", "liver 1"), "liver 1")


# --- order, depth, names of items ------------------------------------------------------------------------


@given(
    st.permutations(range(6)), st.integers(0, 6), st.sampled_from(["CONTAINS", "HAS PROPERTIES", "", "INFERRED FROM"])
)
@settings(max_examples=60, deadline=None)
def test_order_depth_and_relationships_change_nothing_but_paths(
    order: list[int], depth: int, relationship: str
) -> None:
    parts = [
        *cross(),
        text(("121106", "DCM", "Comment"), "Lesion 1"),
        code(("121071", "DCM", "Finding"), ("52988006", "SCT", "Lesion")),
        num(AREA, 99, "mm2"),
        num(("373098007", "SCT", "Mean"), 40, "[hnsf'U]"),
    ]
    children = [parts[i] for i in order]
    for child in children:
        child.RelationshipType = relationship
    container = group(*children)
    for _ in range(depth):
        container = node("CONTAINER", None, [container])
    reference = one(measured(group(*cross(), *parts[2:])))
    found = one(measured(container))
    assert replace(found, item_path="") == replace(reference, item_path="")
    assert found.item_path.startswith("1.1" + ".1" * depth)


def test_a_group_ten_thousand_levels_down_is_read() -> None:
    container = group(*cross())
    for _ in range(10_000):
        container = node("CONTAINER", None, [container])
    assert kinds(report(container)) == [Kind.BIDIRECTIONAL]


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), max_size=6))
def test_references_to_anywhere_never_hang_or_raise(targets: list[list[int]]) -> None:
    references = [by_reference(1, *target) for target in targets]
    found = bookmarks(measured(group(num(LONG, 1, children=references), *references)))
    assert found
