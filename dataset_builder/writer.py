"""The dataset folder: everything that one state of the ledger says, whole or not at all.

All files are written once and never modified; the manifest comes last. No file holds a time, so the same records
give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import schemas
from dataset_builder import layout, swap
from dataset_builder.card import CardSettings, card
from dataset_builder.contact_sheet import chosen, contact_sheet, crops_of
from dataset_builder.croissant import croissant
from dataset_builder.dl_info import to_csv
from dataset_builder.durable import link_or_copy, sync_folder, write_file
from dataset_builder.manifest import FileEntry, manifest_of, read_manifest, to_json
from dataset_builder.png import read_png
from dataset_builder.report import report
from dataset_builder.schema import TABLES, key
from dataset_builder.stage import Stage
from dataset_builder.summary import counts
from dataset_builder.tables import Tables, gather, to_parquet
from deeplesion_miner.errors import MinerError, SumsDoNotHold, VerificationFailed
from deeplesion_miner.records import Sample, SliceRecord


class StagedImageMissing(MinerError):
    """The working folder lost an image that the ledger knows."""


@dataclass(frozen=True)
class WriterSettings:
    """What a dataset is called, how much of it is shown, and what its manifest says beyond the records."""

    card: CardSettings = field(default_factory=CardSettings)
    contact_sheet_limit: int = 120
    """Most lesions on the contact sheet and in the report; evenly chosen where there are more."""
    key_token: str = ""
    """Names the pseudonym key without telling anything of it; a dataset of another key is never replaced."""
    box_margin_px: float = schemas.load("dataset")["box_margin_px"]
    """The margin that the records' boxes have on each side."""


class DatasetWriter:
    """The port `Sink` over a folder. One process writes at a time; a lock beside the folder sees to that."""

    def __init__(self, folder: Path, stage: Stage, *, settings: WriterSettings | None = None) -> None:
        """Raises ConfigError where `folder` holds what is no dataset of this tool, or one of another key."""
        self.folder = folder.resolve()
        self._stage = stage
        self._settings = settings or WriterSettings()
        swap.refuse_foreign(self.folder, self._settings.key_token)

    def write(self, samples: Iterable[Sample]) -> str:
        """Writes everything, the manifest last, and returns its digest. A crash leaves no half-written dataset.

        Raises SumsDoNotHold where rows do not add up, StagedImageMissing where an image is gone, DatasetInUse
        where another process writes here.
        """
        tables = gather(samples)
        check_sums(tables)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with swap.held(self.folder):
            swap.recover(self.folder)
            # Another process may have written here since this one began.
            swap.refuse_foreign(self.folder, self._settings.key_token)
            return self._write(tables)

    def _write(self, tables: Tables) -> str:
        build = swap.building(self.folder)
        build.mkdir()
        files = self._link_images(build, tables.slices)
        files += [_write(build, name, data, rows) for name, data, rows in self._documents(build, tables)]
        files.append(_write(build, layout.CROISSANT, croissant(files, self._settings.card)))
        manifest = manifest_of(
            files,
            counts(tables),
            key_token=self._settings.key_token,
            box_margin_px=self._settings.box_margin_px,
        )
        _write(build, layout.MANIFEST, to_json(manifest))
        if self._is_in_place(to_json(manifest), files):
            swap.recover(self.folder)
        else:
            swap.swap(self.folder)
        return manifest.digest

    def _link_images(self, build: Path, slices: Iterable[SliceRecord]) -> list[FileEntry]:
        """Gives every staged image its name in the dataset; the hash is known from the staged name."""
        root = build / layout.IMAGES
        root.mkdir()
        folders: set[Path] = set()
        files = []
        for record in slices:
            staged, target = self._stage.path(record.png_sha256), root / record.file_name
            if target.parent not in folders:
                target.parent.mkdir()
                folders.add(target.parent)
            if not staged.is_file():
                raise StagedImageMissing(
                    f"{record.file_name}: its image {record.png_sha256[:12]} is gone from the working folder "
                    f"{self._stage.folder}; mine the archive into a fresh working folder"
                )
            link_or_copy(staged, target)
            files.append(FileEntry(layout.image_path(record.file_name), record.png_sha256, target.stat().st_size))
        for folder in (*sorted(folders), root):
            sync_folder(folder)
        return files

    def _documents(self, build: Path, tables: Tables) -> Iterable[tuple[str, bytes, int | None]]:
        """Every file that is computed from the tables: name, bytes, rows."""
        for table in TABLES:
            rows = tables.rows(table)
            yield f"{table}.parquet", to_parquet(table, rows), len(rows)
        yield layout.DL_INFO, to_csv(tables.lesions), len(tables.lesions)
        yield layout.CARD, card(tables, self._settings.card), None
        shown = chosen(tables.lesions, self._settings.contact_sheet_limit)

        def read_slice(file_name: str) -> NDArray[np.int16]:
            return read_png(build / layout.image_path(file_name))

        crops = crops_of(shown, read_slice)
        yield layout.CONTACT_SHEET, contact_sheet(shown, crops), None
        yield layout.REPORT, report(tables, shown, crops, self._settings.card.title), None

    def _is_in_place(self, manifest: bytes, files: Iterable[FileEntry]) -> bool:
        """True where the folder holds this very dataset already, every file of its right size."""
        try:
            present = to_json(read_manifest(self.folder)) == manifest
        except VerificationFailed:
            return False
        paths = ((self.folder / file.path, file.bytes) for file in files)
        return present and all(path.is_file() and path.stat().st_size == size for path, size in paths)


def check_sums(tables: Tables) -> None:
    """Bookmarks found = kept + rejected, kept = lesions, every lesion has its key slice, no key twice.

    Raises SumsDoNotHold: a run whose sums fail is a failed run.
    """
    kept = {bookmark.lesion_id for bookmark in tables.bookmarks if bookmark.verdict == "kept"}
    rejected = sum(bookmark.verdict == "rejected" for bookmark in tables.bookmarks)
    lesions = {lesion.lesion_id for lesion in tables.lesions}
    if kept != lesions or len(kept) + rejected != len(tables.bookmarks):
        raise SumsDoNotHold(
            f"{len(tables.bookmarks)} bookmarks, {len(kept)} kept, {rejected} rejected, {len(lesions)} lesions"
        )
    for table in TABLES:
        keys = [tuple(getattr(row, name) for name in key(table)) for row in tables.rows(table)]
        if len(set(keys)) != len(keys):
            raise SumsDoNotHold(
                f"{table}: {len(keys) - len(set(keys))} rows share {', '.join(key(table))} with another"
            )
    homeless = {lesion.file_name for lesion in tables.lesions} - {record.file_name for record in tables.slices}
    if homeless:
        raise SumsDoNotHold(f"{len(homeless)} key slices are not among the slices, e.g. {min(homeless)}")


def _write(folder: Path, name: str, data: bytes, rows: int | None = None) -> FileEntry:
    write_file(folder / name, data)
    return FileEntry(name, hashlib.sha256(data).hexdigest(), len(data), rows)
