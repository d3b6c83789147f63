"""The images of the study that a report lies in: which there are, and where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deeplesion_miner.types import ImagePlane, Unreadable
from dicom_io import part10, planes


@dataclass(frozen=True)
class StudyImages:
    """The images of a study by SOP Instance UID, with the plane of each frame where it is known."""

    planes: Mapping[str, tuple[ImagePlane | None, ...]]

    @classmethod
    def of_uids(cls, sop_instance_uids: Iterable[str]) -> StudyImages:
        """Images of which nothing but their UIDs is known; each is taken to have the frames that are asked for."""
        return cls(dict.fromkeys(sop_instance_uids, ()))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> StudyImages:
        """The images among these files; what is none, or cannot be read, is passed over."""
        found: dict[str, tuple[ImagePlane | None, ...]] = {}
        for path in paths:
            dataset = part10.read(path, pixels=False)
            if isinstance(dataset, Unreadable) or "Rows" not in dataset:
                continue
            headers = planes.headers_of(dataset, path.stat().st_size)
            if isinstance(headers, Unreadable):
                continue
            known = tuple(one.plane if isinstance(one.plane, ImagePlane) else None for one in headers)
            found[headers[0].ref.sop_instance_uid] = known
        return cls(found)

    def holds(self, sop_instance_uid: str, frame_number: int) -> bool:
        """True where the study has that frame of that image."""
        known = self.planes.get(sop_instance_uid)
        return known is not None and (not known or 1 <= frame_number <= len(known))

    def plane(self, sop_instance_uid: str, frame_number: int) -> ImagePlane | None:
        """Where the frame lies; None where that is not known."""
        known = self.planes.get(sop_instance_uid, ())
        return known[frame_number - 1] if 1 <= frame_number <= len(known) else None
