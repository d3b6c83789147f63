"""The corpus on phantoms: painted, written, mined; its truth names what the dataset holds."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest

from deeplesion_miner.mask_recist import recist_of_mask
from models.synthesis.shapes import lobulated_ellipsoid
from tests.experiments.backgrounds import PATIENTS, TEST_PATIENTS, nifti_volume, phantom_grounds, real_grounds
from tests.experiments.corpus import build, jittered
from tests.experiments.corpus_truth import CorpusTruth

EPSILON = 1e-6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    shapes = [lobulated_ellipsoid(random, f"made {number}") for number in range(6)]
    grounds = islice(phantom_grounds(0), 3, 5)
    return out, build(out, grounds, shapes, {False: 1, True: 1}, 0, keep=False)


def test_every_painted_lesion_is_a_row_of_the_dataset_where_it_was_drawn(corpus: tuple[Path, dict[str, Any]]) -> None:
    _, report = corpus
    for word in ("train", "test"):
        assert report[word]["lesion_count"] >= 5
        assert report[word]["largest_error_px"] < 0.01


def test_masks_cover_their_crosses_and_boxes_hold_their_mimics_on_the_slices_they_name(
    corpus: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = corpus
    truth = CorpusTruth.open(out / "test-truth.json")
    for lesion in truth.lesions:
        image = cv2.imread(str(out / "test" / "Images_png" / lesion.key_slice), cv2.IMREAD_UNCHANGED)
        key = truth.key_mask(lesion)
        plane = key.on_plane(*image.shape)
        assert plane.sum() == key.bits.sum(), "the mask lies within the image"
        rows, columns = np.nonzero(plane)
        left, top, right, bottom = lesion.tight_box_px
        assert left > columns.min() - 0.5 - EPSILON and right < columns.max() + 0.5 + EPSILON
        assert top > rows.min() - 0.5 - EPSILON and bottom < rows.max() + 0.5 + EPSILON
        for column, row in lesion.exact_ends_px:
            assert np.hypot(rows - row, columns - column).min() <= 0.75, "ends lie on the outline"
        assert lesion.drawn == "exact"
        assert truth.mask(lesion).any(axis=(1, 2)).all()
    for name in truth.lesions_by_key_slice:
        assert truth.mimic_boxes(name).shape[1:] == (4,)
    assert sum(len(truth.mimic_boxes(name)) for name in truth.lesions_by_key_slice) > 0


def test_training_marks_are_a_readers_test_marks_are_exact(corpus: tuple[Path, dict[str, Any]]) -> None:
    out, _ = corpus
    lesions = CorpusTruth.open(out / "train-truth.json").lesions
    apart = [np.subtract(lesion.reader_ends_px, lesion.exact_ends_px) for lesion in lesions]
    assert {lesion.drawn for lesion in lesions} == {"reader"}
    assert 0.2 < np.std(apart) < 0.7, "0.7 mm are 0.35 to 0.47 pixels of a phantom"


def test_jitter_is_in_millimetres_and_never_folds_an_axis_away() -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[4, 4] = True
    ends = np.array([point for axis in recist_of_mask(mask, 2.0, 0.5) for point in (axis.start, axis.end)])
    random = np.random.default_rng(0)
    moved = np.stack([jittered(ends, (2.0, 0.5), random) for _ in range(300)])
    lengths = np.hypot(*((moved[:, 1::2] - moved[:, ::2]) * [0.5, 2.0]).reshape(-1, 2).T)
    assert lengths.min() >= 2.0
    wide = np.array([[0.0, 0.0], [40.0, 0.0], [20.0, -5.0], [20.0, 5.0]])
    noise = np.std([jittered(wide, (2.0, 0.5), random) - wide for _ in range(800)], axis=(0, 1))
    assert noise == pytest.approx([1.4, 0.35], rel=0.06)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)])
def test_a_nifti_volume_becomes_slices_from_the_head_with_the_left_of_the_patient_at_the_right(
    tmp_path: Path, signs: tuple[int, int, int]
) -> None:
    """One bright voxel to the patient's left, at the back, near the head, wherever the file's axes point."""
    spacing = (1.5, 2.0, 3.0)
    ras = np.array([-20.0, -24.0, 27.0])  # left, back, head in RAS
    affine = np.diag([*(sign * mm for sign, mm in zip(signs, spacing, strict=True)), 1.0])
    size = np.array([40, 30, 20])
    affine[:3, 3] = [-sign * mm * (count - 1) / 2 for sign, mm, count in zip(signs, spacing, size, strict=True)]
    data = np.zeros(size, np.int16)
    i, j, k = np.rint(np.linalg.solve(affine, [*ras, 1.0])[:3]).astype(int)
    data[i, j, k] = 1000
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "one.nii.gz")
    volume = nifti_volume(tmp_path / "one.nii.gz")
    (index, row, column) = np.argwhere(volume.hu == 1000)[0]
    assert volume.hu.shape == (20, 30, 40)
    assert (volume.row_spacing_mm, volume.col_spacing_mm) == (2.0, 1.5)
    assert np.diff(volume.position_mm) == pytest.approx([3.0] * 19)
    assert index < 10 and row > 15 and column > 20


def test_both_volumes_of_a_patient_are_on_one_side_and_four_patients_are_held_out() -> None:
    sides: dict[str, set[bool]] = {}
    for patient in PATIENTS.values():
        sides.setdefault(patient, set()).add(patient in TEST_PATIENTS)
    assert all(len(side) == 1 for side in sides.values())
    assert len(TEST_PATIENTS) == 4 and len(sides) == 15


@pytest.mark.real
def test_real_volumes_show_the_liver_at_the_left_and_the_spine_at_the_bottom(real_data: Path) -> None:
    seen = 0
    for ground in real_grounds(real_data):
        bone = ground.volume.hu[len(ground.volume.hu) // 2] > 250
        assert ground.patient == PATIENTS[ground.name]
        if ground.name.startswith("abdomen"):
            rows, _ = np.nonzero(bone)
            assert np.median(rows) > ground.volume.hu.shape[1] * 0.5
            seen += 1
    assert seen == 5
