"""DL_info.csv: the public file's bytes."""

from __future__ import annotations

import csv
import io
import math

import factories
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder import dl_info
from deeplesion_miner.errors import VerificationFailed

HEADER = (
    "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Measurement_coordinates,Bounding_boxes,"
    "Lesion_diameters_Pixel_,Normalized_lesion_location,Coarse_lesion_type,Possibly_noisy,Slice_range,"
    "Spacing_mm_px_,Image_size,DICOM_windows,Patient_gender,Patient_age,Train_Val_Test"
)


def test_the_header_is_the_public_one() -> None:
    assert dl_info.header() == HEADER


def test_a_row_is_written_as_the_public_file_writes_it() -> None:
    record = factories.lesion(
        key=109,
        long_axis_px=(232.537, 358.27625, 248.54, 370.0),
        short_axis_px=(241.0, 361.0, 236.0, 367.5),
        location_x=0.44666,
        location_y=0.283794,
        location_z=None,
    )
    assert dl_info.row(record) == (
        '000001_01_01_109.png,1,1,1,109,"233.537, 359.276, 249.54, 371, 242, 362, 237, 368.5",'
        '"228.537, 354.276, 254.54, 376","19.8379, 8.20061","0.44666, 0.283794, NaN",-1,0,"103, 115",'
        '"0.8, 0.9, 5","96, 72","-175, 275",F,61,1'
    )


def test_a_length_leaves_nan_in_place_of_its_short_axis() -> None:
    (row,) = dl_info.parse(dl_info.to_csv([factories.lesion(short_axis_px=None)]).decode())
    assert all(map(math.isnan, row.measurement_coordinates[4:]))
    assert not any(map(math.isnan, row.measurement_coordinates[:4]))
    assert math.isnan(row.diameters_px[1]) and not math.isnan(row.diameters_px[0])
    assert not any(map(math.isnan, row.bounding_box))


def test_what_is_not_known_is_nan() -> None:
    record = factories.lesion(
        patient_sex="O", patient_age_years=None, window_low_hu=None, window_high_hu=None, slice_interval_mm=None
    )
    line = dl_info.row(record)
    assert line.endswith(',"0.8, 0.9, NaN","96, 72","NaN, NaN",NaN,NaN,1')


def test_slice_numbers_beyond_999_and_patients_beyond_999999_grow_wider() -> None:
    assert dl_info.row(factories.lesion(patient=1234567, study=100, key=1003)).startswith(
        "1234567_100_01_1003.png,1234567,100,1,1003,"
    )


@given(st.floats(-1e7, 1e7))
def test_a_number_is_printed_as_c_prints_it(value: float) -> None:
    text = dl_info.number(value)
    assert text == ("%.6g" % (value + 0.0))
    assert dl_info.number(float(text)) == text


def test_minus_zero_is_zero_and_nothing_is_nan() -> None:
    assert [dl_info.number(v) for v in (-0.0, None, math.nan, 128.0, 0.859375)] == [
        "0",
        "NaN",
        "NaN",
        "128",
        "0.859375",
    ]


def test_lines_end_with_lf_and_any_csv_reader_reads_them() -> None:
    data = dl_info.to_csv([factories.lesion(1), factories.lesion(2)])
    assert b"\r" not in data and data.endswith(b"\n") and data.count(b"\n") == 3
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert [row["Patient_index"] for row in rows] == ["1", "2"]
    assert len(rows[0]["Measurement_coordinates"].split(", ")) == 8


def test_boxes_are_not_clipped_and_are_rounded_only_when_printed() -> None:
    record = factories.lesion(long_axis_px=(-0.25, 2.0, 94.98765432, 2.0), short_axis_px=(40.0, 0.0, 40.0, 60.0))
    (row,) = dl_info.parse(dl_info.to_csv([record]).decode())
    assert row.bounding_box == (-4.25, -4.0, 100.988, 66.0)


@pytest.mark.parametrize(
    ("good", "bad", "why"),
    [
        (",F,", ",F,F,", "19 fields"),
        ('"96, 72"', '"96"', "1 numbers instead of 2"),
        (",F,61,1", ",F,61,4", "'4'"),
        (",1,1,1,12,", ",one,1,1,12,", "one"),
        ("File_name", "file_name", "header"),
    ],
)
def test_a_broken_row_is_named_by_its_line(good: str, bad: str, why: str) -> None:
    text = dl_info.to_csv([factories.lesion()]).decode()
    assert good in text
    with pytest.raises(VerificationFailed, match=why):
        dl_info.parse(text.replace(good, bad, 1))
