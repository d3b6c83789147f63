"""What is shipped: one version, one wheel with six rooms and their tables."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from pydicom import dcmread
from source_tree import ROOMS, ROOT

from dicom_io.testbed.newcomer import FARID


def tracked(*folders: str) -> list[str]:
    command = ["git", "ls-files", *folders]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.fixture(scope="module")
def project() -> dict[str, str]:
    table: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_changelog_opens_with_the_version_of_the_project(project: dict[str, str]) -> None:
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == project["version"]


def test_the_installed_version_is_that_of_the_project(project: dict[str, str]) -> None:
    assert metadata.version("deeplesion-miner") == project["version"]


def test_the_wheel_holds_every_module_and_table_of_the_rooms(wheel_names: set[str]) -> None:
    there = {name for name in tracked(*ROOMS) if (ROOT / name).exists()}
    assert there - wheel_names == set()


def test_the_wheel_holds_nothing_but_the_rooms(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOMS)


def test_no_dicom_object_of_the_project_is_of_a_person() -> None:
    objects = [ROOT / name for name in tracked() if (ROOT / name).is_file() and is_dicom(ROOT / name)]
    assert {path.parent for path in objects} == {ROOT / "tests" / "feedback_samples"}
    assert {(str(one.PatientName), one.PatientID) for one in map(dcmread, objects)} == {(FARID.name, FARID.patient_id)}


def is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
