"""Ten thousand small valid results in seconds: a report and a segmentation are emitted once, then stamped.

The stamp changes patient, study and every UID, each to one of the same length, so that the bytes of the rest stay.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Box, ImageRef, Segment
from dicom_io.emit import EmittedObject, emit
from dicom_io.emit.source import SourceImages
from dicom_io.store import IMPLEMENTATION_CLASS_UID

PATIENT = "PAT00000"
_STUDY, _SERIES, _IMAGE, _FRAME = (f"2.25.1{digit * 37}" for digit in "1234")
_OURS = re.compile(rb"2\.25\.[0-9]{20,39}")


@dataclass(frozen=True)
class Template:
    """An emitted object and the UIDs in it that belong to it alone."""

    emitted: EmittedObject
    own_uids: tuple[bytes, ...]


@dataclass(frozen=True)
class Stamps:
    """Everything that a number of studies and objects is made of; the same seed gives the same bytes."""

    seed: int
    image: bytes
    """Of the study that all others are copies of: one CT image of 8 x 8 pixels."""
    templates: tuple[Template, ...]

    @classmethod
    def make(cls, seed: int, folder: Path) -> Stamps:
        """Emits the templates; `folder` takes the image that they lie on."""
        image = _encoded(_ct())
        path = folder / "template.dcm"
        path.write_bytes(image)
        emission = emit(_result(), SourceImages.read([path]), ("dicom-sr", "dicom-seg"))
        of_study = {uid.encode() for uid in (_STUDY, _SERIES, _IMAGE, _FRAME)}
        templates = []
        for one in emission.objects:
            found = set(_OURS.findall(one.encoded))
            templates.append(Template(one, tuple(sorted(found - of_study - {IMPLEMENTATION_CLASS_UID.encode()}))))
        assert len(templates) == 2, emission.left_out
        return cls(seed, image, tuple(templates))

    def patient(self, study: int) -> str:
        """PatientID of a study."""
        return f"PAT{study:05d}"

    def study_uid(self, study: int) -> str:
        """StudyInstanceUID of a study."""
        return self._uid(_STUDY.encode(), f"study {study}").decode()

    def study_image(self, study: int) -> bytes:
        """The CT image that a study consists of before results come."""
        return self._stamp(self.image, study)

    def result(self, study: int, number: int) -> EmittedObject:
        """A result of a study: a report or a segmentation, by its number."""
        template = self.templates[number % len(self.templates)]
        one = template.emitted
        renamed = {uid: self._uid(uid, f"object {study} {number}") for uid in template.own_uids}
        encoded = self._stamp(one.encoded, study)
        for old, new in renamed.items():
            encoded = encoded.replace(old, new)
        return EmittedObject(
            one.kind,
            self.patient(study),
            self.study_uid(study),
            renamed[one.series_instance_uid.encode()].decode(),
            renamed[one.sop_instance_uid.encode()].decode(),
            one.sop_class_uid,
            one.transfer_syntax_uid,
            encoded,
        )

    def _stamp(self, encoded: bytes, study: int) -> bytes:
        for uid in (_STUDY, _SERIES, _IMAGE, _FRAME):
            encoded = encoded.replace(uid.encode(), self._uid(uid.encode(), f"study {study}"))
        return encoded.replace(PATIENT.encode(), self.patient(study).encode())

    def _uid(self, old: bytes, what: str) -> bytes:
        """A UID of the same length, below 2.25."""
        digits = len(old) - len("2.25.")
        digest = hashlib.sha512(f"{self.seed}/{what}/{old.decode()}".encode()).digest()
        return f"2.25.1{int.from_bytes(digest, 'big') % 10 ** (digits - 1):0{digits - 1}d}".encode()


def _result() -> Result:
    image = ImageRef(_STUDY, _SERIES, _IMAGE)
    mask = PixelMask(2, 2, np.ones((4, 4), np.bool_))
    lesion = ReportedLesion(
        key="1",
        image=image,
        label="Lesion 1",
        finding=coded("finding", "lesion"),
        score=0.9,
        long_axis=Segment((1.0, 3.0), (6.0, 3.0)),
        short_axis=Segment((3.0, 1.0), (3.0, 5.0)),
        box=Box(1.0, 1.0, 6.0, 5.0),
        masks=((image, mask),),
        volume_mm3=100.0,
    )
    author = Author("stamp", version="1", manufacturer="tests")
    return Result(_STUDY, author, (lesion,), datetime(2026, 1, 31, 12, 0, 0))


def _ct() -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, _IMAGE
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = _STUDY, _SERIES, _FRAME
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = (
        "Stamp^Test",
        PATIENT,
        "19500101",
        "O",
    )
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20260131"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101112"
    image.AccessionNumber, image.StudyID, image.ReferringPhysicianName = "A1", "1", ""
    image.Modality, image.Manufacturer, image.PositionReferenceIndicator = "CT", "tests", ""
    image.SeriesNumber = image.InstanceNumber = image.AcquisitionNumber = 1
    image.PatientPosition, image.KVP = "HFS", "120"
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [1, 1], 5
    image.Rows = image.Columns = 8
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, -1024, "HU"
    image.PixelData = bytes(8 * 8 * 2)
    return image


def _encoded(dataset: Dataset) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
