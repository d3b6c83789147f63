"""DeepLesion replay: every public row becomes a report over a CT, is mined, and must come back as it was.

    python -m tests.experiments.replay [--rows public|made-up] [--share N] [--data FOLDER] [--keep FOLDER]

The archive is written by `handwritten` (pydicom only), mined by `mine import`, and DL_info.csv of the mined
dataset is compared column by column with the rows, joined through the ledger's crosswalk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from tests.experiments import handwritten
from tests.experiments.handwritten import Cross, CtSeries, Patient, Study
from tests.experiments.mined import Mined, import_files, in_group
from tests.experiments.replay_rows import Row, made_up_rows, public_rows, sample_of

COORDINATES_PX = 0.001
DIAMETERS_PX = 0.002
SPACING_MM = 0
LOCATION = 2e-6
DUST = 1e-9
"""Two decimal numbers 0.001 apart differ by a little more or less in binary."""
SLICE_RANGES_AT_LEAST = 0.99
IN_PATIENT_EVERY = 3
"""Each third row of a series is written in patient coordinates, ..."""
UNNAMED_EVERY = 5
"""... in every fifth patient without naming the image: the report only lists what it was made from."""


@dataclass(frozen=True)
class Planted:
    """A row and where its cross went: report and group."""

    row: Row
    source_uid: str
    group_path: str


@dataclass
class Column:
    """How one column of the mined rows compares."""

    name: str
    tolerance: float
    compared: int = 0
    equal: int = 0
    worst: float = 0.0
    differing: list[str] = field(default_factory=list)

    def add(self, name: str, difference: float) -> None:
        self.compared += 1
        self.worst = max(self.worst, difference)
        if difference <= self.tolerance + DUST:
            self.equal += 1
        else:
            self.differing.append(name)


@dataclass(frozen=True)
class Comparison:
    """The replay's result."""

    rows: int
    found: int
    rejected: Mapping[str, int]
    columns: Mapping[str, Column]
    study_order_kept: bool

    def problems(self) -> list[str]:
        """What the issue asks and does not hold."""
        said = [] if self.found == self.rows else [f"{self.rows - self.found} of {self.rows} rows are not kept"]
        for column in self.columns.values():
            wanted = SLICE_RANGES_AT_LEAST if column.name == "Slice_range" else 1.0
            if column.compared and column.equal < wanted * column.compared:
                said.append(f"{column.name}: {column.equal} of {column.compared}, e.g. {column.differing[:3]}")
        return said if self.study_order_kept else [*said, "studies or series are numbered in another order"]

    def table(self) -> str:
        """Markdown."""
        lines = ["| column | tolerance | rows equal | share | largest difference |", "|---|---|---|---|---|"]
        for column in self.columns.values():
            share = f"{column.equal / column.compared:.2%}" if column.compared else "-"
            lines.append(
                f"| {column.name} | {column.tolerance:g} | {column.equal} of {column.compared} | {share} "
                f"| {column.worst:.3g} |"
            )
        rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items())) or "none"
        return "\n".join(
            [*lines, "", f"Rows kept: {self.found} of {self.rows}; rejected: {rejected};"
             f" studies and series in public order: {'yes' if self.study_order_kept else 'no'}."]
        )  # fmt: skip


# --- writing ---------------------------------------------------------------------------------------------


def plant(rows: Sequence[Row], folder: Path, pixels: Callable[[Row, int], object] | None = None) -> list[Planted]:
    """Writes CT slices and one report a series for the rows; returns where each row went.

    `pixels` gives (row, slice number) -> CT numbers or None; without it every slice is constant water.
    """
    by_series: dict[tuple[int, int, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_series[row.patient, row.study, row.series, row.interval].append(row)
    planted: list[Planted] = []
    for index, (key, members) in enumerate(sorted(by_series.items())):
        same = sorted({k[3] for k in by_series if k[:3] == key[:3]})
        planted += _plant_series(members, index, same.index(key[3]), folder, pixels)
    return planted


def study_of(row: Row) -> Study:
    """The row's study: dates follow the public order of a patient's studies."""
    patient = Patient(f"DL{row.patient:06d}", row.gender, f"{int(row.age):03d}Y" if row.age.isdigit() else "")
    day = date(2001, 1, 1) + timedelta(days=row.patient % 365 + 45 * row.study)
    return Study(patient, f"{day:%Y%m%d}", handwritten.uid_of("study", row.patient, row.study))


def series_of(row: Row, index: int, part: int) -> CtSeries:
    """The row's series, at a place of our choosing, every fifth prone."""
    columns, rows = row.size
    spacing = Decimal(row.spacing)
    left = (-spacing * columns / 2 + index % 37).quantize(Decimal("0.001"))
    top = (-spacing * rows / 2 - index % 11).quantize(Decimal("0.001"))
    prone = index % 5 == 4
    return CtSeries(
        study=study_of(row),
        uid=handwritten.uid_of("series", row.patient, row.study, row.series, row.interval),
        number=10 * row.series + part,
        rows=rows,
        columns=columns,
        spacing_mm=spacing,
        interval_mm=Decimal(row.interval),
        window_hu=row.window,
        first_position_mm=(-left if prone else left, -top if prone else top, Decimal(index % 900) - Decimal("150.5")),
        directions=handwritten.PRONE if prone else handwritten.SUPINE,
    )


def _plant_series(
    members: Sequence[Row],
    index: int,
    part: int,
    folder: Path,
    pixels: Callable[[Row, int], object] | None,
) -> list[Planted]:
    series = series_of(members[0], index, part)
    last = max(row.slice_range[1] for row in members)
    around = {n for row in members for n in range(row.key_slice - 1, row.key_slice + 2) if 1 <= n <= last}
    home = folder / series.study.patient.patient_id / series.study.date / f"{series.number}"
    header = handwritten.ct_header(series)
    for number in sorted(around | {last} | _given(members, last, pixels)):
        hu = pixels(members[0], number) if pixels is not None else None
        handwritten.write_slice(header, series, number, home / f"{number:04d}.dcm", hu)  # type: ignore[arg-type]
    crosses = [_cross(row, series, place) for place, row in enumerate(members)]
    report = handwritten.write_report(
        series.study, crosses, home / "report.dcm", series.uid, number=900 + series.number
    )
    return [Planted(row, report.sop_instance_uid, path) for row, path in zip(members, report.paths, strict=True)]


def _given(members: Sequence[Row], last: int, pixels: Callable[[Row, int], object] | None) -> set[int]:
    if pixels is None:
        return set()
    return {number for number in range(1, last + 1) if pixels(members[0], number) is not None}


def _cross(row: Row, series: CtSeries, place: int) -> Cross:
    x = row.coordinates
    spacing = float(row.spacing)
    return Cross(
        series=series,
        slice_number=row.key_slice,
        long_axis=((x[0], x[1]), (x[2], x[3])),
        short_axis=((x[4], x[5]), (x[6], x[7])),
        stated_mm=(row.diameters_px[0] * spacing, row.diameters_px[1] * spacing),
        in_patient=(row.patient + place) % IN_PATIENT_EVERY == 0,
        names_image=row.patient % UNNAMED_EVERY != 0,
        snomed_rt=(row.patient + place) % 2 == 0,
        tracking=f"row {place} of {row.name}",
    )


# --- comparing -------------------------------------------------------------------------------------------


def compare(planted: Sequence[Planted], mined: Mined) -> Comparison:
    """The mined DL_info.csv against the rows, joined through the crosswalk."""
    lesion_ids = _by_group(mined.crosswalk("lesion"))
    table = mined.table("lesions")
    ours = dict(zip((str(row["lesion_id"]) for row in table), mined.csv_rows(), strict=True))
    _check_same_order(table, mined)
    columns = {name: Column(name, tolerance) for name, tolerance in _TOLERANCES.items()}
    order: list[tuple[Row, dict[str, str]]] = []
    for one in planted:
        line = ours.get(lesion_ids(one.source_uid, one.group_path))
        if line is None:
            continue
        order.append((one.row, line))
        for name, difference in _differences(one.row, line).items():
            columns[name].add(one.row.name, difference)
    rejected = Counter(row["reason"] for row in mined.table("bookmarks") if row["verdict"] == "rejected")
    return Comparison(len(planted), len(order), rejected, columns, _is_public_order(order))


def _by_group(crosswalk: Mapping[str, str]) -> Callable[[str, str], str]:
    """Public id by (source UID, group path); '' where there is none."""
    by_source: dict[str, list[str]] = defaultdict(list)
    for original in crosswalk:
        by_source[original.partition("#")[0]].append(original)

    def find(source: str, path: str) -> str:
        return next((crosswalk[key] for key in by_source[source] if in_group(key, source, path)), "")

    return find


def _check_same_order(table: Sequence[Mapping[str, object]], mined: Mined) -> None:
    """lesions.parquet and DL_info.csv hold the same rows in one order."""
    names = [str(row["file_name"]).replace("/", "_") for row in table]
    assert names == [row["File_name"] for row in mined.csv_rows()]


_TOLERANCES = {
    "Measurement_coordinates": COORDINATES_PX,
    "Bounding_boxes": COORDINATES_PX,
    "Lesion_diameters_Pixel_": DIAMETERS_PX,
    "Key_slice_index": 0,
    "Slice_range": 0,
    "Spacing_mm_px_": SPACING_MM,
    "Image_size": 0,
    "DICOM_windows": 0,
    "Patient_gender": 0,
    "Patient_age": 0,
    "Normalized_lesion_location x, y": LOCATION,
}


def _largest(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _differences(row: Row, line: Mapping[str, str]) -> dict[str, float]:
    """Per column how far the mined row is from the public one, end by end; text counts as 0 or 1."""

    def numbers(name: str) -> list[float]:
        return [float(part) for part in line[name].split(",")]

    spacing = (float(row.spacing), float(row.spacing), float(row.interval))
    return {
        "Measurement_coordinates": _largest(row.coordinates, numbers("Measurement_coordinates")),
        "Bounding_boxes": _largest(row.box, numbers("Bounding_boxes")),
        "Lesion_diameters_Pixel_": _largest(row.diameters_px, numbers("Lesion_diameters_Pixel_")),
        "Key_slice_index": float(str(row.key_slice) != line["Key_slice_index"]),
        "Slice_range": float(f"{row.slice_range[0]}, {row.slice_range[1]}" != line["Slice_range"]),
        "Spacing_mm_px_": _largest(spacing, numbers("Spacing_mm_px_")),
        "Image_size": float(f"{row.size[0]}, {row.size[1]}" != line["Image_size"]),
        "DICOM_windows": float(f"{row.window[0]:g}, {row.window[1]:g}" != line["DICOM_windows"]),
        "Patient_gender": float(row.gender != line["Patient_gender"]),
        "Patient_age": float(row.age != line["Patient_age"]),
        "Normalized_lesion_location x, y": _largest(_location_in_water(row), numbers("Normalized_lesion_location")[:2]),
    }


def _location_in_water(row: Row) -> tuple[float, float]:
    """x and y of the normalised location where the body fills the image: box (0, 0, columns - 1, rows - 1)."""
    x, y = (row.box[0] + row.box[2]) / 2, (row.box[1] + row.box[3]) / 2
    return (
        0.99642374 * x / (row.size[0] - 1) - 0.00906259,
        0.81352015 * y / (row.size[1] - 1) + 0.11979325,
    )


def _is_public_order(order: Sequence[tuple[Row, Mapping[str, str]]]) -> bool:
    """Studies of a patient and series of a study stand in the public order."""
    ours: dict[int, dict[tuple[int, int, str], tuple[int, int]]] = defaultdict(dict)
    for row, line in order:
        place = (int(line["Study_index"]), int(line["Series_ID"]))
        ours[row.patient][row.study, row.series, row.interval] = place
    return all([places[key] for key in sorted(places)] == sorted(set(places.values())) for places in ours.values())


# --- the whole -------------------------------------------------------------------------------------------


def replay(rows: Sequence[Row], folder: Path, workers: int = 1) -> Comparison:
    """Writes, mines and compares."""
    begun = time.monotonic()
    planted = plant(rows, folder / "archive")
    written = time.monotonic()
    mined = import_files(
        folder, [folder / "archive"], "--set", "deidentification.age_cap_years=none", "--workers", workers
    )
    ended = time.monotonic()
    result = compare(planted, mined)
    print(f"{len(rows)} rows: written in {written - begun:.0f} s, mined in {ended - written:.0f} s")
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="DeepLesion replay")
    parser.add_argument("--rows", choices=("public", "made-up"), default="public")
    parser.add_argument("--share", type=int, default=1, help="every N-th patient, and all rows that are hard")
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    parser.add_argument("--keep", type=Path, help="folder for archive and dataset; default: a temporary one")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    if given.rows == "public":
        data = given.data or Path(__file__).resolve().parents[3] / "shared" / "data"
        rows = sample_of(public_rows(Path(data) / "deeplesion"), given.share)
    else:
        rows = made_up_rows(1500 // given.share)
    with tempfile.TemporaryDirectory() as temporary:
        result = replay(rows, given.keep or Path(temporary), given.workers)
    print(result.table())
    problems = result.problems()
    print("\n".join(problems) or "all holds")
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
