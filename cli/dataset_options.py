"""Which dataset is meant: the options of `train`, `predict`, `evaluate` and `place`, and what of it cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.output import notice, plural
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.marks import KeySlice
    from models.reading.folder import DatasetFolder


def table_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --table; the function gets table."""
    return click.option(
        "--table",
        metavar="NAME",
        help="Of NIH DeepLesion's folder: which table, e.g. DL_info_mine.csv  [default: DL_info.csv].",
    )(function)


def open_dataset(path: Path, table: str | None = None, cache: Path | None = None) -> DatasetFolder:
    """The dataset in a folder; says how many of its key slices have no picture.

    `table` names a DL_info*.csv in it, `cache` a folder for decoded slices. ConfigError for a folder that is no dataset
    or holds none of its pictures.
    """
    from models.reading.contents import IMAGES
    from models.reading.folder import DatasetFolder

    folder = DatasetFolder.open(path, table=table, cache=cache)
    if folder.missing and not folder.key_slices:
        raise ConfigError(
            f"{path}: none of its {plural(len(folder.missing), 'key slice')} has a picture, e.g. {IMAGES}/"
            f"{folder.missing[0]}; put the pictures into {path / IMAGES}"
        )
    if folder.missing:
        marks = plural(folder.missing_marks, "mark")
        notice(
            f"{path}: {plural(len(folder.missing), 'key slice')} ({marks}) without a picture left out, "
            f"e.g. {folder.missing[0]}; {plural(len(folder.key_slices), 'key slice')} with one"
        )
    return folder


def splits_text(key_slices: Iterable[KeySlice]) -> str:
    """What there is by split, e.g. 'train (23 key slices), val (1 key slice)'."""
    counts = Counter(one.split for one in key_slices)
    told = [f"{name} ({plural(count, 'key slice')})" for name, count in sorted(counts.items())]
    return ", ".join(told) or "no key slices with a picture at all"
