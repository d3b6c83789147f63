"""Real DeepLesion slices through our writer, read as two public loaders read the public data set.

The loaders are written again here from what their code does: 3DCE / MULAN's `load_ct_img` and DeepLesion's own
`DL_save_nifti`.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from public_rows import derived_again, lesion_of

from dataset_builder import dl_info
from dataset_builder.png import read_png
from dataset_builder.stage import Stage
from dataset_builder.verify import check
from dataset_builder.writer import DatasetWriter
from deeplesion_miner.records import BookmarkRecord, LesionRecord, Sample, SliceRecord
from deeplesion_miner.types import ImageRef, Slice

pytestmark = pytest.mark.real

HEADER = (
    "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Measurement_coordinates,Bounding_boxes,"
    "Lesion_diameters_Pixel_,Normalized_lesion_location,Coarse_lesion_type,Possibly_noisy,Slice_range,"
    "Spacing_mm_px_,Image_size,DICOM_windows,Patient_gender,Patient_age,Train_Val_Test"
)
SLICE_INTERVAL_MM = 2.0


@dataclass(frozen=True)
class Written:
    """The same slices and rows: as the public, and as we write them."""

    public: Path
    ours: Path


def record_of(row: dl_info.Row, number: int) -> LesionRecord:
    record = derived_again(lesion_of(row))
    series = record.file_name.split("/")[0]
    return replace(
        record,
        lesion_id=f"lesion{number}",
        bookmark_id=f"bookmark{number}",
        patient_id=f"patient{record.patient_index}",
        study_id=f"study{series[:9]}",
        series_id=f"series{series}",
    )


def bookmark_of(record: LesionRecord) -> BookmarkRecord:
    return BookmarkRecord(
        record.bookmark_id, record.patient_id, record.study_id, "source", "bidirectional", "tid1500", "", "kept",
        "", "", (), record.lesion_id,
    )  # fmt: skip


def slice_of(path: Path, records: list[LesionRecord], stage: Stage) -> SliceRecord:
    number, some = int(path.stem), records[0]
    first = min(int(other.stem) for other in path.parent.glob("*.png"))
    assert some.slice_interval_mm is not None
    hu = read_png(path)
    return SliceRecord(
        series_id=some.series_id,
        patient_index=some.patient_index,
        study_index=some.study_index,
        series_index=some.series_index,
        file_name=f"{path.parent.name}/{path.name}",
        slice_number=number,
        position_mm=(number - first) * some.slice_interval_mm,
        rows=hu.shape[0],
        columns=hu.shape[1],
        col_spacing_mm=some.col_spacing_mm,
        row_spacing_mm=some.row_spacing_mm,
        is_key_slice=number in {record.key_slice_number for record in records},
        clipped_px=0,
        png_sha256=stage.put(Slice(ImageRef("", "", ""), hu)),
    )


@pytest.fixture(scope="module")
def written(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    public = real_data / "deeplesion" / "png"
    rows = dl_info.parse((public / "DL_info_png_visible.csv").read_text(encoding="ascii"))
    by_series: dict[str, list[LesionRecord]] = defaultdict(list)
    for number, row in enumerate(rows):
        record = record_of(row, number)
        if (public / "Images_png" / record.file_name).exists():
            by_series[record.file_name.split("/")[0]].append(record)
    folder = tmp_path_factory.mktemp("loaders")
    stage = Stage(folder / "stage")
    samples = [
        Sample(
            tuple(records),
            tuple(slice_of(p, records, stage) for p in sorted((public / "Images_png" / series).glob("*.png"))),
            tuple(map(bookmark_of, records)),
        )
        for series, records in by_series.items()
    ]
    DatasetWriter(folder / "DATASET", stage).write(samples)
    return Written(public, folder / "DATASET")


def test_the_dataset_is_sound(written: Written) -> None:
    assert check(written.ours) == []


# --- 3DCE / MULAN ----------------------------------------------------------------------------------------


def key_images(path: Path) -> dict[str, list[dict[str, str]]]:
    """Rows by file name, possibly noisy ones dropped."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if int(row["Possibly_noisy"]) == 0:
                found[row["File_name"]].append(row)
    return found


def load(root: Path, name: str, number: int) -> np.ndarray | None:
    path = root / "Images_png" / name[: name.rindex("_")] / f"{number:03d}.png"
    if not path.exists():
        return None
    stored = np.asarray(Image.open(path))
    assert stored.dtype == np.uint16
    return stored.astype(np.int32) - 32768


def neighbour(root: Path, row: dict[str, str], step: int) -> np.ndarray:
    """The slice `step` * 2 mm away; between slices interpolated, beyond the last one repeated."""
    name, key = row["File_name"], int(row["Key_slice_index"])
    interval = float(row["Spacing_mm_px_"].split(",")[2])
    relative = SLICE_INTERVAL_MM / interval * abs(step)
    sign = 1 if step > 0 else -1

    def nearest(offset: int) -> np.ndarray:
        for back in range(offset, -1, -1):
            image = load(root, name, key + sign * back)
            if image is not None:
                return image
        raise AssertionError("not even the key slice exists")

    low, high = int(np.floor(relative)), int(np.ceil(relative))
    if low == high:
        return nearest(low).astype(float)
    return nearest(high) * (relative - low) + nearest(low) * (high - relative)


def test_the_first_line_is_the_one_that_loaders_compare(written: Written) -> None:
    assert (written.ours / "DL_info.csv").read_bytes().split(b"\n", 1)[0].decode() == HEADER


def test_3dce_finds_the_same_images_boxes_and_spacings(written: Written) -> None:
    public = key_images(written.public / "DL_info_png_visible.csv")
    ours = key_images(written.ours / "DL_info.csv")
    present = {
        name: rows
        for name, rows in public.items()
        if load(written.public, name, int(rows[0]["Key_slice_index"])) is not None
    }
    assert ours.keys() == present.keys() and len(ours) >= 20
    for name, rows in ours.items():
        for column in ("Bounding_boxes", "Measurement_coordinates", "Spacing_mm_px_", "Slice_range", "DICOM_windows"):
            one = sorted(tuple(map(float, row[column].split(","))) for row in rows)
            other = sorted(tuple(map(float, row[column].split(","))) for row in present[name])
            assert np.subtract(one, other) == pytest.approx(0, abs=1.001e-3), (name, column)


@pytest.mark.parametrize("step", [-2, -1, 0, 1, 2])
def test_3dce_loads_the_same_three_channels(written: Written, step: int) -> None:
    for name, rows in key_images(written.ours / "DL_info.csv").items():
        np.testing.assert_array_equal(
            neighbour(written.ours, rows[0], step), neighbour(written.public, rows[0], step), name
        )


def test_hu_is_the_stored_value_minus_32768(written: Written) -> None:
    for name, rows in key_images(written.ours / "DL_info.csv").items():
        image = load(written.ours, name, int(rows[0]["Key_slice_index"]))
        assert image is not None
        assert -3024 <= image.min() <= -1000 and 100 < image.max() <= 4095


# --- DL_save_nifti ---------------------------------------------------------------------------------------


def sub_volumes(root: Path, table: str) -> dict[str, np.ndarray]:
    """File name -> slices of the range that exist, stacked and reversed in z."""
    found = {}
    with (root / table).open(newline="") as file:
        for row in csv.DictReader(file):
            first, last = map(int, row["Slice_range"].split(","))
            series = row["File_name"][: row["File_name"].rindex("_")]
            images = [load(root, row["File_name"], number) for number in range(first, last + 1)]
            stack = [image for image in images if image is not None]
            if stack:
                found[f"{series}_{first:03d}-{last:03d}.nii.gz"] = np.stack(stack)[::-1]
    return found


def test_dl_save_nifti_makes_the_same_sub_volumes(written: Written) -> None:
    public = sub_volumes(written.public, "DL_info_png_visible.csv")
    ours = sub_volumes(written.ours, "DL_info.csv")
    assert ours.keys() == public.keys()
    assert ours["000001_01_01_103-115.nii.gz"].shape == (13, 512, 512)
    for name, volume in ours.items():
        np.testing.assert_array_equal(volume, public[name], name)
