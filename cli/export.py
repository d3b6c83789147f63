"""`mine export`: mined bookmarks or predictions as DICOM objects that viewers open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import wiring
from cli.archive_option import with_archive
from cli.config import Configuration, Settings
from cli.emission import Emitting, emission_options, emit_results
from cli.exits import Exit
from cli.finding import tell_if_unfinished
from cli.options import command as make_command
from cli.output import Output, notice, plural
from cli.results import at_least, results_of
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from deeplesion_miner.detection import Detection
    from deeplesion_miner.follow_up import FollowUp
    from deeplesion_miner.results import Result

EXAMPLE = """
mine export --archive PACS@pacs.example.org:104 --to dicom-sr --objects reports      # what was mined, to be edited
mine export predictions.parquet --files /data/study --to dicom --objects results     # what a model found in files
mine export predictions.parquet --archive PACS@pacs.example.org:104 --to dicom --queue PACS@pacs.example.org:104
mine export predictions.parquet --dataset dataset --archive PACS@pacs.example.org:104 --to dicom --objects results
"""
SETTINGS = ("run.work", "archive.method", "archive.calling_ae", "archive.move_port", "archive.images_per_minute")


@make_command("export", EXAMPLE, *SETTINGS)
@click.argument("predictions", type=click.Path(path_type=Path), required=False, metavar="[PREDICTIONS]")
@emission_options
@click.option("--archive", "address", default="", metavar="AET@HOST:PORT", help="Where the images are.")
@click.option("--files", "paths", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
              help="Where the images are, as files; may be repeated.")  # fmt: skip
@click.option("--dataset", type=click.Path(path_type=Path), metavar="FOLDER",
              help="The dataset that PREDICTIONS were made on: they go home by the ledger in --work.")  # fmt: skip
@click.option("--follow-up", "with_follow_up", is_flag=True,
              help="In reports of what was mined, say what each lesion measured in the patient's earlier study (same"
              " tracking UID, else same label), how the largest measurable lesions of the first study respond as"
              " targets by RECIST 1.1, and which marks may be new lesions, for a reader to decide.")  # fmt: skip
@click.option("--study", "studies", multiple=True, metavar="UID", help="Only this StudyInstanceUID; may be repeated.")
@click.option("--least-score", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Of predictions, what scores less is left out.")  # fmt: skip
def command(
    configuration: Configuration,
    output: Output,
    predictions: Path | None,
    kinds: tuple[str, ...],
    objects: Path | None,
    queue: str,
    boxes: bool,
    segmentation: str,
    syntax: str,
    address: str,
    paths: tuple[Path, ...],
    dataset: Path | None,
    with_follow_up: bool,
    studies: tuple[str, ...],
    least_score: float,
) -> Exit:
    """Write DICOM objects of what was mined or predicted.

    Without PREDICTIONS, the bookmarks that mining kept (ledger of --work) become reports that a viewer can edit. With
    them, what a model found becomes reports and segmentations; predictions made on a de-identified dataset go home
    into the studies that they came from, and each picture is compared with the one that mining wrote. The headers of
    the images are asked for, since patient, study and geometry are theirs. The same result is the same object,
    however often it is written; bookmarks that were mined from a report of ours are not written again.
    """
    if not kinds:
        raise ConfigError("name what to write: --to dicom, or a kind of object such as --to dicom-sr")
    emitting = Emitting.of(kinds, objects, queue, boxes, segmentation, syntax)
    if paths and address:
        raise ConfigError("the images are in --files or in --archive; name one")
    if dataset is not None and predictions is None:
        raise ConfigError("--dataset says where PREDICTIONS were made; name them")
    if with_follow_up and predictions is not None:
        raise ConfigError("--follow-up is for mined bookmarks: who drew them knows which lesion is which")
    settings = with_archive(configuration.settings, address)
    results, refused = _results(settings, predictions, dataset, least_score, with_follow_up)
    wanted = [one for one in results if not studies or one.study_instance_uid in studies]
    if not wanted:
        notice("nothing matched: no study with a lesion to write")
        return Exit.PARTIAL if refused else Exit.NOTHING_MATCHED
    emitted = emit_results(wanted, emitting, settings, paths, output)
    return Exit.PARTIAL if refused or emitted.is_partial else Exit.DONE


def _results(
    settings: Settings, predictions: Path | None, dataset: Path | None, least_score: float, with_follow_up: bool
) -> tuple[Sequence[Result], int]:
    """The results by study, and how many detections were refused to come home."""
    if predictions is None:
        return _mined(settings, with_follow_up), 0
    from models.predictions_table import read_predictions

    tell_if_unfinished(predictions)
    detections = at_least(read_predictions(predictions), least_score, "--least-score")
    refused = 0
    if dataset is not None:
        detections, refused = _home(settings, dataset, detections)
    elif any(isinstance(one.image, str) for one in detections):
        raise ConfigError(
            f"{predictions}: made on a de-identified dataset; --dataset FOLDER and --work FOLDER bring them home"
        )
    return results_of(detections, datetime.fromtimestamp(predictions.stat().st_mtime, UTC).astimezone()), refused


def _mined(settings: Settings, with_follow_up: bool) -> tuple[Result, ...]:
    """Results of the bookmarks that mining kept, study by study."""
    from deeplesion_miner.follow_up import follow
    from deeplesion_miner.results import is_told_already, of_bookmarks
    from deeplesion_miner.same_lesion import TimedStudy

    results: list[Result] = []
    told_already = 0
    timed: list[TimedStudy] = []
    with wiring.read_ledger(settings) as ledger:
        for outcome in ledger.outcomes():
            kept = [one.kept for one in outcome.placed]
            made = of_bookmarks(kept, _day(outcome.patient.study_date))
            fresh = [one for one in made if not is_told_already(one, kept)]
            results += fresh
            told_already += len(made) - len(fresh)
            patient = outcome.patient
            timed += [
                TimedStudy(
                    patient.patient_id,
                    reader,
                    patient.study_date,
                    patient.study_instance_uid,
                    tuple(one for one in kept if one.bookmark.reader == reader),
                    patient.issuer_of_patient_id,
                )
                for reader in sorted({one.bookmark.reader for one in kept})
            ]
    if told_already:
        notice(f"left out {plural(told_already, 'result')}: reports of ours that the archive has tell the same")
    return _followed(results, follow(timed)) if with_follow_up else tuple(results)


def _followed(results: Sequence[Result], found: FollowUp) -> tuple[Result, ...]:
    """The results with what is known of earlier studies; tells what is no target, and what may be a new lesion."""
    from deeplesion_miner.follow_up_words import advice

    reasons = Counter(reason for _, reason in found.no_targets)
    for reason, count in sorted(reasons.items()):
        notice(f"{plural(count, 'lesion')} without a part in the sum of the targets ({reason}): {advice(reason)}")
    if found.candidates:
        notice(
            f"{plural(len(found.candidates), 'candidate')} for new lesions: a reader must look, the reports say why and"
            " state the response with and without"
        )
    if any(one.nodes < len(one.targets) for one in found.responses.values()):
        notice("targets that no code of finding or site calls a lymph node count by the long axis: the report says so")
    return tuple(map(found.told, results))


def _day(study_date: str) -> datetime:
    """Its midnight; now, for what is no date, such as a 31st of June."""
    try:
        return datetime.strptime(study_date, "%Y%m%d")
    except ValueError:
        return datetime.now(UTC).astimezone()


def _home(settings: Settings, dataset: Path, detections: Sequence[Detection]) -> tuple[list[Detection], int]:
    """The detections on the images that they were made on; those that do not fit are told and counted."""
    from dataset_builder.homecoming_index import home_index
    from deeplesion_miner.homecoming import home

    with wiring.read_ledger(settings) as ledger:
        index = home_index(ledger, dataset)
    found, refused = home(detections, index)
    for one in refused:
        notice(str(one))
    if refused:
        notice(f"{plural(len(refused), 'detection')} of {len(detections):,} do not come home")
    return list(found), len(refused)
