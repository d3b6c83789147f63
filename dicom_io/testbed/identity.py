"""Who the phantom patients are: every identifying value is a token that no output may hold (leak tests look for it)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

IMPLEMENTATION_VERSION = "PHANTOM_1"


def uid_of(*parts: object) -> str:
    """A UID made of its parts by hash, below 2.25 (PS3.5 B.2): the same parts give the same UID for ever."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@dataclass(frozen=True)
class Person:
    """A patient who never lived."""

    key: str
    """A short name for paths and tests; it stands in no DICOM attribute."""
    name: str
    patient_id: str
    birth_date: str
    sex: str


@dataclass(frozen=True)
class StudyIdentity:
    """A study: whose, when, and under which UIDs."""

    person: Person
    time_point: int
    date: str
    time: str
    root: str
    """First part of every UID of the archive."""

    @property
    def study_instance_uid(self) -> str:
        """The Study Instance UID."""
        return self.uid("study")

    @property
    def age(self) -> str:
        """PatientAge at the study, e.g. '061Y'."""
        birth, date = self.person.birth_date, self.date
        years = int(date[:4]) - int(birth[:4]) - (date[4:] < birth[4:])
        return f"{years:03d}Y"

    def uid(self, *parts: object) -> str:
        """A UID within the study."""
        return uid_of(self.root, self.person.key, self.time_point, *parts)

    def attributes(self) -> Dataset:
        """Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1), full of canaries."""
        number = f"{self.person.patient_id[-2:]}{self.time_point}"
        header = Dataset()
        header.SpecificCharacterSet = "ISO_IR 192"
        header.StudyDate, header.StudyTime = self.date, self.time
        header.AccessionNumber = f"CANARYACC{number}"
        header.ReferringPhysicianName = "CANARYREF^Ruth"
        header.StudyDescription = f"CANARYSTUDY {number}"
        header.PatientName, header.PatientID = self.person.name, self.person.patient_id
        header.IssuerOfPatientID = "CANARYISSUER"
        header.PatientBirthDate, header.PatientSex, header.PatientAge = (
            self.person.birth_date,
            self.person.sex,
            self.age,
        )
        header.PatientComments = "CANARYCOMMENT tel. 555-0199"
        header.StudyInstanceUID, header.StudyID = self.study_instance_uid, f"CANSTD{number}"
        return header

    def equipment(self) -> Dataset:
        """General Equipment module (C.7.5.1) of the phantom scanner."""
        header = Dataset()
        header.Manufacturer, header.ManufacturerModelName = "Phantom Works", "Analytic CT"
        header.InstitutionName, header.InstitutionAddress = "CANARY General Hospital", "1 CANARYSTREET"
        header.StationName, header.DeviceSerialNumber = "CANARYCT1", "CANARYSERIAL7"
        header.SoftwareVersions = "1"
        return header


PERSONS = (
    Person("anna", "CANARY^Anna", "MRN-CANARY-01", "19520229", "F"),
    Person("bertram", "CANARY^Bertram", "MRN-CANARY-02", "19610715", "M"),
    Person("chiara", "CANARY^Chiar\u00e0", "MRN-CANARY-03", "19790108", "F"),
    Person("dmitri", "CANARY^Dmitri", "MRN-CANARY-04", "19331111", "M"),
    Person("elena", "CANARY^Elena=CANARYIDEO^Elena", "MRN-CANARY-05", "19680623", "O"),
)
OBSERVER = "CANARYREADER^Otto"
FREE_TEXT = "CANARYTEXT"
"""Part of labels and descriptions that are kept as free text."""

CANARY_WORDS = ("CANARY", "CANSTD", "MRN-", "555-0199", *(person.birth_date for person in PERSONS))
"""Whatever output holds one of these (in any case) leaks; study dates and UIDs are listed by the archive itself."""


def write_part10(header: Dataset, path: Path, syntax: UID, meta: Mapping[str, object] | None = None) -> None:
    """Writes a Part 10 file whose bytes depend on nothing but the data set. `meta` overrides file meta elements."""
    header.file_meta = FileMetaDataset()
    header.file_meta.FileMetaInformationVersion = b"\x00\x01"
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.ImplementationClassUID = uid_of("deeplesion-miner testbed")
    header.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    for keyword, value in (meta or {}).items():
        setattr(header.file_meta, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(
        path,
        header,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
