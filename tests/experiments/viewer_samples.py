"""Writes `tests/feedback_samples`: reports that readers saved in OHIF after they had opened ours, every edit by mouse.

    python -m tests.experiments.viewer_samples [--out FOLDER]

Needs what `tests/browser` needs and both versions of the viewer (`.ci/viewer all`); about two minutes. The images are
the newcomer's phantoms (`write_newcomer(folder, small=True)`), so UIDs of images and study are the same every time;
the viewer gives each saved report new UIDs and the hour of the day.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from deeplesion_miner.geometry import to_px
from dicom_io.emit import EmittedObject, emit
from tests.browser import driver, edits, ohif, phantom
from tests.browser.archive import WebArchive, web_archive

OUT = Path(__file__).parents[1] / "feedback_samples"


def write_samples(out: Path) -> None:
    """Our report and every edited one of both versions, with what the viewer held when it saved them."""
    said: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        case = phantom.newcomer(Path(folder) / "ct", small=True)
        (ours,) = emit(case.result, case.source, ["dicom-sr"]).objects
        out.mkdir(parents=True, exist_ok=True)
        (out / "ours.dcm").write_bytes(ours.encoded)
        for version in (ohif.NEWER, ohif.OLDER):
            (database := Path(folder) / version).mkdir()
            with (
                web_archive(database) as archive,
                ohif.serving(version, archive.url) as url,
                driver.browser(url) as viewer,
            ):
                archive.put(case.files())
                said += [_one(name, version, viewer, archive, ours, case, out) for name in edits.EDITS]
    (out / "samples.json").write_text(json.dumps(said, indent=1) + "\n")


def _one(
    name: str,
    version: str,
    viewer: driver.Viewer,
    archive: WebArchive,
    ours: EmittedObject,
    case: phantom.Case,
    out: Path,
) -> dict[str, Any]:
    edited = edits.edit(name, viewer, archive, ours)
    file = f"{name}_{version}.dcm"
    (out / file).write_bytes(edited.encoded)
    return {
        "file": file,
        "edit": name,
        "viewer": version,
        "verdicts": dict(edited.verdicts),
        "held": [
            {
                "label": one.label,
                "sop_instance_uid": one.sop_instance_uid,
                "points_px": [
                    [round(value, 4) for value in to_px(case.plane(one.sop_instance_uid), point)]
                    for point in one.points_mm
                ],
            }
            for one in edited.held
        ],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    write_samples(parser.parse_args().out)
