"""What is written down: columns, reasons, codes, dialects. Data with provenance, no logic."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """The table `name`, for instance ``reasons`` or ``dialects/tid1500``, parsed from its TOML file."""
    return tomllib.loads(text(f"{name}.toml"))


def text(name: str) -> str:
    """The text of the file `name` of this folder, for instance ``ledger.sql``."""
    return files("schemas").joinpath(name).read_text(encoding="utf-8")
