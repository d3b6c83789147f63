"""Structured reports written exactly as OHIF 3.13 and 3.11 write them, habits and faults included.

Modelled item by item on reports that these versions stored: order of items, codes, units, equipment, file meta.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from deeplesion_miner.types import Segment
from dicom_io.attributes import quiet
from dicom_io.testbed.ct_objects import coded, number_text
from dicom_io.testbed.drawn import Drawing, DrawnOn, scoord
from dicom_io.testbed.identity import StudyIdentity, write_part10

IMPLEMENTATION_CLASS_UID = "2.25.270695996825855179949881587723571202391.2.0.0"


@dataclass(frozen=True)
class Edition:
    """What differs between two versions of OHIF."""

    version: str
    language: str
    procedure: tuple[str, str, str]
    long_axis: tuple[str, str, str]
    short_axis: tuple[str, str, str]
    axis_unit: tuple[str, str]
    length: tuple[str, str, str]
    length_unit: tuple[str, str]
    area: tuple[str, str, str]
    area_unit: tuple[str, str]
    syntax: UID
    meta_version: bytes


OHIF_3_13 = Edition(
    version="3.13",
    language="en",
    procedure=("363679005", "SCT", "Imaging procedure"),
    long_axis=("103339001", "SCT", "Long Axis"),
    short_axis=("103340004", "SCT", "Short Axis"),
    axis_unit=("mm", "mm"),
    length=("410668003", "SCT", "Length"),
    length_unit=("mm", "mm"),
    area=("42798000", "SCT", "Area"),
    area_unit=("mm2", "mm2"),
    syntax=ImplicitVRLittleEndian,
    meta_version=b"\x00\x02",
)
OHIF_3_11 = Edition(
    version="3.11",
    language="eng",
    procedure=("1", "99dcmjs", "Unknown procedure"),
    long_axis=("G-A185", "SRT", "Long Axis"),
    short_axis=("G-A186", "SRT", "Short Axis"),
    axis_unit=("1", "px"),
    length=("G-D7FE", "SRT", "Length"),
    length_unit=("mm", "millimeter"),
    area=("G-D7FE", "SRT", "AREA"),
    area_unit=("1", "px"),
    syntax=ExplicitVRLittleEndian,
    meta_version=b"\x00\x01",
)


@dataclass(frozen=True)
class ReportHeader:
    """Where and when a report is saved."""

    study: StudyIdentity
    key: str
    series_key: str
    series_number: int
    description: str
    date: str
    time: str
    instance: int = 1

    @property
    def sop_instance_uid(self) -> str:
        """The SOP Instance UID."""
        return self.study.uid("report", self.key)

    @property
    def series_instance_uid(self) -> str:
        """The Series Instance UID."""
        return self.study.uid("report series", self.series_key)


def write_ohif_report(
    header: ReportHeader,
    edition: Edition,
    drawings: tuple[Drawing, ...],
    path: Path,
    replaces: tuple[ReportHeader, ...] = (),
) -> Dataset:
    """Writes the report and returns it; `replaces` are the reports that were opened before it was saved again."""
    report = _document(header)
    images = tuple(dict.fromkeys(drawing.on for drawing in drawings))
    report.CurrentRequestedProcedureEvidenceSequence = Sequence(_evidence(image) for image in images)
    if replaces:
        report.PredecessorDocumentsSequence = Sequence(_predecessor(old) for old in replaces)
    report.ContentSequence = Sequence(
        [
            _language(edition),
            _item("HAS OBS CONTEXT", "PNAME", ("121008", "DCM", "Person Observer Name"), PersonName="unknown^unknown"),
            _item("HAS CONCEPT MOD", "CODE", ("121058", "DCM", "Procedure reported"), code=edition.procedure),
            _container(("111028", "DCM", "Image Library"), [_library_group(images)]),
            _container(
                ("126010", "DCM", "Imaging Measurements"),
                [_container(("125007", "DCM", "Measurement Group"), _group(edition, drawing)) for drawing in drawings],
            ),
        ]
    )
    meta = {
        "FileMetaInformationVersion": edition.meta_version,
        "ImplementationClassUID": IMPLEMENTATION_CLASS_UID,
        "ImplementationVersionName": "OHIF-3.11.0",
    }
    write_part10(report, path, edition.syntax, meta)
    return report


def _document(header: ReportHeader) -> Dataset:
    report = header.study.attributes()
    for keyword in ("StudyDescription", "IssuerOfPatientID", "PatientComments"):
        delattr(report, keyword)
    report.SOPClassUID, report.SOPInstanceUID = EnhancedSRStorage, header.sop_instance_uid
    report.SeriesDate = report.ContentDate = header.date
    report.SeriesTime = report.ContentTime = header.time
    report.Modality = "SR"
    report.Manufacturer = report.ManufacturerModelName = "Unspecified"
    report.DeviceSerialNumber, report.SoftwareVersions = "1", "0"
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeVersion = "99dcmjs", "0"
    scheme.CodingSchemeName = "Codes used for dcmjs"
    scheme.CodingSchemeResponsibleOrganization = "https://github.com/dcmjs-org/dcmjs"
    report.CodingSchemeIdentificationSequence = Sequence([scheme])
    report.SeriesDescription = header.description
    report.ReferencedPerformedProcedureStepSequence = Sequence()
    report.ContentQualification, report.ImageComments = "RESEARCH", "NOT FOR CLINICAL USE"
    report.SeriesInstanceUID, report.SeriesNumber = header.series_instance_uid, header.series_number
    report.InstanceNumber = header.instance
    report.ValueType, report.ContinuityOfContent = "CONTAINER", "SEPARATE"
    report.ConceptNameCodeSequence = Sequence([coded("126000", "DCM", "Imaging Measurement Report")])
    report.PerformedProcedureCodeSequence = Sequence()
    report.CompletionFlag, report.VerificationFlag = "COMPLETE", "UNVERIFIED"
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "1500"
    report.ContentTemplateSequence = Sequence([template])
    return report


def _reference(image: DrawnOn) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.sop_class_uid
    reference.ReferencedSOPInstanceUID = image.ref.sop_instance_uid
    if image.is_multi_frame:
        reference.ReferencedFrameNumber = image.ref.frame_number
    return reference


def _evidence(image: DrawnOn) -> Dataset:
    """One item for each image: OHIF repeats the study."""
    series, study = Dataset(), Dataset()
    series.ReferencedSOPSequence = Sequence([_reference(image)])
    series.SeriesInstanceUID = image.ref.series_instance_uid
    study.ReferencedSeriesSequence = Sequence([series])
    study.StudyInstanceUID = image.ref.study_instance_uid
    return study


def _predecessor(old: ReportHeader) -> Dataset:
    """OHIF leaves out the class of the document that it replaces."""
    reference, series, study = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPInstanceUID = old.sop_instance_uid
    series.ReferencedSOPSequence = Sequence([reference])
    series.SeriesInstanceUID = old.series_instance_uid
    study.ReferencedSeriesSequence = Sequence([series])
    study.StudyInstanceUID = old.study.study_instance_uid
    return study


def _item(
    relationship: str,
    value_type: str,
    name: tuple[str, str, str] | None,
    children: list[Dataset] | None = None,
    code: tuple[str, str, str] | None = None,
    **elements: object,
) -> Dataset:
    """A content item (PS3.3 C.17.3)."""
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    if name is not None:
        item.ConceptNameCodeSequence = Sequence([coded(*name)])
    if code is not None:
        item.ConceptCodeSequence = Sequence([coded(*code)])
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    if children:
        item.ContentSequence = Sequence(children)
    return item


def _container(name: tuple[str, str, str], children: list[Dataset]) -> Dataset:
    return _item("CONTAINS", "CONTAINER", name, children, ContinuityOfContent="SEPARATE")


def _language(edition: Edition) -> Dataset:
    country = _item(
        "HAS CONCEPT MOD",
        "CODE",
        ("121046", "DCM", "Country of Language"),
        code=("US", "ISO3166_1", "United States"),
    )
    return _item(
        "HAS CONCEPT MOD",
        "CODE",
        ("121049", "DCM", "Language of Content Item and Descendants"),
        [country],
        (edition.language, "RFC5646", "English"),
    )


def _library_group(images: tuple[DrawnOn, ...]) -> Dataset:
    entries = [
        _item("CONTAINS", "IMAGE", None, ReferencedSOPSequence=Sequence([_reference(image)])) for image in images
    ]
    return _container(("126200", "DCM", "Image Library Group"), entries)


def _group(edition: Edition, drawing: Drawing) -> list[Dataset]:
    tracking = ("112040", "DCM", "Tracking Unique Identifier")
    items = [
        _item(
            "HAS OBS CONTEXT",
            "TEXT",
            ("112039", "DCM", "Tracking Identifier"),
            TextValue=f"Cornerstone3DTools@^0.1.0:{drawing.tool}",
        ),
        _item("HAS OBS CONTEXT", "UIDREF", tracking, UID=drawing.tracking_uid),
        *_measurements(edition, drawing),
    ]
    sites = [] if drawing.site is None else [(drawing.site.value, drawing.site.scheme, drawing.site.meaning)]
    opened = []
    if drawing.finding is not None and edition.version == "3.11":
        # Seen: the finding of an opened report is lost, its label becomes a site.
        sites.insert(0, ("CORNERSTONEFREETEXT", "CORNERSTONEJS", drawing.label))
    elif drawing.finding is not None:
        finding = (drawing.finding.value, drawing.finding.scheme, drawing.finding.meaning)
        opened.append(_item("CONTAINS", "CODE", ("121071", "DCM", "Finding"), code=finding))
    with quiet():  # a code value of 19 characters stands where 16 are allowed
        opened += [_item("CONTAINS", "CODE", ("363698007", "SCT", "Finding Site"), code=site) for site in sites]
    items[2:2] = opened
    if drawing.label:
        items.append(_item("CONTAINS", "TEXT", ("121106", "DCM", "Comment"), TextValue=drawing.label))
    return items


def _measurements(edition: Edition, drawing: Drawing) -> list[Dataset]:
    if drawing.tool == "Bidirectional":
        return [
            _number(name, value, edition.axis_unit, _shape(drawing.on, "POLYLINE", _as_ohif_draws(line, drawing.on)))
            for name, value, line in zip(
                (edition.long_axis, edition.short_axis), drawing.values, drawing.lines_px, strict=True
            )
        ]
    (line, *others) = drawing.lines_px
    points = _as_ohif_draws(line, drawing.on)
    if drawing.tool == "Length":
        return [_number(edition.length, drawing.values[0], edition.length_unit, _shape(drawing.on, "POLYLINE", points))]
    if drawing.tool == "ArrowAnnotate":
        return [_arrow(edition, drawing.on, points)]
    if drawing.tool == "EllipticalROI":
        ellipse = _shape(drawing.on, "ELLIPSE", points + _as_ohif_draws(others[0], drawing.on))
        return [_number(edition.area, drawing.values[0], edition.area_unit, ellipse), *_statistics(edition)]
    raise ValueError(f"OHIF has no tool {drawing.tool!r}")


def _as_ohif_draws(line: Segment, image: DrawnOn) -> list[float]:
    """SCOORD as OHIF computes it: it multiplies columns with the row spacing and rows with the column spacing."""
    x1, y1, x2, y2 = scoord(line)
    stretch = image.col_spacing_mm / image.row_spacing_mm
    return [
        (x1 - 0.5) * stretch + 0.5,
        (y1 - 0.5) / stretch + 0.5,
        (x2 - 0.5) * stretch + 0.5,
        (y2 - 0.5) / stretch + 0.5,
    ]


def _shape(image: DrawnOn, graphic_type: str, points: list[float]) -> Dataset:
    source = _item("SELECTED FROM", "IMAGE", None, ReferencedSOPSequence=Sequence([_reference(image)]))
    return _item("INFERRED FROM", "SCOORD", None, [source], GraphicData=points, GraphicType=graphic_type)


def _number(name: tuple[str, str, str], value: float, unit: tuple[str, str], shape: Dataset | None) -> Dataset:
    measured = Dataset()
    code = coded(unit[0], "UCUM", unit[1])
    code.CodingSchemeVersion = "1.4"
    measured.MeasurementUnitsCodeSequence = Sequence([code])
    measured.NumericValue = number_text(value)
    children = [] if shape is None else [shape]
    return _item("CONTAINS", "NUM", name, children, MeasuredValueSequence=Sequence([measured]))


def _arrow(edition: Edition, image: DrawnOn, points: list[float]) -> Dataset:
    if edition.version == "3.11":
        # Neither a value nor a valid POINT, which has two numbers.
        return _item("CONTAINS", "NUM", ("111010", "DCM", "Center"), [_shape(image, "POINT", points)])
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = Sequence([coded("1", "UCUM", "no units")])
    measured.NumericValue = "0"
    shape = _shape(image, "POLYLINE", points)
    return _item("CONTAINS", "NUM", ("111010", "DCM", "label"), [shape], MeasuredValueSequence=Sequence([measured]))


def _statistics(edition: Edition) -> list[Dataset]:
    """OHIF 3.13 adds statistics that have no coordinates."""
    if edition.version == "3.11":
        return []
    unit = ("[hnsf'U]", "Hounsfield unit")
    names = (
        ("56851009", "SCT", "Maximum", 52.0),
        ("255605001", "SCT", "Minimum", 11.0),
        ("373098007", "SCT", "Mean", 31.5),
        ("386136009", "SCT", "Standard Deviation", 9.25),
    )
    return [_number((value, scheme, meaning), number, unit, None) for value, scheme, meaning, number in names]
