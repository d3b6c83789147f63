"""`check` finds what is wrong with a dataset, whatever it is, and names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import factories
import numpy as np
import pytest

from dataset_builder.manifest import FileEntry, digest, manifest_of, read_manifest, to_json
from dataset_builder.png import encode
from dataset_builder.rows import check_rows
from dataset_builder.summary import counts
from dataset_builder.tables import Tables, gather, read, splits, to_parquet
from dataset_builder.verify import check
from dataset_builder.writer import DatasetWriter, WriterSettings
from deeplesion_miner.records import LesionRecord


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stage, samples = factories.staged(tmp_path)
    DatasetWriter(tmp_path / "DATASET", stage).write(samples)
    # Tests spoil files in place; the stage must not share their bytes.
    for path in (tmp_path / "DATASET").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data)
    return tmp_path / "DATASET"


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return gather(factories.staged(tmp_path)[1])


def found(folder: Path) -> str:
    return "\n".join(map(str, check(folder)))


def restate(folder: Path) -> None:
    """Writes a manifest that fits the files as they are now: only their content can betray them."""
    old = read_manifest(folder)
    files = [
        FileEntry(f.path, hashlib.sha256(data).hexdigest(), len(data), f.rows)
        for f in old.files
        for data in [(folder / f.path).read_bytes()]
    ]
    (folder / "manifest.json").write_bytes(
        to_json(manifest_of(files, old.counts, key_token=old.key_token, box_margin_px=old.box_margin_px))
    )


def test_a_sound_dataset_has_no_finding(folder: Path) -> None:
    assert check(folder) == []


def test_a_folder_without_manifest_is_unfinished(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").unlink()
    assert "no finished dataset" in found(folder)
    assert "no finished dataset" in found(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "other"}', '{"format"', "\ud800"])
def test_a_damaged_manifest_is_one_finding(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert [finding.where for finding in check(folder)] == ["manifest.json"]


def test_another_schema_version_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    assert "schema version 2, this tool reads 1" in found(folder)


@pytest.mark.parametrize(
    "name", ["DL_info.csv", "README.md", "report.html", "lesions.parquet", "Images_png/000001_01_01/012.png"]
)
def test_one_changed_byte_anywhere_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    assert name in {finding.where for finding in check(folder)}


@pytest.mark.parametrize("name", ["DL_info.csv", "slices.parquet", "Images_png/000001_01_01/012.png"])
def test_a_missing_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in {finding.where for finding in check(folder)}


def test_a_file_that_is_not_listed_is_found_and_so_is_a_link_in_place_of_a_file(folder: Path, tmp_path: Path) -> None:
    (folder / "Images_png" / "000001_01_01" / "999.png").write_bytes(encode(np.zeros((2, 2), np.int16)))
    readme = folder / "README.md"
    readme.rename(tmp_path / "elsewhere.md")
    readme.symlink_to(tmp_path / "elsewhere.md")
    assert [finding.where for finding in check(folder)] == ["Images_png/000001_01_01/999.png", "README.md"]


def test_a_list_of_files_that_was_shortened_is_found(folder: Path) -> None:
    manifest = read_manifest(folder)
    fewer = tuple(f for f in manifest.files if f.path != "Images_png/000001_01_01/012.png")
    (folder / "manifest.json").write_bytes(to_json(replace(manifest, files=fewer)))
    assert "digest" in found(folder)
    (folder / "Images_png" / "000001_01_01" / "012.png").unlink()
    (folder / "manifest.json").write_bytes(to_json(replace(manifest, files=fewer, digest=digest(fewer))))
    assert found(folder) == ("Images_png/000001_01_01/012.png: is a row of slices.parquet but not in the manifest")


def test_a_picture_that_is_none_is_found_behind_a_fitting_manifest(folder: Path) -> None:
    path = folder / "Images_png" / "000001_01_01" / "012.png"
    path.write_bytes(path.read_bytes()[:-200])
    restate(folder)
    assert "cannot be decoded" in found(folder) and "another sha256" in found(folder)
    path.write_bytes(encode(np.zeros((5, 6), np.int16)))
    restate(folder)
    assert "(5, 6) pixels, slices.parquet says (72, 96)" in found(folder)


def test_a_row_changed_in_dl_info_or_taken_out_is_found_behind_a_fitting_manifest(folder: Path) -> None:
    path = folder / "DL_info.csv"
    good = path.read_text()
    lines = good.splitlines(keepends=True)
    lines[2] = lines[2].replace(",F,61,", ",F,62,")
    path.write_text("".join(lines))
    restate(folder)
    assert found(folder) == "DL_info.csv: line 3 is not what lesions.parquet gives"
    path.write_text("".join(good.splitlines(keepends=True)[:-1]))
    restate(folder)
    assert "has 4 rows, lesions.parquet has 5" in found(folder)


def test_a_manifest_that_leads_out_of_the_folder_is_refused(folder: Path) -> None:
    manifest = read_manifest(folder)
    for path in ("../secret", "/etc/passwd", "Images_png/../../secret"):
        entries = (*manifest.files, FileEntry(path, "0" * 64, 1))
        (folder / "manifest.json").write_bytes(to_json(replace(manifest, files=entries)))
        assert "damaged" in found(folder)


def test_rows_that_cannot_be_written_are_findings_not_errors(folder: Path) -> None:
    rows = read(folder).lesions
    odd = replace(rows[0], split="valid", coarse_lesion_type=77, long_axis_px=())  # type: ignore[arg-type]
    (folder / "lesions.parquet").write_bytes(to_parquet("lesions", [odd, *rows[1:]]))
    restate(folder)
    assert "split 'valid'" in found(folder) or "not four finite numbers" in found(folder)


def test_counts_that_the_tables_do_not_give_are_found(folder: Path) -> None:
    path = folder / "manifest.json"
    text = json.loads(path.read_text())
    text["counts"]["rejected"]["non_axial"] = 7
    path.write_text(json.dumps(text))
    assert found(folder).startswith("manifest.json: counts")


def test_a_table_changed_behind_a_fitting_manifest_is_found(folder: Path) -> None:
    tables = read(folder)
    rows = tables.bookmarks[1:]
    (folder / "bookmarks.parquet").write_bytes(to_parquet("bookmarks", rows))
    restate(folder)
    assert "bookmarks.parquet: has 7 rows, the manifest says 8" in found(folder)
    (folder / "bookmarks.parquet").write_bytes(to_parquet("bookmarks", tables.bookmarks[::-1]))
    restate(folder)
    assert "not sorted" in found(folder)
    (folder / "bookmarks.parquet").write_bytes(b"PAR1")
    restate(folder)
    assert "not a readable Parquet" in found(folder)


def test_splits_that_differ_from_the_lesions_are_found(folder: Path) -> None:
    rows = read(folder).splits
    (folder / "splits.parquet").write_bytes(to_parquet("splits", [replace(rows[0], split="test"), *rows[1:]]))
    restate(folder)
    assert found(folder) == "splits.parquet: differs from what the lesions say"


# --- rules between rows ----------------------------------------------------------------------------------


def broken(tables: Tables) -> str:
    return "\n".join(f"{where}: {text}" for where, text in check_rows(tables, 5.0))


def with_lesion(tables: Tables, **facts: object) -> Tables:
    """The first lesion changed."""
    return replace(tables, lesions=(replace(tables.lesions[0], **facts), *tables.lesions[1:]))  # type: ignore[arg-type]


def test_sound_rows_break_no_rule(tables: Tables) -> None:
    assert broken(tables) == ""


def two_axes(tables: Tables) -> LesionRecord:
    return next(lesion for lesion in tables.lesions if lesion.short_axis_px is not None)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"box_px": (1.0, 2.0, 3.0, 4.0)}, "the ends say"),
        ({"long_axis_length_px": 3.0}, "px long, its ends say"),
        ({"long_axis_mm": 3.0}, "mm long, its ends say"),
        ({"long_axis_px": (float("nan"), 0.0, 0.0, 0.0)}, "not four finite numbers"),
        ({"long_axis_px": (1.0, 2.0)}, "not four finite numbers"),
        ({"slice_last": 11}, "slice 12 is outside 6-11"),
        ({"key_slice_number": 13}, "file name 000001_01_01/012.png, its numbers say 000001_01_01/013.png"),
        ({"split": "valid"}, "split 'valid'"),
        ({"coarse_lesion_type": 9}, "lesion type 9"),
        ({"notes": ("odd",)}, "flag 'odd'"),
        ({"col_spacing_mm": 0.0}, "spacing"),
        ({"slice_interval_mm": -5.0}, "spacing"),
        ({"rows": 512}, "rows 512, its key slice says 72"),
        ({"row_spacing_mm": 0.91}, "row_spacing_mm 0.91, its key slice says 0.9"),
        ({"series_id": "another"}, "series_id another"),
        ({"lesion_id": "another"}, "no kept bookmark leads to it"),
        ({"patient_id": "another"}, "patient_id and patient_index do not name the same things"),
    ],
)
def test_a_lesion_whose_numbers_contradict_each_other_is_found(
    tables: Tables, facts: dict[str, object], why: str
) -> None:
    assert why in broken(with_lesion(tables, **facts))


def test_a_length_without_ends_and_ends_without_length_are_found(tables: Tables) -> None:
    whole = two_axes(tables)
    for facts, why in (
        ({"short_axis_px": None}, "a length but no ends"),
        ({"short_axis_mm": None}, "ends but no length"),
    ):
        hurt = tuple(replace(r, **facts) if r == whole else r for r in tables.lesions)  # type: ignore[arg-type]
        assert why in broken(replace(tables, lesions=hurt))


def test_a_length_measured_off_the_plane_may_exceed_its_ends_by_as_much_as_geometry_allows(tables: Tables) -> None:
    length = tables.lesions[0].long_axis_mm
    slanted = (length**2 + 3.0**2) ** 0.5
    assert "mm long" not in broken(with_lesion(tables, long_axis_mm=slanted, off_plane_mm=1.5))
    assert "mm long" in broken(with_lesion(tables, long_axis_mm=slanted, off_plane_mm=1.4))


@pytest.mark.parametrize(
    ("verdict", "facts", "why"),
    [
        ("kept", {"reason": "non_axial"}, "no reason"),
        ("kept", {"lesion_id": ""}, "so it has a lesion"),
        ("rejected", {"reason": "because"}, "reason 'because'"),
        ("rejected", {"lesion_id": "x"}, "names a lesion"),
        ("rejected", {"verdict": "perhaps"}, "verdict 'perhaps'"),
        ("rejected", {"verdict": "kept", "reason": "", "detail": "", "lesion_id": "x"}, "not in lesions.parquet"),
    ],
)
def test_a_bookmark_whose_verdict_is_not_one_is_found(
    tables: Tables, verdict: str, facts: dict[str, str], why: str
) -> None:
    one = next(b for b in tables.bookmarks if b.verdict == verdict)
    rows = tuple(replace(b, **facts) if b == one else b for b in tables.bookmarks)  # type: ignore[arg-type]
    assert why in broken(replace(tables, bookmarks=rows))


def test_a_patient_in_two_splits_is_found(tables: Tables) -> None:
    assert "the patient is in test and train" in broken(with_lesion(tables, split="test"))


def test_rows_with_one_name_are_found(tables: Tables) -> None:
    assert "names another row" in broken(replace(tables, slices=(*tables.slices, tables.slices[0])))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: replace(s, is_key_slice=not s.is_key_slice), "key slice"),
        (lambda s: replace(s, position_mm=1e4), "further towards the feet"),
        (lambda s: replace(s, file_name="000001_01_01/500.png"), "its numbers say"),
        (lambda s: replace(s, slice_number=500), "no lesion asks for it"),
    ],
)
@pytest.mark.parametrize("number", [6, 12])
def test_a_slice_that_does_not_fit_its_series_is_found(
    tables: Tables, number: int, change: Callable[..., object], why: str
) -> None:
    (one,) = (s for s in tables.slices if s.patient_index == 1 and s.slice_number == number)
    rows = tuple(change(s) if s == one else s for s in tables.slices)
    assert why in broken(replace(tables, slices=rows))  # type: ignore[arg-type]


def test_slice_ranges_that_touch_must_have_been_merged(tables: Tables) -> None:
    first = tables.lesions[0]
    assert "not merged" in broken(with_lesion(tables, slice_first=first.slice_first + 1))


def test_sums_of_rows_are_those_of_the_manifest(tables: Tables) -> None:
    assert counts(tables)["bookmarks"] == 8
    assert splits(tables.lesions) == tables.splits


def test_boxes_are_held_to_the_margin_that_the_manifest_states(tmp_path: Path) -> None:
    stage, _ = factories.staged(tmp_path)
    whole = factories.lesion()
    x_min, y_min, x_max, y_max = whole.box_px
    narrow = replace(whole, box_px=(x_min + 2, y_min + 2, x_max - 2, y_max - 2))
    writer = DatasetWriter(tmp_path / "three", stage, settings=WriterSettings(box_margin_px=3.0))
    writer.write([factories.sample([narrow], stage)])
    assert check(tmp_path / "three") == []
    DatasetWriter(tmp_path / "five", stage).write([factories.sample([narrow], stage)])
    assert "the ends say" in found(tmp_path / "five")
