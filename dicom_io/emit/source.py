"""The images that a result speaks of: their headers, as the archive has them, of one study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.studies import PatientFacts
from deeplesion_miner.types import ImageHeader, ImagePlane, ImageRef, Unreadable
from dicom_io import part10, planes


@dataclass(frozen=True, eq=False)
class SourceImages:
    """Headers (data sets without pixels) of images of one study and one patient, by SOP Instance UID."""

    datasets: Mapping[str, Dataset]
    headers: Mapping[str, tuple[ImageHeader, ...]]
    """One a frame."""
    patient: PatientFacts

    @classmethod
    def read(cls, paths: Iterable[Path]) -> SourceImages:
        """Reads files; ConfigError for one that is unreadable, of another study or of another patient."""
        datasets: dict[str, Dataset] = {}
        headers: dict[str, tuple[ImageHeader, ...]] = {}
        patient: PatientFacts | None = None
        for path in paths:
            dataset = part10.read(path, pixels=False)
            found = dataset if isinstance(dataset, Unreadable) else planes.headers_of(dataset, path.stat().st_size)
            if isinstance(found, Unreadable) or isinstance(dataset, Unreadable):
                raise ConfigError(
                    f"{path}: {found.why}: {found.detail}" if isinstance(found, Unreadable) else str(path)
                )
            one = planes.patient_of(dataset)
            patient = one if patient is None else patient
            for what in ("study_instance_uid", "patient_id"):
                if getattr(one, what) != getattr(patient, what):
                    raise ConfigError(f"{path}: its {what} is not that of the other images of the result")
            datasets[found[0].ref.sop_instance_uid] = dataset
            headers[found[0].ref.sop_instance_uid] = found
        if patient is None:
            raise ConfigError("a result needs the images that it lies on, and none are here")
        return cls(datasets, headers, patient)

    def __contains__(self, image: ImageRef) -> bool:
        frames = self.headers.get(image.sop_instance_uid, ())
        return 1 <= image.frame_number <= len(frames)

    def dataset(self, image: ImageRef) -> Dataset:
        """The header that holds the image; KeyError where it is not here."""
        return self.datasets[image.sop_instance_uid]

    def plane(self, image: ImageRef) -> ImagePlane | Unreadable:
        """Where the image lies; KeyError where it is not here."""
        return self.headers[image.sop_instance_uid][image.frame_number - 1].plane


def is_multi_frame(image: Dataset) -> bool:
    """True for enhanced images (PS3.3 C.7.6.16): their frames have places of their own."""
    return "PerFrameFunctionalGroupsSequence" in image
