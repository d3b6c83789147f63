"""`mine check`: a dataset folder recomputed from its own numbers, without ledger or archive.

Nothing is believed: hashes from bytes, boxes and lengths from ends, sums from rows, DL_info.csv from the tables.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dataset_builder import layout
from dataset_builder.dl_info import to_csv
from dataset_builder.manifest import FileEntry, Manifest, digest, read_manifest
from dataset_builder.png import BadPng, read_png
from dataset_builder.rows import check_rows
from dataset_builder.schema import TABLES
from dataset_builder.summary import counts
from dataset_builder.tables import Tables, ordered, read, splits
from deeplesion_miner.errors import VerificationFailed
from deeplesion_miner.records import SliceRecord


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be."""

    where: str
    """File of the dataset, or 'table: key of the row'."""
    text: str
    """What was found and what was expected."""

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def check(folder: Path) -> list[Finding]:
    """Everything wrong with a dataset; empty for a sound one. Never raises for what it finds in the folder."""
    try:
        manifest = read_manifest(folder)
    except VerificationFailed as error:
        return [Finding(layout.MANIFEST, str(error))]
    findings = [*_check_listing(folder, manifest), *_check_hashes(folder, manifest.files)]
    try:
        tables = read(folder)
    except VerificationFailed as error:
        return [*findings, Finding("tables", str(error))]
    findings += _check_order(tables)
    broken = [Finding(where, text) for where, text in check_rows(tables, manifest.box_margin_px)]
    findings += broken
    findings += _check_manifest_counts(manifest, tables)
    # From rows that contradict themselves no file can be recomputed.
    if not broken:
        findings += _check_dl_info(folder, tables)
    findings += _check_images(folder, manifest, tables)
    return findings


def _check_listing(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """Every listed file is there as a plain file, every other file is named, the digest is that of the list."""
    listed = {file.path for file in manifest.files}
    if len(listed) != len(manifest.files):
        yield Finding(layout.MANIFEST, "a file is listed twice")
    if digest(manifest.files) != manifest.digest:
        yield Finding(layout.MANIFEST, f"the digest of the listed files is {digest(manifest.files)}")
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    for name in sorted(present - listed - {layout.MANIFEST}):
        yield Finding(
            name, "is not in the manifest: this tool did not write it, so nothing is known of what it reveals"
        )
    needed = {f"{table}.parquet" for table in TABLES} | {layout.DL_INFO, layout.CARD, layout.REPORT, layout.CROISSANT}
    for name in sorted(needed - listed):
        yield Finding(name, "is not in the manifest")


def _check_hashes(folder: Path, files: Iterable[FileEntry]) -> Iterator[Finding]:
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for found in threads.map(lambda file: _check_hash(folder, file), files):
            yield from found


def _check_hash(folder: Path, file: FileEntry) -> list[Finding]:
    path = folder / file.path
    if path.is_symlink() or not path.is_file():
        return [Finding(file.path, "is listed but is not a plain file of the folder")]
    try:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return [Finding(file.path, f"cannot be read ({error.strerror})")]
    if found != file.sha256:
        return [Finding(file.path, f"its sha256 is {found[:16]}..., the manifest says {file.sha256[:16]}...")]
    if path.stat().st_size != file.bytes:
        return [Finding(file.path, f"has {path.stat().st_size} bytes, the manifest says {file.bytes}")]
    return []


def _check_order(tables: Tables) -> Iterator[Finding]:
    if tables.splits != splits(tables.lesions):
        yield Finding("splits.parquet", "differs from what the lesions say")
    for table in TABLES:
        rows = tables.rows(table)
        if ordered(table, rows) != rows:  # type: ignore[type-var]
            yield Finding(f"{table}.parquet", "its rows are not sorted as the schema says")


def _check_manifest_counts(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    expected = counts(tables)
    if dict(manifest.counts) != expected:
        yield Finding(layout.MANIFEST, f"counts {dict(manifest.counts)}, the tables say {expected}")
    rows = {f"{table}.parquet": len(tables.rows(table)) for table in TABLES} | {layout.DL_INFO: len(tables.lesions)}
    for file in manifest.files:
        if file.rows != rows.get(file.path):
            yield Finding(file.path, f"has {rows.get(file.path)} rows, the manifest says {file.rows}")


def _check_dl_info(folder: Path, tables: Tables) -> Iterator[Finding]:
    """The public file is exactly what the lesions table gives."""
    path = folder / layout.DL_INFO
    if not path.is_file():
        return
    found, expected = path.read_bytes().split(b"\n"), to_csv(tables.lesions).split(b"\n")
    if len(found) != len(expected):
        yield Finding(layout.DL_INFO, f"has {len(found) - 2} rows, lesions.parquet has {len(tables.lesions)}")
    for line, (one, other) in enumerate(zip(found, expected, strict=False), start=1):
        if one != other:
            yield Finding(layout.DL_INFO, f"line {line} is not what lesions.parquet gives")


def _check_images(folder: Path, manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """Files, slices and hashes agree, and every image is a picture of the stated size."""
    listed = {file.path: file.sha256 for file in manifest.files if file.path.startswith(f"{layout.IMAGES}/")}
    stated = {layout.image_path(record.file_name): record.png_sha256 for record in tables.slices}
    for name in sorted(listed.keys() - stated.keys()):
        yield Finding(name, "is no row of slices.parquet")
    for name in sorted(stated.keys() - listed.keys()):
        yield Finding(name, "is a row of slices.parquet but not in the manifest")
    for name in sorted(listed.keys() & stated.keys()):
        if listed[name] != stated[name]:
            yield Finding(name, "has another sha256 in slices.parquet than in the manifest")
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for found in threads.map(lambda record: _check_image(folder, record), tables.slices):
            yield from found


def _check_image(folder: Path, record: SliceRecord) -> list[Finding]:
    name = layout.image_path(record.file_name)
    path = folder / name
    if not path.is_file():
        return []  # named by the manifest's check
    try:
        shape = read_png(path).shape
    except BadPng as error:
        return [Finding(name, str(error))]
    if shape != (record.rows, record.columns):
        return [Finding(name, f"has {shape} pixels, slices.parquet says ({record.rows}, {record.columns})")]
    return []
