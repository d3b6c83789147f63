"""Crosses planted on real CT by highdicom: NLST slices with a nodule that Sybil boxed, LUNG1 slices with a GTV.

    python -m tests.experiments.plant FOLDER [--data FOLDER]     writes the archive below FOLDER

Where to draw comes from what real people and programs left: the nodule is what is dense inside Sybil's box, the
tumour is the GTV contour. The axes are the farthest two points and the longest chord at right angles.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    CoordinatesForMeasurement,
    CoordinatesForMeasurement3D,
    FindingSite,
    GraphicTypeValues,
    GraphicTypeValues3D,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.experiments.handwritten import uid_of

LONG_AXIS = CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS = CodedConcept("103340004", "SCT", "Short Axis")
DENSE_HU = -500
"""Between lung and soft tissue: where a nodule's edge is."""
FREE_FROM = 18
"""InstanceNumber from which the nodule lies free in the lung; below it leans on the spine."""
GTV_EVERY = 8
"""Slices between two planted crosses on the tumour."""

Points = NDArray[np.float64]
"""(2, 2): two ends, each (column, row), the centre of the first pixel being (0, 0)."""


@dataclass(frozen=True)
class Planted:
    """A cross and where it must come back."""

    name: str
    image: Path
    sop_instance_uid: str
    instance_number: int
    long_axis: Points
    short_axis: Points
    report_uid: str
    group_path: str


# --- real images -----------------------------------------------------------------------------------------


def dicomweb_images(folder: Path) -> Iterator[Dataset]:
    """The images below a static DICOMweb folder (DICOM JSON, one file a frame) as data sets that can be saved."""
    for series in sorted(folder.glob("studies/*/series/*")):
        for instance in sorted((series / "instances").glob("*")):
            frame = next((p for p in (instance / "frames" / "1.mht", instance / "frames" / "1") if p.exists()), None)
            if frame is not None:
                yield _rebuilt(_metadata(series, instance), frame.read_bytes())


def _metadata(series: Path, instance: Path) -> dict[str, Any]:
    """DICOM JSON of an instance: its own file, else its part of the series' file."""
    own = instance / "metadata" / "index.json.gz"
    found = json.loads(gzip.decompress((own if own.exists() else series / "metadata.gz").read_bytes()))
    entries = found if isinstance(found, list) else [found]
    return next(dict(entry) for entry in entries if entry["00080018"]["Value"][0] == instance.name)


def _rebuilt(metadata: dict[str, Any], multipart: bytes) -> Dataset:
    head, body = multipart.split(b"\r\n\r\n", 1)
    body = body[: body.rfind(b"\r\n" + head.split(b"\r\n")[0])]
    named = re.search(rb'transfer-syntax="?([0-9.]+)', head)
    syntax = named.group(1).decode() if named else metadata["00083002"]["Value"][0]
    image = Dataset.from_json(json.dumps(_cleaned(metadata)))
    native = syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    image.PixelData = body if native else encapsulate([body])
    image["PixelData"].VR = "OW" if native else "OB"
    image["PixelData"].is_undefined_length = not native
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _cleaned(entries: dict[str, Any]) -> dict[str, Any]:
    """DICOM JSON without private and bulk data, each value with one VR."""
    kept: dict[str, Any] = {}
    for tag, entry in entries.items():
        if "BulkDataURI" in entry or tag == "00083002" or tag[:4] == "0002" or int(tag[:4], 16) % 2:
            continue
        vr = entry.get("vr", "|")
        if "|" in vr or vr == "UN":
            try:
                vr = dictionary_VR(int(tag, 16)).split(" ")[0]
            except KeyError:
                continue
        if "InlineBinary" in entry and vr not in ("OB", "OW", "UN"):
            continue
        kept[tag] = {**entry, "vr": vr}
        if vr == "SQ":
            kept[tag]["Value"] = [_cleaned(item) for item in entry.get("Value", []) if isinstance(item, dict)]
    return kept


# --- where to draw ---------------------------------------------------------------------------------------


def cross_of(outline: Points, column_mm: float, row_mm: float) -> tuple[Points, Points]:
    """The farthest two points of an outline (n, 2), in millimetres, and the longest chord at right angles to them."""
    scale = np.array([column_mm, row_mm])
    points = outline * scale
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    first, second = np.unravel_index(int(apart.argmax()), apart.shape)
    along = (points[second] - points[first]) / apart[first, second]
    across = np.array([-along[1], along[0]])
    lengths = (points[:, None] - points[None]) @ across
    slant = np.abs((points[:, None] - points[None]) @ along)
    # Of the pairs of points at right angles within half a pixel the longest.
    lengths[slant > column_mm / 2] = 0
    third, fourth = np.unravel_index(int(lengths.argmax()), lengths.shape)
    return np.stack([points[first], points[second]]) / scale, np.stack([points[third], points[fourth]]) / scale


def nodule_outline(hu: NDArray[np.float64], box: tuple[float, float, float, float]) -> Points:
    """Dense pixels connected with the densest middle of a box (left, top, right, bottom), as (column, row)."""
    left, top, right, bottom = (round(value) for value in box)
    dense = hu[top : bottom + 1, left : right + 1] > DENSE_HU
    grown = np.zeros_like(dense)
    middle = (dense.shape[0] // 2, dense.shape[1] // 2)
    nearest = min(np.argwhere(dense), key=lambda at: float(np.hypot(*(at - middle))))
    grown[tuple(nearest)] = True
    while True:
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        wider &= dense
        if (wider == grown).all():
            break
        grown = wider
    rows, columns = np.nonzero(grown)
    return np.stack([columns + left, rows + top], axis=1).astype(float)


def sybil_boxes(data: Path) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right, bottom by SOP Instance UID, the centre of the first pixel being (0, 0)."""
    report = dcmread(data / "ct_nlst_sr" / "sr_sybil_bounding_boxes.dcm")
    boxes: dict[str, tuple[float, float, float, float]] = {}
    waiting = list(report.ContentSequence)
    while waiting:
        item = waiting.pop()
        waiting += list(item.get("ContentSequence", []))
        if item.ValueType == "SCOORD":
            points = np.reshape(item.GraphicData, (-1, 2)) - 0.5
            uid = item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            boxes[uid] = (*points.min(axis=0), *points.max(axis=0))
    return boxes


def _in_pixels(image: Dataset, patient: NDArray[np.float64]) -> Points:
    """LPS millimetres (n, 3) as (column, row) of an axial supine image."""
    origin = np.array(image.ImagePositionPatient, float)
    row_mm, column_mm = (float(value) for value in image.PixelSpacing)
    return (patient[:, :2] - origin[:2]) / [column_mm, row_mm]


# --- writing ---------------------------------------------------------------------------------------------


def plant(data: Path, folder: Path) -> list[Planted]:
    """Writes the real slices and the planted reports below `folder`; returns every planted cross."""
    return [*_plant_nlst(data, folder / "nlst"), *_plant_lung1(data, folder / "lung1")]


def _plant_nlst(data: Path, folder: Path) -> list[Planted]:
    """A cross on the nodule on each slice that Sybil boxed and where it lies free, on the image."""
    folder.mkdir(parents=True)
    boxes, drawn = sybil_boxes(data), []
    for image in sorted(dicomweb_images(data / "ct_nlst_sr" / "dicomweb"), key=lambda image: int(image.InstanceNumber)):
        path = folder / f"{int(image.InstanceNumber):04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        box = boxes.get(str(image.SOPInstanceUID))
        if box is not None and int(image.InstanceNumber) >= FREE_FROM:
            row_mm, column_mm = (float(value) for value in image.PixelSpacing)
            drawn.append((path, cross_of(nodule_outline(_hu(path), box), column_mm, row_mm)))
    return _report("nlst", drawn, folder / "report.dcm", in_patient=False)


def _plant_lung1(data: Path, folder: Path) -> list[Planted]:
    """A cross on the GTV on every eighth of its slices, in the patient."""
    folder.mkdir(parents=True)
    contours: dict[float, NDArray[np.float64]] = {}
    for contour in dcmread(data / "ct_lung1_rtstruct" / "rtstruct_gtv1.dcm").ROIContourSequence[0].ContourSequence:
        points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
        contours[round(float(points[0, 2]), 1)] = points
    drawn = []
    for source in sorted((data / "ct_lung1_rtstruct" / "ct").glob("*.dcm")):
        image = dcmread(source)
        path = folder / f"{int(image.InstanceNumber):04d}.dcm"
        path.write_bytes(source.read_bytes())
        points = contours.get(round(float(image.ImagePositionPatient[2]), 1))
        if points is not None and int(image.InstanceNumber) % GTV_EVERY == 0:
            row_mm, column_mm = (float(value) for value in image.PixelSpacing)
            drawn.append((path, cross_of(_in_pixels(image, points), column_mm, row_mm)))
    return _report("lung1", sorted(drawn, key=lambda item: item[0]), folder / "report.dcm", in_patient=True)


def _hu(path: Path) -> NDArray[np.float64]:
    image = dcmread(path)
    return image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)  # type: ignore[no-any-return]


def _report(
    name: str, drawn: list[tuple[Path, tuple[Points, Points]]], path: Path, *, in_patient: bool
) -> list[Planted]:
    """One report of highdicom with a measurement group a cross."""
    images = [dcmread(image_path, stop_before_pixels=True) for image_path, _ in drawn]
    groups = [
        _group(f"{name} {place}", image, axes, in_patient)
        for place, (image, (_, axes)) in enumerate(zip(images, drawn, strict=True), start=1)
    ]
    observer = ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(name="Planter^Real"),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    kind = Comprehensive3DSR if in_patient else ComprehensiveSR
    report = kind(
        evidence=images,
        content=content[0],
        series_instance_uid=uid_of("planted series", name),
        sop_instance_uid=uid_of("planted report", name),
        series_number=900,
        instance_number=1,
        manufacturer="Planter",
        is_complete=True,
    )
    report.save_as(path, enforce_file_format=True)
    place = _place_of_measurements(report)
    return [
        Planted(
            name=f"{name} {index}",
            image=image_path,
            sop_instance_uid=str(image.SOPInstanceUID),
            instance_number=int(image.InstanceNumber),
            long_axis=axes[0],
            short_axis=axes[1],
            report_uid=str(report.SOPInstanceUID),
            group_path=f"{place}.{index}",
        )
        for index, (image, (image_path, axes)) in enumerate(zip(images, drawn, strict=True), start=1)
    ]


def _place_of_measurements(report: Dataset) -> int:
    """1-based place of the container of measurement groups among the root's children."""
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in report.ContentSequence]
    return names.index("126010") + 1


def _group(
    tracking: str, image: Dataset, axes: tuple[Points, Points], in_patient: bool
) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=highdicom.UID(uid_of("planted", tracking)), identifier=tracking),
        finding_type=CodedConcept("52988006", "SCT", "Lesion"),
        finding_sites=[FindingSite(CodedConcept("39607008", "SCT", "Lung"))],
        source_images=[SourceImageForMeasurementGroup.from_source_image(image)] if in_patient else None,
        measurements=[
            _measurement(name, image, axis, in_patient)
            for name, axis in zip((LONG_AXIS, SHORT_AXIS), axes, strict=True)
        ],
    )


def _measurement(name: CodedConcept, image: Dataset, axis: Points, in_patient: bool) -> Measurement:
    row_mm, column_mm = (float(value) for value in image.PixelSpacing)
    across, down = axis[1] - axis[0]
    length_mm = float(np.hypot(across * column_mm, down * row_mm))
    coordinates: CoordinatesForMeasurement | CoordinatesForMeasurement3D
    if in_patient:
        origin = np.array(image.ImagePositionPatient, float)
        rows, columns = np.reshape(np.array(image.ImageOrientationPatient, float), (2, 3))
        points = origin + axis[:, :1] * column_mm * rows + axis[:, 1:] * row_mm * columns
        coordinates = CoordinatesForMeasurement3D(
            graphic_type=GraphicTypeValues3D.POLYLINE,
            graphic_data=points,
            frame_of_reference_uid=image.FrameOfReferenceUID,
        )
    else:
        coordinates = CoordinatesForMeasurement(
            graphic_type=GraphicTypeValues.POLYLINE,
            graphic_data=axis + 0.5,
            source_image=SourceImageForMeasurement.from_source_image(image),
        )
    return Measurement(
        name=name,
        value=round(length_mm, 2),
        unit=codes.UCUM.Millimeter,
        referenced_coordinates=[coordinates],
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Plant crosses on real CT")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    given = parser.parse_args()
    for one in plant(Path(given.data), given.folder):
        print(one.name, one.image.name, one.long_axis.round(2).tolist(), one.short_axis.round(2).tolist())


if __name__ == "__main__":
    main()
