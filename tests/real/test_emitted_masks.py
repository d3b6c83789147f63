"""Real lesions on real CT, written as masks, contours and presentation states and read back by other software.

Masks by radiation oncologists (LUNG1, two sarcomas: contours) and of 3D Slicer and dcmqi (voxels); blobs on the rest.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from deeplesion_miner.detection import PixelMask
from deeplesion_miner.results import ReportedLesion, coded
from deeplesion_miner.types import ImagePlane, ImageRef, Unreadable
from dicom_io import part10, planes
from dicom_io.emit import EmitSettings, emit
from dicom_io.emit.envelope import PATIENT, STUDY
from tests.dicom_validators import dcentvfy, dciodvfy
from tests.experiments.plant import dicomweb_images
from tests.mask_readers import by_contours, by_dcmqi, by_highdicom, by_pydicom, filled
from tests.masked_studies import Planes, Study, assert_same, lesion, planes_of

pytestmark = pytest.mark.real

KINDS = ("dicom-seg", "rtstruct", "gsps")
SIDE_OF_AN_UNNAMED_BODY_PART = "<Laterality>"
"""What dicom3tools asks of presentation states, not of CT, where the images name no body part."""
NO_THICKNESS = "Error - Missing attribute Type 1C Conditional Element=<SliceThickness> Module=<PixelMeasuresMacro>"
"""What dicom3tools of 2022 asks of segmentations, not of CT; PS3.3 asks it of volumes only."""


@dataclass(frozen=True, eq=False)
class Case:
    """Lesions of which somebody else drew the masks."""

    study: Study
    lesions: tuple[ReportedLesion, ...]

    @property
    def truth(self) -> Planes:
        return planes_of(self.study, self.lesions)


def reported(name: str, masks: dict[ImageRef, NDArray[np.bool_]]) -> ReportedLesion:
    """A lesion of these whole planes."""
    order = sorted(masks)
    drawn = tuple((image, PixelMask.of_plane(masks[image])) for image in order)
    return ReportedLesion(name, order[0], name, coded("finding", "lesion"), masks=drawn)


def contoured(folder: Path, structures: Path, regions: str) -> Case:
    """The CT of a folder and regions of a structure set, whose contours are linked to slices by their place."""
    study = Study.read(path for path in folder.glob("*.dcm") if pydicom.dcmread(path, True).Modality == "CT")
    dataset = pydicom.dcmread(structures)
    names = {int(one.ROINumber): str(one.ROIName) for one in dataset.StructureSetROISequence}
    lesions = []
    for region in dataset.ROIContourSequence:
        name = names[int(region.ReferencedROINumber)]
        if not re.search(regions, name):
            continue
        masks: dict[ImageRef, NDArray[np.bool_]] = {}
        for contour in region.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            image = min(study.images, key=lambda ref: abs(study.plane(ref).origin_mm[2] - points[0, 2]))
            plane = study.plane(image)
            assert abs(plane.origin_mm[2] - points[0, 2]) < 0.5
            pixels = (points[:, :2] - plane.origin_mm[:2]) / (plane.col_spacing_mm, plane.row_spacing_mm)
            masks[image] = masks.get(image, False) ^ filled([pixels], plane.rows, plane.columns)
        lesions.append(reported(name, {image: mask for image, mask in masks.items() if mask.any()}))
    return Case(study, tuple(lesions))


def segmented(study: Study, segmentation: Path) -> Case:
    """The segments of somebody else's segmentation."""
    found = by_pydicom(segmentation, study)
    drawn = {name: {image: mask for image, mask in masks.items() if mask.any()} for name, masks in found.items()}
    return Case(study, tuple(reported(name, masks) for name, masks in sorted(drawn.items()) if masks))


def lung_tumour(data: Path, _: Path) -> Case:
    return contoured(data / "ct_lung1_rtstruct" / "ct", data / "ct_lung1_rtstruct" / "rtstruct_gtv1.dcm", "GTV")


def sarcoma(number: str) -> Callable[[Path, Path], Case]:
    def case(data: Path, _: Path) -> Case:
        folder = data / "sts_dicom" / f"STS_{number}"
        (structures,) = (path for path in folder.iterdir() if pydicom.dcmread(path, True).Modality == "RTSTRUCT")
        return contoured(folder, structures, "GTV_Mass")

    return case


def tissue_by_slicer(data: Path, folder: Path) -> Case:
    for number, image in enumerate(dicomweb_images(data / "ct_acrin_seg" / "dicomweb")):
        image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return segmented(Study.read(folder.glob("*.dcm")), data / "ct_acrin_seg" / "seg_slicer_on_ct.dcm")


def liver_by_dcmqi(data: Path, _: Path) -> Case:
    folder = data / "ct_liver_seg_sr"
    return segmented(Study.read((folder / "ct").glob("*")), folder / "liver_seg_dcmqi.dcm")


CASES = {
    "lung tumour": lung_tumour,
    "sarcoma 019": sarcoma("019"),
    "sarcoma 025": sarcoma("025"),
    "tissue by Slicer": tissue_by_slicer,
    "liver by dcmqi": liver_by_dcmqi,
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return CASES[request.param](real_data, tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def objects(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The segmentation and the structure set of a case."""
    mask, structures = saved(case.study, case.lesions, ("dicom-seg", "rtstruct"), tmp_path_factory.mktemp("objects"))
    return mask, structures


def test_real_masks_come_back_from_every_reader_voxel_for_voxel(
    case: Case, objects: tuple[Path, Path], tmp_path: Path
) -> None:
    mask, _ = objects
    assert case.lesions
    assert sum(mask.sum() for masks in case.truth.values() for mask in masks.values()) > 300
    assert_same(by_pydicom(mask, case.study), case.truth)
    assert_same(by_highdicom(mask, case.study), case.truth)
    assert_same(by_dcmqi(mask, case.study, tmp_path / "dcmqi"), case.truth)


def test_real_masks_come_back_from_their_contours_voxel_for_voxel(case: Case, objects: tuple[Path, Path]) -> None:
    _, structures = objects
    assert_same(by_contours(structures, case.study), case.truth)


def test_validators_find_nothing_in_them_that_they_do_not_find_in_their_images(
    case: Case, objects: tuple[Path, Path]
) -> None:
    for path in objects:
        assert set(dciodvfy(path)) <= findings_of_images(case.study, case.lesions)
        assert contradictions(path, case.study) == []


def saved(study: Study, lesions: Iterable[ReportedLesion], kinds: tuple[str, ...], folder: Path) -> list[Path]:
    emission = emit(study.result(*lesions), study.source, kinds, EmitSettings())
    assert emission.left_out == ()
    paths = []
    for number, found in enumerate(emission.objects):
        paths.append(folder / f"{found.kind}_{number}.dcm")
        paths[-1].write_bytes(found.encoded)
    return paths


def contradictions(path: Path, study: Study) -> list[str]:
    """What dcentvfy says of the object beside its images and not of those.

    That something stays with the images does not count, nor that a type 2 attribute is empty.
    """
    before = {without_files(line) for line in dcentvfy(study.paths)}
    found = [without_files(line) for line in dcentvfy([*study.paths, path])]
    absent = re.compile(r"present in one instance but not the other - Element=<(\w+)>")
    new = [line for line in found if line not in before and "OK only If Type 2" not in line]
    return [line for line in new if not (said := absent.search(line)) or said[1] in {*PATIENT, *STUDY}]


def without_files(line: str) -> str:
    return line.partition(" for file ")[0]


def findings_of_images(study: Study, lesions: Iterable[ReportedLesion]) -> set[str]:
    """What dciodvfy says of the images with the lesions' key slices."""
    keys = {one.image.sop_instance_uid for one in lesions}
    headers = ((path, part10.read(path, pixels=False)) for path in study.paths)
    return {line for path, header in headers if header.SOPInstanceUID in keys for line in dciodvfy(path)}


def all_series(data: Path) -> list[tuple[Path, ...]]:
    """CT of every geometry and encoding that the collection has: files of one series that lie together."""
    found: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    folders = ("tricky_ct", "archive_population", "rider_aim/images", "ohif_phantom", "measurement_objects/images")
    for path in sorted(path for folder in folders for path in (data / folder).rglob("*")):
        if path.is_dir() or path.parent.name == "broken":
            continue
        dataset = part10.read(path, pixels=False)
        headers = planes.headers_of(dataset, 0) if isinstance(dataset, Dataset) else ()
        if isinstance(headers, Unreadable) or not headers:
            continue
        plane = headers[0].plane
        if isinstance(plane, ImagePlane) and plane.rows <= 1024 and headers[0].modality == "CT":
            found[path.parent, headers[0].ref.series_instance_uid].append(path)
    return [tuple(paths) for paths in found.values()]


def test_ct_of_every_geometry_and_encoding_holds_its_masks(real_data: Path, tmp_path: Path) -> None:
    counted: dict[str, int] = defaultdict(int)
    for number, paths in enumerate(all_series(real_data)):
        study = Study.read(paths)
        lesions = [
            lesion(study, name, (place,), seed=number) for name, place in enumerate(range(len(study.images))[:3])
        ]
        emission = emit(study.result(*lesions), study.source, KINDS)
        assert {left.why for left in emission.left_out} <= {"no_frame_of_reference", "no_sop_class"}
        by_images = findings_of_images(study, lesions)
        truth = planes_of(study, lesions)
        parts: dict[str, Planes] = defaultdict(dict)
        for found in emission.objects:
            path = tmp_path / f"{number}_{found.sop_instance_uid}"
            path.write_bytes(found.encoded)
            more = set(dciodvfy(path)) - by_images
            assert all(SIDE_OF_AN_UNNAMED_BODY_PART in line or line == NO_THICKNESS for line in more), (paths[0], more)
            counted[found.kind] += 1
            if found.kind == "dicom-seg":
                parts[found.kind] = {**parts[found.kind], **by_pydicom(path, study)}
            if found.kind == "rtstruct":
                parts[found.kind] = {**parts[found.kind], **by_contours(path, study)}
        for found_planes in parts.values():
            assert_same(found_planes, truth)
    assert min(counted[kind] for kind in KINDS) >= 30
