"""The viewer's own reader of reports, run by node without a browser (`.ci/adapters` bundles it)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicom_io.attributes import quiet

NO_NODE = 3
SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "adapters"


@dataclass(frozen=True)
class Opened:
    """What the adapters made of one report."""

    measurements: tuple[Mapping[str, Any], ...]
    """tool, label, tracking_uid, sop_instance_uid, points_mm (LPS), stated."""
    problems: tuple[str, ...]


@cache
def bundle() -> str:
    """Path of the bundled script; the test is skipped, with a word, where there is no node."""
    done = subprocess.run([SCRIPT], capture_output=True, text=True)
    if done.returncode == NO_NODE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def opened(reports: Mapping[str, Dataset], images: Iterable[Dataset]) -> dict[str, Opened]:
    """What the adapters read from each report, by its name, over these single-frame images."""
    asked = {
        "images": [as_metadata(one) for one in images],
        "reports": {name: as_metadata(one) for name, one in reports.items()},
    }
    done = subprocess.run(["node", bundle()], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return {name: Opened(tuple(one["measurements"]), tuple(one["problems"])) for name, one in answer.items()}


def as_metadata(dataset: Dataset) -> dict[str, Any]:
    """The data set as an archive's DICOMweb gives it to the viewer: read from a file, as DICOM JSON, without pixels."""
    buffer = BytesIO()
    with quiet():
        dcmwrite(buffer, dataset, enforce_file_format=True)
        buffer.seek(0)
        found: dict[str, Any] = dcmread(buffer, stop_before_pixels=True).to_json_dict()
    return found
