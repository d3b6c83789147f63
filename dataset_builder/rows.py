"""What must hold between the numbers of the rows; each rule recomputes, none trusts the code that wrote them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import schemas
from dataset_builder.schema import TABLES, key
from dataset_builder.tables import Tables
from deeplesion_miner.deidentify import file_name
from deeplesion_miner.reasons import reasons
from deeplesion_miner.records import BookmarkRecord, LesionRecord, SliceRecord

Broken: TypeAlias = tuple[str, str]
"""Where ('lesions: key'), and what was found."""

TOLERANCE_PX = 1e-6
TOLERANCE_MM = 1e-6
SPACING_TOLERANCE = 1e-6
"""Relative: headers of one series may print the same spacing with more or fewer digits."""
SeriesKey: TypeAlias = tuple[int, int, int]


def check_rows(tables: Tables, box_margin_px: float) -> Iterator[Broken]:
    """Every broken rule of every row, and of the tables together; boxes are to have this margin on each side."""
    for table in TABLES:
        yield from _check_keys(tables, table)
    slices = {record.file_name: record for record in tables.slices}
    for lesion in tables.lesions:
        yield from _check_lesion(lesion, box_margin_px)
        yield from _check_key_slice(lesion, slices.get(lesion.file_name))
    for bookmark in tables.bookmarks:
        yield from _check_bookmark(bookmark)
    yield from _check_sums(tables)
    yield from _check_splits(tables.lesions)
    yield from _check_series(tables)
    yield from _check_indices(tables.lesions)


def _check_keys(tables: Tables, table: str) -> Iterator[Broken]:
    seen = set()
    for row in tables.rows(table):
        name = tuple(getattr(row, column) for column in key(table))
        if name in seen:
            yield f"{table}: {name[0]}", f"{', '.join(key(table))} names another row, too"
        seen.add(name)


# --- one lesion ------------------------------------------------------------------------------------------


def _check_lesion(lesion: LesionRecord, margin: float) -> Iterator[Broken]:
    where = f"lesions: {lesion.lesion_id}"
    axes = [("long", lesion.long_axis_px, lesion.long_axis_length_px, lesion.long_axis_mm)]
    if lesion.short_axis_px is not None:
        if lesion.short_axis_length_px is None or lesion.short_axis_mm is None:
            yield where, "the short axis has ends but no length"
            return
        axes.append(("short", lesion.short_axis_px, lesion.short_axis_length_px, lesion.short_axis_mm))
    elif lesion.short_axis_length_px is not None or lesion.short_axis_mm is not None:
        yield where, "the short axis has a length but no ends"
    for name, ends, stated_px, stated_mm in axes:
        if len(ends) != 4 or not all(map(math.isfinite, ends)):
            yield where, f"the {name} axis is {ends}, not four finite numbers"
            return
        yield from _check_length(where, name, ends, stated_px, stated_mm, lesion)
    yield from _check_box(where, lesion, [ends for _, ends, _, _ in axes], margin)
    yield from _check_words(where, lesion)
    if not lesion.slice_first <= lesion.key_slice_number <= lesion.slice_last:
        yield where, f"slice {lesion.key_slice_number} is outside {lesion.slice_first}-{lesion.slice_last}"
    named = file_name(lesion.patient_index, lesion.study_index, lesion.series_index, lesion.key_slice_number)
    if lesion.file_name != named:
        yield where, f"file name {lesion.file_name}, its numbers say {named}"


def _check_length(
    where: str, name: str, ends: Sequence[float], stated_px: float, stated_mm: float, lesion: LesionRecord
) -> Iterator[Broken]:
    x, y = ends[2] - ends[0], ends[3] - ends[1]
    length_px = math.hypot(x, y)
    if not abs(stated_px - length_px) <= TOLERANCE_PX:
        yield where, f"the {name} axis is {stated_px} px long, its ends say {length_px}"
    length_mm = math.hypot(x * lesion.col_spacing_mm, y * lesion.row_spacing_mm)
    # Ends off the plane may be measured where they are: at most twice their distance longer, at right angles.
    longest_mm = math.hypot(length_mm, 2 * lesion.off_plane_mm)
    if not length_mm - TOLERANCE_MM <= stated_mm <= longest_mm + TOLERANCE_MM:
        yield where, f"the {name} axis is {stated_mm} mm long, its ends say {length_mm}"


def _check_box(where: str, lesion: LesionRecord, axes: Sequence[Sequence[float]], margin: float) -> Iterator[Broken]:
    xs = [value for ends in axes for value in ends[::2]]
    ys = [value for ends in axes for value in ends[1::2]]
    expected = (min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin)
    if len(lesion.box_px) != 4 or not all(
        abs(one - other) <= TOLERANCE_PX for one, other in zip(lesion.box_px, expected, strict=True)
    ):
        yield where, f"box {lesion.box_px}, the ends say {expected}"


def _check_words(where: str, lesion: LesionRecord) -> Iterator[Broken]:
    described = schemas.load("dataset")
    if lesion.split not in described["dl_info"]["split"]:
        yield where, f"split '{lesion.split}'"
    if str(lesion.coarse_lesion_type) not in described["coarse_lesion_type"]:
        yield where, f"lesion type {lesion.coarse_lesion_type}"
    for note in lesion.notes:
        if note not in reasons("flag"):
            yield where, f"flag '{note}' is not in schemas/reasons.toml"
    spacings = (lesion.col_spacing_mm, lesion.row_spacing_mm, lesion.slice_interval_mm)
    if not all(value is None or (math.isfinite(value) and value > 0) for value in spacings):
        yield where, f"spacing {spacings} mm"


def _check_key_slice(lesion: LesionRecord, record: SliceRecord | None) -> Iterator[Broken]:
    where = f"lesions: {lesion.lesion_id}"
    if record is None:
        yield where, f"its key slice {lesion.file_name} is not in slices.parquet"
        return
    if not record.is_key_slice:
        yield f"slices: {record.file_name}", "is a key slice of a lesion but not marked as one"
    for name in ("series_id", "rows", "columns"):
        if getattr(lesion, name) != getattr(record, name):
            yield where, f"{name} {getattr(lesion, name)}, its key slice says {getattr(record, name)}"
    for name in ("col_spacing_mm", "row_spacing_mm"):
        if not math.isclose(getattr(lesion, name), getattr(record, name), rel_tol=SPACING_TOLERANCE):
            yield where, f"{name} {getattr(lesion, name)}, its key slice says {getattr(record, name)}"


# --- bookmarks and sums ----------------------------------------------------------------------------------


def _check_bookmark(bookmark: BookmarkRecord) -> Iterator[Broken]:
    where = f"bookmarks: {bookmark.bookmark_id}"
    if bookmark.verdict == "kept":
        if bookmark.reason or bookmark.detail or not bookmark.lesion_id:
            yield where, "is kept, so it has a lesion and no reason"
    elif bookmark.verdict == "rejected":
        if bookmark.reason not in reasons("reject"):
            yield where, f"reason '{bookmark.reason}' is not in schemas/reasons.toml"
        if bookmark.lesion_id:
            yield where, "is rejected but names a lesion"
    else:
        yield where, f"verdict '{bookmark.verdict}'"


def _check_sums(tables: Tables) -> Iterator[Broken]:
    """Bookmarks found = kept + rejected, and the kept ones are the lesions, one to one."""
    kept = {(b.bookmark_id, b.lesion_id) for b in tables.bookmarks if b.verdict == "kept"}
    rows = {(lesion.bookmark_id, lesion.lesion_id) for lesion in tables.lesions}
    for _, lesion_id in sorted(rows - kept):
        yield f"lesions: {lesion_id}", "no kept bookmark leads to it"
    for bookmark_id, _ in sorted(kept - rows):
        yield f"bookmarks: {bookmark_id}", "is kept, but its lesion is not in lesions.parquet"


def _check_splits(lesions: Sequence[LesionRecord]) -> Iterator[Broken]:
    sides: dict[str, set[str]] = defaultdict(set)
    for lesion in lesions:
        sides[lesion.patient_id].add(lesion.split)
    for patient_id, names in sorted(sides.items()):
        if len(names) > 1:
            yield f"splits: {patient_id}", f"the patient is in {' and '.join(sorted(names))}"


def _check_indices(lesions: Sequence[LesionRecord]) -> Iterator[Broken]:
    """A pseudonym and its number belong together, both ways."""
    for level, number in (
        ("patient", lambda r: (r.patient_index,)),
        ("study", lambda r: (r.patient_index, r.study_index)),
        ("series", lambda r: (r.patient_index, r.study_index, r.series_index)),
    ):
        pairs = {(getattr(lesion, f"{level}_id"), number(lesion)) for lesion in lesions}
        if not len({name for name, _ in pairs}) == len({place for _, place in pairs}) == len(pairs):
            yield "lesions.parquet", f"{level}_id and {level}_index do not name the same things"


# --- slices of a series ----------------------------------------------------------------------------------


def _series(row: LesionRecord | SliceRecord) -> SeriesKey:
    return (row.patient_index, row.study_index, row.series_index)


def _check_series(tables: Tables) -> Iterator[Broken]:
    ranges: dict[SeriesKey, set[tuple[int, int]]] = defaultdict(set)
    keys: dict[SeriesKey, set[int]] = defaultdict(set)
    for lesion in tables.lesions:
        ranges[_series(lesion)].add((lesion.slice_first, lesion.slice_last))
        keys[_series(lesion)].add(lesion.key_slice_number)
    slices: dict[SeriesKey, list[SliceRecord]] = defaultdict(list)
    for record in tables.slices:
        slices[_series(record)].append(record)
    for series, found in ranges.items():
        for (_, last), (first, _) in pairwise(sorted(found)):
            if first <= last + 1:
                yield f"lesions: {file_name(*series, first)}", "two slice ranges overlap or touch but are not merged"
    for series, records in slices.items():
        yield from _check_stack(sorted(records, key=lambda r: r.slice_number), ranges[series], keys[series])


def _check_stack(records: Sequence[SliceRecord], ranges: set[tuple[int, int]], keys: set[int]) -> Iterator[Broken]:
    for record in records:
        where = f"slices: {record.file_name}"
        place = (record.patient_index, record.study_index, record.series_index, record.slice_number)
        if record.file_name != file_name(*place):
            yield where, f"its numbers say {file_name(*place)}"
        if not any(first <= record.slice_number <= last for first, last in ranges):
            yield where, "no lesion asks for it"
        if record.is_key_slice and record.slice_number not in keys:
            yield where, "is marked as key slice, but no lesion lies on it"
    for one, other in pairwise(records):
        if not other.position_mm > one.position_mm:
            yield f"slices: {other.file_name}", "does not lie further towards the feet than the slice before"
