"""Everything that we write, in a real viewer: both versions of OHIF, phantoms and real tumours, and a reader's edits.

    python -m tests.experiments.viewer [--data FOLDER] [--out docs/experiments/viewer.md] [--pictures docs/pictures]
        [--pictures-of-real FOLDER]

Needs Orthanc with DICOMweb, Chromium, playwright and both versions of the viewer (`.ci/viewer all`). Real CT is used
where `--data` or DLM_REAL_DATA says where it lies. Pictures of it, with close-ups, are taken where
`--pictures-of-real` names a folder: to be looked at, never to be published.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deeplesion_miner.geometry import to_px
from deeplesion_miner.types import Bookmark, Segment
from dicom_io.emit import KINDS, EmitSettings, EmittedObject, emit
from tests.browser import driver, edits, ohif, phantom
from tests.browser.archive import WebArchive, web_archive
from tests.browser.driver import Viewer
from tests.browser.phantom import Case
from tests.experiments import viewer_looks as looks
from tests.experiments.viewer_looks import Look, Stored
from tests.experiments.viewer_tumour import liver, lung_tumour, nodule, sarcoma

WITHIN_PX = 0.01
SHOWN = {
    "RECIST report": looks.report,
    "report of volumes": looks.volumes,
    "masks": looks.masks,
    "contours": looks.contours,
    "presentation state": looks.listed("gsps"),
    "key objects": looks.listed("kos"),
}
"""What must be seen, in this order, all objects of a study lying side by side."""
VARIED = {
    "RECIST report with boxes": looks.boxed_report,
    "masks as FRACTIONAL": looks.fractional_masks,
    "masks as a label map": looks.label_map,
}
"""The same with other settings, beside all the others."""
NOT_EXPECTED = {"masks as FRACTIONAL", "masks as a label map"}
"""Options that a site may ask for, though viewers need not show them."""
PICTURED = {"RECIST report": "report", "volumes as text": "volumes", "masks": "masks", "contours": "contours"}
VARIANTS = {
    "boxes": ("dicom-sr", EmitSettings(planar_boxes=True)),
    "fractional": ("dicom-seg", EmitSettings(segmentation="fractional")),
    "labelmap": ("dicom-seg", EmitSettings(segmentation="labelmap")),
}
EDITS_OF_REAL = ("kept", "moved")
"""Edits that need one lesion only."""


@dataclass(frozen=True)
class Round:
    """An edit that a reader made, saved and that we mined again."""

    edit: str
    crosses: int
    worst_px: float
    """Largest distance of a mined end from where the viewer held it."""
    linked: str
    """How the saved report points to ours."""
    good: bool


@dataclass(frozen=True)
class Session:
    """All that was seen of one study in one version."""

    version: str
    study: str
    looks: tuple[Look, ...]
    rounds: tuple[Round, ...]


def session(
    version: str,
    study: str,
    case: Case,
    folder: Path,
    wanted: Iterable[str],
    pictures: Path | None,
    *,
    close_ups: bool = False,
) -> Session:
    """One archive, one browser, one study: every look, then every wanted edit."""
    first = emit(case.result, case.source, KINDS).objects
    more = {
        f"{kind}+{name}": one
        for name, (kind, settings) in VARIANTS.items()
        for one in emit(case.result, case.source, [kind], settings).objects
    }
    series = {one.kind: one.series_instance_uid for one in first}
    series |= {name: one.series_instance_uid for name, one in more.items()}

    def picture(what: str) -> Path | None:
        return pictures / f"ohif-{PICTURED[what]}-{version}.png" if pictures and what in PICTURED else None

    stored = Stored(case, series, picture, close_ups)
    with web_archive(folder) as archive, ohif.serving(version, archive.url) as url, driver.browser(url) as viewer:
        archive.put(case.files())
        archive.send(first)
        seen = [_seen(what, viewer, stored, at, version, study) for what, at in SHOWN.items()]
        ours = next(one for one in first if one.kind == "dicom-sr")
        rounds = [_round(name, viewer, archive, ours, case, pictures, version) for name in wanted]
        archive.forget(ours.study_instance_uid, "SR")
        archive.send((*first, *more.values()))
        seen += [_seen(what, viewer, stored, at, version, study) for what, at in VARIED.items()]
    for one in rounds:
        _say(f"{version} {study}: {one.edit}: {one.crosses} crosses within {one.worst_px:.4f} px, {one.linked}")
    return Session(version, study, tuple(seen), tuple(rounds))


def _seen(what: str, viewer: Viewer, stored: Stored, at: looks.At, version: str, study: str) -> Look:
    seen = looks.look(what, viewer, stored, at)
    _say(f"{version} {study}: {what}: {seen.found} ({seen.seconds:.0f} s)")
    return seen


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _round(
    name: str, viewer: Viewer, archive: WebArchive, ours: EmittedObject, case: Case, pictures: Path | None, version: str
) -> Round:
    path = pictures / f"ohif-edited-{version}.png" if pictures is not None and name == "all" else None
    edited = edits.edit(name, viewer, archive, ours, path)
    mined = {one.label: one for one in edited.reading.bookmarks}
    worst_px = max(_apart_px(case, held, mined[held.label]) for held in edited.held if held.label in mined)
    source = edited.reading.source
    predecessor = ours.sop_instance_uid in source.predecessors
    same_series = source.series_instance_uid == ours.series_instance_uid
    linked = "predecessor, our series" if predecessor and same_series else "no predecessor, a new series"
    complete = sorted(mined) == sorted(one.label for one in edited.held)
    return Round(name, len(mined), worst_px, linked, complete and worst_px <= WITHIN_PX)


def _apart_px(case: Case, held: driver.Measured, mined: Bookmark) -> float:
    plane = case.plane(held.sop_instance_uid)
    assert mined.long_axis is not None and mined.short_axis is not None
    ends = []
    for axis in (mined.long_axis.segment, mined.short_axis.segment):
        assert isinstance(axis, Segment)
        ends += [axis.start, axis.end]
    return max(math.dist(end, to_px(plane, point)) for end, point in zip(ends, held.points_mm, strict=True))


def page(sessions: list[Session]) -> str:
    """The page as Markdown."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    complaints = sorted({text for session in sessions for one in session.looks for text in one.complaints})
    blanks = {
        "looks": "\n\n".join(_looks(study, sessions) for study in dict.fromkeys(one.study for one in sessions)),
        "rounds": _rounds(sessions),
        "complaints": "\n".join(f"- `{text}`" for text in complaints) or "None.",
        "commit": commit,
    }
    text = Path(__file__).with_suffix(".md.in").read_text(encoding="utf-8")
    for name, filled in blanks.items():
        text = text.replace(f"@{name}@", filled)
    return text


def _looks(study: str, sessions: list[Session]) -> str:
    here = [one for one in sessions if one.study == study]
    return "\n".join(
        [
            f"### {study}\n\n| object | OHIF | asked | found | as it should | s |\n|---|---|---|---|---|---|",
            *(
                f"| {one.what} | {session.version} | {one.asked or 'nothing'} | {one.found} | {_verdict(one)} |"
                f" {one.seconds:.0f} |"
                for index in range(len(here[0].looks))
                for session in here
                for one in [session.looks[index]]
            ),
        ]
    )


def _rounds(sessions: list[Session]) -> str:
    return "\n".join(
        [
            "| study | OHIF | edit | crosses | mined ends off by | linked to ours by | right |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {session.study} | {session.version} | {one.edit.replace('_', ' ')} | {one.crosses} |"
                f" {one.worst_px:.4f} px | {one.linked} | {'yes' if one.good else '**no**'} |"
                for session in sessions
                for one in session.rounds
            ),
        ]
    )


def _verdict(one: Look) -> str:
    if one.what in NOT_EXPECTED:
        return "yes" if one.good else "no, and not the default"
    return "yes" if one.good else "**no**"


def real_cases(data: Path) -> dict[str, Callable[[Path], Case]]:
    """What is looked at on real CT, by name; each takes a folder that is not there yet."""
    return {
        "Lung tumour (LUNG1)": lambda _: lung_tumour(data),
        "Sarcoma (STS)": lambda _: sarcoma(data),
        "Nodule (NLST)": lambda folder: nodule(data, folder),
        "Liver (QIICR)": lambda _: liver(data),
    }


def main() -> int:
    """Runs everything; 1 where a look or an edit is not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("docs/experiments/viewer.md"))
    parser.add_argument("--only", default="", help="the studies whose names hold this word")
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--pictures-of-real", type=Path)
    asked = parser.parse_args()
    # Ended from outside, archive and browser must end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    studies: dict[str, tuple[Callable[[Path], Case], tuple[str, ...], Path | None]] = {
        "Phantom": (partial(phantom.newcomer, small=False), tuple(edits.EDITS), asked.pictures)
    }
    if asked.data is not None:
        for study, made in real_cases(Path(asked.data)).items():
            word = study.split()[0].lower()
            studies[study] = (made, EDITS_OF_REAL, asked.pictures_of_real and asked.pictures_of_real / word)
    sessions = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (study, (made, wanted, pictures)) in enumerate(studies.items()):
            if asked.only not in study:
                continue
            case = made(Path(folder) / f"ct-{number}")
            for version in (ohif.NEWER, ohif.OLDER):
                (database := Path(folder) / f"db-{number}-{version}").mkdir()
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                close_ups = study != "Phantom"
                sessions.append(session(version, study, case, database, wanted, pictures, close_ups=close_ups))
                asked.out.write_text(page(sessions), encoding="utf-8")
    right = all(one.good for s in sessions for one in s.looks if one.what not in NOT_EXPECTED)
    return 0 if right and all(one.good for s in sessions for one in s.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
