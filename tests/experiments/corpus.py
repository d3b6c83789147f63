"""Synthetic lesions in real CT as mined datasets: painted, written as DICOM with reports, and mined.

    python -m tests.experiments.corpus OUT [--passes 8] [--small] [--phantoms] [--seed 0] [--keep]

OUT/train and OUT/test are datasets of `mine import`; OUT/train-truth.json and OUT/test-truth.json say what is true
of them (`tests.experiments.corpus_truth`). Patients of the test never lend the training a slice, and the shapes of
lesions come from other patients, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.mask_recist import recist_of_mask
from deeplesion_miner.types import Segment
from dicom_io.testbed.identity import Person
from dicom_io.testbed.synthetic import Cross, write_synthetic_study
from models.synthesis.background import measured
from models.synthesis.placing import Settings
from models.synthesis.scene import Painted, Scene, synthesise
from models.synthesis.shapes import Shape, lobulated_ellipsoid, shapes_of_masks
from tests.experiments.backgrounds import Ground, phantom_grounds, real_grounds
from tests.experiments.corpus_truth import TrueLesion, TrueMimic, save, stacked
from tests.experiments.mined import Mined, import_files

READER_JITTER_MM = 0.7
"""Standard deviation of a reader's ends in each direction."""
LEAST_AXIS_MM = 2.0
"""Jitter that makes an axis shorter is drawn again."""
STUDY_MM = 240.0
"""A volume of this height is painted once in a pass; shorter ones more often, so that patients weigh alike."""
MOST_ALIKE = 3
"""Studies of one volume in a pass."""


@dataclass(frozen=True, eq=False)
class Study:
    """A written study and what was painted into it."""

    name: str
    """Of the volume that was painted."""
    patient: str
    is_test: bool
    number: int
    slices: int
    voxel_mm: tuple[float, float, float]
    """Distances of slices, rows and columns."""
    mimics: tuple[Painted, ...]
    lesions: tuple[tuple[Painted, NDArray[np.float64], NDArray[np.float64]], ...]
    """Each lesion with its exact and its reader's ends, (4, 2) px."""
    series_instance_uid: str
    hu_of_key_slices: dict[int, NDArray[np.int16]]


def person_of(patient: str) -> Person:
    """The made-up person that stands for a patient."""
    key = patient.replace(" ", "-")
    return Person(key, f"CANARY^{key}", f"MRN-CANARY-{key}", "19500101", "O")


def paint_and_write(
    ground: Ground, shapes: tuple[Shape, ...], numbers: Iterable[int], seed: int, folder: Path
) -> list[Study]:
    """Paints a volume once for each study number and writes it as DICOM below `folder`."""
    background = measured(ground.volume)
    name = int.from_bytes(ground.name.encode()[:12], "big") % 2**32
    studies = []
    for number in numbers:
        random = np.random.default_rng([seed, name, number])
        scene = synthesise(background, shapes, random, Settings())
        if scene.lesions:
            studies.append(_written(ground, number, scene, random, folder))
    return studies


def _written(ground: Ground, number: int, scene: Scene, random: np.random.Generator, folder: Path) -> Study:
    volume = scene.volume
    spacing = (volume.row_spacing_mm, volume.col_spacing_mm)
    lesions = []
    for lesion in scene.lesions:
        plane = lesion.key_mask.on_plane(*volume.hu.shape[1:])
        exact = _ends(recist_of_mask(plane, *spacing))
        lesions.append((lesion, exact, jittered(exact, spacing, random)))
    crosses = [
        Cross(lesion.key_index, *_axes(exact if ground.is_test else reader), word=lesion.word)
        for lesion, exact, reader in lesions
    ]
    person = person_of(ground.patient)
    refs = write_synthetic_study(
        folder / f"{person.key}-{number:03d}", person, number, volume.hu, spacing, volume.position_mm, crosses
    )
    keys = {lesion.key_index: volume.hu[lesion.key_index].copy() for lesion in scene.lesions}
    voxel_mm = (float(np.median(np.diff(volume.position_mm))), *spacing)
    return Study(
        name=ground.name,
        patient=ground.patient,
        is_test=ground.is_test,
        number=number,
        slices=len(volume.hu),
        voxel_mm=voxel_mm,
        mimics=scene.mimics,
        lesions=tuple(lesions),
        series_instance_uid=refs[0].series_instance_uid,
        hu_of_key_slices=keys,
    )


def jittered(
    ends_px: NDArray[np.float64], spacing_mm: tuple[float, float], random: np.random.Generator
) -> NDArray[np.float64]:
    """Ends as a reader might set them, (4, 2) px."""
    scale = np.array([spacing_mm[1], spacing_mm[0]])
    while True:
        moved: NDArray[np.float64] = ends_px + random.normal(0, READER_JITTER_MM, (4, 2)) / scale
        axes = (moved[1::2] - moved[::2]) * scale
        if np.hypot(*axes.T).min() >= LEAST_AXIS_MM:
            return moved


def _ends(axes: tuple[Segment, Segment]) -> NDArray[np.float64]:
    return np.array([point for axis in axes for point in (axis.start, axis.end)])


def _axes(ends_px: NDArray[np.float64]) -> tuple[Segment, Segment]:
    points = [(float(column), float(row)) for column, row in ends_px]
    return Segment(points[0], points[1]), Segment(points[2], points[3])


# --- the truth, by the dataset's names -------------------------------------------------------------------


def truth_of(studies: Sequence[Study], mined: Mined, notes: dict[str, object], path: Path) -> dict[str, object]:
    """Writes the truth of a mined dataset and returns what was counted; AssertionError where a lesion is missing."""
    series_ids = mined.crosswalk("series")
    files: dict[tuple[str, int], str] = {}
    for row in mined.table("slices"):
        files[row["series_id"], row["slice_number"]] = row["file_name"]
    lesions: list[TrueLesion] = []
    mimics: list[TrueMimic] = []
    masks: dict[str, NDArray[np.bool_]] = {}
    for study in studies:
        series_id = series_ids[study.series_instance_uid]
        names = [files.get((series_id, index + 1), "") for index in range(study.slices)]
        _check_pixels(study, names, mined.out)
        for painted, exact, reader in study.lesions:
            name = f"lesion_{len(lesions):05d}"
            top, left, masks[name] = stacked(painted)
            lesions.append(_true_lesion(study, painted, exact, reader, name, names, (top, left), masks[name]))
        for painted in study.mimics:
            boxes = {names[index]: _box(mask) for index, mask in painted.sections if names[index]}
            mimics.append(TrueMimic(painted.word, boxes))
    counted = _compared(lesions, mimics, mined)
    save(path, lesions, masks, mimics, {**notes, **counted})
    return counted


def _true_lesion(
    study: Study,
    painted: Painted,
    exact: NDArray[np.float64],
    reader: NDArray[np.float64],
    name: str,
    names: list[str],
    corner: tuple[int, int],
    mask: NDArray[np.bool_],
) -> TrueLesion:
    scale = np.array([study.voxel_mm[2], study.voxel_mm[1]])
    long_mm, short_mm = np.hypot(*((exact[1::2] - exact[::2]) * scale).T)
    return TrueLesion(
        name=name,
        key_slice=names[painted.key_index],
        word=painted.word,
        volume=study.name,
        patient=study.patient,
        study=study.number,
        exact_ends_px=exact.tolist(),
        reader_ends_px=reader.tolist(),
        drawn="exact" if study.is_test else "reader",
        long_axis_mm=float(long_mm),
        short_axis_mm=float(short_mm),
        volume_mm3=float(mask.sum() * np.prod(study.voxel_mm)),
        hu=painted.hu,
        contrast_hu=painted.contrast_hu,
        shape=painted.shape,
        slices=[names[index] for index, _ in painted.sections],
        first_row=corner[0],
        first_column=corner[1],
        mask_shape=list(mask.shape),
    )


def _box(mask: Any) -> list[float]:
    rows, columns = mask.bits.shape
    left, top = mask.first_column - 0.5, mask.first_row - 0.5
    return [left, top, left + columns, top + rows]


def _check_pixels(study: Study, names: list[str], dataset: Path) -> None:
    for index, hu in study.hu_of_key_slices.items():
        stored = cv2.imread(str(dataset / "Images_png" / names[index]), cv2.IMREAD_UNCHANGED)
        assert stored is not None, f"{study.name} {study.number}: slice {index + 1} is not in the dataset"
        assert (stored.astype(np.int32) - 32768 == hu).all(), f"{names[index]} shows another slice"


def _compared(lesions: list[TrueLesion], mimics: list[TrueMimic], mined: Mined) -> dict[str, object]:
    """Every painted lesion against the rows of lesions.parquet, and counts."""
    rows = mined.table("lesions")
    marked: dict[str, list[NDArray[np.float64]]] = {}
    for row in rows:
        ends = np.array([*row["long_axis_px"], *row["short_axis_px"]]).reshape(4, 2)
        marked.setdefault(row["file_name"], []).append(ends)
    worst = 0.0
    for lesion in lesions:
        drawn = np.array(lesion.exact_ends_px if lesion.drawn == "exact" else lesion.reader_ends_px)
        found = marked.get(lesion.key_slice, [])
        worst = max(worst, min((_apart_px(ends, drawn) for ends in found), default=np.inf))
    assert len(rows) == len(lesions), f"{len(rows)} rows for {len(lesions)} painted lesions"
    assert worst < 0.01, f"a mark lies {worst} px from where it was drawn"
    keys = {lesion.key_slice for lesion in lesions}
    crossing = sum(name in keys for mimic in mimics for name in mimic.boxes)
    return {
        "lesion_count": len(lesions),
        "key_slices": len(keys),
        "mimic_count": len(mimics),
        "mimic_sections_on_key_slices": crossing,
        "mimics_per_lesion_on_key_slices": round(crossing / max(len(lesions), 1), 2),
        "largest_error_px": worst,
        "possibly_noisy": sum(bool(row["possibly_noisy"]) for row in rows),
        "by_split": dict(Counter(row["split"] for row in rows)),
        "by_volume": dict(Counter(lesion.volume for lesion in lesions)),
        "by_word": dict(Counter(lesion.word for lesion in lesions)),
    }


def _apart_px(found: NDArray[np.float64], drawn: NDArray[np.float64]) -> float:
    """Largest distance of ends; the miner may swap the ends of an axis or both axes."""
    orders = [list(order) for order in ((0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (1, 0, 3, 2))]
    orders += [[*order[2:], *order[:2]] for order in orders]
    return min(float(np.abs(found[order] - drawn).max()) for order in orders)


# --- the whole -------------------------------------------------------------------------------------------


def build(
    out: Path, grounds: Iterable[Ground], shapes: Sequence[Shape], passes: dict[bool, int], seed: int, keep: bool
) -> dict[str, Any]:
    """Makes both datasets below `out`; returns what was counted, with the CPU seconds of each part."""
    shares = {False: tuple(shapes[: len(shapes) * 2 // 3]), True: tuple(shapes[len(shapes) * 2 // 3 :])}
    started = time.process_time()
    studies: dict[bool, list[Study]] = {False: [], True: []}
    numbers: Counter[str] = Counter()
    for ground in grounds:
        height = float(np.ptp(ground.volume.position_mm))
        count = passes[ground.is_test] * min(max(round(STUDY_MM / height), 1), MOST_ALIKE)
        first = numbers[ground.patient]
        numbers[ground.patient] += count
        folder = out / "dicom" / ("test" if ground.is_test else "train")
        found = paint_and_write(ground, shares[ground.is_test], range(first, first + count), seed, folder)
        studies[ground.is_test] += found
    report: dict[str, Any] = {"paint_and_write_cpu_s": round(time.process_time() - started, 1)}
    for is_test, word in ((False, "train"), (True, "test")):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        mined = import_files(out / f"mined-{word}", [out / "dicom" / word])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        counted = truth_of(studies[is_test], mined, {"seed": seed}, out / f"{word}-truth.json")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        report[word] = {
            "studies": len(studies[is_test]),
            "mine_cpu_s": round(cpu, 1),
            "digest": mined.digest,
            **counted,
        }
        shutil.move(mined.out, out / word)
        shutil.rmtree(out / f"mined-{word}")
    if not keep:
        shutil.rmtree(out / "dicom")
    (out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Synthetic lesions in real CT as mined datasets")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    parser.add_argument("--passes", type=int, default=7, help="studies of each training volume")
    parser.add_argument("--test-passes", type=int, default=3, help="studies of each test volume")
    parser.add_argument("--small", action="store_true", help="one pass each")
    parser.add_argument("--phantoms", action="store_true", help="phantom bodies and ellipsoids instead of real CT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the DICOM files")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True)
    passes = {False: 1, True: 1} if asked.small else {False: asked.passes, True: asked.test_passes}
    if asked.phantoms:
        random = np.random.default_rng([asked.seed, 0])
        shapes = tuple(lobulated_ellipsoid(random, f"ellipsoid {number}") for number in range(30))
        grounds: Iterable[Ground] = phantom_grounds(asked.seed)
    else:
        if asked.data is None:
            parser.error("name the folder of real data by --data or DLM_REAL_DATA, or take --phantoms")
        shapes = shapes_of_masks(Path(asked.data) / "deeplesion" / "masks")
        grounds = real_grounds(Path(asked.data))
    report = build(asked.out, grounds, shapes, passes, asked.seed, asked.keep)
    print(json.dumps(report, indent=1))
    print(f"{time.process_time():.0f} CPU-s here")


if __name__ == "__main__":
    main()
