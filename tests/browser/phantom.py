"""What is looked at: a phantom patient's CT, and the result of a reader that measures as geometry does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import Author, ReportedLesion, Result, coded
from deeplesion_miner.types import Box, ImagePlane, ImageRef, Segment
from dicom_io.emit.source import SourceImages
from dicom_io.testbed.newcomer import write_newcomer
from dicom_io.testbed.rasteriser import Shape

MADE_AT = datetime(2024, 3, 19, 8, 30)
AUTHOR = Author("phantom reader", "1", "deeplesion_miner")
SITES = {"lung": "lung", "lung left": "lung", "liver": "liver", "spleen": "abdomen"}


@dataclass(frozen=True)
class Case:
    """A study on disk with its result."""

    paths: tuple[Path, ...]
    """Of the images."""
    source: SourceImages
    result: Result

    def files(self) -> list[bytes]:
        """The images as files."""
        return [path.read_bytes() for path in self.paths]

    def plane(self, sop_instance_uid: str) -> ImagePlane:
        """Where an image lies."""
        return plane_of(self.source, sop_instance_uid)


def newcomer(folder: Path, *, small: bool) -> Case:
    """The newcomer's CT, written below `folder`, with axes, masks and volumes of all of their lesions."""
    written = write_newcomer(folder, small=small)
    paths = tuple(sorted(folder.rglob("*.dcm")))
    source = SourceImages.read(paths)
    lesions = []
    for number, (name, (sop, placed)) in enumerate(written.lesions.items(), start=1):
        masks = _masks(placed.shape, source)
        plane = plane_of(source, sop)
        voxel_mm3 = plane.row_spacing_mm * plane.col_spacing_mm * (plane.slice_thickness_mm or 0.0)
        lesions.append(
            ReportedLesion(
                key=str(number),
                image=source.headers[sop][0].ref,
                label=f"Lesion {number}",
                finding=coded("finding", "lesion"),
                site=coded("site", SITES[name]),
                score=round(0.9 - 0.1 * number, 2),
                long_axis=placed.long_axis_px,
                short_axis=placed.short_axis_px,
                box=box_of(placed.long_axis_px, placed.short_axis_px),
                masks=masks,
                volume_mm3=voxel_mm3 * sum(int(mask.bits.sum()) for _, mask in masks),
            )
        )
    return Case(paths, source, Result(written.study_instance_uid, AUTHOR, tuple(lesions), MADE_AT))


def plane_of(source: SourceImages, sop_instance_uid: str) -> ImagePlane:
    """Where an image lies."""
    plane = source.headers[sop_instance_uid][0].plane
    assert isinstance(plane, ImagePlane)
    return plane


def box_of(long_axis: Segment, short_axis: Segment) -> Box:
    """The tight box of both axes."""
    x, y = zip(long_axis.start, long_axis.end, short_axis.start, short_axis.end, strict=True)
    return Box(min(x), min(y), max(x), max(y))


def _masks(shape: Shape, source: SourceImages) -> tuple[tuple[ImageRef, PixelMask], ...]:
    """The pixels whose centre is in the shape, by slice, from head to feet."""
    found = []
    for sop in source.headers:
        plane = plane_of(source, sop)
        bits = _inside(shape, plane)
        if bits.any():
            found.append((-plane.origin_mm[2], source.headers[sop][0].ref, PixelMask.of_plane(bits)))
    return tuple((ref, mask) for _, ref, mask in sorted(found, key=lambda one: one[0]))


def _inside(shape: Shape, plane: ImagePlane) -> np.ndarray:
    column, row = np.meshgrid(np.arange(plane.columns), np.arange(plane.rows))
    points = (
        np.asarray(plane.origin_mm)
        + column[..., None] * plane.col_spacing_mm * np.asarray(plane.row_dir)
        + row[..., None] * plane.row_spacing_mm * np.asarray(plane.col_dir)
    )
    along = (points - np.asarray(shape.centre_mm)) @ np.asarray(shape.axes).T / np.asarray(shape.semi_axes_mm)
    return np.asarray((np.abs(along) ** shape.exponent).sum(axis=-1) <= 1)
