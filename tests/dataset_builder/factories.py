"""Records of a small made-up dataset, with the slices that they need."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataset_builder.stage import Stage
from deeplesion_miner.deidentify import file_name
from deeplesion_miner.records import BookmarkRecord, LesionRecord, Sample, SliceRecord
from deeplesion_miner.types import ImageRef, Slice

ROWS, COLUMNS = 72, 96
COL_SPACING_MM, ROW_SPACING_MM, INTERVAL_MM = 0.8, 0.9, 5.0


def name(*parts: object) -> str:
    """A stable made-up pseudonym."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16]


def lesion(
    patient: int = 1, study: int = 1, series: int = 1, key: int = 12, number: int = 1, **facts: object
) -> LesionRecord:
    """A lesion whose derived values follow from its ends; any field can be given instead."""
    long_axis = facts.pop("long_axis_px", (40.25, 30.5, 52.125, 36.75))
    short_axis = facts.pop("short_axis_px", (44.5, 37.0, 48.0, 30.125))
    assert isinstance(long_axis, tuple) and (short_axis is None or isinstance(short_axis, tuple))
    first, last = (max(1, key - 6), key + 6)
    record = LesionRecord(
        lesion_id=name("lesion", patient, study, series, key, number),
        bookmark_id=name("bookmark", patient, study, series, key, number),
        patient_id=name("patient", patient),
        study_id=name("study", patient, study),
        series_id=name("series", patient, study, series),
        patient_index=patient,
        study_index=study,
        series_index=series,
        file_name=file_name(patient, study, series, key),
        key_slice_number=key,
        slice_first=first,
        slice_last=last,
        slice_numbering="instance_number",
        long_axis_px=long_axis,
        short_axis_px=short_axis,
        box_px=box(long_axis, short_axis),
        long_axis_length_px=length(long_axis, 1.0, 1.0),
        short_axis_length_px=None if short_axis is None else length(short_axis, 1.0, 1.0),
        long_axis_mm=length(long_axis, COL_SPACING_MM, ROW_SPACING_MM),
        short_axis_mm=None if short_axis is None else length(short_axis, COL_SPACING_MM, ROW_SPACING_MM),
        col_spacing_mm=COL_SPACING_MM,
        row_spacing_mm=ROW_SPACING_MM,
        slice_interval_mm=INTERVAL_MM,
        slice_thickness_mm=5.0,
        rows=ROWS,
        columns=COLUMNS,
        normal_tilt_deg=0.0,
        location_x=0.43211987,
        location_y=0.61,
        location_z=None,
        coarse_lesion_type=-1,
        window_low_hu=-175.0,
        window_high_hu=275.0,
        patient_sex="F",
        patient_age_years=61,
        study_date_shifted="2031-04-05",
        finding_code="SCT:108369006",
        finding_site_code="",
        dialect="tid1500",
        writer="ohif",
        off_plane_mm=0.0,
        notes=(),
        possibly_noisy=False,
        split=("train", "val", "test")[(patient - 1) % 3],
    )
    return replace(record, **facts)  # type: ignore[arg-type]


def box(long_axis: Sequence[float], short_axis: Sequence[float] | None) -> tuple[float, float, float, float]:
    """Min and max of all ends, 5 px wider on each side."""
    ends = (*long_axis, *(short_axis or ()))
    return (min(ends[::2]) - 5, min(ends[1::2]) - 5, max(ends[::2]) + 5, max(ends[1::2]) + 5)


def length(axis: Sequence[float], x_scale: float, y_scale: float) -> float:
    """Euclidean length after scaling."""
    x1, y1, x2, y2 = axis
    return math.hypot((x2 - x1) * x_scale, (y2 - y1) * y_scale)


def bookmark_of(record: LesionRecord) -> BookmarkRecord:
    """The kept bookmark of a lesion."""
    return BookmarkRecord(
        bookmark_id=record.bookmark_id,
        patient_id=record.patient_id,
        study_id=record.study_id,
        source_id=name("source", record.study_id),
        kind="bidirectional" if record.short_axis_px else "length",
        dialect=record.dialect,
        writer=record.writer,
        verdict="kept",
        reason="",
        detail="",
        notes=record.notes,
        lesion_id=record.lesion_id,
    )


def rejected(number: int, reason: str = "no_second_axis", detail: str = "there is no short axis") -> BookmarkRecord:
    """A rejected bookmark."""
    return BookmarkRecord(
        bookmark_id=name("rejected", number),
        patient_id=name("patient", 1),
        study_id=name("study", 1, 1),
        source_id=name("source", number),
        kind="length",
        dialect="tid1500",
        writer="",
        verdict="rejected",
        reason=reason,
        detail=detail,
        notes=(),
        lesion_id="",
    )


def pixels(patient: int, series: int, number: int) -> np.ndarray:
    """A body of water with noise in air, different for each slice."""
    random = np.random.default_rng((patient, series, number))
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    body = ((columns - 48) / 42) ** 2 + ((rows - 36) / 30) ** 2 < 1
    hu = np.where(body, 20.0, -1000.0) + random.normal(0, 12, (ROWS, COLUMNS))
    return hu.round().astype(np.int16)


def slices_of(records: Sequence[LesionRecord], stage: Stage) -> tuple[SliceRecord, ...]:
    """The slices of the lesions' ranges, staged; each once."""
    wanted = {
        (r.patient_index, r.study_index, r.series_index, number): r
        for r in records
        for number in range(r.slice_first, r.slice_last + 1)
    }
    keys = {(r.patient_index, r.study_index, r.series_index, r.key_slice_number) for r in records}
    first = {place[:3]: min(p[3] for p in wanted if p[:3] == place[:3]) for place in wanted}
    return tuple(
        SliceRecord(
            series_id=record.series_id,
            patient_index=place[0],
            study_index=place[1],
            series_index=place[2],
            file_name=file_name(*place),
            slice_number=place[3],
            position_mm=(place[3] - first[place[:3]]) * INTERVAL_MM,
            rows=ROWS,
            columns=COLUMNS,
            col_spacing_mm=COL_SPACING_MM,
            row_spacing_mm=ROW_SPACING_MM,
            is_key_slice=place in keys,
            clipped_px=0,
            png_sha256=stage.put(Slice(ImageRef("1", "1", "1"), pixels(place[0], place[2], place[3]))),
        )
        for place, record in wanted.items()
    )


def sample(records: Sequence[LesionRecord], stage: Stage, refused: Sequence[BookmarkRecord] = ()) -> Sample:
    """What a study with these lesions gives."""
    return Sample(tuple(records), slices_of(records, stage), (*map(bookmark_of, records), *refused))


def samples(stage: Stage) -> list[Sample]:
    """A dataset of three patients: two lesions in one series, a length, a flagged mark, two rejections."""
    first = [lesion(1, key=12), lesion(1, key=12, number=2, long_axis_px=(20.0, 50.5, 30.75, 52.0), short_axis_px=None)]
    second = [lesion(2, series=1, key=3, notes=("not_perpendicular",)), lesion(2, series=2, key=1003)]
    third = [
        lesion(
            3,
            key=9,
            long_axis_px=(3.5, 4.0, 3.0, 44.0),
            short_axis_px=(1.0, 20.0, 8.5, 20.25),
            notes=("extent_over_long",),
            possibly_noisy=True,
            patient_sex="",
            patient_age_years=None,
            window_low_hu=None,
            window_high_hu=None,
        )
    ]
    return [
        sample(first, stage, [rejected(1), rejected(2)]),
        sample(second, stage, [rejected(3, "non_axial", "the plane is tilted 12.0 degrees from axial (limit 8.0)")]),
        sample(third, stage),
    ]


def staged(folder: Path) -> tuple[Stage, list[Sample]]:
    """A stage below the folder, and the samples whose slices it holds."""
    stage = Stage(folder / "stage")
    return stage, samples(stage)
