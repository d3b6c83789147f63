"""Small worlds for tests of the core: planes, headers, bookmarks, lesions."""

from __future__ import annotations

from deeplesion_miner.types import (
    Axis,
    Bookmark,
    Box,
    ImageHeader,
    ImagePlane,
    ImageRef,
    Kept,
    Kind,
    Lesion,
    Segment,
    Source,
)

CT_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def image_ref(sop: str = "1.2.3", frame: int = 1, series: str = "1.2", study: str = "1") -> ImageRef:
    return ImageRef(study, series, sop, frame)


def axial_plane(z_mm: float = 0.0, *, spacing_mm: float = 0.8, rows: int = 128, columns: int = 128) -> ImagePlane:
    across, down = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    return ImagePlane((-50.0, -50.0, z_mm), across, down, spacing_mm, spacing_mm, rows, columns, "1.9")


def header(
    ref: ImageRef | None = None, plane: ImagePlane | None = None, number: int | None = None, frames: int = 1
) -> ImageHeader:
    return ImageHeader(
        ref=ref or image_ref(),
        sop_class_uid=CT_SOP_CLASS,
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        plane=plane or axial_plane(),
        instance_number=number,
        number_of_frames=frames,
        patient_sex="F",
        patient_age_years=50,
    )


def bookmark(key: str = "9.9#1", ref: ImageRef | None = None, kind: Kind = Kind.BIDIRECTIONAL) -> Bookmark:
    sop, _, path = key.partition("#")
    return Bookmark(
        source=Source("1", "1.5", sop, "1.2.840.10008.5.1.4.1.1.88.22", "tid1500"),
        item_path=path,
        kind=kind,
        images=(ref or image_ref(),),
        long_axis=Axis(Segment((40.0, 50.0), (60.0, 50.0))),
        short_axis=Axis(Segment((50.0, 44.0), (50.0, 56.0))),
    )


def lesion(at: ImageHeader, key: str = "9.9#1", long_axis_mm: float = 16.0) -> Lesion:
    mark = bookmark(key, at.ref)
    return Lesion(
        bookmark=mark,
        header=at,
        long_axis=Segment((40.0, 50.0), (60.0, 50.0)),
        short_axis=Segment((50.0, 44.0), (50.0, 56.0)),
        box=Box(35.0, 39.0, 65.0, 61.0),
        long_axis_mm=long_axis_mm,
        short_axis_mm=9.6,
    )


def kept(at: ImageHeader, key: str = "9.9#1") -> Kept:
    return Kept(lesion(at, key))
