"""Whether results can be written where they shall go: said before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from deeplesion_miner.errors import ConfigError


def check_writable(flag: str, folder: Path) -> None:
    """ConfigError where a folder neither is there for writing nor could be made; makes nothing."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"{flag} {folder}: {there} is no folder that may be written to; name another place")


def keep_out_of_datasets(flag: str, path: Path) -> None:
    """ConfigError where what names the images of patients would lie in a dataset, which may travel."""
    from dataset_builder.swap import enclosing_dataset

    dataset = enclosing_dataset(path)
    if dataset is not None:
        raise ConfigError(
            f"{flag} lies inside the dataset {dataset}; what is found in studies identifies patients and the"
            " dataset is what may travel: name a place elsewhere"
        )
