"""The ways home of a dataset: from its own tables and pictures and from the ledger that made it. Trusted side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from dataset_builder import layout
from dataset_builder.ledger import SqliteLedger
from dataset_builder.tables import read_rows
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.homecoming import HomeIndex, HomeSlice
from deeplesion_miner.records import LesionRecord, SliceRecord


def home_index(ledger: SqliteLedger, dataset: Path) -> HomeIndex:
    """The ways home of the slices of `dataset` that `ledger` knows; pictures are read when they are asked for.

    ConfigError for a folder without the tables of a mined dataset, VerificationFailed for tables that are broken.
    """
    for name in (layout.SLICES, layout.LESIONS):
        if not (dataset / name).is_file():
            raise ConfigError(f"{dataset}: has no {name}: only datasets that `mine` wrote lead home")
    slices = read_rows(dataset / layout.SLICES, "slices")
    series = {_indices(row): (row.study_id, row.series_id) for row in read_rows(dataset / layout.LESIONS, "lesions")}
    known = _known(ledger, set(series.values()))
    places = {row.file_name: known.get((*series.get(_indices(row), ("", "")), row.slice_number)) for row in slices}
    names = frozenset(places)
    return HomeIndex(
        places={name: place for name, place in places.items() if place is not None},
        digests=_Pictures(dataset / layout.IMAGES, names),
        names=names,
    )


def _indices(row: LesionRecord | SliceRecord) -> tuple[int, int, int]:
    """Which series of the dataset: no slice is in it without a lesion of its series."""
    return row.patient_index, row.study_index, row.series_index


def _known(ledger: SqliteLedger, series: set[tuple[str, str]]) -> dict[tuple[str, str, int], HomeSlice]:
    """Images by public study id, public series id and slice number, for those series that the ledger knows."""
    originals = {(row.kind, row.public_id): row.original for row in ledger.crosswalk()}
    found: dict[tuple[str, str, int], HomeSlice] = {}
    for study_id in sorted({study_id for study_id, _ in series}):
        study_uid = originals.get(("study", study_id))
        outcome = None if study_uid is None else ledger.outcome(study_uid)
        stacks = {} if outcome is None else {stack.key: stack for stack in outcome.stacks}
        for series_id in sorted(series_id for of_study, series_id in series if of_study == study_id):
            stack = stacks.get(originals.get(("series", series_id), ""))
            for one in () if stack is None else stack.slices:
                found[study_id, series_id, one.slice_number] = HomeSlice(one.ref, one.staged_png)
    return found


class _Pictures(Mapping[str, str]):
    """sha256 of pictures by file name, each read once when it is asked for; a name is a plain file below the folder."""

    def __init__(self, folder: Path, names: frozenset[str]) -> None:
        self._folder, self._names = folder, names
        self._known: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._known:
            try:
                data = (self._folder / name).read_bytes()
            except OSError:
                raise KeyError(name) from None
            self._known[name] = hashlib.sha256(data).hexdigest()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in sorted(self._names) if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
