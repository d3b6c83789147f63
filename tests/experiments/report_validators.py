"""Puts reports and key object selections before every judge that is not ours, and writes what each of them says.

    python -m tests.experiments.report_validators [--data FOLDER] [--page PAGE.md] [--pixelmed STUDY ...]

Needs dicom3tools, DCMTK, dcmqi and PixelMed (Debian's dicom3tools, dcmtk, libpixelmed-java and a Java runtime; PyPI's
dcmqi). PixelMed compiles its rules for each object: ten seconds and more.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import highdicom
import pydicom

from deeplesion_miner.results import ObjectRef, Prior, Result, coded
from deeplesion_miner.studies import ObjectReading
from deeplesion_miner.types import Kind, Segment
from dicom_io.dialects import read_object
from dicom_io.emit import EmitSettings, emit
from dicom_io.emit.envelope import PATIENT, REQUIRED, STUDY
from dicom_io.emit.source import SourceImages
from tests.dicom_validators import dcentvfy, dciodvfy, dsrdump, pixelmed, tid1500reader
from tests.phantom_results import Phantoms, changed
from tests.real_series import SERIES, crossed, image_paths, without_values

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "experiments" / "report-validators.md"
WRITTEN = ("dicom-sr", "dicom-seg", "volume-sr", "kos")
JUDGED = ("dicom-sr", "volume-sr", "kos")
PRIOR = Prior("20180101", 20.0, 12.0, ObjectRef("1.2.4", "1.2.5", "1.2.6", "1.2.840.10008.5.1.4.1.1.88.33"))


@dataclass(frozen=True)
class Verdict:
    """What the judges say of the objects of one result."""

    name: str
    images: int
    lesions: int
    furthest_px: float
    """Largest distance between an end that was given and the one that our own reader mines."""
    dciodvfy: int
    """Findings that the images do not have."""
    dcentvfy: int
    """Findings about attributes that a report copies."""
    dcmqi: bool
    """Every number of the RECIST report and of the volumes is read back as it was stated."""
    read: bool
    """By DCMTK's dsrdump and by highdicom."""


def judged(name: str, result: Result, images: list[Path], folder: Path) -> Verdict:
    """Writes the result's objects into the folder and asks."""
    source = SourceImages.read(images)
    paths = {}
    for one in emit(result, source, WRITTEN, EmitSettings(planar_boxes=True)).objects:
        paths[one.kind] = folder / f"{one.kind}.dcm"
        paths[one.kind].write_bytes(one.encoded)
    of_images = {without_values(finding) for image in images for finding in dciodvfy(image)}
    ours = [found for kind in JUDGED for found in dciodvfy(paths[kind]) if without_values(found) not in of_images]
    return Verdict(
        name,
        len(images),
        len(result.lesions),
        _furthest_px(paths["dicom-sr"], result),
        len(ours),
        len(_together(images, list(paths.values()))),
        all(_numbers_agree(paths[kind], folder) for kind in ("dicom-sr", "volume-sr")),
        all("CONTAINER" in dsrdump(paths[kind]) for kind in JUDGED) and _highdicom_reads(paths),
    )


def _highdicom_reads(paths: dict[str, Path]) -> bool:
    groups = [highdicom.sr.srread(paths[kind]).content for kind in ("dicom-sr", "volume-sr")]
    kos = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(paths["kos"]))
    return all(groups) and bool(kos.content.get_references())


def _furthest_px(path: Path, result: Result) -> float:
    reading = read_object(pydicom.dcmread(path), str(path))
    assert isinstance(reading, ObjectReading)
    crosses = [one for one in reading.bookmarks if one.kind is Kind.BIDIRECTIONAL]
    furthest = 0.0
    for one, lesion in zip(crosses, result.lesions, strict=True):
        for axis, drawn in ((one.long_axis, lesion.long_axis), (one.short_axis, lesion.short_axis)):
            assert axis is not None and isinstance(axis.segment, Segment) and drawn is not None
            ends = zip((*axis.segment.start, *axis.segment.end), (*drawn.start, *drawn.end), strict=True)
            furthest = max(furthest, *(abs(a - b) for a, b in ends))
    return furthest


def _numbers_agree(path: Path, folder: Path) -> bool:
    read = tid1500reader(path, folder)["Measurements"]
    numbers = [float(item["value"]) for group in read for item in group.get("measurementItems", [])]
    return numbers == _stated(pydicom.dcmread(path))


def _stated(item: pydicom.Dataset) -> list[float]:
    """Every number below an item, in document order."""
    own = [float(item.MeasuredValueSequence[0].NumericValue)] if item.get("ValueType") == "NUM" else []
    return own + [value for child in item.get("ContentSequence", []) for value in _stated(child)]


def _together(images: list[Path], ours: list[Path]) -> list[str]:
    """Contradictions between the objects and their images, but for what is not copied and what is empty by type 2."""
    known = {finding.partition(" for file ")[0] for finding in dcentvfy(images)}
    found = []
    for finding in dcentvfy([*images, *ours]):
        keyword = re.findall(r"Element=<(\w+)>", finding)[0]
        copied = keyword in {*PATIENT, *STUDY} - {"AccessionNumber"}
        empty = "OK only If Type 2" in finding and keyword in REQUIRED
        if finding.partition(" for file ")[0] not in known and copied and not empty:
            found.append(finding)
    return found


def by_pixelmed(phantoms: Phantoms, studies: list[str], folder: Path) -> Counter[tuple[str, str]]:
    """How often PixelMed says what of which kind; places within the tree are left out."""
    said: Counter[tuple[str, str]] = Counter()
    for study in studies:
        result = _full(phantoms, study)
        for one in emit(result, phantoms.source(result), WRITTEN, EmitSettings(planar_boxes=True)).objects:
            if one.kind in JUDGED:
                (folder / "one.dcm").write_bytes(one.encoded)
                found = pixelmed(folder / "one.dcm") or ["nothing"]
                said.update((one.kind, re.sub(r"^(\w+): .*/(\w+ \([^)]*\)): ", r"\1: \2: ", text)) for text in found)
    return said


def _full(phantoms: Phantoms, study: str) -> Result:
    """A result with everything that a report can hold."""
    result = phantoms.result(study, response=coded("response", "PR"))
    return changed(result, prior=PRIOR, lesion_type=coded("lesion_type", "target"))


def page(verdicts: list[Verdict], said: Counter[tuple[str, str]], studies: list[str]) -> str:
    """The page of the experiment."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    rows = [
        f"| {one.name} | {one.images} | {one.lesions} | {one.furthest_px:.6f} | {one.dciodvfy} | {one.dcentvfy} "
        f"| {'all' if one.dcmqi else 'NO'} | {'yes' if one.read else 'NO'} |"
        for one in verdicts
    ]
    of_pixelmed = [f"| {kind} | {count} | {text} |" for (kind, text), count in sorted(said.items())]
    return TEXT.format(
        commit=commit.strip(), rows="\n".join(rows), pixelmed="\n".join(of_pixelmed), studies=", ".join(studies)
    )


TEXT = """# What validators say of our reports

**Question.** Do validators and readers that are not ours find anything wrong with RECIST reports, volume reports and
key object selections, on phantoms and on real CT of many makers?

**Method.** For each series a result with a cross, a box, a mask, a volume, a score and a site on each image; for the
phantoms also a prior measurement, a lesion type and a response. Emitted as `dicom-sr` (with boxes), `dicom-seg`,
`volume-sr` and `kos`; the first and the last two are judged here. *dciodvfy*: errors and warnings that the images
do not have. *dcentvfy*: contradictions between the objects and their images in attributes that are copied; those
that are not copied on purpose (staff, comments, ethnic group) it lists as absent, and it looks for AccessionNumber in
series. *dcmqi*: every number read back by `tid1500reader` equals the one stated. *read*: by DCMTK's `dsrdump` and by
highdicom. *furthest end*: between the ends that were given and those that our own reader mines.

**Run it.** `python -m tests.experiments.report_validators` at {commit}; no chance is involved. The tests hold the same:
`tests/dicom_io/test_emit_sr.py`, `tests/real/test_emitted_sr.py`.

**Result.**

| series | images | lesions | furthest end, px | dciodvfy | dcentvfy | dcmqi | read |
|---|---|---|---|---|---|---|---|
{rows}

PixelMed's `DicomSRValidator` (2022-06-18), which knows the templates of PS3.16, says of the phantom studies {studies}
(how often, what). "Content Item not in template" is a warning: these templates are extensible, and the viewers' label
(Comment), the score as a text and the prior measurement have no row of their own. It has not yet heard of Algorithm
Manufacturer (TID 4019) and of the purpose of a region (TID 1410); highdicom spells one meaning with capitals.

| object | times | finding |
|---|---|---|
{pixelmed}
"""


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description="What validators say of our reports")
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--pixelmed", nargs="*", default=["anna/0", "dmitri/0"], metavar="STUDY")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phantoms = Phantoms.write(folder / "phantoms")
        verdicts = []
        for study in phantoms.crosses:
            result = _full(phantoms, study)
            verdicts.append(judged(f"phantom {study}", result, phantoms.images(result), folder))
        for pattern in SERIES if wanted.data else ():
            images = image_paths(Path(wanted.data), pattern)
            verdicts.append(judged(f"`{pattern}`", crossed(SourceImages.read(images)), images, folder))
        said = by_pixelmed(phantoms, wanted.pixelmed, folder)
    wanted.page.write_text(page(verdicts, said, wanted.pixelmed), "utf-8")


if __name__ == "__main__":
    main()
