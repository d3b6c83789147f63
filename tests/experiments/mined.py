"""Runs `mine` as a person does, in a process of its own, and reads what it wrote without the project's readers."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

KEY = "a pseudonym key for experiments, 32+ bytes"
"""Given by environment, so that two runs of one experiment give one digest."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def mine(*arguments: object, environment: Mapping[str, str] | None = None, timeout_s: float = 3600) -> Ended:
    """Runs `mine` with the key of the experiments."""
    command = [str(Path(sys.executable).parent / "mine"), *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "MINE_KEY": KEY, **(environment or {})},
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Mined:
    """A dataset and its working folder."""

    out: Path
    work: Path

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return str(json.loads((self.out / "manifest.json").read_text())["digest"])

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a Parquet table of the dataset ('lesions', 'slices', 'bookmarks')."""
        found = duckdb.sql(f"SELECT * FROM '{self.out / name}.parquet'")
        return [dict(zip(found.columns, values, strict=True)) for values in found.fetchall()]

    def csv_rows(self) -> list[dict[str, str]]:
        """The rows of DL_info.csv as text."""
        with (self.out / "DL_info.csv").open(newline="", encoding="ascii") as file:
            return list(csv.DictReader(file))

    def crosswalk(self, kind: str) -> dict[str, str]:
        """Public id by original identifier (for bookmarks and lesions: SOP Instance UID, '#', item path)."""
        found = self.sql("SELECT public_id, original FROM crosswalk WHERE kind = ?", kind)
        return {original: public for public, original in found}

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the ledger."""
        with sqlite3.connect(f"file:{self.work / 'ledger.sqlite'}?mode=ro", uri=True) as ledger:
            return ledger.execute(query, values).fetchall()

    def lesions_of(self, source_uid: str, group_path: str) -> list[dict[str, Any]]:
        """The rows of lesions.parquet whose bookmark lies in one measurement group."""
        crosswalk = self.crosswalk("lesion")
        ids = {public for key, public in crosswalk.items() if in_group(key, source_uid, group_path)}
        return [row for row in self.table("lesions") if row["lesion_id"] in ids]


def in_group(key: str, source_uid: str, group_path: str) -> bool:
    """True where a bookmark's key is that of a group or of an item in it."""
    source, _, path = key.partition("#")
    return source == source_uid and (path == group_path or path.startswith(f"{group_path}."))


def import_files(folder: Path, paths: Sequence[Path], *arguments: object, expect: int = 0) -> Mined:
    """`mine import` into a new dataset below `folder`; the exit code must be the expected one."""
    mined = Mined(folder / "dataset", folder / "work")
    ended = mine("import", *paths, "--out", mined.out, "--work", mined.work, *arguments)
    assert ended.code == expect, f"exit code {ended.code}, not {expect}\n{ended.stdout}\n{ended.stderr}"
    return mined
