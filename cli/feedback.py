"""`mine feedback`: what readers made of our models' reports."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import wiring
from cli.archive_option import with_archive
from cli.config import Configuration, Settings
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice, plural
from cli.places import check_writable, keep_out_of_datasets
from cli.progress import counting_files
from cli.study_options import study_options, study_query
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from deeplesion_miner.feedback_rows import FeedbackRow
    from deeplesion_miner.studies import StudyQuery
    from deeplesion_miner.types import Unreadable

EXAMPLE = """
mine feedback --archive PACS@pacs.example.org:104 --from 2026-01-01 --out feedback.parquet
mine feedback /data/study --json | jq -r 'select(.verdict == "deleted") | .label'
"""
SETTINGS = ("run.work", "archive.method", "archive.calling_ae", "archive.move_port", "archive.images_per_minute")
COLUMNS = ("model_name", "model_version", "label", "verdict", "geometry_change", "label_change", "shift_mm",
           "long_axis_change_mm", "short_axis_change_mm", "reader", "said_at", "sop_instance_uid")  # fmt: skip
SHOWN = 20
"""Rows on a terminal; the file has them all."""


@make_command("feedback", EXAMPLE, *SETTINGS)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[FILES...]")
@click.option("--archive", "address", default="", metavar="AET@HOST:PORT", help="Look at studies of this archive.")
@study_options
@click.option("--out", type=click.Path(path_type=Path), default=Path("feedback.parquet"), show_default=True,
              metavar="FILE", help="Where to write the table.")  # fmt: skip
def command(
    configuration: Configuration, output: Output, paths: tuple[Path, ...], address: str, out: Path, **options: Any
) -> Exit:
    """Tell what readers made of our models' reports.

    A report that a reader saved again is compared with ours, lesion by lesion: kept, moved (to another slice, too),
    resized, relabelled, deleted, added. A rejection note rejects all lesions of a report; what nobody touched is
    unreviewed. What becomes of a reader's own bookmarks that we passed on is no feedback. The rows identify patients:
    they are for the trusted side.
    """
    from dataset_builder.feedback_table import SUFFIX, columns_of, write_feedback
    from deeplesion_miner.feedback_rows import counts

    if paths and address:
        raise ConfigError("name files or an archive by --archive; not both")
    if out.suffix != SUFFIX:
        raise ConfigError(f"--out {out}: feedback is Parquet; name a file that ends in {SUFFIX}")
    check_writable("--out", out.parent)
    keep_out_of_datasets("--out", out)
    settings = with_archive(configuration.settings, address)
    rows, unlinked, unreadable = _read(settings, paths, study_query(**options))
    for one in unreadable:
        notice(f"left out: {one.source}: {one.why} {one.detail}".rstrip())
    if not rows:
        notice("nothing matched: no study with a report of ours in which a model measures lesions")
        return Exit.PARTIAL if unreadable else Exit.NOTHING_MATCHED
    write_feedback(out, rows)
    if output.as_json:
        for row in rows:
            output.record("feedback", columns_of(row), "")
    else:
        output.table("feedback", COLUMNS, [[getattr(row, name) for name in COLUMNS] for row in rows[:SHOWN]])
        if len(rows) > SHOWN:
            notice(f"and {len(rows) - SHOWN:,} more in {out}")
    told = ", ".join(f"{count:,} {verdict}" for verdict, count in counts(rows).items() if count)
    notice(f"{plural(len(rows), 'mark')}: {told}: {out}")
    if unlinked:
        notice(f"{plural(unlinked, 'report')} of others answer none of ours")
    return Exit.PARTIAL if unreadable else Exit.DONE


def _read(
    settings: Settings, paths: tuple[Path, ...], query: StudyQuery
) -> tuple[list[FeedbackRow], int, list[Unreadable]]:
    """All rows by study, how many reports answer none of ours, and what could not be read."""
    from deeplesion_miner.feedback import feedback
    from dicom_io.feedback_reading import study_reports
    from dicom_io.opening import ArchiveOpener

    rows: list[FeedbackRow] = []
    unreadable: list[Unreadable] = []
    unlinked = 0
    archive = wiring.folder_settings(settings, paths) if paths else wiring.archive_settings(settings)
    with counting_files() as progress, ArchiveOpener(archive, progress) as opener, closing(opener.open()) as opened:
        for study in study_reports(opened, query):
            found = feedback(study.reports, study.notes, study.planes)
            rows += found.rows
            unlinked += len(found.unlinked)
            unreadable += study.unreadable
    rows.sort(key=lambda row: row.study_instance_uid)
    return rows, unlinked, unreadable
