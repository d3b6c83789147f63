"""What becomes of each broken file, beside what pydicom does with it.

python -m tests.experiments.broken_table --data FOLDER     prints the table
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from tests.real.test_broken_files import outcome


def by_pydicom(path: Path) -> str:
    """What reading the file and its pixels with pydicom's defaults gives: 'reads; decodes' or the exception's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path)
            dataset.walk(lambda _, element: element.value)
        except (InvalidDicomError, AttributeError, ValueError, KeyError, OSError, NotImplementedError) as error:
            return type(error).__name__
        try:
            dataset.pixel_array  # noqa: B018
        except (AttributeError, ValueError, KeyError, OSError, RuntimeError, NotImplementedError, TypeError) as error:
            return f"reads; pixels: {type(error).__name__}"
    return "reads; decodes"


def lines(data: Path) -> list[str]:
    """The table, a row a file."""
    table = ["| file | pydicom | read | header | pixels |", "|---|---|---|---|---|"]
    for path in sorted((data / "tricky_ct" / "broken").iterdir()):
        read, header, pixels = outcome(path)
        table.append(f"| {path.name} | {by_pydicom(path)} | {read} | {header} | {pixels} |")
    return table


def main() -> None:
    """Prints the table for the folder of `--data`."""
    parser = argparse.ArgumentParser(description="What becomes of each broken file")
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"), required=False)
    print("\n".join(lines(Path(parser.parse_args().data))))


if __name__ == "__main__":
    main()
