"""A sixth phantom patient, whom nobody measured: for a model to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicom_io.testbed.anatomy import LesionPlan, PlacedShape
from dicom_io.testbed.ct_objects import Storing
from dicom_io.testbed.identity import Person, StudyIdentity
from dicom_io.testbed.series import SeriesPlan, Size, write_series

FARID = Person("farid", "CANARY^Farid", "MRN-CANARY-06", "19470830", "M")
LESIONS = (
    LesionPlan("lung", "right lung", (-66.0, 14.0), 0.30, (14.0, 11.0), 62, 35),
    LesionPlan("lung left", "left lung", (70.0, -14.0), 0.40, (17.0, 12.5), 21, 30),
    LesionPlan("liver", "liver", (-62.0, 4.0), 0.74, (19.0, 14.0), 110, 25),
    LesionPlan("spleen", "spleen", (94.0, 36.0), 0.70, (14.0, 11.0), 70, 25),
)


@dataclass(frozen=True)
class Newcomer:
    """The study that was written, and where its lesions are."""

    folder: Path
    study_instance_uid: str
    lesions: dict[str, tuple[str, PlacedShape]]
    """Name -> SOP Instance UID of the key image, and the shape on it."""


def write_newcomer(folder: Path, *, small: bool = False) -> Newcomer:
    """Writes one CT series without any report below `folder`; the same arguments give the same bytes."""
    size = Size(small)
    study = StudyIdentity(FARID, 0, "20240318", "101500", f"newcomer/{size}")
    plan = SeriesPlan("axial", 2, "Abdomen 4.0", 512, 4.0, 32, storing=Storing())
    series = write_series(study, plan, LESIONS, size, folder / FARID.key)
    lesions = {
        name: (series.drawn_on(index).ref.sop_instance_uid, placed) for name, (index, placed) in series.lesions.items()
    }
    return Newcomer(folder, study.study_instance_uid, lesions)
