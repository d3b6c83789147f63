"""Real tumours for the viewer: what radiation oncologists drew on real CT (`ct_lung1_rtstruct`, `sts_dicom`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.geometry import distance_mm, to_px
from deeplesion_miner.mask_recist import recist_of_mask
from deeplesion_miner.results import ReportedLesion, Result, coded
from dicom_io.emit.source import SourceImages
from tests.browser.overlay import inside
from tests.browser.phantom import AUTHOR, MADE_AT, Case, box_of, plane_of

ON_PLANE_MM = 0.5


def lung_tumour(data: Path) -> Case:
    """A large lung tumour, CT of 512 x 512."""
    folder = data / "ct_lung1_rtstruct"
    return _case(sorted((folder / "ct").glob("*.dcm")), folder / "rtstruct_gtv1.dcm", "lung")


def sarcoma(data: Path) -> Case:
    """A soft-tissue sarcoma in CT that was cropped around it."""
    folder = data / "sts_dicom" / "STS_019"
    modality = {path: dcmread(path, specific_tags=["Modality"]).Modality for path in sorted(folder.glob("*.dcm"))}
    (contours,) = (path for path, one in modality.items() if one == "RTSTRUCT")
    return _case([path for path, one in modality.items() if one == "CT"], contours, "soft tissue")


def _case(images: list[Path], contoured: Path, site: str) -> Case:
    """The CT with one lesion: the mask of every contoured slice, axes on the slice where it is largest."""
    source = SourceImages.read(images)
    contours = dcmread(contoured).ROIContourSequence[0].ContourSequence
    masks = []
    for sop, headers in source.headers.items():
        plane = plane_of(source, sop)
        points = [np.array(one.ContourData, float).reshape(-1, 3) for one in contours]
        here = [p for p in points if abs(distance_mm(plane, tuple(p[0]))) < ON_PLANE_MM]
        if here:
            bits = np.logical_xor.reduce([inside([to_px(plane, tuple(q)) for q in one], plane) for one in here])
            masks.append((-plane.origin_mm[2], headers[0].ref, bits))
    masks.sort(key=lambda one: one[0])
    _, image, largest = max(masks, key=lambda one: int(one[2].sum()))
    plane = plane_of(source, image.sop_instance_uid)
    long_axis, short_axis = recist_of_mask(largest, plane.row_spacing_mm, plane.col_spacing_mm)
    voxel_mm3 = plane.row_spacing_mm * plane.col_spacing_mm * (plane.slice_thickness_mm or 0.0)
    lesion = ReportedLesion(
        key="1",
        image=image,
        label="Lesion 1",
        finding=coded("finding", "lesion"),
        site=coded("site", site),
        score=0.9,
        long_axis=long_axis,
        short_axis=short_axis,
        box=box_of(long_axis, short_axis),
        masks=tuple((ref, PixelMask.of_plane(bits)) for _, ref, bits in masks),
        volume_mm3=voxel_mm3 * sum(int(bits.sum()) for _, _, bits in masks),
    )
    return Case(tuple(images), source, Result(image.study_instance_uid, AUTHOR, (lesion,), MADE_AT))
