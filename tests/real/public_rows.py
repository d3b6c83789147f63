"""Rows of the public DL_info.csv as records of this project."""

from __future__ import annotations

import math
from dataclasses import replace

from dataset_builder.dl_info import Row
from deeplesion_miner.deidentify import file_name
from deeplesion_miner.records import LesionRecord

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


def derived_again(record: LesionRecord) -> LesionRecord:
    """The record with box and lengths recomputed from its (printed) ends."""
    assert record.short_axis_px is not None
    ends = (*record.long_axis_px, *record.short_axis_px)
    xs, ys = ends[::2], ends[1::2]

    def length(axis: tuple[float, float, float, float], scale: float = 1.0) -> float:
        return math.hypot(axis[2] - axis[0], axis[3] - axis[1]) * scale

    return replace(
        record,
        box_px=(min(xs) - MARGIN_PX, min(ys) - MARGIN_PX, max(xs) + MARGIN_PX, max(ys) + MARGIN_PX),
        long_axis_length_px=length(record.long_axis_px),
        short_axis_length_px=length(record.short_axis_px),
        long_axis_mm=length(record.long_axis_px, record.col_spacing_mm),
        short_axis_mm=length(record.short_axis_px, record.col_spacing_mm),
    )
