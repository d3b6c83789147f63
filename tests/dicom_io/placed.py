"""Where an object belongs, in the form that proofs ask for."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Place:
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def place(dataset: Dataset) -> Place:
    return Place(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
