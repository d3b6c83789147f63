"""Which slices count, what was marked on them, and which detections belong to which: the input of every figure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol as TypingProtocol

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.detection import Detection
from deeplesion_miner.errors import ConfigError
from models.evaluation.froc import Pool, pool
from models.evaluation.overlap import Floats, Space
from models.evaluation.protocol import Boxes, Protocol
from models.marks import Annotation, KeySlice, Mark

ALL_SPLITS = "all"


class MarkedDataset(TypingProtocol):
    """What evaluation asks of a dataset folder (`models.reading.folder.DatasetFolder`)."""

    @property
    def key_slices(self) -> tuple[KeySlice, ...]:
        """All key slices, sorted by file name."""

    @property
    def digest(self) -> str:
        """Of the dataset's contents."""

    def has(self, file_name: str) -> bool:
        """True for a slice that the dataset ships."""

    def hu(self, file_name: str) -> NDArray[np.int16]:
        """(rows, columns) CT numbers."""


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices of a split that count in the FROC, sorted by file name, and what was left out."""

    counted: tuple[KeySlice, ...]
    """Completely or partly annotated; a completely annotated slice need not hold a mark."""
    annotation: Mapping[str, Annotation]
    """What is known of slices that do not count: by file name, where a table says so."""
    split: str
    noisy_marks: int
    """Marks left out as possibly noisy."""
    noisy_slices: frozenset[str]
    """Slices left out since they held no other."""
    unmarked_marks: int
    """Marks on slices that a table calls unmarked: they do not count."""

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of each slice."""
        return tuple(one.patient for one in self.counted)

    @property
    def marks(self) -> tuple[tuple[KeySlice, Mark], ...]:
        """Every mark with its slice, in the order of the pool."""
        return tuple((one, mark) for one in self.counted for mark in one.marks)


@dataclass(frozen=True, eq=False)
class Cases:
    """Detections by slice."""

    slices: Slices
    detected: tuple[tuple[Detection, ...], ...]
    """Of each counted slice."""
    unmarked: tuple[Detection, ...]
    """On slices of this split that nobody annotated completely or marked: neither right nor wrong."""
    elsewhere: int
    """Detections on slices of other splits."""
    on_noisy: int
    """Detections on slices left out as noisy."""

    @property
    def flat(self) -> tuple[Detection, ...]:
        """The detections in the order of the pool."""
        return tuple(detection for one in self.detected for detection in one)


def read_annotation(path: Path) -> dict[str, Annotation]:
    """A table 'file_name,annotation' (CSV with that header) as a mapping.

    ConfigError for another header, a state that there is not, a slice named twice.
    """
    states: dict[str, Annotation] = {}
    for line, row in csv_rows(path, ("file_name", "annotation")):
        if row["annotation"] not in set(Annotation):
            raise ConfigError(f"{path}:{line}: annotation {row['annotation']!r}: write {', '.join(Annotation)}")
        if row["file_name"] in states:
            raise ConfigError(f"{path}:{line}: {row['file_name']} stands there twice; keep one line")
        states[row["file_name"]] = Annotation(row["annotation"])
    return states


def csv_rows(path: Path, header: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV with these columns first. ConfigError where it cannot be read or has others."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != tuple(header):
                raise ConfigError(f"{path}: header {','.join(reader.fieldnames or ())!r}, not {','.join(header)!r}")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a readable CSV file: {error}") from error
    for line, row in rows:
        if None in row or None in row.values():
            raise ConfigError(f"{path}:{line}: {len(header)} values are needed: {','.join(header)}")
    return rows


def added_slices(dataset: MarkedDataset, annotation: Mapping[str, Annotation]) -> tuple[KeySlice, ...]:
    """The slices without marks that a table calls complete or partial: somebody looked at them, too.

    ConfigError for a slice that the dataset does not hold, or of a series without key slices.
    """
    key_slices = {one.file_name for one in dataset.key_slices}
    series: dict[str, list[KeySlice]] = {}
    for one in dataset.key_slices:
        series.setdefault(one.series, []).append(one)
    found = []
    for name, state in annotation.items():
        if name in key_slices:
            continue
        near = series.get(str(PurePosixPath(name).parent))
        if near is None or not dataset.has(name):
            raise ConfigError(f"annotation of {name}: the dataset holds no such slice in a series with key slices")
        if state is not Annotation.UNMARKED:
            number = slice_number(name)
            found.append(replace(_around(number, near), file_name=name, slice_number=number, marks=()))
    return tuple(found)


def _around(number: int, key_slices: Sequence[KeySlice]) -> KeySlice:
    """The nearest key slice of a series in whose range a slice lies; else the nearest, its range the slice alone."""
    nearest = sorted(key_slices, key=lambda one: abs(one.slice_number - number))
    holding = [one for one in nearest if one.slice_range[0] <= number <= one.slice_range[1]]
    return holding[0] if holding else replace(nearest[0], slice_range=(number, number))


def counted_slices(
    dataset: MarkedDataset, split: str, protocol: Protocol, annotation: Mapping[str, Annotation]
) -> Slices:
    """The slices of a split ('all' for every one) that count.

    `annotation` overrides by file name what the dataset says, and may add slices without marks that somebody looked
    at completely. ConfigError for a slice that the dataset does not hold, or of a series without key slices.
    """
    counted, noisy_slices, noisy_marks, unmarked_marks = [], set(), 0, 0
    for one in [*dataset.key_slices, *added_slices(dataset, annotation)]:
        if split not in (ALL_SPLITS, one.split):
            continue
        state = annotation.get(one.file_name, one.annotation)
        kept = tuple(mark for mark in one.marks if not (protocol.drop_noisy and mark.possibly_noisy))
        if state is Annotation.UNMARKED:
            unmarked_marks += len(kept)
        elif one.marks and not kept:
            noisy_slices.add(one.file_name)
        else:
            counted.append(replace(one, marks=kept, annotation=state))
        noisy_marks += len(one.marks) - len(kept)
    ordered = tuple(sorted(counted, key=lambda one: one.file_name))
    return Slices(ordered, annotation, split, noisy_marks, frozenset(noisy_slices), unmarked_marks)


def assign(detections: Iterable[Detection], dataset: MarkedDataset, slices: Slices, protocol: Protocol) -> Cases:
    """Gives each detection to its slice.

    ConfigError, naming some, where detections are on images that the dataset does not hold.
    """
    key_slices = {one.file_name: one for one in dataset.key_slices}
    split_of = {one.series: one.split for one in dataset.key_slices}
    place = {one.file_name: number for number, one in enumerate(slices.counted)}
    reached = _by_series(slices)
    detected: list[list[Detection]] = [[] for _ in slices.counted]
    unmarked: list[Detection] = []
    unknown: list[str] = []
    elsewhere = on_noisy = total = 0
    for detection in detections:
        total += 1
        name = detection.image if isinstance(detection.image, str) else detection.image.sop_instance_uid
        if not isinstance(detection.image, str) or not (name in key_slices or dataset.has(name)):
            unknown.append(name)
            continue
        series = str(PurePosixPath(name).parent)
        if slices.split not in (ALL_SPLITS, split_of.get(series)):
            elsewhere += 1
            continue
        if protocol.space is Space.PSEUDO_VOLUME:
            hit = _reached(detection, reached.get(series, ()))
        else:
            hit = [place[name]] if name in place else []
        for number in hit:
            detected[number].append(detection)
        if name in slices.noisy_slices:
            on_noisy += 1
        elif not hit:
            unmarked.append(detection)
    if unknown:
        shown = ", ".join(sorted(set(unknown))[:3])
        raise ConfigError(
            f"{len(unknown)} of {total} detections are on images that the dataset does not hold: {shown}"
            f"{' ...' if len(set(unknown)) > 3 else ''}; name the predictions of this dataset"
        )
    return Cases(slices, tuple(map(tuple, detected)), tuple(unmarked), elsewhere, on_noisy)


def pooled(cases: Cases, protocol: Protocol) -> Pool:
    """The pool of the FROC: marks and detections compared slice by slice."""
    margin = margin_px(cases.slices) if protocol.boxes is Boxes.PADDED else 0.0
    marked = [_mark_boxes(one, protocol) for one in cases.slices.counted]
    detected = [
        _detection_boxes(found, one, margin, protocol)
        for one, found in zip(cases.slices.counted, cases.detected, strict=True)
    ]
    return pool(marked, detected, protocol.space, protocol.criterion)


def margin_px(slices: Slices) -> float:
    """The margin of the dataset's boxes: the median over all sides of all marks; 0 without marks."""
    sides = [
        np.abs(np.asarray(mark.box_px) - mark.tight_box_px)
        for _, mark in slices.marks
        if np.isfinite(mark.box_px).all()
    ]
    return float(np.median(sides)) if sides else 0.0


def slice_number(file_name: str) -> int:
    """103 of '000001_01_01/103.png'. ConfigError where the file is not named by a number."""
    stem = PurePosixPath(file_name).stem
    if not stem.isdecimal():
        raise ConfigError(f"slice {file_name}: its name is not the number of a slice")
    return int(stem)


def extent(detection: Detection) -> tuple[int, int]:
    """First and last slice number of a detection: its own slice and those of its 3-D mask."""
    numbers = [slice_number(str(image)) for image in (detection.image, *(image for image, _ in detection.volume))]
    return min(numbers), max(numbers)


def _by_series(slices: Slices) -> dict[str, list[tuple[int, int]]]:
    """(slice number, place) of the counted slices of each series."""
    found: dict[str, list[tuple[int, int]]] = {}
    for place, one in enumerate(slices.counted):
        found.setdefault(one.series, []).append((one.slice_number, place))
    return found


def _reached(detection: Detection, counted: Sequence[tuple[int, int]]) -> list[int]:
    first, last = extent(detection)
    return [place for number, place in counted if first <= number <= last]


def _mark_boxes(one: KeySlice, protocol: Protocol) -> Floats:
    boxes = [
        np.asarray(mark.box_px, np.float64) if protocol.boxes is Boxes.PADDED else mark.tight_box_px
        for mark in one.marks
    ]
    plane = np.array(boxes, np.float64).reshape(-1, 4)
    if protocol.space is Space.PLANE:
        return plane
    number = np.full((len(plane), 1), one.slice_number, np.float64)
    return np.hstack([plane[:, :2], number, plane[:, 2:], number])


def _detection_boxes(found: Sequence[Detection], one: KeySlice, margin: float, protocol: Protocol) -> Floats:
    rows: list[tuple[float, ...]] = []
    for detection in found:
        box = detection.box
        low, high = (box.x_min - margin, box.y_min - margin), (box.x_max + margin, box.y_max + margin)
        if protocol.space is Space.PLANE:
            rows.append((*low, *high, detection.score))
        else:
            first, last = extent(detection)
            rows.append((*low, first, *high, last, detection.score))
    width = 5 if protocol.space is Space.PLANE else 7
    return np.array(rows, np.float64).reshape(-1, width)
