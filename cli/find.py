"""`mine find`: which studies have measurements, before anything moves."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cli import wiring
from cli.config import Configuration, Settings
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice, plural
from cli.study_options import study_options, study_query, tell_absent

if TYPE_CHECKING:
    from deeplesion_miner.studies import StudyListing, StudyQuery

EXAMPLE = """
mine find PACS@pacs.example.org:104 --from 2026-01-01 --to 2026-01-31
mine find --json | jq -r .study_instance_uid     # the archive of mine.toml
"""
COLUMNS = ("study_instance_uid", "patient_id", "study_date", "modalities", "measurement_objects", "images")


@make_command("find", EXAMPLE, "archive.address", "archive.calling_ae")
@study_options
def command(configuration: Configuration, output: Output, **query: Any) -> Exit:
    """List studies with measurement series; transfers nothing.

    The list identifies patients: it is for the trusted side. An empty number of images means that the
    archive does not tell.
    """
    asked = study_query(**query)
    found = listings(configuration.settings, asked)
    absent = asked.absent(listing.study for listing in found)
    tell_absent(asked, absent)
    rows = [row(listing) for listing in found]
    if not rows:
        notice("nothing matched: the archive lists no study with measurement series for this query")
        return Exit.NOTHING_MATCHED
    output.table("study", COLUMNS, rows)
    notice(f"{plural(len(rows), 'study')} with {plural(sum(row[4] for row in rows), 'measurement object')}")
    return Exit.PARTIAL if absent else Exit.DONE


def listings(settings: Settings, query: StudyQuery) -> list[StudyListing]:
    """What the archive lists; nothing is received, so nothing is kept."""
    from deeplesion_miner.miner import find
    from dicom_io.opening import open_archive

    with TemporaryDirectory(prefix="mine-find-") as folder:
        asked = replace(wiring.archive_settings(settings), store_folder=Path(folder), method="get")
        with closing(open_archive(asked)) as archive:
            return list(find(archive, query))


def row(listing: StudyListing) -> tuple[str, str, str, str, int, int | None]:
    """One study as a row of `COLUMNS`."""
    measured = [series for series in listing.series if series.instances is not None]
    images = [series.instance_count for series in listing.series if series.instances is None]
    known = [count for count in images if count is not None]
    return (
        listing.study.study_instance_uid,
        listing.study.patient_id,
        listing.study.study_date,
        "/".join(sorted({series.modality or "?" for series in listing.series})),
        sum(len(series.instances or ()) for series in measured),
        sum(known) if len(known) == len(images) else None,
    )
