"""Results on phantom patients: what a model or a reader would say of their lesions, with the images to write it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pydicom

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Segment
from dicom_io.emit.source import SourceImages
from dicom_io.testbed.phantoms import write_phantoms
from dicom_io.testbed.truth import ExpectedBookmark

MADE = datetime(2024, 5, 6, 7, 8, 9)
MODEL = Author("finder", "1.2", "acme", parameters=(("weights", "ab12cd34"),))


@dataclass(frozen=True)
class Phantoms:
    """The small phantom archive: crosses by study ('anna/0'), files by SOP Instance UID."""

    crosses: dict[str, tuple[ExpectedBookmark, ...]]
    files: dict[str, Path]

    @classmethod
    @cache
    def write(cls, folder: Path) -> Phantoms:
        """Once a folder: tests of several files share one below pytest's own."""
        archive = write_phantoms(folder, small=True)
        crosses: dict[str, tuple[ExpectedBookmark, ...]] = {}
        for mark in archive.kept:
            if mark.short_axis_px is not None:
                study = "/".join(mark.name.split("/")[:2])
                crosses[study] = (*crosses.get(study, ()), mark)
        paths = folder.rglob("*.dcm")
        return cls(
            crosses, {str(pydicom.dcmread(p, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): p for p in paths}
        )

    def result(self, study: str, **changes: object) -> Result:
        """A model's result: all crosses of the study with masks, volumes, sites and scores."""
        marks = self.crosses[study]
        lesions = tuple(lesion_of(number, mark) for number, mark in enumerate(marks, start=1))
        return replace(Result(marks[0].study_instance_uid, MODEL, lesions, MADE), **changes)  # type: ignore[arg-type]

    def images(self, result: Result) -> list[Path]:
        """The files of the images that the result lies on."""
        return sorted({self.files[one.image.sop_instance_uid] for one in result.lesions})

    def source(self, result: Result) -> SourceImages:
        return SourceImages.read(self.images(result))


def lesion_of(number: int, mark: ExpectedBookmark) -> ReportedLesion:
    assert mark.image is not None
    assert mark.long_axis_px is not None
    return ReportedLesion(
        key=mark.name,
        image=mark.image,
        label=f"Lesion {number} Läsion 病変",
        finding=coded("finding", "lesion"),
        site=coded("site", ("lung", "liver", "soft tissue")[number % 3]),
        score=round(0.95 - number / 20, 3),
        long_axis=mark.long_axis_px,
        short_axis=mark.short_axis_px,
        masks=((mark.image, _square_around(mark.long_axis_px)),),
        volume_mm3=1234.5 + number,
    )


def _square_around(axis: Segment) -> PixelMask:
    column, row = (round((axis.start[at] + axis.end[at]) / 2) for at in (0, 1))
    return PixelMask(column - 2, row - 2, np.ones((5, 4), np.bool_))


def changed(result: Result, index: int = 0, **changes: object) -> Result:
    """The result with one lesion changed."""
    lesions: Sequence[ReportedLesion] = result.lesions
    other = [replace(one, **changes) if at == index else one for at, one in enumerate(lesions)]  # type: ignore[arg-type]
    return replace(result, lesions=tuple(other))
