"""Results go to stdout, progress and notices to stderr. A table is drawn on a terminal only."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import click

from deeplesion_miner.redaction import redacted

SCHEMA_VERSION = 1
"""Of the JSON lines; it changes when a field changes its meaning or goes away."""


class Output:
    """What a command says: text for people, or one JSON object a line (``--json``)."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def record(self, kind: str, values: Mapping[str, Any], text: str) -> None:
        """One result: the text, or a JSON object with its type."""
        click.echo(to_json(kind, values) if self.as_json else text)

    def table(self, kind: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        """Results as aligned columns on a terminal, tab-separated lines elsewhere, or JSON objects; how many."""
        if self.as_json:
            return sum(1 for row in rows if _printed(to_json(kind, dict(zip(columns, row, strict=True)))))
        if not sys.stdout.isatty():
            _printed("\t".join(columns))
            return sum(1 for row in rows if _printed("\t".join(map(_cell, row))))
        cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        click.echo("\n".join(line.rstrip() for line in lines))
        return len(cells) - 1


def notice(text: str) -> None:
    """Something that a person should know and no program reads: to stderr, without passwords of addresses."""
    click.echo(redacted(text), err=True)


def to_json(kind: str, values: Mapping[str, Any]) -> str:
    """One line of JSON; numbers that JSON does not know become null, other objects their text."""
    record = {"type": kind, "schema_version": SCHEMA_VERSION, **values}
    return json.dumps(_strict(record), default=str, allow_nan=False)


def plural(count: int, noun: str) -> str:
    """'1 study', '2 studies', '1,200 images'."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else many}"


def size_text(size_bytes: float) -> str:
    """A size in decimal units with three digits or fewer before the unit, e.g. '1.2 GB'."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def _printed(line: str) -> bool:
    sys.stdout.write(line + "\n")
    return True


def _strict(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _strict(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return value


def _cell(value: Any) -> str:
    return "" if value is None else f"{float(value):.6g}" if isinstance(value, float | Decimal) else str(value)
