"""What all our objects share: patient and study of the images, times of the result, ourselves as equipment.

Only the patient and general study modules are copied (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2), by name: nothing of the
scanner, the institution or the staff, which de-identification would have to take out again.
"""

from __future__ import annotations

from importlib.metadata import version

from pydicom.dataset import Dataset

from deeplesion_miner.results import Result

PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
         "StudyDescription", "PatientAge", "PatientSize", "PatientWeight")  # fmt: skip
REQUIRED = frozenset({"PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
                      "StudyID", "AccessionNumber", "ReferringPhysicianName"})  # fmt: skip
"""Type 2: empty where the images lack them."""

SERIES_NUMBERS = {"dicom-sr": 9100, "volume-sr": 9101, "dicom-seg": 9102, "rtstruct": 9103, "gsps": 9104, "kos": 9105}
MANUFACTURER = "deeplesion_miner"
MODEL_NAME = "deeplesion_miner"


def software_version() -> str:
    """Of this software, as SoftwareVersions states it."""
    return version("deeplesion-miner")


def put_patient_and_study(dataset: Dataset, image: Dataset) -> None:
    """Replaces patient and study attributes by those of the image; whatever else a writer copied goes."""
    copied = {element.keyword for element in dataset if element.tag.group in (0x0010, 0x0020, 0x0008)}
    for keyword in copied & (set(PATIENT) | set(STUDY)):
        delattr(dataset, keyword)
    for keyword in (*PATIENT, *STUDY):
        if keyword in image:
            dataset[keyword] = image[keyword]
        elif keyword in REQUIRED:
            setattr(dataset, keyword, "")
    dataset.SpecificCharacterSet = "ISO_IR 192"


def put_times(dataset: Dataset, result: Result) -> None:
    """Dates and times of series and content: when the result was made, never when it is emitted."""
    date, time = result.made_at.strftime("%Y%m%d"), result.made_at.strftime("%H%M%S")
    dataset.SeriesDate = dataset.ContentDate = date
    dataset.SeriesTime = dataset.ContentTime = time
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "TimezoneOffsetFromUTC"):
        if keyword in dataset:
            delattr(dataset, keyword)


def put_equipment(dataset: Dataset) -> None:
    """Ourselves as the equipment that made the object (PS3.3 C.7.5.1)."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = software_version()
    dataset.DeviceSerialNumber = "0"
