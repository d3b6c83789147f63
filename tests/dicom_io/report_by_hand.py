"""Structured reports written item by item with pydicom, by the standard's text and by nothing of the product."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian

STUDY, SERIES, CT_SERIES = "1.2.3.1", "1.2.3.2", "1.2.3.3"
LONG = ("103339001", "SCT", "Long Axis")
SHORT = ("103340004", "SCT", "Short Axis")
LENGTH = ("410668003", "SCT", "Length")
GROUP = ("125007", "DCM", "Measurement Group")
MEASUREMENTS = ("126010", "DCM", "Imaging Measurements")
TITLE = ("126000", "DCM", "Imaging Measurement Report")
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"


def coded(concept: tuple[str, str, str]) -> Items:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept
    return Items([item])


def node(
    value_type: str,
    name: tuple[str, str, str] | None = None,
    children: Sequence[Dataset] = (),
    relationship: str = "CONTAINS",
) -> Dataset:
    ds = Dataset()
    ds.RelationshipType = relationship
    ds.ValueType = value_type
    if name is not None:
        ds.ConceptNameCodeSequence = coded(name)
    if children:
        ds.ContentSequence = Items(list(children))
    return ds


def text(name: tuple[str, str, str], value: str, children: Sequence[Dataset] = ()) -> Dataset:
    ds = node("TEXT", name, children, "HAS OBS CONTEXT")
    ds.TextValue = value
    return ds


def tracking(identifier: str, uid: str = "1.2.3.9") -> list[Dataset]:
    unique = node("UIDREF", ("112040", "DCM", "Tracking Unique Identifier"), (), "HAS OBS CONTEXT")
    unique.UID = uid
    return [text(("112039", "DCM", "Tracking Identifier"), identifier), unique]


def code(name: tuple[str, str, str], value: tuple[str, str, str], relationship: str = "CONTAINS") -> Dataset:
    ds = node("CODE", name, (), relationship)
    ds.ConceptCodeSequence = coded(value)
    return ds


def num(
    name: tuple[str, str, str], value: float | None, unit: str | None = "mm", children: Sequence[Dataset] = ()
) -> Dataset:
    ds = node("NUM", name, children)
    if value is not None:
        measured = Dataset()
        measured.NumericValue = str(value)
        if unit is not None:
            measured.MeasurementUnitsCodeSequence = coded((unit, "UCUM", unit))
        ds.MeasuredValueSequence = Items([measured])
    return ds


def image(sop: str = "1.2.3.4.1", frames: Sequence[int] = (), sop_class: str = CT_CLASS, segment: int = 0) -> Dataset:
    ds = node("IMAGE", None, (), "SELECTED FROM")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, sop
    if frames:
        reference.ReferencedFrameNumber = list(frames)
    if segment:
        reference.ReferencedSegmentNumber = segment
    ds.ReferencedSOPSequence = Items([reference])
    return ds


def scoord(
    values: Sequence[float],
    graphic: str = "POLYLINE",
    children: Sequence[Dataset] | None = None,
    name: tuple[str, str, str] | None = None,
    relationship: str = "INFERRED FROM",
) -> Dataset:
    ds = node("SCOORD", name, [image()] if children is None else children, relationship)
    ds.GraphicType, ds.GraphicData = graphic, list(values)
    return ds


def scoord3d(values: Sequence[float], graphic: str = "POLYLINE", frame_of_reference: str = "1.2.3.7") -> Dataset:
    ds = node("SCOORD3D", None, (), "INFERRED FROM")
    ds.GraphicType, ds.GraphicData = graphic, list(values)
    ds.ReferencedFrameOfReferenceUID = frame_of_reference
    return ds


def by_reference(*positions: int, relationship: str = "INFERRED FROM") -> Dataset:
    """An item that names another one by its positions from the root (which is 1) on."""
    ds = Dataset()
    ds.RelationshipType = relationship
    ds.ReferencedContentItemIdentifier = list(positions)
    return ds


def group(*children: Dataset, identifier: str = "lesion") -> Dataset:
    return node("CONTAINER", GROUP, [*tracking(identifier), *children])


def cross(
    long_px: Sequence[float] = (10, 20, 50, 20),
    short_px: Sequence[float] = (30, 10, 30, 34),
    sop: str = "1.2.3.4.1",
    frames: Sequence[int] = (),
) -> list[Dataset]:
    """Two NUMs, each with its own line on an image."""
    return [
        num(LONG, 40.0, children=[scoord(long_px, children=[image(sop, frames)])]),
        num(SHORT, 24.0, children=[scoord(short_px, children=[image(sop, frames)])]),
    ]


def report(*children: Dataset, title: tuple[str, str, str] = TITLE, template: str = "1500") -> Dataset:
    """A whole report whose root holds `children`."""
    ds = node("CONTAINER", title, children)
    del ds.RelationshipType
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = STUDY, SERIES, "SR"
    ds.ContentDate, ds.ContentTime = "20240102", "030405.5"
    if template:
        identified = Dataset()
        identified.MappingResource, identified.TemplateIdentifier = "DCMR", template
        ds.ContentTemplateSequence = Items([identified])
    ds.CurrentRequestedProcedureEvidenceSequence = Items([evidence(STUDY, CT_SERIES, "1.2.3.4.1", "1.2.3.4.2")])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def evidence(study: str, series: str, *sops: str) -> Dataset:
    of_study, of_series = Dataset(), Dataset()
    of_study.StudyInstanceUID, of_series.SeriesInstanceUID = study, series
    references = []
    for sop in sops:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT_CLASS, sop
        references.append(reference)
    of_series.ReferencedSOPSequence = Items(references)
    of_study.ReferencedSeriesSequence = Items([of_series])
    return of_study


def measured(*groups: Dataset) -> Dataset:
    """A report with the usual container around its groups."""
    return report(node("CONTAINER", MEASUREMENTS, groups))
