"""`mine query`: SQL over a dataset."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from cli.config import Configuration
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output

EXAMPLE = """
mine query dataset "SELECT split, count(*) AS lesions, median(long_axis_mm) FROM lesions GROUP BY split"
mine query dataset "SELECT reason, count(*) FROM bookmarks GROUP BY reason ORDER BY 2 DESC" --csv
"""


@make_command("query", EXAMPLE)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values with a header.")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("sql")
def command(configuration: Configuration, output: Output, dataset: Path, sql: str, as_csv: bool) -> Exit:
    """Ask a dataset in SQL (duckdb).

    The tables are lesions, slices, bookmarks and splits; their columns are in docs/columns.md. Ends with exit
    code 4 where no row matches.
    """
    from dataset_builder.sql import query

    columns, rows = query(dataset, sql)
    count = write_csv(columns, rows) if as_csv else output.table("row", columns, rows)
    return Exit.DONE if count else Exit.NOTHING_MATCHED


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Prints the rows and says how many."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    return sum(1 for row in rows if writer.writerow(row))
