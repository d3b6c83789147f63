"""`manifest.json`: every file with its hash; the last file written, so a folder without one is unfinished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import schemas
from dataset_builder.layout import MANIFEST
from dataset_builder.schema import schema_digest, schema_version
from deeplesion_miner.errors import VerificationFailed

TOOL = "deeplesion-miner"


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of the dataset."""

    path: str
    """Below the dataset folder, with slashes."""
    sha256: str
    bytes: int
    rows: int | None = None
    """Rows of a table, None for other files."""


@dataclass(frozen=True)
class Manifest:
    """What a finished dataset says about itself."""

    schema_version: int
    schema_digest: str
    tool_version: str
    key_token: str
    """Tells datasets of different pseudonym keys apart; a keyed hash of nothing but its own name."""
    box_margin_px: float
    """Margin of every box around its ends, on each side."""
    counts: Mapping[str, object]
    digest: str
    files: tuple[FileEntry, ...]


def tool_version() -> str:
    """The version of the installed distribution."""
    return version(TOOL)


def digest(files: Iterable[FileEntry]) -> str:
    """SHA-256 over the sorted lines 'sha256  path' (what `sha256sum` prints) of all files."""
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def manifest_of(
    files: Sequence[FileEntry], counts: Mapping[str, object], *, key_token: str, box_margin_px: float
) -> Manifest:
    """The manifest of these files, written by this tool."""
    ordered = tuple(sorted(files, key=lambda file: file.path))
    return Manifest(
        schema_version=schema_version(),
        schema_digest=schema_digest(),
        tool_version=tool_version(),
        key_token=key_token,
        box_margin_px=box_margin_px,
        counts=counts,
        digest=digest(ordered),
        files=ordered,
    )


def to_json(manifest: Manifest) -> bytes:
    """The file's bytes: a head, then one line a file."""
    head = json.dumps(
        {
            "format": schemas.load("dataset")["format"],
            "schema_version": manifest.schema_version,
            "schema_digest": manifest.schema_digest,
            "tool": TOOL,
            "tool_version": manifest.tool_version,
            "key_token": manifest.key_token,
            "box_margin_px": manifest.box_margin_px,
            "counts": manifest.counts,
            "digest": manifest.digest,
        },
        indent=1,
    )
    lines = ",\n".join(
        json.dumps({name: value for name, value in vars(file).items() if value is not None}) for file in manifest.files
    )
    return f'{head.removesuffix("}").rstrip()},\n "files": [\n{lines}\n]}}\n'.encode()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a dataset folder.

    Raises VerificationFailed where there is none (the dataset is unfinished), it is damaged, or it is of another
    format or schema version.
    """
    found = read_any_version(folder)
    if found.schema_version != schema_version():
        raise VerificationFailed(
            f"{folder / MANIFEST}: schema version {found.schema_version}, this tool reads {schema_version()}; "
            "use the version of the tool that wrote it, or write it again"
        )
    return found


def read_any_version(folder: Path) -> Manifest:
    """As `read_manifest`, for any schema version: what the folder holds, not what it means."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VerificationFailed(f"{path}: missing: no finished dataset lies here; run the miner again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise VerificationFailed(f"{path}: cannot be read ({error})") from error
    try:
        found = json.loads(text)
        if found["format"] != schemas.load("dataset")["format"]:
            raise VerificationFailed(f"{path}: format '{found['format']}' is not ours")
        return Manifest(
            schema_version=found["schema_version"],
            schema_digest=found["schema_digest"],
            tool_version=found["tool_version"],
            key_token=str(found["key_token"]),
            box_margin_px=float(found["box_margin_px"]),
            counts=dict(found["counts"]),
            digest=found["digest"],
            files=tuple(_entry(entry) for entry in found["files"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationFailed(f"{path}: damaged ({error!r}); write the dataset again") from error


def _entry(found: Mapping[str, Any]) -> FileEntry:
    """A listed file; ValueError where its path leads out of the folder."""
    entry = FileEntry(**found)
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts or not isinstance(entry.sha256, str):
        raise ValueError(f"the entry {entry}")
    return entry
