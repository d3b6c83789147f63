"""Judges of what we write that are not ours: dicom3tools, DCMTK, dcmqi, PixelMed. One that is absent skips its test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

PIXELMED = Path("/usr/share/java/pixelmed.jar")
"""Debian's libpixelmed-java."""
PIXELMED_NEEDS = ("slf4j-api", "slf4j-nop", "commons-codec", "commons-compress", "jsonp-api", "vecmath", "hsqldb")
XPATH_LIMITS = ("xpathExprGrpLimit", "xpathExprOpLimit", "xpathTotalOpLimit")
"""Of Java's XML library; PixelMed's rules are larger than they allow."""


def dciodvfy(path: Path) -> list[str]:
    """Errors and warnings about one object. Its exit status is no verdict."""
    return _findings([_installed("dciodvfy"), str(path)])


def dcentvfy(paths: Iterable[Path]) -> list[str]:
    """Errors and warnings about objects of one study that contradict each other."""
    return _findings([_installed("dcentvfy"), *(str(path) for path in paths)])


def dsrdump(path: Path) -> str:
    """The content tree as DCMTK reads it; fails where DCMTK refuses the file."""
    command = [_installed("dsrdump"), "+U8", "+Pl", "+Pc", "+Pu", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tid1500reader(path: Path, folder: Path) -> dict[str, Any]:
    """What dcmqi reads of a measurement report."""
    beside = Path(sys.executable).parent / "tid1500reader"
    command = str(beside) if beside.exists() else _installed("tid1500reader")
    out = folder / f"{path.stem}.json"
    done = subprocess.run(
        [command, "--inputDICOM", str(path), "--outputMetadata", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return read


def pixelmed(path: Path) -> list[str]:
    """Errors and warnings of PixelMed's DicomSRValidator, which knows the templates of PS3.16."""
    java = _installed("java")
    if not PIXELMED.exists():
        pytest.skip("PixelMed (Debian's libpixelmed-java) is not installed")
    jars = [PIXELMED, *(PIXELMED.parent / f"{name}.jar" for name in PIXELMED_NEEDS)]
    limits = [f"-Djdk.xml.{name}=0" for name in XPATH_LIMITS]
    command = [java, *limits, "-cp", ":".join(map(str, jars)), "com.pixelmed.validate.DicomSRValidator", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "Root Template Validation Complete" in said, said
    return [line for line in said.splitlines() if line.startswith(("Error", "Warning"))]


def _installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _findings(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Warning"))]
