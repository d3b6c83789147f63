"""`mine run`: from an archive to a dataset."""

from __future__ import annotations

from typing import Any

import click

from cli import wiring
from cli.config import Configuration, Settings
from cli.exits import Exit
from cli.find import listings, row
from cli.mining import mine_and_build
from cli.options import command as make_command
from cli.output import Output, plural
from cli.study_options import study_options, study_query

EXAMPLE = """
mine run PACS@pacs.example.org:104 --out dataset --work mine-work --from 2026-01-01
mine run PACS@pacs.example.org:104 --method move --aet MINER --port 11112
mine run --dry-run                               # the archive of mine.toml; says the load, moves nothing
"""
SETTINGS = (
    "archive.address",
    "run.out",
    "run.work",
    "archive.method",
    "archive.calling_ae",
    "archive.move_port",
    "run.workers",
    "archive.images_per_minute",
    "archive.hours",
    "deidentification.key_file",
)


@make_command("run", EXAMPLE, *SETTINGS)
@study_options
@click.option("--dry-run", is_flag=True, help="Only say what would be asked of the archive.")
def command(configuration: Configuration, output: Output, dry_run: bool, **query: Any) -> Exit:
    """Mine an archive into a dataset.

    Asks for studies with measurement series, fetches their measurement objects, the images they refer to
    and the neighbours of kept lesions, and writes the dataset of all that the working folder knows. A run
    that was interrupted goes on where it stopped; a study that has not changed is not fetched again.
    """
    settings = configuration.settings
    archive = wiring.archive_settings(settings)
    if dry_run:
        return say_the_load(settings, query, output)
    return mine_and_build("run", settings, archive, study_query(**query), output)


def say_the_load(settings: Settings, query: dict[str, Any], output: Output) -> Exit:
    """What a run would ask of the archive, from its listings alone."""
    from dataset_builder.ledger import FILE_NAME

    found = listings(settings, study_query(**query))
    new = found
    if (settings.run.work / FILE_NAME).exists():
        digest = wiring.mine_settings(settings).digest
        with wiring.read_ledger(settings) as ledger:
            new = [one for one in found if not ledger.is_done(one.study.study_instance_uid, one.fingerprint, digest)]
    rows = [row(listing) for listing in new]
    objects, images = sum(one[4] for one in rows), sum(one[5] or 0 for one in rows)
    values = {
        "studies": len(found),
        "new_studies": len(new),
        "measurement_objects": objects,
        "images_at_most": images,
    }
    text = (
        f"{plural(len(found), 'study')} found, {len(new):,} of them new or changed: a run would fetch"
        f" {plural(objects, 'measurement object')} and, of {plural(images, 'image')}, those that are referred to"
    )
    if settings.archive.images_per_minute:
        text += f"; at most {(objects + images) / settings.archive.images_per_minute:,.0f} minutes at the set pace"
    output.record("load", values, text)
    return Exit.DONE if found else Exit.NOTHING_MATCHED
