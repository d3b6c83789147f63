"""What `mine` makes of every TID 1500 report of the real data, beside what an independent reader found in it.

    python -m tests.experiments.bookmark_table [--data FOLDER]      prints a table and what differs

The reports and every image at hand are imported at once; `expected_bookmarks.json` tells what each report holds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from tests.experiments.mined import Mined, import_files
from tests.experiments.plant import dicomweb_images

FOLDERS = ("measurement_objects", "rider_aim", "ohif_genuine", "ct_liver_seg_sr", "ct_nlst_sr", "archive_population")
DICOMWEB = ("ct_nlst_sr/dicomweb", "ohif_genuine/dicomweb", "measurement_objects/images/prostatex_t2_tra_dicomweb")
AXES = ("bidirectional", "length")
AXIAL = 0.99
WITHIN_PX = 0.01
PARTIAL = 3
SET_ASIDE = "object set aside"


@dataclass(frozen=True)
class Line:
    """One report: what was expected of its bookmarks and what became of them."""

    file: str
    expected: tuple[tuple[str, str], ...]
    """(kind, verdict) sorted; verdict is 'kept' or the reason."""
    found: tuple[tuple[str, str], ...]
    coordinates_px: float | None
    """Largest difference of a coordinate of a cross or length; None where there is none."""

    @property
    def holds(self) -> bool:
        """True where kinds and verdicts are the expected ones and coordinates agree, or the object is set aside."""
        if any(kind == SET_ASIDE for kind, _ in self.found):
            return True
        return self.expected == self.found and (self.coordinates_px or 0) <= WITHIN_PX


def is_tid1500(report: Dataset) -> bool:
    """True for a report with a measurement group (125007 DCM) anywhere in its tree."""
    waiting = [report]
    while waiting:
        item = waiting.pop()
        name = item.get("ConceptNameCodeSequence")
        if name and name[0].get("CodeValue") == "125007":
            return True
        waiting += list(item.get("ContentSequence", []))
    return False


def expected_verdict(bookmark: dict[str, Any]) -> str:
    """What the images in hand justify for a bookmark of the independent reader."""
    if bookmark["kind"] not in AXES:
        return "unsupported_source"
    image = bookmark.get("image")
    if not bookmark["image_in_collection"] or image is None:
        return "image_missing"
    if image["modality"] != "CT":
        return "not_ct"
    if abs(image["normal_z"]) < AXIAL:
        return "non_axial"
    return "no_second_axis" if bookmark["kind"] == "length" else "kept"


def import_everything(data: Path, folder: Path) -> Mined:
    """Mines the reports and images of the real data, those of DICOMweb folders rebuilt."""
    rebuilt = folder / "rebuilt"
    rebuilt.mkdir(parents=True)
    for place in DICOMWEB:
        for number, image in enumerate(dicomweb_images(data / place)):
            image.save_as(rebuilt / f"{place.replace('/', '_')}_{number:03d}.dcm", enforce_file_format=True)
    return import_files(folder, [*(data / name for name in FOLDERS), rebuilt], expect=PARTIAL)


def lines(data: Path, mined: Mined) -> list[Line]:
    """A line for every TID 1500 report that the independent reader read."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (outcome,) in mined.sql("SELECT outcome FROM study WHERE outcome IS NOT NULL"):
        _collect(json.loads(outcome), found)
    set_aside = dict(mined.sql("SELECT source, why FROM unreadable"))
    made = []
    for item in json.loads((data / "expected_bookmarks.json").read_text())["objects"]:
        path = data / item["file"]
        if path.suffix != ".dcm" or "SR" not in item["sop_class"]:
            continue
        report = dcmread(path, force=True)
        if is_tid1500(report):
            uid = str(report.get("SOPInstanceUID", ""))
            why = set_aside.get(str(path)) or set_aside.get(uid)
            made.append(_line(item, found.get(uid, []), why))
    return made


def _collect(outcome: dict[str, Any], found: dict[str, list[dict[str, Any]]]) -> None:
    """Bookmarks with their verdict by SOP Instance UID of the report."""
    for rejected in outcome["rejected"]:
        bookmark = rejected["bookmark"]
        found.setdefault(bookmark["source"]["sop_instance_uid"], []).append({**bookmark, "verdict": rejected["reason"]})
    for placed in outcome["placed"]:
        bookmark = placed["kept"]["lesion"]["bookmark"]
        found.setdefault(bookmark["source"]["sop_instance_uid"], []).append({**bookmark, "verdict": "kept"})


def _line(item: dict[str, Any], ours: list[dict[str, Any]], set_aside: str | None) -> Line:
    expected = item["bookmarks"]
    if set_aside is not None:
        return Line(item["file"], tuple(sorted((b["kind"], "") for b in expected)), ((SET_ASIDE, set_aside),), None)
    return Line(
        file=item["file"],
        expected=tuple(sorted((one["kind"], expected_verdict(one)) for one in expected)),
        found=tuple(sorted((one["kind"], one["verdict"]) for one in ours)),
        coordinates_px=_coordinates_apart(
            [_expected_points(one) for one in expected if one["kind"] in AXES],
            [_our_points(one) for one in ours if one["kind"] in AXES],
        ),
    )


def _expected_points(bookmark: dict[str, Any]) -> list[float]:
    """Numbers of the axes as written (corner based), in the core convention."""
    drawn = bookmark["coordinates"]
    points = [*drawn["long"], *drawn["short"]] if isinstance(drawn, dict) else drawn
    return [value - 0.5 for point in points for value in point]


def _our_points(bookmark: dict[str, Any]) -> list[float]:
    axes = [axis["segment"] for axis in (bookmark["long_axis"], bookmark["short_axis"]) if axis is not None]
    return [value for axis in axes for end in (axis["start"], axis["end"]) for value in end]


def _coordinates_apart(expected: list[list[float]], ours: list[list[float]]) -> float | None:
    """Largest difference, each expected item with the nearest of ours; infinite where there is no such item."""
    if not expected and not ours:
        return None
    if len(expected) != len(ours):
        return float("inf")

    def apart(one: list[float], other: list[float]) -> float:
        return max(abs(a - b) for a, b in zip(one, other, strict=True)) if len(one) == len(other) else float("inf")

    return max(min(apart(one, other) for other in ours) for one in expected)


def table(rows: Sequence[Line]) -> str:
    """Markdown."""

    def said(pairs: tuple[tuple[str, str], ...]) -> str:
        counts = Counter(pairs)
        return (
            "; ".join(
                f"{count} {kind}{verdict and f': {verdict}'}" for (kind, verdict), count in sorted(counts.items())
            )
            or "nothing"
        )

    text = ["| report | bookmarks and verdicts | expected | coordinates |", "|---|---|---|---|"]
    for row in rows:
        expected = "the same" if row.expected == row.found else said(row.expected)
        within = "" if row.coordinates_px is None else f"{row.coordinates_px:.2g} px"
        text.append(f"| {row.file} | {said(row.found)} | {expected} | {within} |")
    return "\n".join(text)


def main() -> int:
    """Prints the table; 1 where something differs."""
    parser = argparse.ArgumentParser(description="Bookmarks of the real data, ours and an independent reader's")
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = lines(Path(given.data), import_everything(Path(given.data), Path(folder)))
    print(table(rows))
    differing = [row.file for row in rows if not row.holds]
    print(f"\n{len(rows)} reports, {len(differing)} differ: {', '.join(differing) or '-'}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
