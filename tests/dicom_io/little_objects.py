"""A handful of small valid objects: enough for archives to list and send, nothing to measure."""

from __future__ import annotations

from pathlib import Path

from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

ROOT = "1.2.826.0.1.3680043.8.498.77"
ROWS = COLUMNS = 16


def study_uid(study: int) -> str:
    return f"{ROOT}.{study}"


def ct_series_uid(study: int) -> str:
    return f"{ROOT}.{study}.1"


def sr_series_uid(study: int) -> str:
    return f"{ROOT}.{study}.2"


def ct_uid(study: int, number: int) -> str:
    return f"{ROOT}.{study}.1.{number}"


def sr_uid(study: int, number: int = 1) -> str:
    return f"{ROOT}.{study}.2.{number}"


def pr_uid(study: int) -> str:
    return f"{ROOT}.{study}.3.1"


def ct(study: int, number: int) -> Dataset:
    """A 16 x 16 axial CT image."""
    dataset = _common(study, ct_series_uid(study), ct_uid(study, number), uid.CTImageStorage, "CT", number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.FrameOfReferenceUID = f"{ROOT}.{study}.9"
    dataset.ImagePositionPatient = [0.0, 0.0, -2.5 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.75, 0.75]
    dataset.SliceThickness = 2.5
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = number.to_bytes(2, "little") * (ROWS * COLUMNS)
    return dataset


def sr(study: int, number: int = 1, modality: str = "SR") -> Dataset:
    """A Comprehensive SR that holds one line of text."""
    dataset = _common(study, sr_series_uid(study), sr_uid(study, number), uid.ComprehensiveSRStorage, modality, number)
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ContentDate, dataset.ContentTime = "20240102", "101112"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = Sequence([_code("126000", "DCM", "Imaging Measurement Report")])
    dataset.ContentSequence = Sequence([_text("nothing to see")])
    return dataset


def pr(study: int) -> Dataset:
    """A presentation state, as far as an archive looks into it."""
    dataset = _common(study, f"{ROOT}.{study}.3", pr_uid(study), uid.GrayscaleSoftcopyPresentationStateStorage, "PR", 1)
    dataset.ContentLabel = "STATE"
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = "20240102", "101112"
    return dataset


def study_objects(study: int, images: int = 5, *, measured: bool = True) -> list[Dataset]:
    """A CT series and, in a measured study, a report."""
    objects = [ct(study, number) for number in range(1, images + 1)]
    return [*objects, sr(study)] if measured else objects


def write(folder: Path, *objects: Dataset) -> Path:
    """The objects as Part 10 files named by their UIDs."""
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in objects:
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def _common(study: int, series_uid: str, sop_uid: str, sop_class: str, modality: str, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid(study), series_uid
    dataset.PatientName, dataset.PatientID = f"Doe^{study}", f"PAT{study:04d}"
    dataset.PatientBirthDate, dataset.PatientSex = "19600101", "F"
    dataset.StudyDate, dataset.StudyTime = f"2024{study % 12 + 1:02d}15", "080000"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = str(study), f"A{study}", ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 1, number
    dataset.Manufacturer = "little"
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _text(words: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Sequence([_code("121106", "DCM", "Comment")])
    item.TextValue = words
    return item
