"""The masks of a result by the image grid that they lie on: each group becomes one object of a kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from deeplesion_miner import geometry
from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import ReportedLesion, Result
from deeplesion_miner.types import ImagePlane, ImageRef, Unreadable, Vector
from dicom_io.attributes import text
from dicom_io.emit.emitting import LeftOut
from dicom_io.emit.source import SourceImages, is_multi_frame
from dicom_io.emit.wording import LONG_STRING, one_line

Planes: TypeAlias = Mapping[ImageRef, ImagePlane]
_Grid: TypeAlias = tuple[str, str, str, tuple[Vector, Vector], tuple[float, float], tuple[int, int]]
"""Series, object if multi-frame, frame of reference, directions, spacings, rows and columns."""


@dataclass(frozen=True, eq=False)
class MaskedLesion:
    """A lesion with its masks on one grid, none of them empty."""

    lesion: ReportedLesion
    masks: tuple[tuple[ImageRef, PixelMask], ...]

    @property
    def label(self) -> str:
        """The lesion's label as an LO."""
        return one_line(self.lesion.label, LONG_STRING) or "Lesion"


@dataclass(frozen=True, eq=False)
class MaskGroup:
    """Masks on images of one series (one object, if it is multi-frame) that share a grid and a frame of reference.

    No two of the images lie in the same place, as those of two phases of one series do.
    """

    key: str
    """What tells the group from others of the same result: part of what its UIDs are derived from."""
    planes: Planes
    """Of the images with a mask, from head to feet."""
    lesions: tuple[MaskedLesion, ...]
    is_multi_frame: bool


def grouped(result: Result, source: SourceImages, kind: str) -> tuple[tuple[MaskGroup, ...], tuple[LeftOut, ...]]:
    """The groups, by series, and the lesions that no group holds: a lesion is in whole or not at all."""
    left_out: list[LeftOut] = []
    groups: dict[_Grid, list[MaskedLesion]] = defaultdict(list)
    for lesion in result.lesions:
        masks = tuple((image, mask) for image, mask in lesion.masks if mask.bits.any())
        why = _unfit(masks, source)
        if why:
            left_out.append(LeftOut(lesion.key, lesion.label, kind, why))
            continue
        by_grid: dict[_Grid, list[tuple[ImageRef, PixelMask]]] = defaultdict(list)
        for image, mask in masks:
            by_grid[_grid(image, _plane(source, image), source)].append((image, mask))
        for grid, own in by_grid.items():
            groups[grid].append(MaskedLesion(lesion, tuple(own)))
    found = tuple(
        _group(grid, number, lesions, source)
        for grid in sorted(groups)
        for number, lesions in enumerate(_by_phase(groups[grid], source), start=1)
    )
    return found, tuple(left_out)


def _unfit(masks: tuple[tuple[ImageRef, PixelMask], ...], source: SourceImages) -> str:
    """Why a lesion's masks cannot be written, a code of `schemas/emit.toml` left_out; '' where they can."""
    if not masks:
        return "no_mask"
    if any(image not in source for image, _ in masks):
        return "image_missing"
    for image, mask in masks:
        dataset, plane = source.dataset(image), source.plane(image)
        if not text(dataset, "SOPClassUID"):
            return "no_sop_class"
        if isinstance(plane, Unreadable) or (image.frame_number > 1 and not is_multi_frame(dataset)):
            return "bad_geometry"
        if not plane.frame_of_reference_uid:
            return "no_frame_of_reference"
        if mask.on_plane(plane.rows, plane.columns).sum() != mask.bits.sum():
            return "outside_image"
    if len({_plane(source, image).origin_mm for image, _ in masks}) < len(masks):
        return "same_place"
    return ""


def _plane(source: SourceImages, image: ImageRef) -> ImagePlane:
    plane = source.plane(image)
    assert isinstance(plane, ImagePlane)
    return plane


def _grid(image: ImageRef, plane: ImagePlane, source: SourceImages) -> _Grid:
    return (
        str(source.dataset(image).SeriesInstanceUID),
        image.sop_instance_uid if is_multi_frame(source.dataset(image)) else "",
        plane.frame_of_reference_uid,
        (plane.row_dir, plane.col_dir),
        (plane.row_spacing_mm, plane.col_spacing_mm),
        (plane.rows, plane.columns),
    )


def _by_phase(lesions: list[MaskedLesion], source: SourceImages) -> list[list[MaskedLesion]]:
    """The lesions in as few lists as it takes that no two images of a list lie in the same place."""
    phases: list[tuple[dict[Vector, ImageRef], list[MaskedLesion]]] = []
    for masked in lesions:
        places = {_plane(source, image).origin_mm: image for image, _ in masked.masks}
        for taken, found in phases:
            if all(taken.get(place, image) == image for place, image in places.items()):
                taken.update(places)
                found.append(masked)
                break
        else:
            phases.append((places, [masked]))
    return [found for _, found in phases]


def _group(grid: _Grid, number: int, lesions: list[MaskedLesion], source: SourceImages) -> MaskGroup:
    planes = {image: _plane(source, image) for masked in lesions for image, _ in masked.masks}
    from_head = sorted(planes, key=lambda image: (geometry.head_to_feet_mm(planes[image]), image))
    key = f"{grid} {number}"
    return MaskGroup(key, {image: planes[image] for image in from_head}, tuple(lesions), is_multi_frame=bool(grid[1]))
