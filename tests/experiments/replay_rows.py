"""Rows of DL_info.csv for the replay: the public ones, or made-up ones that obey the same rules."""

from __future__ import annotations

import csv
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PUBLIC_FILES = ("DL_info_train_part_visible.csv", "DL_info_val_visible.csv", "DL_info_test_visible.csv")


@dataclass(frozen=True)
class Row:
    """One row as written: public coordinates, text where the text is compared."""

    name: str
    patient: int
    study: int
    series: int
    key_slice: int
    coordinates: tuple[float, ...]
    """x1, y1, x2, y2 of the long axis, x3, y3, x4, y4 of the short one."""
    box: tuple[float, ...]
    diameters_px: tuple[float, ...]
    slice_range: tuple[int, int]
    spacing: str
    interval: str
    size: tuple[int, int]
    """Columns, rows."""
    window: tuple[float, float]
    gender: str
    age: str
    noisy: bool
    location: tuple[float, ...]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def read_rows(path: Path) -> list[Row]:
    """The rows of a DL_info.csv, in the order of the file."""
    with path.open(newline="", encoding="ascii") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> Row:
    first, last = (int(part) for part in line["Slice_range"].split(","))
    spacing_x, _, interval = (part.strip() for part in line["Spacing_mm_px_"].split(","))
    columns, rows = (int(part) for part in line["Image_size"].split(","))
    low, high = _numbers(line["DICOM_windows"])
    return Row(
        name=line["File_name"],
        patient=int(line["Patient_index"]),
        study=int(line["Study_index"]),
        series=int(line["Series_ID"]),
        key_slice=int(line["Key_slice_index"]),
        coordinates=_numbers(line["Measurement_coordinates"]),
        box=_numbers(line["Bounding_boxes"]),
        diameters_px=_numbers(line["Lesion_diameters_Pixel_"]),
        slice_range=(first, last),
        spacing=spacing_x,
        interval=interval,
        size=(columns, rows),
        window=(low, high),
        gender=line["Patient_gender"],
        age=line["Patient_age"],
        noisy=line["Possibly_noisy"] == "1",
        location=_numbers(line["Normalized_lesion_location"]),
    )


def public_rows(folder: Path) -> list[Row]:
    """All public rows at hand."""
    return [row for name in PUBLIC_FILES for row in read_rows(folder / name)]


def sample_of(rows: Sequence[Row], share: int) -> list[Row]:
    """Every `share`-th patient, and for each way in which rows are hard one patient who has such a row."""
    patients = sorted({row.patient for row in rows})
    chosen = set(patients[::share]) if share > 1 else set(patients)
    for is_hard in HARD.values():
        chosen |= set(sorted({row.patient for row in rows if is_hard(row)})[:1])
    intervals: dict[tuple[int, int, int], set[str]] = defaultdict(set)
    for row in rows:
        intervals[row.patient, row.study, row.series].add(row.interval)
    chosen |= {patient for (patient, _, _), found in intervals.items() if len(found) > 1}
    return [row for row in rows if row.patient in chosen]


def _end_outside(row: Row) -> bool:
    xs, ys = row.coordinates[::2], row.coordinates[1::2]
    return min(*xs, *ys) < 0.5 or max(xs) > row.size[0] + 0.5 or max(ys) > row.size[1] + 0.5


def _far_from_perpendicular(row: Row) -> bool:
    x1, y1, x2, y2, x3, y3, x4, y4 = row.coordinates
    dot = (x2 - x1) * (x4 - x3) + (y2 - y1) * (y4 - y3)
    return abs(dot) > 0.26 * row.diameters_px[0] * row.diameters_px[1]


HARD: dict[str, Callable[[Row], bool]] = {
    "768 pixels": lambda row: row.size == (768, 768),
    "1024 pixels": lambda row: row.size == (1024, 1024),
    "box beyond the image": lambda row: min(row.box) < 1 or max(row.box) > max(row.size),
    "an end beyond the image": _end_outside,
    "axes of one length": lambda row: row.diameters_px[0] - row.diameters_px[1] < 0.0005,
    "more than 15 degrees off perpendicular": _far_from_perpendicular,
    "possibly noisy": lambda row: row.noisy,
    "interval of 0.59998 mm": lambda row: row.interval == "0.59998",
    "longer than 200 pixels": lambda row: row.diameters_px[0] > 200,
}


# --- made-up rows ----------------------------------------------------------------------------------------


def made_up_rows(patients: int, seed: int = 0) -> list[Row]:
    """Rows of patients who never lived, by the rules of the public file; the same for the same seed."""
    chance = random.Random(seed)
    rows: list[Row] = []
    for patient in range(1, patients + 1):
        gender, age = chance.choice("MF"), str(chance.randint(2, 96))
        for study in range(1, chance.randint(1, 3) + 1):
            for series in range(1, chance.randint(1, 2) + 1):
                rows += _made_up_series(chance, patient, study, series, gender, age)
    return rows


def _made_up_series(
    chance: random.Random, patient: int, study: int, series: int, gender: str, age: str
) -> Iterable[Row]:
    interval = chance.choice(("1", "5", "5", "2", "2.5", "1.25", "3"))
    spacing = f"{chance.uniform(0.3, 0.97):.6g}"
    side = chance.choice((512, 512, 512, 768))
    window = chance.choice(((-175.0, 275.0), (-1500.0, 500.0), (-182.5, 322.5)))
    last = chance.randint(30, int(600 / float(interval)))
    found = []
    for _ in range(chance.randint(1, 4)):
        coordinates = _made_up_cross(chance, side)
        xs, ys = coordinates[::2], coordinates[1::2]
        box = (min(xs) - 5, min(ys) - 5, max(xs) + 5, max(ys) + 5)
        lengths = (math.dist(coordinates[:2], coordinates[2:4]), math.dist(coordinates[4:6], coordinates[6:]))
        key = chance.randint(1, last)
        found.append(
            Row(
                name=f"{patient:06d}_{study:02d}_{series:02d}_{key:03d}.png",
                patient=patient,
                study=study,
                series=series,
                key_slice=key,
                coordinates=coordinates,
                box=box,
                diameters_px=lengths,
                slice_range=(1, last),
                spacing=spacing,
                interval=interval,
                size=(side, side),
                window=window,
                gender=gender,
                age=age,
                noisy=False,
                location=(),
            )
        )
    return _with_ranges(found, last)


def _made_up_cross(chance: random.Random, side: int) -> tuple[float, ...]:
    """A long axis and a short one across it, anywhere, some far from perpendicular."""
    x, y = chance.uniform(0.1, 0.9) * side, chance.uniform(0.1, 0.9) * side
    long_px, angle = chance.uniform(5, 80), chance.uniform(0, math.pi)
    short_px, across = long_px * chance.uniform(0.2, 0.99), angle + math.pi / 2 + chance.gauss(0, 0.05)
    at = chance.uniform(0.3, 0.7)
    start = (x - at * long_px * math.cos(angle), y - at * long_px * math.sin(angle))
    end = (start[0] + long_px * math.cos(angle), start[1] + long_px * math.sin(angle))
    half = chance.uniform(0.3, 0.7) * short_px
    one = (x - half * math.cos(across), y - half * math.sin(across))
    other = (one[0] + short_px * math.cos(across), one[1] + short_px * math.sin(across))
    return tuple(float(f"{value:.6g}") for point in (start, end, one, other) for value in point)


def _with_ranges(rows: Sequence[Row], last: int) -> list[Row]:
    """The rows with the slice ranges that the public rule gives: 30 mm each way, merged where they touch."""
    windows = []
    for row in rows:
        interval = float(row.interval)
        radius = row.diameters_px[0] * float(row.spacing) / 2 / interval
        base = math.ceil(30 / interval)
        half = math.ceil(radius) if math.floor(radius + 0.5) > base else base
        windows.append((max(1, row.key_slice - half), min(last, row.key_slice + half)))
    covered = defaultdict(set)
    for first, end in windows:
        covered["all"].update(range(first, end + 1))
    slices = covered["all"]

    def grown(first: int, end: int) -> tuple[int, int]:
        while first - 1 in slices:
            first -= 1
        while end + 1 in slices:
            end += 1
        return first, end

    return [replace(row, slice_range=grown(*window)) for row, window in zip(rows, windows, strict=True)]
