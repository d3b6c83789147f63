"""The reports that were opened in OHIF 3.13.2 and 3.11.1, rebuilt: one good report, and what was changed in each.

The figures are how many measurements could be edited in the panel of each version, and how many the node package
`@cornerstonejs/adapters` 5.6.8 alone made of the report; `tests/real` compares them with the measured ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from dicom_io.attributes import quiet
from tests.dicom_io import little_objects
from tests.dicom_io.report_by_hand import (
    GROUP,
    LENGTH,
    LONG,
    MEASUREMENTS,
    SHORT,
    TITLE,
    code,
    coded,
    image,
    node,
    num,
    report,
    scoord,
    text,
    tracking,
)

STUDY = 1
FIRST, SECOND = little_objects.ct_uid(STUDY, 1), little_objects.ct_uid(STUDY, 2)
ELSEWHERE = little_objects.ct_uid(STUDY, 99)
PREFIX = "Cornerstone3DTools@^0.1.0"
CROSS = f"{PREFIX}:Bidirectional"
FINDING, SITE = ("121071", "DCM", "Finding"), ("363698007", "SCT", "Finding Site")
LESION, LUNG = ("52988006", "SCT", "Lesion"), ("39607008", "SCT", "Lung")
FREE_TEXT = ("CORNERSTONEFREETEXT", "CORNERSTONEJS", "nodule")
"""As the viewer writes it: longer than an SH may be."""
COMMENT = ("121106", "DCM", "Comment")
SOURCE = ("260753009", "SCT", "Source")
AREA, VOLUME = ("42798000", "SCT", "Area"), ("118565006", "SCT", "Volume")
REGION = ("111030", "DCM", "Image Region")
OTHER_TITLE = ("126001", "DCM", "Oncology Measurement Report")
LONG_PX, SHORT_PX = (2.5, 8.5, 12.5, 8.5), (7.5, 4.5, 7.5, 12.5)
LONG_MM, SHORT_MM = 7.5, 6.0
BOX_PX = (2.5, 4.5, 12.5, 4.5, 12.5, 12.5, 2.5, 12.5, 2.5, 4.5)
ELLIPSE_PX = (2.5, 8.5, 12.5, 8.5, 7.5, 4.5, 7.5, 12.5)


@dataclass(frozen=True)
class Variant:
    """A report, and what becomes of it."""

    name: str
    dataset: Dataset
    editable: tuple[int, int]
    """In 3.13.2 and 3.11.1."""
    by_adapters: int
    broken: frozenset[str] = frozenset()
    """Rules that lint must call broken, no other."""


def drawn(points: tuple[float, ...], sop: str = FIRST, graphic: str = "POLYLINE", **changes: object) -> Dataset:
    """An SCOORD on an image."""
    relationship, name = str(changes.get("relationship", "INFERRED FROM")), changes.get("name", SOURCE)
    assert name is None or isinstance(name, tuple)
    selected = image(sop)
    selected.ConceptNameCodeSequence = coded(SOURCE)
    return scoord(points, graphic, [selected], name, relationship)


def axes(sop: str = FIRST, long: tuple[str, str, str] = LONG, short: tuple[str, str, str] = SHORT) -> list[Dataset]:
    return [
        num(long, LONG_MM, children=[drawn(LONG_PX, sop)]),
        num(short, SHORT_MM, children=[drawn(SHORT_PX, sop)]),
    ]


def described(
    *children: Dataset,
    identifier: str = CROSS,
    tracking_uid: str = "1.2.3.9",
    finding: tuple[str, str, str] = LESION,
    site: tuple[str, str, str] = LUNG,
) -> Dataset:
    """A measurement group with all that names a lesion."""
    names = [*tracking(identifier, tracking_uid), code(FINDING, finding), code(SITE, site, "HAS CONCEPT MOD")]
    return node("CONTAINER", GROUP, [*names, *children])


def commented(group: Dataset, label: str = "Lesion 1") -> Dataset:
    label_item = text(COMMENT, label)
    label_item.RelationshipType = "CONTAINS"
    group.ContentSequence.append(label_item)
    return group


def document(
    *groups: Dataset,
    title: tuple[str, str, str] = TITLE,
    template: str = "1500",
    sop_class: str = uid.ComprehensiveSRStorage,
) -> Dataset:
    """A report of these groups over the two images."""
    language = code(("121049", "DCM", "Language of Content Item and Descendants"), ("en-US", "RFC5646", "English"))
    dataset = report(language, node("CONTAINER", MEASUREMENTS, groups), title=title, template=template)
    dataset.SOPClassUID = sop_class
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyInstanceUID = little_objects.study_uid(STUDY)
    dataset.SeriesInstanceUID = little_objects.sr_series_uid(STUDY)
    dataset.SOPInstanceUID = little_objects.sr_uid(STUDY)
    return dataset


def good() -> Dataset:
    """The recommended form: nothing to find, not even advice."""
    return document(commented(described(*axes())))


def second() -> Dataset:
    return described(*axes(SECOND), tracking_uid="1.2.3.10", identifier=f"{CROSS}:lesion-2")


def without(group: Dataset, code_value: str) -> Dataset:
    kept = [one for one in group.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue != code_value]
    group.ContentSequence = Items(kept)
    return group


def volume() -> Dataset:
    return num(VOLUME, 1234.0, "mm3")


def volume_group() -> Dataset:
    return described(volume(), identifier="lesion-42 volume", tracking_uid="1.2.3.11")


def box(identifier: str = "lesion-42 box", tracking_uid: str = "1.2.3.12", *more: Dataset) -> Dataset:
    region = drawn(BOX_PX, name=REGION, relationship="CONTAINS")
    return described(region, *more, identifier=identifier, tracking_uid=tracking_uid)


def scoord3d_axes() -> list[Dataset]:
    ends = ((0.0, 0.0, -2.5, 7.5, 0.0, -2.5), (3.0, -3.0, -2.5, 3.0, 3.0, -2.5))
    numbers = []
    for name, value, points in zip((LONG, SHORT), (LONG_MM, SHORT_MM), ends, strict=True):
        line = node("SCOORD3D", SOURCE, (), "INFERRED FROM")
        line.GraphicType, line.GraphicData, line.ReferencedFrameOfReferenceUID = "POLYLINE", list(points), "1.2.3.7"
        numbers.append(num(name, value, children=[line]))
    return numbers


def full_group() -> Dataset:
    more = [
        text(("C67447", "NCIt", "Activity Session"), "1"),
        text(("C2348792", "NCIt", "Time Point"), "1"),
        text(("111001", "DCM", "Algorithm Name"), "deeplesion_miner"),
        code(("276214006", "SCT", "Finding category"), ("49755003", "SCT", "Morphologically Abnormal Structure")),
    ]
    return described(*more, *axes(), code(("121077", "DCM", "Conclusion"), ("17621005", "SCT", "Normal")))


def library() -> Dataset:
    entry = image(FIRST)
    entry.RelationshipType, entry.ConceptNameCodeSequence = "CONTAINS", coded(SOURCE)
    group = node("CONTAINER", ("126200", "DCM", "Image Library Group"), [entry])
    dataset = document(described(*axes()))
    dataset.ContentSequence.insert(1, node("CONTAINER", ("111028", "DCM", "Image Library"), [group]))
    return dataset


def source_image() -> Dataset:
    source = image(FIRST)
    source.RelationshipType, source.ConceptNameCodeSequence = "CONTAINS", coded(SOURCE)
    return source


def lateral() -> Dataset:
    group = described(*axes())
    site = next(one for one in group.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == SITE[0])
    site.ContentSequence = Items(
        [code(("272741003", "SCT", "Laterality"), ("7771000", "SCT", "Left"), "HAS CONCEPT MOD")]
    )
    return commented(group)


def lines(long: tuple[float, ...], short: tuple[float, ...]) -> Dataset:
    return described(num(LONG, LONG_MM, children=[drawn(long)]), num(SHORT, SHORT_MM, children=[drawn(short)]))


def plain_text() -> Dataset:
    dataset = report(
        text(COMMENT, "nothing to measure"), title=("18748-4", "LN", "Diagnostic Imaging Report"), template="2000"
    )
    dataset.SOPClassUID = uid.BasicTextSRStorage
    return dataset


LONG_SRT, SHORT_SRT = ("G-A185", "SRT", "Long Axis"), ("G-A186", "SRT", "Short Axis")
LONG_LOWER, SHORT_LOWER = (LONG[0], "SCT", "Long axis"), (SHORT[0], "SCT", "Short axis")


def contained_axes() -> list[Dataset]:
    return [
        num(name, value, children=[drawn(points, relationship="CONTAINS")])
        for name, value, points in ((LONG, LONG_MM, LONG_PX), (SHORT, SHORT_MM, SHORT_PX))
    ]


def unnamed_coordinates() -> list[Dataset]:
    return [
        num(name, value, children=[drawn(points, name=None)])
        for name, value, points in ((LONG, LONG_MM, LONG_PX), (SHORT, SHORT_MM, SHORT_PX))
    ]


def length_group(tracking_uid: str = "1.2.3.9") -> Dataset:
    line = num(LENGTH, LONG_MM, children=[drawn(LONG_PX)])
    return described(line, identifier=f"{PREFIX}:Length", tracking_uid=tracking_uid)


def area_group(identifier: str, points: tuple[float, ...], graphic: str = "POLYLINE") -> Dataset:
    return described(num(AREA, 60.0, "mm2", [drawn(points, graphic=graphic)]), identifier=f"{PREFIX}:{identifier}")


Row = tuple[str, Callable[[], Dataset], tuple[int, int], int, str]
_ROWS: tuple[Row, ...] = (
    ("v00_base", lambda: document(described(*axes())), (1, 1), 1, ""),
    (
        "v01_comp3d_class_2d_scoord",
        lambda: document(described(*axes()), sop_class=uid.Comprehensive3DSRStorage),
        (1, 1),
        1,
        "",
    ),
    ("v02_tid_suffix", lambda: document(described(*axes(), identifier=f"{CROSS}:lesion-42")), (1, 1), 1, ""),
    (
        "v03_tid_legacy4",
        lambda: document(described(*axes(), identifier="cornerstoneTools@^4.0.0:Bidirectional")),
        (1, 1),
        1,
        "",
    ),
    ("v04_tid_plain", lambda: document(described(*axes(), identifier="lesion-42")), (0, 0), 0, "R3"),
    ("v05a_no_tracking_uid", lambda: document(without(described(*axes()), "112040")), (0, 0), 1, "R2"),
    ("v05b_no_tracking_id", lambda: document(without(described(*axes()), "112039")), (0, 0), 0, "R2"),
    ("v06_srt_codes", lambda: document(described(*axes(long=LONG_SRT, short=SHORT_SRT))), (1, 1), 1, ""),
    ("v07_meaning_lowercase", lambda: document(described(*axes(long=LONG_LOWER, short=SHORT_LOWER))), (0, 0), 0, "R5"),
    ("v08_length", lambda: document(length_group()), (1, 1), 1, ""),
    ("v09_extra_num_no_scoord", lambda: document(described(*axes(), volume())), (1, 0), 1, "R7"),
    ("v10_volume_group_separate", lambda: document(described(*axes()), volume_group()), (0, 0), 1, "R7 R3"),
    ("v10b_volume_group_first", lambda: document(volume_group(), described(*axes())), (0, 0), 1, "R7 R3"),
    (
        "v11_scoord3d",
        lambda: document(described(*scoord3d_axes()), sop_class=uid.Comprehensive3DSRStorage),
        (1, 1),
        1,
        "R10",
    ),
    ("v12_two_lesions", lambda: document(described(*axes()), second()), (2, 2), 2, ""),
    (
        "v13_same_tracking_uid_two_groups",
        lambda: document(described(*axes()), described(*axes(SECOND))),
        (1, 1),
        2,
        "R4",
    ),
    (
        "v14_num_differs_from_coords",
        lambda: document(described(num(LONG, 30.0, children=[drawn(LONG_PX)]), axes()[1])),
        (1, 1),
        1,
        "R12",
    ),
    ("v15_short_first", lambda: document(described(*reversed(axes()))), (1, 1), 1, ""),
    ("v16_comment_label", lambda: document(commented(described(*axes()))), (1, 1), 1, ""),
    ("v17_freetext_finding", lambda: document(described(*axes(), finding=FREE_TEXT)), (1, 1), 1, "R13"),
    ("v17b_freetext_site", lambda: document(described(*axes(), site=FREE_TEXT)), (1, 1), 1, ""),
    ("v18_image_library", library, (1, 1), 1, ""),
    (
        "v19_polygon_roi",
        lambda: document(box(f"{PREFIX}:PlanarFreehandROI", "1.2.3.9", num(AREA, 60.0, "mm2"))),
        (0, 0),
        0,
        "R7",
    ),
    ("v19b_freehand_num_scoord", lambda: document(area_group("PlanarFreehandROI", BOX_PX)), (1, 1), 1, ""),
    ("v20_full_group", lambda: document(full_group()), (1, 1), 1, ""),
    ("v21_no_template_seq", lambda: document(described(*axes()), template=""), (0, 0), 0, "R1"),
    ("v22_scoord_contains", lambda: document(described(*contained_axes())), (1, 1), 1, ""),
    ("v23_scoord_no_concept", lambda: document(described(*unnamed_coordinates())), (1, 1), 1, ""),
    ("v24_missing_image", lambda: document(described(*axes(ELSEWHERE))), (0, 0), 0, "R9 F1"),
    (
        "v25_one_good_one_missing",
        lambda: document(described(*axes()), described(*axes(ELSEWHERE), tracking_uid="1.2.3.10")),
        (1, 1),
        1,
        "R9",
    ),
    ("v26_source_image_in_group", lambda: document(described(*axes(), source_image())), (1, 1), 1, ""),
    ("v27_enhanced_sr", lambda: document(described(*axes()), sop_class=uid.EnhancedSRStorage), (1, 1), 1, ""),
    (
        "v28_mixed_cornerstone_and_foreign",
        lambda: document(described(*axes()), described(*axes(SECOND), identifier="lesion-42", tracking_uid="1.2.3.10")),
        (1, 1),
        1,
        "R3",
    ),
    ("v29_title_other", lambda: document(described(*axes()), title=OTHER_TITLE), (0, 0), 1, "R1"),
    ("v30_single_axis_bidir", lambda: document(described(axes()[0])), (0, 0), 0, "R6"),
    (
        "v31_axes_on_reversed",
        lambda: document(lines(LONG_PX[2:] + LONG_PX[:2], SHORT_PX[2:] + SHORT_PX[:2])),
        (1, 1),
        1,
        "",
    ),
    (
        "v32_axes_non_crossing_oblique",
        lambda: document(lines((2.5, 2.5, 8.5, 10.5), (9.5, 2.5, 14.3, 8.9))),
        (1, 1),
        1,
        "",
    ),
    (
        "v33_extra_num_with_scoord",
        lambda: document(described(*axes(), num(LENGTH, LONG_MM, children=[drawn(LONG_PX)]))),
        (1, 1),
        1,
        "",
    ),
    ("v34_ellipse", lambda: document(area_group("EllipticalROI", ELLIPSE_PX, "ELLIPSE")), (1, 1), 1, ""),
    ("v35_planar_bbox_roi", lambda: document(area_group("RectangleROI", BOX_PX)), (1, 1), 1, ""),
    ("w01_bidir_plus_planar_bbox", lambda: document(described(*axes()), box()), (2, 1), 2, ""),
    (
        "w02_bidir_plus_planar_bbox_same_tuid",
        lambda: document(described(*axes()), box(tracking_uid="1.2.3.9")),
        (2, 1),
        2,
        "",
    ),
    ("w03_planar_bbox_only", lambda: document(box()), (1, 0), 1, ""),
    (
        "w10_final_comprehensive",
        lambda: document(commented(described(*axes())), commented(second(), "Lesion 2")),
        (2, 2),
        2,
        "",
    ),
    (
        "w11_final_comp3d",
        lambda: document(
            commented(described(*axes())), commented(second(), "Lesion 2"), sop_class=uid.Comprehensive3DSRStorage
        ),
        (2, 2),
        2,
        "",
    ),
    ("w13_lesion_laterality", lambda: document(lateral()), (1, 1), 1, ""),
    ("w14_length_plus_bidir", lambda: document(described(*axes()), length_group("1.2.3.10")), (2, 2), 2, ""),
    ("w15_long_comment", lambda: document(commented(described(*axes()), "L" * 400)), (1, 1), 1, ""),
    ("w16_utf8", lambda: document(commented(described(*axes()), "Läsion 1 – Lunge links 肺")), (1, 1), 1, ""),
    ("w17_volume_only_sr", lambda: document(volume_group()), (0, 0), 0, "R7 R3"),
    ("w18_basic_text_of_other_template", plain_text, (0, 0), 0, ""),
)


def variants() -> tuple[Variant, ...]:
    """All that were measured, by their names."""
    with quiet():
        return tuple(
            Variant(name, make(), editable, by_adapters, frozenset(broken.split()))
            for name, make, editable, by_adapters, broken in _ROWS
        )
