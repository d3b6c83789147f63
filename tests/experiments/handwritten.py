"""DICOM objects written by hand with pydicom alone: an independent writer of CT slices and TID 1500 reports.

Nothing of the project is imported here, so that a mistake of its readers cannot hide in a writer of its own.
Public coordinates are those of DL_info.csv: (x, y), the centre of the first pixel being (1, 1). Hence
SCOORD = public - 0.5 (its origin is the corner of the first pixel, PS3.3 C.18.6.1.1) and
patient = ImagePositionPatient + (public - 1) * spacing along row and column (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

CT = "1.2.840.10008.5.1.4.1.1.2"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SUPINE = ((1, 0, 0), (0, 1, 0))
PRONE = ((-1, 0, 0), (0, -1, 0))
INTERCEPT_HU = -1024
WATER_HU = 40

PublicPoint = tuple[float, float]
"""x, y; the centre of the first pixel is (1, 1)."""


def uid_of(*parts: object) -> str:
    """The same UID for the same parts, below 2.25 (PS3.5 B.2)."""
    digest = hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@dataclass(frozen=True)
class Patient:
    """Who: PatientID, PatientSex and PatientAge as DICOM writes it."""

    patient_id: str
    sex: str = ""
    age: str = ""
    name: str = "Replay^Patient"


@dataclass(frozen=True)
class Study:
    """Whose, when (YYYYMMDD) and under which UID."""

    patient: Patient
    date: str
    uid: str


@dataclass(frozen=True)
class CtSeries:
    """A CT series whose slice n lies n - 1 intervals below the first one, head to feet."""

    study: Study
    uid: str
    number: int
    rows: int
    columns: int
    spacing_mm: Decimal
    interval_mm: Decimal
    window_hu: tuple[float, float]
    """Low and high bound."""
    first_position_mm: tuple[Decimal, Decimal, Decimal] = (Decimal("-200"), Decimal("-190.5"), Decimal("100"))
    directions: tuple[tuple[int, int, int], tuple[int, int, int]] = SUPINE

    @property
    def frame_of_reference_uid(self) -> str:
        return uid_of(self.uid, "frame of reference")

    def sop_instance_uid(self, number: int) -> str:
        return uid_of(self.uid, "slice", number)

    def position_mm(self, number: int) -> tuple[Decimal, Decimal, Decimal]:
        """ImagePositionPatient of slice `number`, exact in decimals."""
        x, y, z = self.first_position_mm
        return x, y, z - (number - 1) * self.interval_mm

    def in_patient_mm(self, number: int, point: PublicPoint) -> tuple[float, float, float]:
        """LPS millimetres of a public point on slice `number`."""
        row, column = self.directions
        origin = self.position_mm(number)
        across, down = (point[0] - 1) * float(self.spacing_mm), (point[1] - 1) * float(self.spacing_mm)
        x, y, z = (float(origin[i]) + across * row[i] + down * column[i] for i in range(3))
        return x, y, z


@dataclass(frozen=True)
class Cross:
    """A long and a short axis on one slice, as a reader left them."""

    series: CtSeries
    slice_number: int
    long_axis: tuple[PublicPoint, PublicPoint]
    short_axis: tuple[PublicPoint, PublicPoint]
    stated_mm: tuple[float, float]
    in_patient: bool = False
    names_image: bool = True
    """Patient coordinates are written beside the image that they were drawn on."""
    snomed_rt: bool = False
    """Names the axes by the retired SRT codes instead of SCT."""
    tracking: str = "lesion"


@dataclass(frozen=True)
class Report:
    """Where a report's crosses went: its SOP Instance UID and, for each, the path of its group."""

    sop_instance_uid: str
    paths: tuple[str, ...] = field(default=())


# --- CT --------------------------------------------------------------------------------------------------


def constant_rle(rows: int, columns: int, stored: int) -> bytes:
    """One RLE frame (PS3.5 G) of a constant 16-bit image; each row is encoded by itself."""

    def plane(byte: int) -> bytes:
        runs = b""
        left = columns
        while left:
            length = min(128, left)
            # A run of one is a literal: 257 - 1 does not fit into the control byte.
            runs += bytes([257 - length, byte]) if length > 1 else bytes([0, byte])
            left -= length
        body = runs * rows
        return body + b"\0" * (len(body) % 2)

    high, low = plane(stored >> 8), plane(stored & 255)
    return struct.pack("<16L", 2, 64, 64 + len(high), *[0] * 13) + high + low


def ct_header(series: CtSeries) -> Dataset:
    """Everything but the pixels and what differs from slice to slice."""
    ds = _general(series.study)
    ds.SOPClassUID = CT
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "CT", series.uid, series.number
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = series.frame_of_reference_uid, ""
    ds.Manufacturer, ds.KVP, ds.AcquisitionNumber = "Replay", "120", 1
    ds.PatientPosition = "HFS" if series.directions == SUPINE else "HFP"
    ds.SliceThickness = str(series.interval_mm)
    ds.PixelSpacing = [str(series.spacing_mm), str(series.spacing_mm)]
    ds.ImageOrientationPatient = [str(value) for direction in series.directions for value in direction]
    low, high = series.window_hu
    ds.WindowCenter, ds.WindowWidth = f"{(low + high) / 2:g}", f"{high - low:g}"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = series.rows, series.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(INTERCEPT_HU), "1", "HU"
    return ds


def write_slice(header: Dataset, series: CtSeries, number: int, path: Path, hu: NDArray[np.int32] | None) -> None:
    """Writes slice `number`: the given CT numbers uncompressed, or constant water as RLE."""
    header.SOPInstanceUID = series.sop_instance_uid(number)
    header.InstanceNumber = number
    header.ImagePositionPatient = [str(value) for value in series.position_mm(number)]
    if hu is None:
        frame = constant_rle(series.rows, series.columns, WATER_HU - INTERCEPT_HU)
        header.PixelData = encapsulate([frame])
        header["PixelData"].VR = "OB"
        header["PixelData"].is_undefined_length = True
        write(header, path, RLELossless)
    else:
        # PNG value = HU + 32768; stored = HU + 32768 keeps even values below -1024.
        header.RescaleIntercept = "-32768"
        header.PixelData = (hu + 32768).astype("<u2").tobytes()
        header["PixelData"].VR = "OW"
        write(header, path, ExplicitVRLittleEndian)


# --- SR --------------------------------------------------------------------------------------------------


def write_report(study: Study, crosses: Sequence[Cross], path: Path, *key: object, number: int = 900) -> Report:
    """A TID 1500 report with one measurement group a cross; `key` makes its UIDs."""
    ds = _general(study)
    ds.SOPClassUID = COMPREHENSIVE_3D_SR if any(cross.in_patient for cross in crosses) else COMPREHENSIVE_SR
    ds.SOPInstanceUID = uid_of("report", study.uid, *key)
    ds.SeriesInstanceUID = uid_of("report series", study.uid, *key)
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "SR", number, 1
    ds.Manufacturer, ds.ContentDate, ds.ContentTime = "Replay", study.date, "120000"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence()
    ds.PerformedProcedureCodeSequence = DicomSequence()
    ds.CurrentRequestedProcedureEvidenceSequence = _evidence(study, crosses)
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = _code("126000", "DCM", "Imaging Measurement Report")
    ds.ContentTemplateSequence = _template("1500")
    measurements = _item("CONTAINS", "CONTAINER", ("126010", "DCM", "Imaging Measurements"))
    measurements.ContinuityOfContent = "SEPARATE"
    measurements.ContentSequence = DicomSequence([_group(cross) for cross in crosses])
    ds.ContentSequence = DicomSequence(
        [
            _coded("HAS CONCEPT MOD", ("121049", "DCM", "Language"), ("en-US", "RFC5646", "English (US)")),
            _named("HAS OBS CONTEXT", ("121008", "DCM", "Person Observer Name"), "PNAME", "PersonName", "Doe^Jane"),
            _coded("HAS CONCEPT MOD", ("121058", "DCM", "Procedure reported"), ("77477000", "SCT", "CT")),
            measurements,
        ]
    )
    write(ds, path, ExplicitVRLittleEndian)
    return Report(ds.SOPInstanceUID, tuple(f"4.{place}" for place in range(1, len(crosses) + 1)))


def _group(cross: Cross) -> Dataset:
    """TID 1501 with one NUM an axis, each inferred from its line."""
    group = _item("CONTAINS", "CONTAINER", ("125007", "DCM", "Measurement Group"))
    group.ContinuityOfContent = "SEPARATE"
    group.ContentTemplateSequence = _template("1501")
    uid = uid_of("tracking", cross.series.uid, cross.slice_number, cross.tracking)
    tracking_uid = ("112040", "DCM", "Tracking Unique Identifier")
    long_name = ("G-A185", "SRT", "Long Axis") if cross.snomed_rt else ("103339001", "SCT", "Long Axis")
    short_name = ("G-A186", "SRT", "Short Axis") if cross.snomed_rt else ("103340004", "SCT", "Short Axis")
    group.ContentSequence = DicomSequence(
        [
            _named("HAS OBS CONTEXT", ("112039", "DCM", "Tracking Identifier"), "TEXT", "TextValue", cross.tracking),
            _named("HAS OBS CONTEXT", tracking_uid, "UIDREF", "UID", uid),
            _coded("CONTAINS", ("121071", "DCM", "Finding"), ("52988006", "SCT", "Lesion")),
            _length(cross, long_name, cross.long_axis, cross.stated_mm[0]),
            _length(cross, short_name, cross.short_axis, cross.stated_mm[1]),
        ]
    )
    return group


def _length(
    cross: Cross, name: tuple[str, str, str], ends: tuple[PublicPoint, PublicPoint], stated_mm: float
) -> Dataset:
    num = _item("CONTAINS", "NUM", name)
    value = Dataset()
    value.NumericValue = f"{stated_mm:.10g}"
    value.MeasurementUnitsCodeSequence = _code("mm", "UCUM", "millimeter")
    num.MeasuredValueSequence = DicomSequence([value])
    if cross.in_patient:
        line = _item("INFERRED FROM", "SCOORD3D", None)
        line.ReferencedFrameOfReferenceUID = cross.series.frame_of_reference_uid
        line.GraphicType = "POLYLINE"
        line.GraphicData = [v for end in ends for v in cross.series.in_patient_mm(cross.slice_number, end)]
        num.ContentSequence = DicomSequence([line])
        if cross.names_image:
            source = _image(cross, "INFERRED FROM", ("121112", "DCM", "Source of Measurement"))
            num.ContentSequence.append(source)
    else:
        line = _item("INFERRED FROM", "SCOORD", None)
        line.GraphicType = "POLYLINE"
        line.GraphicData = [v - 0.5 for end in ends for v in end]
        line.ContentSequence = DicomSequence([_image(cross, "SELECTED FROM", None)])
        num.ContentSequence = DicomSequence([line])
    return num


def _image(cross: Cross, relationship: str, name: tuple[str, str, str] | None) -> Dataset:
    image = _item(relationship, "IMAGE", name)
    image.ReferencedSOPSequence = DicomSequence([_reference(cross)])
    return image


def _reference(cross: Cross) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = CT
    reference.ReferencedSOPInstanceUID = cross.series.sop_instance_uid(cross.slice_number)
    return reference


def _evidence(study: Study, crosses: Sequence[Cross]) -> DicomSequence:
    by_series: dict[str, dict[str, Dataset]] = {}
    for cross in crosses:
        reference = _reference(cross)
        by_series.setdefault(cross.series.uid, {})[reference.ReferencedSOPInstanceUID] = reference
    listed = []
    for uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = DicomSequence(list(references.values()))
        listed.append(series)
    evidence = Dataset()
    evidence.StudyInstanceUID = study.uid
    evidence.ReferencedSeriesSequence = DicomSequence(listed)
    return DicomSequence([evidence])


# --- items -----------------------------------------------------------------------------------------------


def _general(study: Study) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = study.patient.name, study.patient.patient_id
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "", study.patient.sex, study.patient.age
    ds.StudyInstanceUID, ds.StudyDate, ds.StudyTime = study.uid, study.date, "101112"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    return ds


def _code(value: str, scheme: str, meaning: str) -> DicomSequence:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return DicomSequence([code])


def _template(identifier: str) -> DicomSequence:
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", identifier
    return DicomSequence([template])


def _item(relationship: str, value_type: str, name: tuple[str, str, str] | None) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    if name is not None:
        item.ConceptNameCodeSequence = _code(*name)
    return item


def _coded(relationship: str, name: tuple[str, str, str], value: tuple[str, str, str]) -> Dataset:
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = _code(*value)
    return item


def _named(relationship: str, name: tuple[str, str, str], value_type: str, keyword: str, value: str) -> Dataset:
    item = _item(relationship, value_type, name)
    setattr(item, keyword, value)
    return item


def write(ds: Dataset, path: Path, syntax: UID) -> None:
    """Writes a Part 10 file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.ImplementationClassUID = uid_of("handwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
