"""Real CT series in many copies: every copy a patient of its own, every slice in a lesion's context.

The series lie outside the repository (`--real-data`). Copies get new identifiers, nothing else is changed. A report
with long and short axes, written by highdicom, goes with every copy: a cross on every tenth slice or closer, so that
with 30 mm of context on either side every slice belongs to the dataset.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.sr import (
    CodedConcept,
    ComprehensiveSR,
    CoordinatesForMeasurement,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes

SERIES = (
    "ct_nlst_sr/dicomweb",
    "ct_acrin_seg/dicomweb",
    "ct_lung1_rtstruct/ct",
    "archive_population/bellona_whole_series/chest_lung",
)
CONTEXT_MM = 30.0
SLICES_BETWEEN_CROSSES = 10
LONG_AXIS = CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS = CodedConcept("103340004", "SCT", "Short Axis")
UNCOMPRESSED_UIDS = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")


def write_input(real_data: Path, folder: Path, least_slices: int, uncompressed: bool) -> int:
    """Fills `folder`/images/*.dcm and `folder`/reports/*.dcm; returns the number of slices (at least as asked)."""
    series = [load_series(real_data / where, uncompressed) for where in SERIES]
    (folder / "images").mkdir(parents=True)
    (folder / "reports").mkdir()
    written = copy = 0
    while written < least_slices:
        for number, originals in enumerate(series):
            images = renamed(originals, f"{copy}.{number}")
            for image in images:
                image.save_as(folder / "images" / f"{written:05d}.dcm", enforce_file_format=True)
                written += 1
            report(images).save_as(folder / "reports" / f"{copy:03d}_{number}.dcm", enforce_file_format=True)
        copy += 1
    return written


def load_series(folder: Path, uncompressed: bool) -> list[Dataset]:
    """The slices of one series, sorted along z; decoded if asked for."""
    rebuilt = [image for metadata in folder.rglob("series/*/instances") for image in rebuild(metadata.parent)]
    images = rebuilt or [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    images = [image for image in images if image.Modality == "CT"]
    if not images:
        raise SystemExit(f"{folder}: no CT slices here; name the unpacked real data with --real-data")
    for image in images:
        if uncompressed and image.file_meta.TransferSyntaxUID not in UNCOMPRESSED_UIDS:
            image.decompress()
    return sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))


def renamed(originals: list[Dataset], copy: str) -> list[Dataset]:
    """The same slices of another patient: study, series, frame of reference and instance UIDs made from `copy`."""
    images = []
    for original in originals:
        image = Dataset()
        image.update(original)
        image.file_meta = FileMetaDataset()
        image.file_meta.update(original.file_meta)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            setattr(image, keyword, highdicom.UID.from_uuid(uuid_of(f"{copy}/{original[keyword].value}")))
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.PatientID = f"BENCH-{copy}"
        image.PatientName = f"Bench^{copy}"
        images.append(image)
    return images


def uuid_of(text: str) -> str:
    """A UUID that depends on the text only."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def report(images: list[Dataset]) -> ComprehensiveSR:
    """A TID 1500 report with a cross on every tenth slice or closer, never more than the context apart."""
    positions = [float(image.ImagePositionPatient[2]) for image in images]
    interval_mm = float(np.median(np.diff(positions)))
    step = max(1, min(SLICES_BETWEEN_CROSSES, math.floor(CONTEXT_MM / interval_mm)))
    keys = images[::step]
    person = PersonObserverIdentifyingAttributes(name="Bench^Reader")
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_person_context=ObserverContext(
                observer_type=codes.DCM.Person, observer_identifying_attributes=person
            )
        ),
        procedure_reported=CodedConcept("25045-6", "LN", "CT unspecified body region"),
        imaging_measurements=[cross(image, number) for number, image in enumerate(keys)],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=keys,
    )
    return ComprehensiveSR(
        evidence=keys,
        content=content,
        series_instance_uid=highdicom.UID(),
        series_number=900,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="benchmark",
        is_complete=True,
        is_final=True,
    )


def cross(image: Dataset, number: int) -> MeasurementsAndQualitativeEvaluations:
    """A measurement group of 30 by 20 pixels near the middle of the image."""
    x, y = image.Columns / 2 + number, image.Rows / 2
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=highdicom.UID(), identifier=f"lesion {number}"),
        finding_type=CodedConcept("52988006", "SCT", "Lesion"),
        finding_sites=[FindingSite(CodedConcept("39607008", "SCT", "Lung"))],
        measurements=[
            axis(LONG_AXIS, ((x - 15, y), (x + 15, y)), image),
            axis(SHORT_AXIS, ((x, y - 10), (x, y + 10)), image),
        ],
    )


def axis(name: CodedConcept, ends: tuple[tuple[float, float], tuple[float, float]], image: Dataset) -> Measurement:
    """One axis with its length in mm."""
    row_spacing_mm, col_spacing_mm = (float(value) for value in image.PixelSpacing)
    (x1, y1), (x2, y2) = ends
    region = CoordinatesForMeasurement(
        graphic_type="POLYLINE",
        graphic_data=np.array(ends, dtype=float),
        source_image=SourceImageForRegion.from_source_image(image),
    )
    length_mm = math.hypot((x2 - x1) * col_spacing_mm, (y2 - y1) * row_spacing_mm)
    return Measurement(
        name=name, value=round(length_mm, 3), unit=codes.UCUM.Millimeter, referenced_coordinates=[region]
    )


def rebuild(series: Path) -> Iterator[Dataset]:
    """Data sets from a series folder of a static DICOMweb archive (DICOM JSON and one multipart file a frame)."""
    listed: dict[str, dict[str, dict[str, object]]] = {}
    if (series / "metadata.gz").exists():
        for entry in json.loads(gzip.decompress((series / "metadata.gz").read_bytes())):
            listed[entry["00080018"]["Value"][0]] = entry
    for instance in sorted((series / "instances").iterdir()):
        own = instance / "metadata" / "index.json.gz"
        frames = [path for name in ("1.mht", "1") if (path := instance / "frames" / name).exists()]
        if own.exists():
            entry = json.loads(gzip.decompress(own.read_bytes()))
            entry = entry[0] if isinstance(entry, list) else entry
        else:
            entry = listed.get(instance.name)
        if entry is not None and frames:
            yield data_set(entry, frames[0].read_bytes())


def data_set(entry: dict[str, dict[str, object]], multipart: bytes) -> Dataset:
    """One instance from its DICOM JSON and the multipart body of its only frame."""
    head, body = multipart.split(b"\r\n\r\n", 1)
    boundary = head.split(b"\r\n")[0]
    pixels = body[: body.rfind(b"\r\n" + boundary)]
    stated = re.search(rb'transfer-syntax="?([0-9.]+)', head)
    syntax = stated.group(1).decode() if stated else entry["00083002"]["Value"][0]  # type: ignore[index]
    image = Dataset.from_json(json.dumps(cleaned(entry)))
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    if syntax in UNCOMPRESSED_UIDS:
        image.PixelData = pixels
        image["PixelData"].VR = "OW"
    else:
        image.PixelData = encapsulate([pixels])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
    return image


def cleaned(entry: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """DICOM JSON without private groups, bulk data, group 2 and 00083002; missing and double VRs filled in."""
    kept: dict[str, dict[str, object]] = {}
    for tag, value in entry.items():
        if "BulkDataURI" in value or tag == "00083002" or tag.startswith("0002") or int(tag[:4], 16) % 2:
            continue
        vr = str(value.get("vr", "|"))
        if "|" in vr or vr == "UN":
            try:
                vr = dictionary_VR(int(tag, 16)).split(" ")[0]
            except KeyError:
                continue
        if "InlineBinary" in value and vr not in ("OB", "OW", "UN"):
            continue
        items = value.get("Value", [])
        if vr == "SQ" and isinstance(items, list):
            kept[tag] = {"vr": vr, "Value": [cleaned(item) for item in items if isinstance(item, dict)]}
        else:
            kept[tag] = {**value, "vr": vr}
    return kept
