"""`mine import`: from files and folders to a dataset."""

from __future__ import annotations

from pathlib import Path

import click

from cli import wiring
from cli.config import Configuration, Settings
from cli.exits import Exit
from cli.mining import mine_and_build
from cli.options import command as make_command
from cli.output import Output
from deeplesion_miner.errors import ConfigError

EXAMPLE = """
mine import /data/export --out dataset --work mine-work
mine import report.dcm series/ --set rules.keep_lengths=true
"""


@make_command("import", EXAMPLE, "run.out", "run.work", "run.workers", "deidentification.key_file")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(configuration: Configuration, output: Output, paths: tuple[Path, ...]) -> Exit:
    """Mine DICOM files into a dataset.

    Folders are searched whole; files are read where they lie and never changed. What is no DICOM object is
    passed over and counted.
    """
    from deeplesion_miner.studies import StudyQuery

    settings = configuration.settings
    refuse_own_folders(settings, paths)
    return mine_and_build("import", settings, wiring.folder_settings(settings, paths), StudyQuery(), output)


def refuse_own_folders(settings: Settings, paths: tuple[Path, ...]) -> None:
    """Raises ConfigError where a run would read what runs write."""
    for path in paths:
        for flag, own in (("--out", settings.run.out), ("--work", settings.run.work)):
            if path.resolve() in (own.resolve(), *own.resolve().parents):
                raise ConfigError(f"{flag} {own} lies inside {path}, which is to be imported; name a folder elsewhere")
