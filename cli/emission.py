"""What `export` and `predict` have in common: results become objects, which are checked, written and queued."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import wiring
from cli.config import Settings
from cli.output import Output, notice, plural
from cli.places import check_writable, keep_out_of_datasets
from cli.progress import counted, counting_files
from deeplesion_miner.errors import ArchiveError, ConfigError, MinerError

if TYPE_CHECKING:
    from deeplesion_miner.results import Result
    from dicom_io.emit import Emission, EmitSettings, EmittedObject
    from dicom_io.outbox import Outbox

KINDS = ("dicom-sr", "dicom-seg", "volume-sr", "rtstruct", "gsps", "kos")
"""Of objects, as `dicom_io.emit` names them; a test compares."""
USUAL = ("dicom-sr", "volume-sr", "dicom-seg")
"""What the word 'dicom' stands for: measurements that a reader can edit, volumes, masks."""
EMISSION = ("kinds", "objects", "queue", "boxes", "segmentation", "syntax")
"""The parameters of `emission_options`."""
BROKEN = ("image_missing", "bad_geometry", "not_finite")
"""Why a lesion is left out that should have been written."""
COLUMNS = ("kind", "study_instance_uid", "sop_instance_uid", "size_bytes", "file")


def emission_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --to, --objects, --queue, --boxes, --segmentation and --syntax, which `Emitting.of` takes."""
    for option in (
        click.option("--syntax", type=click.Choice(["explicit", "rle", "deflated"]), default="explicit",
                     show_default=True, help="Transfer syntax of segmentations."),
        click.option("--segmentation", type=click.Choice(["binary", "fractional", "labelmap"]), default="binary",
                     show_default=True, help="How masks are written; viewers open binary ones."),
        click.option("--boxes", is_flag=True, help="Write a box beside each cross, which 3D Slicer shows."),
        click.option("--queue", default="", metavar="DESTINATION",
                     help="Put the objects in the outbox for this archive (AET@HOST:PORT or a STOW-RS address);"
                     " `mine send` delivers them."),
        click.option("--objects", type=click.Path(path_type=Path), metavar="FOLDER",
                     help="Write the objects there as files."),
        click.option("--to", "kinds", multiple=True, type=click.Choice(["dicom", *KINDS]),
                     help=f"Kind of object; may be repeated. dicom: {', '.join(USUAL)}."),
    ):  # fmt: skip
        function = option(function)
    return function


@dataclass(frozen=True)
class Emitting:
    """What to write, and where to."""

    kinds: tuple[str, ...]
    objects: Path | None
    queue: str
    settings: EmitSettings

    @classmethod
    def of(
        cls, kinds: Sequence[str], objects: Path | None, queue: str, boxes: bool, segmentation: Any, syntax: Any
    ) -> Emitting:
        """From the options; ConfigError where nothing would come of them."""
        from dicom_io.destination import checked
        from dicom_io.emit import EmitSettings

        if kinds and objects is None and not queue:
            raise ConfigError("--to needs a place: --objects FOLDER for files, --queue DESTINATION for the outbox")
        if not kinds and (objects is not None or queue):
            raise ConfigError(f"--objects and --queue need --to: dicom, {', '.join(KINDS)}")
        if objects is not None:
            check_writable("--objects", objects)
            keep_out_of_datasets("--objects", objects / "one.dcm")
        wanted = {kind for word in kinds for kind in (USUAL if word == "dicom" else (word,))}
        settings = EmitSettings(planar_boxes=boxes, segmentation=segmentation, segmentation_syntax=syntax)
        kept = tuple(kind for kind in KINDS if kind in wanted)
        return cls(kept, objects, checked(queue) if queue else "", settings)


@dataclass
class Emitted:
    """What came of it."""

    left_out: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    """Studies of which nothing could be written."""
    away: ArchiveError | None = None
    """Why the archive stopped answering before all was written."""
    corrects: int = 0
    """Earlier reports that new ones name as their predecessors."""
    outdated: int = 0
    """Results that an earlier report tells already, and that a later report of the algorithm corrects."""
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    """Of `COLUMNS`."""

    @property
    def is_partial(self) -> bool:
        """Whether something that should have been written was not."""
        return bool(self.failed or any(self.left_out[why] for why in BROKEN))


def emit_results(
    results: Sequence[Result], emitting: Emitting, settings: Settings, paths: tuple[Path, ...], output: Output
) -> Emitted:
    """Writes and queues the objects of the results; the images come from `paths`, or from the archive.

    One study that fails is told and takes nothing from the others. Raises ArchiveError where the archive is away; what
    was written until then is kept and told.
    """
    from dicom_io.emit.from_archive import emit_from
    from dicom_io.opening import ArchiveOpener

    emitted = Emitted()
    archive = wiring.folder_settings(settings, paths) if paths else wiring.archive_settings(settings)
    with (
        wiring.outbox(settings) if emitting.queue else nullcontext() as outbox,
        counting_files() as progress,
        ArchiveOpener(archive, progress) as opener,
        closing(opener.open()) as opened,
        counted(len(results), "study", "writing") as advance,
    ):
        for result in results:
            advance(1)
            try:
                waiting = () if outbox is None else _on_their_way(outbox, emitting.queue, result)
                emission = emit_from(opened, result, emitting.kinds, emitting.settings, waiting)
                _keep(emission, emitting, outbox, emitted)
            except ArchiveError as error:
                emitted.away = error
                break
            except MinerError as error:
                notice(f"study {result.study_instance_uid} left out: {error}")
                emitted.failed += 1
    output.table("object", COLUMNS, emitted.rows)
    _tell(emitted)
    if emitting.queue and emitted.rows:
        notice(f"they are in the outbox for {emitting.queue}: mine send --work {settings.run.work} delivers them")
    if emitted.away is not None:
        raise emitted.away
    return emitted


def _on_their_way(outbox: Outbox, destination: str, result: Result) -> tuple[Path, ...]:
    """Reports of the study that the outbox has sent there or will send."""
    from dicom_io.outbox_reports import reports_of

    return tuple(reports_of(outbox, destination, result.study_instance_uid).values())


def _keep(emission: Emission, emitting: Emitting, outbox: Outbox | None, emitted: Emitted) -> None:
    """Checks the objects, then writes and queues them."""
    from dicom_io.lint import check_before_sending

    for one in emission.objects:
        broken = check_before_sending(one.encoded)
        if broken:
            raise MinerError(f"{one.kind} breaks {broken[0].rule} at {broken[0].path}: {broken[0].found}; not written")
    rows = []
    for one in emission.objects:
        file = None if emitting.objects is None else _write(one, emitting.objects)
        rows.append((one.kind, one.study_instance_uid, one.sop_instance_uid, len(one.encoded), file))
    if outbox is not None:
        outbox.put(emission.objects, emitting.queue, time.time())
    emitted.rows += rows
    emitted.left_out.update(one.why for one in emission.left_out)
    emitted.corrects += len(emission.corrects)
    emitted.outdated += bool(emission.corrected_by)


def _write(one: EmittedObject, folder: Path) -> Path:
    """One file, whole or not at all."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{one.kind}-{one.sop_instance_uid}.dcm"
    partial = path.with_suffix(".partial")
    # Others must not read it: it names a patient.
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(one.encoded)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path


def _tell(emitted: Emitted) -> None:
    import schemas

    notice(f"wrote {plural(len(emitted.rows), 'object')}")
    if emitted.corrects:
        earlier = plural(emitted.corrects, "earlier report")
        notice(f"they correct {earlier} of the same algorithm, and name what they correct as predecessors")
    if emitted.outdated:
        notice(
            f"{plural(emitted.outdated, 'result')} told by an earlier report, which a later one corrects: it stays so"
        )
    for why, count in sorted(emitted.left_out.items()):
        reason = schemas.load("emit")["left_out"][why]
        notice(f"left out {plural(count, 'time')}: {why}: {reason['message']} -> {reason['advice']}")
