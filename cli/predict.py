"""`mine predict`: what a model finds in a dataset, in files, or in studies of an archive."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.archive_option import with_archive
from cli.config import Configuration, Settings
from cli.dataset_options import table_option
from cli.emission import EMISSION, Emitting, emission_options, emit_results
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice, plural
from cli.places import check_writable, keep_out_of_datasets
from cli.progress import stopping_politely
from cli.results import at_least, results_of
from cli.study_options import study_options_until, study_query, tell_absent
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from cli.finding import DatasetWork, Finding, Predictor
    from deeplesion_miner.detection import Detection
    from deeplesion_miner.studies import StudyQuery

EXAMPLE = """
mine predict model dataset --split test --out predictions.parquet          # the key slices of a dataset
mine predict model /data/study --out predictions.parquet --pictures seen   # every CT series of files
mine predict model --archive PACS@pacs.example.org:104 --study 1.2.3
mine predict model --archive PACS@pacs.example.org:104 --study 1.2.3 --to dicom --queue PACS@pacs.example.org:104
"""
SETTINGS = ("run.work", "archive.method", "archive.calling_ae", "archive.move_port", "archive.images_per_minute")
COLUMNS = ("image", "score", "long_axis_mm", "short_axis_mm", "volume_mm3", "x_min", "y_min", "x_max", "y_max")
SHOWN = 20
"""Rows on a terminal; the file has them all."""


@make_command("predict", EXAMPLE, *SETTINGS)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[DATASET | FILES...]")
@click.option("--archive", "address", default="", metavar="AET@HOST:PORT", help="Look at studies of this archive.")
@study_options_until
@click.option("--out", type=click.Path(path_type=Path), default=Path("predictions.parquet"), show_default=True,
              metavar="FILE", help="Where to write the detections; 3-D masks go beside it.")  # fmt: skip
@click.option("--split", "splits", multiple=True, type=click.Choice(["train", "val", "test"]),
              help="Of a dataset, only this split; may be repeated.")  # fmt: skip
@table_option
@click.option("--annotation", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Of a dataset, also the slices without marks that this table for `mine evaluate` calls complete or"
              " partial.")  # fmt: skip
@click.option("--least-score", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="What scores less is left out; 0 for a whole FROC curve.")  # fmt: skip
@click.option("--most", type=click.IntRange(1), default=100, show_default=True,
              help="At most so many of a key slice, or of a series.")  # fmt: skip
@click.option("--masks/--no-masks", default=True, show_default=True, help="Delineate each lesion, in 3-D too.")
@click.option("--delineator", type=click.Path(path_type=Path), metavar="FOLDER",
              help="A model of kind 'delineator' that helps to delineate.")  # fmt: skip
@click.option("--pictures", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Draw the surest ones there: box green, mask red, long axis yellow, short axis blue.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Start anew instead of going on with an interrupted run.")
@emission_options
@click.option("--emit-score", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="What scores less becomes no object; the table has it nevertheless.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
              help="Where to compute.")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True,
              help="auto: bf16 where the processor computes in it, else fp32.")  # fmt: skip
def command(
    configuration: Configuration,
    output: Output,
    model: Path,
    paths: tuple[Path, ...],
    address: str,
    out: Path,
    splits: tuple[str, ...],
    table: str | None,
    annotation: Path | None,
    pictures: Path | None,
    fresh: bool,
    emit_score: float,
    **options: Any,
) -> Exit:
    """Find lesions with a trained model.

    `mine evaluate` says how good it is. A dataset is looked at key slice by key slice, as published results are;
    files and studies are looked at slice by slice, and what overlaps from slice to slice is one lesion. Rows that
    name images of an archive identify patients: they are for the trusted side. Ctrl-C ends after the current slice or
    series: FILE then holds what was found so far, and the same command goes on.
    """
    from cli import finding

    emitting = Emitting.of(**{name: options.pop(name) for name in EMISSION})
    asked = study_query(**{name: options.pop(name) for name in ("date_from", "date_to", "patient", "studies")})
    query = replace(asked, measured=False)
    if paths and address:
        raise ConfigError("name a dataset or files after the model, or an archive by --archive; not both")
    folder = dataset_among(paths)
    if folder is None and splits:
        raise ConfigError("--split is for datasets: files and archives have none")
    if folder is None and (table or annotation):
        raise ConfigError("--table and --annotation are for datasets: files and archives have none")
    if folder is not None and emitting.kinds:
        raise ConfigError(
            "what is found in a dataset goes home by `mine export PREDICTIONS --dataset FOLDER --to dicom`"
        )
    _check_places(out, pictures, is_dataset=folder is not None)
    predictor = finding.load(model, **options)
    settings = with_archive(configuration.settings, address)
    work = None if folder is None else finding.DatasetWork.of(folder, splits, table, annotation)
    found = _look(predictor, settings, paths, query, work, out, fresh)
    tell_absent(query, found.absent)
    if found.is_stopped:
        again = "the same command without --fresh" if fresh else "the same command again"
        so_far = f"; {out} holds what was found so far" if found.looked_at else ""
        notice(f"stopped after {plural(found.looked_at, 'slice')}{so_far}; run {again} to go on")
        return Exit.INTERRUPTED
    if not found.looked_at:
        notice(f"nothing matched: {found.nothing}")
        finding.tell_left_out(found, output)
        return Exit.PARTIAL if found.is_partial else Exit.NOTHING_MATCHED
    if pictures is not None:
        notice(f"drew {plural(finding.draw(found, pictures), 'picture')} in {pictures}")
    _tell(found, out, output)
    left_out = bool(emitting.kinds) and _emit(found, emit_score, emitting, settings, paths, output)
    if found.away is not None:
        raise found.away  # one line and the exit code of an archive that is away
    is_partial = found.is_partial or found.left_out["not_finite"] or found.absent or left_out
    return Exit.PARTIAL if is_partial else Exit.DONE


def _check_places(out: Path, pictures: Path | None, *, is_dataset: bool) -> None:
    """Refuses places that cannot be written, and those where what identifies patients would lie in a dataset."""
    from models.predictions_table import SUFFIX

    if out.suffix != SUFFIX:
        raise ConfigError(f"--out {out}: predictions are Parquet; name a file that ends in {SUFFIX}")
    check_writable("--out", out.parent)
    if not is_dataset:
        keep_out_of_datasets("--out", out)
    if pictures is not None:
        check_writable("--pictures", pictures)
        if not is_dataset:
            keep_out_of_datasets("--pictures", pictures / "01.png")


def _look(
    predictor: Predictor,
    settings: Settings,
    paths: tuple[Path, ...],
    query: StudyQuery,
    work: DatasetWork | None,
    out: Path,
    fresh: bool,
) -> Finding:
    """Looks at the dataset's work, or at studies, and writes what is found; goes on where an earlier run stopped."""
    from cli import finding
    from models.predictions_table import write_predictions
    from models.unfinished import begun

    asked = finding.asked_of_studies(settings, paths, query) if work is None else work.asked
    unit = "series" if work is None else "slice"
    with begun(out, {**predictor.asked, **asked}, fresh=fresh) as parts:
        if parts.looked:
            done = sum(one.slices for one in parts.looked.values())
            notice(f"going on after {plural(done, 'slice')}")
        with stopping_politely(lambda: True, unit, (signal.SIGINT, signal.SIGTERM)) as should_stop:
            run = finding.Run(parts, should_stop)
            if work is None:
                found = finding.in_studies(predictor, settings, paths, query, run)
            else:
                found = finding.in_dataset(predictor, work, run)
        if found.looked_at:
            write_predictions(out, found.detections)
        if found.is_whole:
            parts.remove()
    return found


def _emit(
    found: Finding,
    score: float,
    emitting: Emitting,
    settings: Settings,
    paths: tuple[Path, ...],
    output: Output,
) -> bool:
    """Writes the surest detections as objects; whether some of what should be written was not."""
    surest = at_least(found.detections, score, "--emit-score")
    results = results_of(surest, datetime.now(UTC).astimezone())
    return emit_results(results, emitting, settings, paths, output).is_partial


def dataset_among(paths: tuple[Path, ...]) -> Path | None:
    """The dataset folder that is named, if one is. ConfigError for a dataset among other paths."""
    datasets = [path for path in paths if any(path.glob("DL_info*.csv")) or (path / "lesions.parquet").exists()]
    if datasets and len(paths) > 1:
        raise ConfigError(f"{datasets[0]} is a dataset: name it alone")
    return datasets[0] if datasets else None


def _tell(found: Finding, out: Path, output: Output) -> None:
    from cli import finding

    rows = [_row(one) for one in sorted(found.detections, key=lambda one: -one.score)]
    output.table("detection", COLUMNS, rows if output.as_json else rows[:SHOWN])
    if len(rows) > SHOWN and not output.as_json:
        notice(f"and {len(rows) - SHOWN:,} less sure ones in {out}")
    notice(f"{plural(len(rows), 'detection')} on {plural(found.looked_at, 'slice')}: {out}")
    finding.tell_left_out(found, output)


def _row(one: Detection) -> tuple[Any, ...]:
    name = one.image if isinstance(one.image, str) else one.image.sop_instance_uid
    box = (one.box.x_min, one.box.y_min, one.box.x_max, one.box.y_max)
    return name, one.score, one.long_axis_mm, one.short_axis_mm, one.volume_mm3, *box
