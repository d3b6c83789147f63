"""One way to break a report for each case of `schemas/ohif_rules.toml` that no measured variant breaks alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataset import Dataset

from tests.dicom_io.ohif_variants import (
    BOX_PX,
    ELSEWHERE,
    FIRST,
    LONG,
    LONG_MM,
    LONG_PX,
    PREFIX,
    REGION,
    SHORT,
    SHORT_MM,
    SHORT_PX,
    SOURCE,
    area_group,
    axes,
    commented,
    described,
    document,
    drawn,
    good,
    num,
    second,
    volume,
)
from tests.dicom_io.report_by_hand import coded, image

GROUP_CODE, IDENTIFIER_CODE, UID_CODE, MEASUREMENTS_CODE = "125007", "112039", "112040", "126010"


@dataclass(frozen=True)
class Breakage:
    """A report that breaks one case; how many measurements can be edited then, by version; by the adapters alone."""

    rule: str
    case: str
    dataset: Dataset
    editable: tuple[int, int]
    by_adapters: int


def _renamed(dataset: Dataset, code_value: str, **changes: str) -> Dataset:
    """The report with the concept names of that code value changed."""
    for item in _items(dataset):
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == code_value:
            for keyword, value in changes.items():
                setattr(item.ConceptNameCodeSequence[0], keyword, value)
    return dataset


def _items(dataset: Dataset) -> list[Dataset]:
    below = list(dataset.get("ContentSequence", ()))
    return below + [item for one in below for item in _items(one)]


def _nameless() -> Dataset:
    report = good()
    measurements = report.ContentSequence[-1]
    measurements.ContentSequence[0].ContentSequence.append(image(FIRST))
    return report


def _selected(relationship: str) -> Dataset:
    report = good()
    for item in _items(report):
        if item.ValueType == "IMAGE":
            item.RelationshipType = relationship
    return report


def _line(points: tuple[float, ...], *images: Dataset, relationship: str = "INFERRED FROM") -> Dataset:
    line = drawn(points, relationship=relationship)
    line.ContentSequence = list(images)
    return line


def _named_image() -> Dataset:
    named = image(FIRST)
    named.ConceptNameCodeSequence = coded(SOURCE)
    return named


def _crossed(long_children: list[Dataset], **long: object) -> Dataset:
    """A group whose long axis has these children."""
    unit = str(long.get("unit", "mm"))
    first = num(LONG, LONG_MM, unit, long_children)
    return document(commented(described(first, num(SHORT, SHORT_MM, children=[drawn(SHORT_PX)]))))


def _short_on(*images: Dataset) -> Dataset:
    """A cross whose short axis names these images."""
    short = num(SHORT, SHORT_MM, children=[_line(SHORT_PX, *images)])
    return document(commented(described(axes()[0], short)))


def _arrow(valued: bool, points: tuple[float, ...]) -> Dataset:
    label = num(("111010", "DCM", "Center"), 0.0 if valued else None, "1", [drawn(points, graphic="POINT")])
    return document(commented(described(label, identifier=f"{PREFIX}:ArrowAnnotate")))


def _point_region() -> Dataset:
    return document(
        described(drawn((5.5, 5.5), graphic="POINT", name=REGION, relationship="CONTAINS"), identifier="seed")
    )


def _unlabelled() -> Dataset:
    return document(described(*axes()))


_ROWS: tuple[tuple[str, Callable[[], Dataset], tuple[int, int], int], ...] = (
    ("R1.template", lambda: document(commented(described(*axes())), template="1501"), (0, 0), 0),
    (
        "R3.region",
        lambda: document(described(drawn(BOX_PX, name=REGION, relationship="CONTAINS"), identifier="box")),
        (1, 0),
        1,
    ),
    ("R3.point", _point_region, (1, 1), 1),
    ("R4.same_image", lambda: document(commented(described(*axes())), commented(described(*axes()))), (2, 2), 2),
    ("R5.measurements", lambda: _renamed(good(), MEASUREMENTS_CODE, CodeMeaning="Imaging measurements"), (0, 0), 0),
    ("R5.measurements", lambda: _renamed(good(), MEASUREMENTS_CODE, CodeValue="126011"), (0, 0), 1),
    ("R5.group", lambda: _renamed(good(), GROUP_CODE, CodeMeaning="Measurement group"), (0, 0), 0),
    ("R5.group", lambda: _renamed(good(), GROUP_CODE, CodeValue="125008"), (0, 0), 1),
    ("R5.tracking_identifier", lambda: _renamed(good(), IDENTIFIER_CODE, CodeMeaning="Tracking ID"), (0, 0), 0),
    ("R5.tracking_uid", lambda: _renamed(good(), UID_CODE, CodeMeaning="Tracking UID"), (1, 1), 1),
    ("R6.axis_not_drawn", lambda: document(commented(described(axes()[0], num(SHORT, SHORT_MM)))), (0, 0), 0),
    ("R6.several", lambda: _crossed([drawn(LONG_PX), drawn(LONG_PX)]), (1, 0), 1),
    ("R6.not_a_line", lambda: _crossed([drawn((*LONG_PX, 5.5, 5.5))]), (1, 1), 1),
    ("R7.first_number", lambda: document(commented(described(volume(), *axes()))), (0, 0), 0),
    ("R8.coordinates", lambda: _crossed([drawn(LONG_PX, relationship="CONTAINS")]), (1, 1), 1),
    ("R8.image", lambda: _selected("INFERRED FROM"), (1, 1), 1),
    ("R8.no_image", lambda: _crossed([_line(LONG_PX)]), (0, 0), 0),
    ("R8.several_images", lambda: _crossed([_line(LONG_PX, _named_image(), _named_image())]), (0, 0), 0),
    ("R8.no_image_elsewhere", lambda: _short_on(), (1, 1), 1),
    ("R9.elsewhere", lambda: _short_on(*drawn(SHORT_PX, ELSEWHERE).ContentSequence), (1, 1), 1),
    (
        "F1.unplaced",
        lambda: document(commented(described(*axes(ELSEWHERE))), commented(second(), "Lesion 2")),
        (0, 0),
        1,
    ),
    (
        "F1.unplaced_older",
        lambda: document(*_crossed([drawn(LONG_PX), drawn(LONG_PX)]).ContentSequence[-1].ContentSequence, second()),
        (2, 0),
        2,
    ),
    ("N1.nameless", _nameless, (0, 0), 1),
    (
        "E1.oblique",
        lambda: document(
            commented(area_group("EllipticalROI", (2.5, 4.5, 10.5, 10.5, 5.0, 10.0, 8.0, 5.0), "ELLIPSE"))
        ),
        (1, 1),
        1,
    ),
    ("V1.no_value", lambda: _arrow(False, (5.5, 5.5)), (1, 1), 1),
    ("V1.point", lambda: _arrow(True, (5.5, 5.5, 9.5, 9.5)), (1, 1), 1),
    ("U1.unit", lambda: _crossed([drawn(LONG_PX)], unit="1"), (1, 1), 1),
    ("R14.no_comment", _unlabelled, (1, 1), 1),
)


def breakages() -> tuple[Breakage, ...]:
    """All of them."""
    return tuple(Breakage(*name.split("."), make(), editable, adapters) for name, make, editable, adapters in _ROWS)
