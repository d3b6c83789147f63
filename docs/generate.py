"""Writes the pages that say what the tables of `schemas/` say: `python docs/generate.py` (or `make docs`).

A test compares the pages with what this module makes, so that they cannot grow old.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import schemas
from cli import reference

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


def columns_page() -> str:
    """The page of all columns, from `schemas/dataset.toml`."""
    dataset = schemas.load("dataset")
    lines = [
        "# Columns",
        "",
        "Written by `make docs` from `schemas/dataset.toml`, from which the writer, the card and `mine check` take",
        f"them, too. Schema version {dataset['schema_version']}. Pixels: {dataset['pixel_convention']}.",
        "",
        "The last column says what kind of information a field is:",
        "",
    ]
    lines += [f"- **{name}**: {meaning}." for name, meaning in dataset["privacy"].items()]
    for name, table in dataset["tables"].items():
        lines += ["", f"## {name}.parquet", "", f"{table['meaning']} Sorted by {', '.join(table['order'])}.", ""]
        lines += ["| column | type | unit | meaning | DL_info.csv | kind |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [column_row(column, facts) for column, facts in table["columns"].items()]
    return "\n".join(lines) + "\n"


def column_row(name: str, facts: Mapping[str, str]) -> str:
    """One row of a table of columns; '?' after a type says that the value may be null."""
    kind = facts["type"] + ("?" if facts["nullable"] else "")
    public = f"`{facts['dl_info']}`" if "dl_info" in facts else ""
    return f"| `{name}` | {kind} | {facts['unit']} | {facts['meaning']} | {public} | {facts['privacy']} |"


def predictions_page() -> str:
    """The page of the files of predictions, from `schemas/predictions.toml`."""
    predictions = schemas.load("predictions")
    lines = [
        "# Predictions",
        "",
        "What `mine predict` writes and [`mine evaluate`](evaluation.md) reads. Written by `make docs` from",
        f"`schemas/predictions.toml`. Schema version {predictions['schema_version']}. Pixels are (column, row), the",
        "centre of the first pixel is (0, 0). A mask is the place of its first pixel, its size and its bits: row after",
        "row, eight to a byte, the first pixel in the highest bit (`numpy.packbits`). '?': the value may be null.",
    ]
    for name, table in predictions["tables"].items():
        lines += ["", f"## {name}", "", table["meaning"], "", "| column | type | unit | meaning |"]
        lines += ["| --- | --- | --- | --- |"]
        for column, facts in table["columns"].items():
            kind = facts["type"] + ("?" if facts["nullable"] else "")
            lines.append(f"| `{column}` | {kind} | {facts['unit']} | {facts['meaning']} |")
    return "\n".join(lines) + "\n"


RULES = ("<!-- rules: from schemas/ohif_rules.toml, by make docs -->\n", "<!-- end of rules -->\n")
"""Between these lines of results.md stand the rules of `mine lint`."""


def results_page() -> str:
    """The page of results with its rules anew; all else in it is written by hand."""
    before, _, rest = (DOCS / "results.md").read_text("utf-8").partition(RULES[0])
    _, _, after = rest.partition(RULES[1])
    return before + RULES[0] + "\n".join(rule_lines()) + "\n" + RULES[1] + after


def rule_lines() -> list[str]:
    """The table of rules, from `schemas/ohif_rules.toml`: one row for each way to break one."""
    table = schemas.load("ohif_rules")
    newest, older = table["versions"]
    lines = ["", "| rule | what is asked |", "| --- | --- |"]
    lines += [f"| {rule} | {entry['asks']} |" for rule, entry in table["rule"].items()]
    lines += ["", f"| broken so | OHIF {newest} | OHIF {older} | how bad | how sure |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for rule, entry in table["rule"].items():
        for name, case in entry["case"].items():
            newer_sees, older_sees = case["does"][newest][1], case["does"][older][1]
            older_sees = "the same" if older_sees == newer_sees else older_sees
            lines.append(f"| {rule} {name} | {newer_sees} | {older_sees} | {case['severity']} | {case['sure']} |")
    return [*lines, ""]


def pages() -> dict[str, str]:
    """Every generated page: name below docs/ and text."""
    return {
        "reasons.md": reasons_page(),
        "columns.md": columns_page(),
        "predictions.md": predictions_page(),
        "cli.md": reference.page(),
        "results.md": results_page(),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, "utf-8")
