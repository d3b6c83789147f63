"""Writes the pages that say what the tables of `schemas/` say: `python docs/generate.py` (or `make docs`).

A test compares the pages with what this module makes, so that they cannot grow old.
"""

from __future__ import annotations

from pathlib import Path

import schemas

DOCS = Path(__file__).resolve().parent

LEVELS = {
    "reject": (
        "Rejected",
        "The bookmark does not become a row. It stays in `bookmarks.parquet` with this code.",
    ),
    "flag": ("Flagged", "The bookmark is kept; its row carries this code in `notes`."),
    "unreadable": (
        "Unreadable",
        "The object is set aside with this code; the run goes on and ends with exit code 3.",
    ),
}


def reasons_page() -> str:
    """The page of all reasons, from `schemas/reasons.toml`."""
    lines = [
        "# Reasons",
        "",
        "Every bookmark is kept or rejected, every object read or set aside; each loss has one of these",
        "codes, and a code never changes its meaning. Written by `make docs` from `schemas/reasons.toml`.",
    ]
    table = schemas.load("reasons")
    for level, (title, meaning) in LEVELS.items():
        lines += ["", f"## {title}", "", meaning, ""]
        lines += ["| code | message | what to do |", "| --- | --- | --- |"]
        lines += [f"| `{code}` | {row['message']} | {row['advice']} |" for code, row in table[level].items()]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every generated page: name below docs/ and text."""
    return {"reasons.md": reasons_page()}


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, "utf-8")
