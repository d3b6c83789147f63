"""What OHIF does with each way to break a report, against what lint foretells.

Each report is opened over two phantom images in both versions, by double click and Yes. What was seen is kept line by
line (--rows), so that a run that was stopped goes on; then docs/experiments/lint_in_viewer.md is written. About 20 s a
report and version on two idle cores.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicom_io.attributes import quiet
from dicom_io.lint import VERSIONS, StudyImages, examine_object
from tests.browser import archive, driver, ohif
from tests.dicom_io import little_objects
from tests.dicom_io.lint_breakages import breakages
from tests.dicom_io.ohif_variants import FIRST, SECOND, STUDY, axes, commented, described, good, variants

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiments" / "lint_in_viewer.md"
COMMAND = "python -m tests.experiments.lint_in_viewer"
UNMEASURED = {
    "R3": ("point",),
    "R5": ("measurements", "group", "tracking_identifier", "tracking_uid"),
    "R6": ("axis_not_drawn", "several", "not_a_line"),
    "R7": ("first_number",),
    "R8": ("image", "no_image", "several_images", "no_image_elsewhere"),
    "R9": ("elsewhere",),
    "F1": ("unplaced", "unplaced_older"),
    "N1": ("nameless",),
    "V1": ("no_value", "point"),
    "U1": ("unit",),
}
"""Cases that none of the variants breaks whose outcome was measured before."""
PATIENT = {"PatientName": "Phantom^Lint", "PatientBirthDate": "", "PatientSex": "", "StudyDate": "20240101",
           "StudyTime": "120000", "StudyID": "1", "AccessionNumber": "", "ReferringPhysicianName": ""}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One report opened in one version."""

    name: str
    version: str
    editable: int
    is_asked: bool
    """Whether to track its measurements."""


def cases(everything: bool) -> dict[str, Dataset]:
    """The reports by name; without `everything` those alone that no measured variant breaks."""
    reports = {"good": beside_a_good_group(good())}
    count: Counter[str] = Counter()
    for one in breakages():
        if everything or one.case in UNMEASURED.get(one.rule, ()):
            name = f"{one.rule} {one.case}"
            count[name] += 1
            reports[f"{name} {count[name]}" if count[name] > 1 else name] = beside_a_good_group(one.dataset)
    if everything:
        reports |= {one.name: one.dataset for one in variants()}
    return reports


def beside_a_good_group(dataset: Dataset) -> Dataset:
    """The report with a good group behind its own, which tells a report that fails from a group that is missing."""
    good_group = commented(described(*axes(SECOND), tracking_uid="1.2.3.99"), "good")
    dataset.ContentSequence[-1].ContentSequence.append(good_group)
    return dataset


def encoded(dataset: Dataset, **changes: object) -> bytes:
    """A PS3.10 file of the data set, as one of the phantom patient."""
    changed = copy.deepcopy(dataset)
    for keyword, value in {**PATIENT, **changes}.items():
        setattr(changed, keyword, value)
    buffer = BytesIO()
    dcmwrite(buffer, changed, enforce_file_format=True)
    return buffer.getvalue()


def look(version: str, reports: Mapping[str, Dataset], rows: Path, folder: Path) -> None:
    """Opens the reports in one version and appends what was seen to the rows."""
    study = little_objects.study_uid(STUDY)
    with archive.web_archive(folder) as stored, ohif.serving(version, stored.url) as url:
        images = [little_objects.ct(STUDY, number) for number in (1, 2)]
        stored.put(encoded(image) for image in images)
        for number, (name, dataset) in enumerate(reports.items(), start=1):
            series = f"{study}.7.{number}"
            stored.forget(study, "SR")
            own = {"SeriesInstanceUID": series, "SOPInstanceUID": f"{series}.1", "PatientID": images[0].PatientID}
            stored.put([encoded(dataset, **own, SeriesNumber=number, InstanceNumber=1, SeriesDescription=name)])
            with driver.browser(url) as viewer:
                viewer.open(study)
                is_asked = asked(viewer, series)
                found = Seen(name, version, len(viewer.measurements()), is_asked)
            with rows.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(found)) + "\n")
            print(found, flush=True)


def asked(viewer: driver.Viewer, series_instance_uid: str) -> bool:
    """Whether the viewer asks; it is answered with Yes. The question stays where what follows fails."""
    from playwright.sync_api import TimeoutError as TimedOut

    try:
        return bool(viewer.load(series_instance_uid))
    except TimedOut:
        return True


def known(rows: Path) -> list[Seen]:
    """What was seen until now."""
    return [Seen(**json.loads(line)) for line in rows.read_text("utf-8").splitlines()] if rows.exists() else []


def page(seen: list[Seen], reports: Mapping[str, Dataset]) -> str:
    """The experiment's page."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    study = StudyImages.of_uids([FIRST, SECOND])
    foretold = {
        (name, outlook.version): outlook
        for name, dataset in reports.items()
        for outlook in examine_object(dataset, study).outlooks
    }
    right = sum(foretold[one.name, one.version].measurements == one.editable for one in seen)
    lines = [
        f"| {one.name} | {one.version} | {foretold[one.name, one.version].opens}"
        f" {foretold[one.name, one.version].measurements} | {one.editable} | {'yes' if one.is_asked else 'no'} |"
        for one in sorted(seen, key=lambda one: (list(reports).index(one.name), VERSIONS.index(one.version)))
    ]
    words = [
        "# Lint against the viewer",
        "",
        "Each report, with a good group behind the broken one, was opened in OHIF over two phantom images: double",
        f"click, Yes. {right} of {len(seen)} times as many measurements could be edited as lint foretells.",
        "Rule F1 was written after the first run: until then the reports of R8 were foretold to lose one group.",
        "",
        f"`{COMMAND}` at commit {commit.stdout.strip()}.",
        "",
        "| report | OHIF | foretold | can be edited | asks |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*words, *lines, ""])


def main() -> None:
    """Runs the experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    parser.add_argument("--rows", type=Path, default=Path("lint_in_viewer.jsonl"), help="what was seen; taken up")
    parser.add_argument("--all", action="store_true", help="the variants that were measured before, too")
    options = parser.parse_args()
    with quiet():
        reports = cases(options.all)
        for version in VERSIONS:
            done = {one.name for one in known(options.rows) if one.version == version}
            missing = {name: report for name, report in reports.items() if name not in done}
            with tempfile.TemporaryDirectory() as folder:
                look(version, missing, options.rows, Path(folder))
        options.out.write_text(page(known(options.rows), reports), encoding="utf-8")


if __name__ == "__main__":
    main()
