"""The end of `mine demo`: what the detector found goes back to the archive that the new patient lies in."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli.config import Configuration
from cli.emission import USUAL, Emitting, emit_results
from cli.output import Output, notice, plural
from cli.results import at_least, results_of
from cli.send import deliver, show
from cli.wiring import outbox

if TYPE_CHECKING:
    from deeplesion_miner.detection import Detection

LEAST_SCORE = 0.3
"""Of what goes back: so short a training makes no detector sure of what it finds."""


def bring_home(
    configuration: Configuration, output: Output, out: Path, newcomer: Path, detections: Sequence[Detection]
) -> None:
    """Writes the surest detections as reports and a segmentation, and stores them beside the newcomer's images.

    Says how many are not sure enough for that.
    """
    from dicom_io.emit import EmitSettings
    from dicom_io.testbed.embedded import EmbeddedArchive

    surest = at_least(detections, LEAST_SCORE, "--least-score")
    if not surest:
        notice("nothing is sent back")
        return
    settings = replace(configuration.settings, run=replace(configuration.settings.run, work=out / "work"))
    with EmbeddedArchive(newcomer) as archive:
        words = ["mine", "export", str(out / "predictions.parquet"), "--files", str(newcomer), "--to", "dicom"]
        words += ["--objects", str(out / "results"), "--queue", archive.address, "--work", str(out / "work")]
        words += ["--least-score", str(LEAST_SCORE)]
        notice(f"writing {plural(len(surest), 'detection')} as DICOM objects: {shlex.join(words)}")
        emitting = Emitting(USUAL, out / "results", archive.address, EmitSettings())
        emit_results(results_of(surest, datetime.now(UTC).astimezone()), emitting, settings, (newcomer,), output)
        notice(f"sending them to the archive: mine send --work {out / 'work'}")
        with outbox(settings) as queued:
            deliver(queued, archive.address, settings.send, wait=False)
            show(queued, archive.address, output)
