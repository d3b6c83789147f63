"""Real CT for the viewer, with what others drew on it: oncologists' contours (`ct_lung1_rtstruct`, `sts_dicom`), a
nodule in a detector's boxes (`ct_nlst_sr`), an organ's segmentation (`ct_liver_seg_sr`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.geometry import distance_mm, to_px
from deeplesion_miner.mask_recist import recist_of_mask
from deeplesion_miner.results import ReportedLesion, Result, coded
from dicom_io.emit.source import SourceImages
from tests.browser.overlay import inside
from tests.browser.phantom import AUTHOR, MADE_AT, Case, box_of, plane_of
from tests.experiments.plant import FREE_FROM, dicomweb_images, nodule_outline, sybil_boxes

ON_PLANE_MM = 0.5


def lung_tumour(data: Path) -> Case:
    """A large lung tumour, CT of 512 x 512."""
    folder = data / "ct_lung1_rtstruct"
    return _contoured(sorted((folder / "ct").glob("*.dcm")), folder / "rtstruct_gtv1.dcm", "lung")


def sarcoma(data: Path) -> Case:
    """A soft-tissue sarcoma in CT that was cropped around it."""
    folder = data / "sts_dicom" / "STS_019"
    modality = {path: dcmread(path, specific_tags=["Modality"]).Modality for path in sorted(folder.glob("*.dcm"))}
    (contours,) = (path for path, one in modality.items() if one == "RTSTRUCT")
    return _contoured([path for path, one in modality.items() if one == "CT"], contours, "soft tissue")


def nodule(data: Path, folder: Path) -> Case:
    """A small nodule in screening CT, written below `folder`: what is dense in the boxes of the detector Sybil."""
    folder.mkdir(parents=True)
    boxes, images, drawn = sybil_boxes(data), [], {}
    for image in dicomweb_images(data / "ct_nlst_sr" / "dicomweb"):
        path = folder / f"{int(image.InstanceNumber):04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        images.append(path)
        box = boxes.get(str(image.SOPInstanceUID))
        if box is not None and int(image.InstanceNumber) >= FREE_FROM:
            stored = dcmread(path)
            hu = stored.pixel_array * float(stored.RescaleSlope) + float(stored.RescaleIntercept)
            columns, rows = nodule_outline(hu, box).astype(int).T
            bits = np.zeros(hu.shape, np.bool_)
            bits[rows, columns] = True
            drawn[str(image.SOPInstanceUID)] = bits
    return _case(sorted(images), SourceImages.read(sorted(images)), drawn, "lung")


def liver(data: Path) -> Case:
    """A liver on three slices, as segmented in an object of dcmqi's: an organ, so a large mask with concave edges."""
    folder = data / "ct_liver_seg_sr"
    images = sorted((folder / "ct").glob("*.dcm"))
    segmentation = dcmread(folder / "liver_seg_dcmqi.dcm")
    drawn = {
        str(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID): bits > 0
        for frame, bits in zip(segmentation.PerFrameFunctionalGroupsSequence, segmentation.pixel_array, strict=True)
    }
    return _case(images, SourceImages.read(images), drawn, "liver")


def _contoured(images: list[Path], contoured: Path, site: str) -> Case:
    """The CT with the first region of a structure set: the mask of every contoured slice."""
    source = SourceImages.read(images)
    contours = dcmread(contoured).ROIContourSequence[0].ContourSequence
    drawn = {}
    for sop in source.headers:
        plane = plane_of(source, sop)
        points = [np.array(one.ContourData, float).reshape(-1, 3) for one in contours]
        here = [p for p in points if abs(distance_mm(plane, tuple(p[0]))) < ON_PLANE_MM]
        if here:
            drawn[sop] = np.logical_xor.reduce([inside([to_px(plane, tuple(q)) for q in one], plane) for one in here])
    return _case(images, source, drawn, site)


def _case(images: list[Path], source: SourceImages, drawn: dict[str, NDArray[np.bool_]], site: str) -> Case:
    """The CT with one lesion: masks by SOP Instance UID, axes on the slice where its mask is largest."""
    masks = [(-plane_of(source, sop).origin_mm[2], source.headers[sop][0].ref, bits) for sop, bits in drawn.items()]
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
