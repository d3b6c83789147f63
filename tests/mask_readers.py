"""Readers of masks and contours that are not ours: pydicom with numpy, highdicom, dcmqi, matplotlib."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from deeplesion_miner.types import ImageRef
from tests.masked_studies import Planes, Study


def by_pydicom(path: Path, study: Study) -> Planes:
    """Frame by frame: pixels unpacked by hand (1 bit) or decoded by pydicom, images from the derivation macro."""
    dataset = pydicom.dcmread(path)
    shape = (int(dataset.get("NumberOfFrames", 1)), dataset.Rows, dataset.Columns)
    if dataset.BitsAllocated == 1:
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        pixels = bits[: np.prod(shape)].reshape(shape)
    else:
        pixels = dataset.pixel_array.reshape(shape)
    labels = {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in dataset.SegmentSequence}
    found: dict[str, dict[ImageRef, NDArray[np.bool_]]] = defaultdict(dict)
    for frame, picture in zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        image = _image(frame.DerivationImageSequence[0].SourceImageSequence[0], study)
        if dataset.SegmentationType == "LABELMAP":
            for number in np.unique(picture[picture > 0]).tolist():
                found[labels[number]][image] = picture == number
            continue
        shared = dataset.SharedFunctionalGroupsSequence[0]
        owner = frame if "SegmentIdentificationSequence" in frame else shared
        number = int(owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if dataset.SegmentationType == "FRACTIONAL":
            assert set(np.unique(picture).tolist()) <= {0, int(dataset.MaximumFractionalValue)}
        found[labels[number]][image] = picture > 0
    return found


def by_highdicom(path: Path, study: Study) -> Planes:
    """By segment and source image."""
    read = segread(path)
    uids = [str(one[2]) for one in read.get_source_image_uids()]
    found: dict[str, dict[ImageRef, NDArray[np.bool_]]] = defaultdict(dict)
    images = [image for image in study.images if image.sop_instance_uid in uids]
    if images[0].frame_number != images[-1].frame_number:
        numbers = sorted({image.frame_number for image in images})
        pixels = read.get_pixels_by_source_frame(uids[0], numbers, assert_missing_frames_are_empty=True)
        images.sort(key=lambda image: image.frame_number)
    else:
        pixels = read.get_pixels_by_source_instance(
            [image.sop_instance_uid for image in images], assert_missing_frames_are_empty=True
        )
    for number in read.segment_numbers:
        label = read.get_segment_description(number).segment_label
        for image, picture in zip(images, pixels[..., number - 1], strict=True):
            if picture.any():
                found[label][image] = picture > 0
    return found


def by_dcmqi(path: Path, study: Study, folder: Path) -> Planes:
    """The NIfTI volumes that dcmqi makes: their voxels are carried to the images by both geometries alone."""
    beside = Path(sys.executable).parent / "segimage2itkimage"
    command = str(beside) if beside.exists() else shutil.which("segimage2itkimage")
    if command is None:
        pytest.skip("dcmqi is not installed (pip install dcmqi)")
    folder.mkdir()
    arguments = [command, "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nii", "-p", "seg"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((folder / "seg-meta.json").read_text("utf-8"))["segmentAttributes"]
    labels = {item["labelID"]: item["SegmentLabel"] for group in said for item in group}
    found = {}
    for number, label in labels.items():
        volume = nibabel.load(folder / f"seg-{number}.nii.gz")
        found[label] = _on_images(np.asarray(volume.dataobj) > 0, np.asarray(volume.affine), study)
    return found


def _on_images(
    inside: NDArray[np.bool_], affine: NDArray[np.float64], study: Study
) -> dict[ImageRef, NDArray[np.bool_]]:
    """Pixels of the images whose centres are those of the volume's voxels; each voxel must have one."""
    voxels = np.argwhere(inside)
    points = (voxels @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)
    found: dict[ImageRef, NDArray[np.bool_]] = {}
    placed = 0
    for image in study.images:
        plane = study.plane(image)
        row_dir, col_dir = np.array(plane.row_dir), np.array(plane.col_dir)
        offset = points - np.array(plane.origin_mm)
        here = offset[np.abs(offset @ np.cross(row_dir, col_dir)) < 0.01]
        if not len(here):
            continue
        column, row = here @ row_dir / plane.col_spacing_mm, here @ col_dir / plane.row_spacing_mm
        assert np.abs(column - np.rint(column)).max() < 0.01
        assert np.abs(row - np.rint(row)).max() < 0.01
        picture = np.zeros((plane.rows, plane.columns), np.bool_)
        picture[np.rint(row).astype(int), np.rint(column).astype(int)] = True
        found[image] = picture
        placed += len(here)
    assert placed == len(voxels)
    return found


def contours(path: Path, study: Study) -> dict[str, dict[ImageRef, list[NDArray[np.float64]]]]:
    """Contours of each region by image, in (column, row) of that image; they lie in its plane within 0.01 mm."""
    dataset = pydicom.dcmread(path)
    names = {int(one.ROINumber): str(one.ROIName) for one in dataset.StructureSetROISequence}
    found: dict[str, dict[ImageRef, list[NDArray[np.float64]]]] = {}
    for region in dataset.ROIContourSequence:
        by_image = found.setdefault(names[int(region.ReferencedROINumber)], defaultdict(list))
        for contour in region.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            image = _image(contour.ContourImageSequence[0], study)
            plane = study.plane(image)
            offset = points - np.array(plane.origin_mm)
            row_dir, col_dir = np.array(plane.row_dir), np.array(plane.col_dir)
            assert np.abs(offset @ np.cross(row_dir, col_dir)).max() < 0.01
            pixels = np.stack(
                [offset @ row_dir / plane.col_spacing_mm, offset @ col_dir / plane.row_spacing_mm], axis=1
            )
            by_image[image].append(pixels)
    return found


def by_contours(path: Path, study: Study) -> Planes:
    """Masks by filling the contours of each region."""
    return {
        name: {
            image: filled(polygons, study.plane(image).rows, study.plane(image).columns)
            for image, polygons in by_image.items()
        }
        for name, by_image in contours(path, study).items()
    }


def filled(polygons: list[NDArray[np.float64]], rows: int, columns: int) -> NDArray[np.bool_]:
    """Pixels whose centres matplotlib finds inside of polygons in (column, row), which are combined by XOR."""
    paths = pytest.importorskip("matplotlib.path")
    picture = np.zeros((rows, columns), np.bool_)
    for polygon in polygons:
        left, top = np.maximum(np.floor(polygon.min(axis=0)).astype(int), 0)
        right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + 1
        around = picture[top:bottom, left:right]
        row, column = np.indices(around.shape)
        centres = np.stack([column.ravel() + left, row.ravel() + top], axis=1)
        around ^= paths.Path(polygon).contains_points(centres).reshape(around.shape)
    return picture


def _image(reference: Dataset, study: Study) -> ImageRef:
    frame = int(reference.get("ReferencedFrameNumber", 1))
    uid = reference.ReferencedSOPInstanceUID
    assert reference.ReferencedSOPClassUID == study.source.datasets[uid].SOPClassUID
    return next(image for image in study.images if (image.sop_instance_uid, image.frame_number) == (uid, frame))
