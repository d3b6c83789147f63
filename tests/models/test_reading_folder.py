"""A dataset folder is read whole or refused with a word: ours, or NIH DeepLesion's own."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reading_folders as folders
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_folders import CROSS, lesion, series

from dataset_builder.stage import Stage
from dataset_builder.tables import to_parquet
from dataset_builder.writer import DatasetWriter
from deeplesion_miner.errors import ConfigError, MinerError
from deeplesion_miner.records import BookmarkRecord, LesionRecord, Sample
from deeplesion_miner.types import ImageRef, Slice
from models.marks import Annotation
from models.reading.folder import DatasetFolder

LENGTH = ((20.0, 50.5), (30.75, 52.0))
TWO = (
    series(lesion(1, key=5), lesion(1, key=5, number=2, ends=LENGTH), lesion(1, key=7, number=3)),
    series(lesion(2, key=3, split="val", possibly_noisy=True, coarse_lesion_type=5)),
)


def test_the_marks_of_our_tables_are_read_by_slice_and_a_length_keeps_its_place_with_nan(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, *TWO)
    assert [one.file_name for one in dataset.key_slices] == [
        "000001_01_01/005.png",
        "000001_01_01/007.png",
        "000002_01_01/003.png",
    ]
    first, _, last = dataset.key_slices
    assert (first.patient, first.split, first.slice_number, first.slice_range) == ("p1", "train", 5, (1, 99))
    assert (first.row_spacing_mm, first.slice_interval_mm, first.rows) == (0.75, 2.5, 160)
    crossed, length = sorted(first.marks, key=lambda mark: mark.short_axis_mm is None)
    np.testing.assert_array_equal(crossed.ends_px, CROSS)
    np.testing.assert_array_equal(crossed.tight_box_px, (60.5, 62.5, 96.0, 84.0))
    assert crossed.box_px == (55.5, 57.5, 101.0, 89.0)
    np.testing.assert_array_equal(length.ends_px, (*LENGTH, (np.nan, np.nan), (np.nan, np.nan)))
    assert length.short_axis_mm is None and length.long_axis_mm == pytest.approx(math.dist(*LENGTH) * 0.75)
    assert (last.marks[0].possibly_noisy, last.marks[0].coarse_lesion_type, last.split) == (True, 5, "val")


def test_the_same_lesions_are_read_alike_from_our_tables_and_from_the_csv_that_counts_from_one(tmp_path: Path) -> None:
    ours = folders.mined(tmp_path / "ours", *TWO)
    theirs = DatasetFolder.open(folders.write_nih(tmp_path / "theirs", *TWO))
    assert len(ours.key_slices) == len(theirs.key_slices) == 3
    for one, other in zip(ours.key_slices, theirs.key_slices, strict=True):
        for field in ("file_name", "series", "split", "slice_number", "slice_range", "rows", "row_spacing_mm"):
            assert getattr(one, field) == getattr(other, field)
        for mark, twin in zip(one.marks, other.marks, strict=True):
            np.testing.assert_allclose(mark.ends_px, twin.ends_px, atol=1e-3)
            np.testing.assert_allclose(mark.box_px, twin.box_px, atol=1e-3)
            assert mark.long_axis_mm == pytest.approx(twin.long_axis_mm, abs=1e-3)
            assert mark.short_axis_mm == pytest.approx(twin.short_axis_mm, abs=1e-3)
        ours_around, theirs_around = ours.volume(one, 5.0), theirs.volume(other, 5.0)
        np.testing.assert_array_equal(ours_around[0].hu, theirs_around[0].hu)
        assert ours_around[1] == theirs_around[1]
    assert [mark.mark_id for one in theirs.key_slices for mark in one.marks] == ["row 0", "row 1", "row 2", "row 3"]


def test_a_marked_slice_without_its_picture_is_counted_and_named(tmp_path: Path) -> None:
    folder = folders.write_mined(tmp_path, *TWO)
    (folder / "Images_png" / "000001_01_01" / "005.png").unlink()
    dataset = DatasetFolder.open(folder)
    assert (dataset.missing, dataset.missing_marks) == (("000001_01_01/005.png",), 2)
    assert not dataset.has("000001_01_01/005.png") and dataset.has("000001_01_01/007.png")
    assert len(dataset.key_slices) == 2


def test_how_completely_slices_were_annotated_is_what_the_opener_says(tmp_path: Path) -> None:
    folder = folders.write_nih(tmp_path, *TWO)
    assert {one.annotation for one in DatasetFolder.open(folder).key_slices} == {Annotation.PARTIAL}
    complete = DatasetFolder.open(folder, annotation=Annotation.COMPLETE)
    assert {one.annotation for one in complete.key_slices} == {Annotation.COMPLETE}


def test_a_dataset_is_named_by_its_manifest_or_else_by_its_tables(tmp_path: Path) -> None:
    folder = folders.write_mined(tmp_path / "ours", *TWO)
    bare = DatasetFolder.open(folder).digest
    (folder / "manifest.json").write_text('{"digest": "abc"}')
    assert DatasetFolder.open(folder).digest == "abc" != bare
    theirs = folders.write_nih(tmp_path / "theirs", *TWO)
    before = DatasetFolder.open(theirs).digest
    folders.write_nih(theirs, TWO[0])
    assert DatasetFolder.open(theirs).digest != before


@pytest.mark.parametrize("write", [folders.write_mined, folders.write_nih])
def test_a_dataset_whose_pictures_have_not_all_arrived_is_another_one(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    folder = write(tmp_path, *TWO)
    whole = DatasetFolder.open(folder).digest
    picture = folder / "Images_png" / "000001_01_01" / "005.png"
    content = picture.read_bytes()
    picture.unlink()
    assert DatasetFolder.open(folder).digest != whole, "a training must not go on with other key slices"
    picture.write_bytes(content)
    assert DatasetFolder.open(folder).digest == whole


# --- volumes ---------------------------------------------------------------------------------------------


def test_a_volume_is_read_as_far_as_it_is_asked_for(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, series(lesion(1, key=5)))
    volume, key = dataset.volume(dataset.key_slices[0], 4.0)
    assert [int(plane.max()) for plane in volume.hu] == [30, 40, 50, 60, 70] and key == 2
    np.testing.assert_allclose(np.diff(volume.position_mm), 2.5)
    assert volume.images[key] == "000001_01_01/005.png"
    assert dataset.volume(dataset.key_slices[0], 5.0)[0].hu.shape[0] == 5, "slices at the reach need no further one"
    assert dataset.volume(dataset.key_slices[0], math.inf)[0].hu.shape[0] == 9


@settings(max_examples=30, deadline=None)
@given(
    gaps=st.lists(st.floats(0.5, 20), min_size=2, max_size=8),
    key=st.integers(0, 7),
    reach_mm=st.floats(0, 30),
    share=st.floats(-1, 1),
)
def test_a_volume_holds_all_that_context_within_its_reach_needs(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[float], key: int, reach_mm: float, share: float
) -> None:
    key = min(key, len(gaps))
    uneven = series(lesion(1, key=key + 1), numbers=range(1, len(gaps) + 2), position_mm=np.cumsum([0.0, *gaps]))
    dataset = folders.mined(tmp_path_factory.mktemp("uneven"), uneven)
    near, near_key = dataset.volume(dataset.key_slices[0], reach_mm)
    whole, whole_key = dataset.volume(dataset.key_slices[0], math.inf)
    offset = [share * reach_mm]
    np.testing.assert_allclose(near.context(near_key, offset), whole.context(whole_key, offset), atol=1e-3)


def test_only_slices_of_the_key_slice_s_range_surround_it_and_holes_stay_holes(tmp_path: Path) -> None:
    holed = series(lesion(1, key=5, slice_first=3, slice_last=8), numbers=(1, 2, 3, 5, 6, 8, 9))
    for dataset in (
        folders.mined(tmp_path / "ours", holed),
        DatasetFolder.open(folders.write_nih(tmp_path / "theirs", holed)),
    ):
        volume, key = dataset.volume(dataset.key_slices[0], math.inf)
        assert [int(plane.max()) for plane in volume.hu] == [30, 50, 60, 80]
        np.testing.assert_allclose(volume.position_mm - volume.position_mm[key], (-5, 0, 2.5, 7.5))


def test_a_picture_around_a_key_slice_that_is_absent_is_a_hole(tmp_path: Path) -> None:
    folder = folders.write_mined(tmp_path, *TWO)
    (folder / "Images_png" / "000001_01_01" / "006.png").unlink()
    dataset = DatasetFolder.open(folder)
    volume, _ = dataset.volume(dataset.key_slices[0], 5.0)
    assert [int(plane.max()) for plane in volume.hu] == [30, 40, 50, 70]


def test_a_series_of_two_spacings_is_read_by_each_key_slice_s_own(tmp_path: Path) -> None:
    fine = lesion(1, key=3, slice_first=1, slice_last=5, slice_interval_mm=1.0)
    coarse = lesion(1, key=8, number=2, slice_first=6, slice_last=9, slice_interval_mm=5.0)
    dataset = DatasetFolder.open(folders.write_nih(tmp_path, series(fine, coarse)))
    steps = [np.unique(np.diff(dataset.volume(one, math.inf)[0].position_mm)) for one in dataset.key_slices]
    assert [one.tolist() for one in steps] == [[1.0], [5.0]]


@pytest.mark.parametrize("interval_mm", [None, 0.0, -1.0])
def test_a_key_slice_of_unknown_interval_stands_alone(tmp_path: Path, interval_mm: float | None) -> None:
    alone = series(lesion(1, key=5, slice_interval_mm=interval_mm))
    dataset = DatasetFolder.open(folders.write_nih(tmp_path, alone))
    assert math.isnan(dataset.key_slices[0].slice_interval_mm)
    assert dataset.volume(dataset.key_slices[0], 30.0)[0].images == ("000001_01_01/005.png",)


def test_pixels_that_are_lent_cannot_be_changed(tmp_path: Path) -> None:
    dataset = folders.mined(tmp_path, *TWO)
    with pytest.raises(ValueError, match="read-only"):
        dataset.hu("000001_01_01/005.png")[0, 0] = 1


# --- what is refused -------------------------------------------------------------------------------------


def refused(folder: Path, *words: str, **options: str) -> None:
    """Opening ends in one line that holds the words."""
    with pytest.raises(ConfigError) as error:
        DatasetFolder.open(folder, **options)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("write", [folders.write_mined, folders.write_nih])
def test_a_patient_in_two_splits_is_refused(tmp_path: Path, write: object) -> None:
    lesions = series(lesion(1, key=5), lesion(1, key=7, number=2, split="test"))
    folder = write(tmp_path, lesions)  # type: ignore[operator]
    refused(folder, "patient", "'train'", "'test'", "000001_01_01/007.png", "same split")


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no such folder")
    refused(tmp_path, "neither lesions.parquet nor DL_info.csv", "name a folder")
    (tmp_path / "DL_info_val.csv").write_text("")
    refused(tmp_path, "DL_info_val.csv")


def test_another_table_of_nih_is_read_where_it_is_named(tmp_path: Path) -> None:
    folder = folders.write_nih(tmp_path, *TWO)
    (folder / "DL_info.csv").rename(folder / "DL_info_part.csv")
    assert len(DatasetFolder.open(folder, table="DL_info_part.csv").key_slices) == 3
    refused(folder, "DL_info_part.csv")
    refused(folder, "no.csv", table="no.csv")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("File_name", "file"), ("header", "file,Patient_index")),
        (lambda text: text[: text.rindex(",")], ("line 5", "17 fields")),
        (lambda text: text.replace('"0.75, 0.75, 2.5"', '"0.75, 2.5"', 1), ("line 2", "Spacing_mm_px_", "2 numbers")),
        (lambda text: text.replace('"0.75, 0.75, 2.5"', '"0, 0.75, 2.5"', 1), ("line 2", "Spacing_mm_px_ holds 0.0")),
        (lambda text: text.replace('"0.75, 0.75, 2.5"', '"0.5, 0.75, 2.5"', 1), ("col_spacing_mm", "row 0", "row 1")),
        (lambda text: text.replace('"61.5', '"NaN', 1), ("line 2", "no long axis")),
        (lambda text: text.replace('"61.5', '"x', 1), ("line 2", "could not convert")),
        (lambda text: text[:-2] + "7\n", ("line 5", "'7'")),
        (lambda text: text + "\xff", ("not a CSV text",)),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused_by_line_and_field(
    tmp_path: Path, change: object, words: tuple[str, ...]
) -> None:
    path = folders.write_nih(tmp_path, *TWO) / "DL_info.csv"
    text = path.read_text()
    changed = change(text)  # type: ignore[operator]
    assert changed != text
    path.write_text(changed, encoding="latin-1")
    refused(tmp_path, "DL_info.csv", *words)


def test_tables_that_are_absent_or_broken_are_refused_by_name(tmp_path: Path) -> None:
    folder = folders.write_mined(tmp_path, *TWO)
    (folder / "manifest.json").write_text("{}")
    refused(folder, "manifest.json", "digest")
    (folder / "slices.parquet").unlink()
    refused(folder, "slices.parquet", "missing")
    (folder / "lesions.parquet").write_bytes(b"PAR1 and then nothing")
    refused(folder, "lesions.parquet", "cannot be read")
    (folder / "lesions.parquet").write_bytes(to_parquet("slices", TWO[0].records))
    refused(folder, "lesions.parquet", "no column 'lesion_id'")


def test_marks_of_one_slice_that_disagree_about_it_are_refused(tmp_path: Path) -> None:
    folder = folders.write_mined(tmp_path, series(lesion(1, key=5), lesion(1, key=5, number=2, rows=99)))
    refused(folder, "rows of slice 000001_01_01/005.png", "160", "99")


def test_positions_that_do_not_rise_and_changing_grids_are_refused(tmp_path: Path) -> None:
    falling = series(lesion(1, key=2), numbers=(1, 2, 3), position_mm=(0.0, 5.0, 5.0))
    refused(folders.write_mined(tmp_path / "falling", falling), "slices.parquet", "slice 3", "5.0 mm")
    folder = folders.write_mined(tmp_path / "grid", *TWO)
    records = [replace(one, rows=99) if one.slice_number == 4 else one for one in TWO[0].records]
    (folder / "slices.parquet").write_bytes(to_parquet("slices", records))
    refused(folder, "slices.parquet", "rows changes from 160 to 99 at slice 4")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda whole, _: whole[: len(whole) // 2], "cannot be decoded"),
        (lambda *_: b"", "cannot be decoded"),
        (lambda *_: b"GIF89a", "cannot be decoded"),
        (lambda _, small: small, "40 rows x 50 columns, the tables say 160 x 160"),
    ],
)
def test_a_broken_picture_is_refused_by_name_when_it_is_read(tmp_path: Path, content: object, words: str) -> None:
    from dataset_builder.png import encode

    dataset = folders.mined(tmp_path, *TWO)
    path = tmp_path / "Images_png" / "000001_01_01" / "006.png"
    path.write_bytes(content(path.read_bytes(), encode(np.zeros((40, 50), np.int16))))  # type: ignore[operator]
    with pytest.raises(MinerError) as error:
        dataset.volume(dataset.key_slices[0], 3.0)
    assert words in str(error.value) and "000001_01_01/006.png" in str(error.value) and "restore" in str(error.value)


def test_a_picture_that_vanished_and_one_of_eight_bits_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    dataset = folders.mined(tmp_path, *TWO)
    path = tmp_path / "Images_png" / "000001_01_01" / "005.png"
    Image.fromarray(np.zeros((160, 160), np.uint8)).save(path)
    with pytest.raises(MinerError, match="16-bit"):
        dataset.hu("000001_01_01/005.png")
    path.unlink()
    with pytest.raises(MinerError, match="missing"):
        dataset.hu("000001_01_01/005.png")


def test_a_key_slice_outside_its_own_range_is_refused(tmp_path: Path) -> None:
    folder = folders.write_nih(tmp_path, series(lesion(1, key=5, slice_first=7, slice_last=9)))
    dataset = DatasetFolder.open(folder)
    with pytest.raises(MinerError, match="not among slices 7 to 9"):
        dataset.volume(dataset.key_slices[0], 5.0)


def test_a_series_that_slices_parquet_does_not_know_is_refused_when_it_is_read(tmp_path: Path) -> None:
    folder = folders.write_mined(tmp_path, *TWO)
    (folder / "slices.parquet").write_bytes(to_parquet("slices", TWO[1].records))
    dataset = DatasetFolder.open(folder)
    with pytest.raises(MinerError, match=r"key slice 000001_01_01/005\.png is not among"):
        dataset.slices_around(dataset.key_slices[0])


def test_a_dataset_as_the_tool_writes_it_is_read_with_its_digest(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    one = series(lesion(key=5, slice_first=1, slice_last=9))
    slices = [
        replace(record, png_sha256=stage.put(Slice(ImageRef("1", "1", "1"), one.picture(record.slice_number))))
        for record in one.records
    ]
    written = DatasetWriter(tmp_path / "dataset", stage).write(
        [Sample(one.lesions, tuple(slices), tuple(map(bookmark_of, one.lesions)))]
    )
    dataset = DatasetFolder.open(tmp_path / "dataset")
    assert (dataset.digest, len(dataset.key_slices), dataset.missing) == (written, 1, ())
    volume, key = dataset.volume(dataset.key_slices[0], math.inf)
    assert [int(plane.max()) for plane in volume.hu] == [10 * number for number in range(1, 10)] and key == 4


def bookmark_of(record: LesionRecord) -> BookmarkRecord:
    return BookmarkRecord(
        bookmark_id=record.bookmark_id, patient_id=record.patient_id, study_id=record.study_id, source_id="source",
        kind="bidirectional", dialect=record.dialect, writer=record.writer, verdict="kept", reason="", detail="",
        notes=(), lesion_id=record.lesion_id,
    )  # fmt: skip


# --- real data -------------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_real_key_slices_of_deeplesion_are_read_with_their_marks_on_the_body(real_data: Path) -> None:
    dataset = DatasetFolder.open(real_data / "deeplesion" / "png", table="DL_info_png_visible.csv")
    assert (len(dataset.key_slices), sum(len(one.marks) for one in dataset.key_slices)) == (24, 25)
    assert dataset.missing == ()
    for one in dataset.key_slices:
        hu = dataset.checked_hu(one, one.file_name)
        assert -3024 <= hu.min() <= -1000 and 200 < hu.max() <= 4000
        for mark in one.marks:
            np.testing.assert_allclose(mark.tight_box_px, np.add(mark.box_px, (5, 5, -5, -5)), atol=2e-3)
            columns, rows = np.rint(np.nanmean(mark.ends_px, axis=0)).astype(int)
            assert hu[rows, columns] > -1000, "a lesion does not lie in the air around the patient"
    volume, key = dataset.volume(dataset.key_slices[0], math.inf)
    assert (volume.hu.shape, key) == ((13, 512, 512), 6)
    np.testing.assert_allclose(np.diff(volume.position_mm), 5.0)
    near = [float(np.abs(volume.hu[key].astype(int) - volume.hu[index]).mean()) for index in (key + 1, key + 6)]
    assert near[0] < near[1], "neighbours resemble one another"


@pytest.mark.real
@pytest.mark.parametrize(
    ("table", "rows"),
    [("DL_info_val_visible.csv", 2474), ("DL_info_test_visible.csv", 2576), ("DL_info_train_part_visible.csv", 438)],
)
def test_all_real_rows_are_understood_and_those_without_a_picture_counted(
    real_data: Path, tmp_path: Path, table: str, rows: int
) -> None:
    shutil.copy(real_data / "deeplesion" / table, tmp_path / table)
    dataset = DatasetFolder.open(tmp_path, table=table)
    with (tmp_path / table).open() as lines:
        files = {one["File_name"] for one in csv.DictReader(lines)}
    assert (dataset.key_slices, dataset.missing_marks, len(dataset.missing)) == ((), rows, len(files))
