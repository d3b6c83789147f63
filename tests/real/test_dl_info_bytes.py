"""The public rows of DeepLesion, read into our records and written back: the same bytes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_builder import dl_info
from dataset_builder.dl_info import Row
from deeplesion_miner.deidentify import file_name
from deeplesion_miner.records import LesionRecord

FILES = (
    "DL_info_val_visible.csv",
    "DL_info_test_visible.csv",
    "DL_info_train_part_visible.csv",
    "png/DL_info_png_visible.csv",
)
MARGIN_PX = 5.0


def lesion_of(row: Row) -> LesionRecord:
    """A public row as a record; what the public file does not say is made up."""
    core = [value - 1 for value in row.measurement_coordinates]
    left, top, right, bottom = (value - 1 for value in row.bounding_box)
    x, y, z = (None if math.isnan(value) else value for value in row.normalized_location)
    return LesionRecord(
        lesion_id="",
        bookmark_id="",
        patient_id="",
        study_id="",
        series_id="",
        patient_index=row.patient_index,
        study_index=row.study_index,
        series_index=row.series_index,
        file_name=file_name(row.patient_index, row.study_index, row.series_index, row.key_slice_index),
        key_slice_number=row.key_slice_index,
        slice_first=row.slice_range[0],
        slice_last=row.slice_range[1],
        slice_numbering="instance_number",
        long_axis_px=(core[0], core[1], core[2], core[3]),
        short_axis_px=(core[4], core[5], core[6], core[7]),
        box_px=(left, top, right, bottom),
        long_axis_length_px=row.diameters_px[0],
        short_axis_length_px=row.diameters_px[1],
        long_axis_mm=0.0,
        short_axis_mm=0.0,
        col_spacing_mm=row.spacing_mm[0],
        row_spacing_mm=row.spacing_mm[1],
        slice_interval_mm=row.spacing_mm[2],
        slice_thickness_mm=None,
        rows=row.image_size[1],
        columns=row.image_size[0],
        normal_tilt_deg=0.0,
        location_x=x,
        location_y=y,
        location_z=z,
        coarse_lesion_type=row.coarse_lesion_type,
        window_low_hu=row.window_hu[0],
        window_high_hu=row.window_hu[1],
        patient_sex=row.gender,
        patient_age_years=row.age_years,
        study_date_shifted="",
        finding_code="",
        finding_site_code="",
        dialect="",
        writer="",
        off_plane_mm=0.0,
        notes=(),
        possibly_noisy=row.possibly_noisy,
        split=row.split,
    )


@pytest.mark.real
@pytest.mark.parametrize("name", FILES)
def test_a_public_file_read_and_written_again_is_the_same_byte_for_byte(real_data: Path, name: str) -> None:
    public = (real_data / "deeplesion" / name).read_bytes()
    rows = dl_info.parse(public.decode("ascii"))
    assert len(rows) == public.count(b"\n") - 1
    assert dl_info.to_csv(map(lesion_of, rows)) == public


@pytest.mark.real
def test_boxes_from_the_printed_ends_are_the_public_boxes_but_for_the_sixth_digit(real_data: Path) -> None:
    same = total = 0
    for name in FILES[:3]:
        text = (real_data / "deeplesion" / name).read_text(encoding="ascii")
        for row, line in zip(dl_info.parse(text), text.splitlines()[1:], strict=True):
            ends = [value - 1 for value in row.measurement_coordinates]
            x_min, x_max, y_min, y_max = min(ends[::2]), max(ends[::2]), min(ends[1::2]), max(ends[1::2])
            box = (x_min - MARGIN_PX, y_min - MARGIN_PX, x_max + MARGIN_PX, y_max + MARGIN_PX)
            written = dl_info.row(replace(lesion_of(row), box_px=box))
            (again,) = dl_info.parse(f"{dl_info.header()}\n{written}\n")
            assert again.bounding_box == pytest.approx(row.bounding_box, abs=1.001e-3)
            same += written == line
            total += 1
    assert total == 5488
    assert same / total > 0.985
