"""CT series with lesions whose masks are known, for tests of what is written of masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner import geometry
from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Box, ImagePlane, ImageRef, Segment
from dicom_io.emit.source import SourceImages
from dicom_io.testbed.identity import PERSONS, StudyIdentity
from dicom_io.testbed.series import PRONE, SeriesPlan, Size, tilted, turned, write_series

Planes: TypeAlias = Mapping[str, Mapping[ImageRef, NDArray[np.bool_]]]
"""By lesion's label, by image: the whole plane of a mask."""

DETECTOR = Author("detector", "1.2", "maker", parameters=(("weights", "0123abcd"),))
READER = Author("Reader^Rita", is_algorithm=False)
MADE_AT = datetime(2024, 5, 6, 7, 8, 9)
PLANS = {
    "supine": SeriesPlan("supine", 2, "Supine", 64, 5.0, 10, (0.7, 0.7)),
    "prone, unequal spacings": SeriesPlan("prone", 3, "Prone", 64, 2.5, 10, (0.9, 0.7), PRONE, patient_position="HFP"),
    "tilted gantry": SeriesPlan("tilted", 4, "Tilted", 64, 4.0, 10, (0.8, 0.8), tilted(18.5), tilt_deg=18.5),
    "oblique": SeriesPlan("oblique", 5, "Oblique", 64, 3.0, 10, (0.6, 0.8), turned(35.0)),
    "multi-frame": SeriesPlan("frames", 6, "Frames", 64, 5.0, 10, (0.8, 0.7), multi_frame=True),
}


@dataclass(frozen=True, eq=False)
class Study:
    """A series, its headers and its images from head to feet."""

    paths: tuple[Path, ...]
    source: SourceImages
    images: tuple[ImageRef, ...]

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Study:
        """Of image files; those without usable geometry are not among its images."""
        listed = tuple(sorted(paths))
        source = SourceImages.read(listed)
        planes = {
            header.ref: header.plane
            for headers in source.headers.values()
            for header in headers
            if isinstance(header.plane, ImagePlane)
        }
        images = sorted(planes, key=lambda ref: (geometry.head_to_feet_mm(planes[ref]), ref))
        return cls(listed, source, tuple(images))

    def plane(self, image: ImageRef) -> ImagePlane:
        """Where an image lies."""
        found = self.source.plane(image)
        assert isinstance(found, ImagePlane)
        return found

    def result(self, *lesions: ReportedLesion, author: Author = DETECTOR) -> Result:
        """The lesions as one author's result."""
        return Result(self.source.patient.study_instance_uid, author, lesions, MADE_AT)


def written(folder: Path, plan: str = "supine", matrix: int = 64, time_point: int = 0) -> Study:
    """A phantom's series by a name of `PLANS`, written below `folder`."""
    identity = StudyIdentity(PERSONS[2], time_point, "20240102", "101112", "masked studies")
    write_series(identity, PLANS[plan], (), Size(slices_per_series=10, matrix=matrix), folder)
    return Study.read(folder.rglob("*.dcm"))


def blob(rng: np.random.Generator, rows: int, columns: int, largest_px: float = 9.0) -> NDArray[np.bool_]:
    """A ragged disc with holes and crumbs: connected by corners here and there, at the image's edge at times."""
    row, column = np.mgrid[:rows, :columns]
    radius = rng.uniform(1.0, largest_px)
    middle = rng.uniform(0, rows), rng.uniform(0, columns)
    found = ((row - middle[0]) ** 2 + (column - middle[1]) ** 2 < radius**2) & (rng.random((rows, columns)) > 0.1)
    found[int(middle[0]), int(middle[1])] = True
    return found


def lesion(study: Study, number: int, slices: Iterable[int], seed: int = 0, **said: object) -> ReportedLesion:
    """A lesion with a blob on each of some slices (by their place from head to feet) and a cross on the first."""
    rng = np.random.default_rng([seed, number])
    images = [study.images[place] for place in slices]
    masks = tuple(
        (image, PixelMask.of_plane(blob(rng, study.plane(image).rows, study.plane(image).columns))) for image in images
    )
    mask = masks[0][1]
    left, top = mask.first_column - 0.25, mask.first_row - 0.25
    right, bottom = left + mask.bits.shape[1] - 0.5, top + mask.bits.shape[0] - 0.5
    made = ReportedLesion(
        key=str(number),
        image=images[0],
        label=f"Lesion {number}",
        finding=coded("finding", "lesion"),
        site=coded("site", "liver"),
        score=0.9,
        long_axis=Segment((left, top), (right, bottom)),
        short_axis=Segment((right, top), (left, bottom)),
        box=Box(left, top, right, bottom),
        masks=masks,
    )
    return replace(made, **said)  # type: ignore[arg-type]


def planes_of(study: Study, lesions: Iterable[ReportedLesion]) -> Planes:
    """The truth: whole planes of all masks."""
    return {
        one.label: {
            image: mask.on_plane(study.plane(image).rows, study.plane(image).columns) for image, mask in one.masks
        }
        for one in lesions
    }


def assert_same(found: Planes, expected: Planes) -> None:
    """Voxel for voxel, on the same images."""
    assert sorted(found) == sorted(expected)
    for label, planes in expected.items():
        assert sorted(found[label]) == sorted(planes)
        for image, plane in planes.items():
            assert np.array_equal(found[label][image], plane), (label, image)
