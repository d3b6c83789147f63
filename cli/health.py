"""What `mine doctor` looks at on this machine; each finding is a value."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

from cli import wiring
from cli.config import Configuration
from cli.output import size_text
from deeplesion_miner.errors import MinerError

LEAST_FREE_BYTES = 10 * 1000**3
"""Below this, warn: a thousand CT slices take about half a gigabyte, received and written."""
DISTRIBUTION = "deeplesion-miner"
ROOMS = ("cli", "dataset_builder", "deeplesion_miner", "dicom_io", "models", "schemas")
CODECS = ("dicomrle", "jpeg8", "jpegls", "jpeg2k", "htj2k")
COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Finding:
    """One line: `level` is 'ok', 'warn' or 'fail'; `advice` says what to do."""

    name: str
    level: str
    text: str
    advice: str = ""


def level_word(level: str) -> str:
    """The level, coloured on a terminal, padded to one width."""
    return click.style(f"{level:<5}", fg=COLORS[level])


def findings_here(configuration: Configuration) -> Iterator[Finding]:
    """Findings about Python, packages, codecs, names, folders and settings, in this order."""
    settings = configuration.settings
    yield Finding("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")
    yield from _packages()
    yield from _codecs()
    yield from _names()
    yield from _folder("--work", settings.run.work)
    yield from _folder("--out", settings.run.out)
    try:
        wiring.check_folders(settings)
    except MinerError as error:
        yield Finding("folders", "fail", str(error))
    given = sorted({origin for origin in configuration.origins.values() if origin != "default"})
    yield Finding("settings", "ok", f"from {', '.join(given)}" if given else "all are defaults (`mine config init`)")


def _packages() -> Iterator[Finding]:
    """Every distribution that ours needs is installed; versions were checked when it was installed."""
    needed = [line.split(";")[0] for line in requires(DISTRIBUTION) or () if "extra ==" not in line]
    names = [line.split(">")[0].split("=")[0].strip() for line in needed]
    missing, found = [], []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        words = " ".join(missing)
        yield Finding("packages", "fail", f"missing: {words}", f"python -m pip install {words}")
    else:
        yield Finding("packages", "ok", f"{DISTRIBUTION} {version(DISTRIBUTION)}; {', '.join(found)}")


def _codecs() -> Iterator[Finding]:
    """The decoders of compressed CT."""
    imagecodecs = importlib.import_module("imagecodecs")
    missing = [name for name in CODECS if not getattr(imagecodecs, name.upper()).available]
    if missing:
        advice = "Images in these transfer syntaxes will be set aside; install imagecodecs from PyPI as a wheel."
        yield Finding("codecs", "warn", f"imagecodecs lacks {', '.join(missing)}", advice)
    else:
        yield Finding("codecs", "ok", f"imagecodecs decodes {', '.join(CODECS)}")


def _names() -> Iterator[Finding]:
    """Generic package names must be ours: another distribution may bring a `models` or `cli` of its own."""
    home = Path(__file__).resolve().parents[1]
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        place = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
        if place != home:
            advice = f"Install {DISTRIBUTION} into an environment of its own."
            yield Finding("names", "fail", f"`import {room}` finds {place}, not {home}", advice)
            return
    yield Finding("names", "ok", f"all rooms are found in {home}")


def _folder(flag: str, folder: Path) -> Iterator[Finding]:
    """The folder, or where it would be made, can be written and has room."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(flag, "fail", f"{place} cannot be written", f"Name another {flag} or ask for permission.")
        return
    free = shutil.disk_usage(place).free
    text = f"{folder} ({size_text(free)} free)"
    if free < LEAST_FREE_BYTES:
        yield Finding(flag, "warn", text, "A thousand CT slices take about half a gigabyte.")
    else:
        yield Finding(flag, "ok", text)
