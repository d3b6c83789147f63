"""Files and folders of objects, linted; reports of one series are seen together."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.types import Unreadable
from dicom_io.folder import files_under
from dicom_io.lint.findings import VERSIONS, Outlook
from dicom_io.lint.linting import Linted, examine
from dicom_io.lint.series import superseded
from dicom_io.lint.study import StudyImages


@dataclass(frozen=True)
class LintedFile:
    """An object and the file that holds it."""

    path: Path
    linted: Linted


@dataclass(frozen=True)
class LintedFiles:
    """What became of some files: every one is in one of the three."""

    objects: tuple[LintedFile, ...]
    """Objects that a viewer opens as results, in the order of their paths."""
    unreadable: tuple[Unreadable, ...]
    passed_over: int
    """Images and other objects without rules; below folders also what is no DICOM."""


def lint_files(paths: Iterable[Path], study: StudyImages | None = None) -> LintedFiles:
    """Every file under the paths, linted, with R11 between those of one series. ConfigError for a missing path."""
    named = tuple(paths)
    for path in named:
        if not path.exists():
            raise ConfigError(f"{path}: there is no such file or folder")
    objects, unreadable, passed_over = [], [], 0
    for path in files_under(named):
        found = _examined(path, study)
        if isinstance(found, Linted) and found.kind != "other":
            objects.append(LintedFile(path, found))
        elif isinstance(found, Unreadable) and (path in named or found.why != "not_dicom"):
            unreadable.append(found)
        else:
            passed_over += 1
    return LintedFiles(_with_series(objects), tuple(unreadable), passed_over)


def study_images(paths: Iterable[Path]) -> StudyImages:
    """The images among the files under the paths. ConfigError where there are none."""
    found = StudyImages.read(path for path in files_under(paths) if path.is_file())
    if not found.planes:
        raise ConfigError(f"{', '.join(map(str, paths))}: no image of a study lies there")
    return found


def _examined(path: Path, study: StudyImages | None) -> Linted | Unreadable:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Unreadable(str(path), "not_dicom", detail="a device, pipe, socket or folder; name files")
        return examine(path, study)
    except OSError as error:
        return Unreadable(str(path), "not_opened", detail=str(error.strerror))


def _with_series(objects: list[LintedFile]) -> tuple[LintedFile, ...]:
    late = superseded(one.linted for one in objects)
    fails = tuple(Outlook(version, "fails") for version in VERSIONS)
    linted = []
    for one in objects:
        found = late.get(one.linted.sop_instance_uid)
        if found is not None:
            whole = replace(one.linted, findings=(*one.linted.findings, found), outlooks=fails)
            one = LintedFile(one.path, whole)
        linted.append(one)
    return tuple(linted)
