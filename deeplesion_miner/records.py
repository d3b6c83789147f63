"""The public side: de-identified records, field for field the columns of `schemas/dataset.toml`.

Only `deidentify.deidentify` makes them, and the dataset writer takes nothing else. No UID, date, name or
free text of the archive is in them. Coordinates follow the core convention (column, row; centre of the
first pixel = (0, 0)); `DL_info.csv` is written from them in its own 1-based convention.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LesionRecord:
    """One lesion: one row of lesions.parquet and of DL_info.csv."""

    lesion_id: str
    bookmark_id: str
    patient_id: str
    study_id: str
    series_id: str
    patient_index: int
    study_index: int
    series_index: int
    file_name: str
    """Images_png path below the dataset: '000001_01_01/103.png'."""
    key_slice_number: int
    slice_first: int
    slice_last: int
    slice_numbering: str
    long_axis_px: tuple[float, float, float, float]
    """x1, y1, x2, y2."""
    short_axis_px: tuple[float, float, float, float] | None
    box_px: tuple[float, float, float, float]
    """x_min, y_min, x_max, y_max, padded, unclipped."""
    long_axis_length_px: float
    short_axis_length_px: float | None
    long_axis_mm: float
    short_axis_mm: float | None
    col_spacing_mm: float
    row_spacing_mm: float
    slice_interval_mm: float | None
    slice_thickness_mm: float | None
    rows: int
    columns: int
    normal_tilt_deg: float
    location_x: float | None
    """Normalised position in the body box of the key slice; None where no body was found."""
    location_y: float | None
    location_z: float | None
    coarse_lesion_type: int
    window_low_hu: float | None
    window_high_hu: float | None
    patient_sex: str
    """'M', 'F', 'O' or ''."""
    patient_age_years: int | None
    study_date_shifted: str
    """YYYY-MM-DD, shifted by patient; '' if the archive gave none."""
    finding_code: str
    """'scheme:value' of a known scheme, '' otherwise."""
    finding_site_code: str
    dialect: str
    writer: str
    off_plane_mm: float
    notes: tuple[str, ...]
    """Codes of the flags."""
    possibly_noisy: bool
    split: str
    """'train', 'val' or 'test'."""


@dataclass(frozen=True)
class SliceRecord:
    """One image file of the dataset: one row of slices.parquet."""

    series_id: str
    patient_index: int
    study_index: int
    series_index: int
    file_name: str
    slice_number: int
    position_mm: float
    """Along the stack's normal towards the feet, relative to the first slice of the series in the dataset."""
    rows: int
    columns: int
    col_spacing_mm: float
    row_spacing_mm: float
    is_key_slice: bool
    clipped_px: int
    png_sha256: str
    """Also the name under which the encoded image waits in the working folder."""


@dataclass(frozen=True)
class BookmarkRecord:
    """One bookmark with its verdict: one row of bookmarks.parquet."""

    bookmark_id: str
    patient_id: str
    study_id: str
    source_id: str
    kind: str
    dialect: str
    writer: str
    verdict: str
    """'kept' or 'rejected'."""
    reason: str
    """Code; '' for kept ones."""
    detail: str
    """The reason's message with its numbers; '' for kept ones."""
    notes: tuple[str, ...]
    lesion_id: str
    """'' for rejected ones."""


@dataclass(frozen=True)
class Sample:
    """What one study gives to the public side."""

    lesions: tuple[LesionRecord, ...]
    slices: tuple[SliceRecord, ...]
    bookmarks: tuple[BookmarkRecord, ...]
