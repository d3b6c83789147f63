"""`mine explain`: where a row, a bookmark or a file came from, what each rule said, and how it looks."""

from __future__ import annotations

from pathlib import Path

import click

from cli import wiring
from cli.config import Configuration
from cli.exits import Exit
from cli.explanation import Explanation, explain, record, text
from cli.naming import bookmarks_named
from cli.options import command as make_command
from cli.output import Output, notice

EXAMPLE = """
mine explain 000001_01_01_103.png --png lesion.png
mine explain 5d2f0c9a1b7e4836 --work mine-work      # a lesion_id or bookmark_id of the tables
mine explain report.dcm                            # every bookmark of this object, or on this image
"""


@make_command("explain", EXAMPLE, "run.out", "run.work")
@click.option("--png", type=click.Path(path_type=Path), help="Save the drawn picture (numbered, if there are several).")
@click.argument("what")
def command(configuration: Configuration, output: Output, what: str, png: Path | None) -> Exit:
    """Show where a row came from, and why it stands.

    Prints the object and item that WHAT came from and each rule's verdict with its numbers; saves the picture.
    WHAT is a lesion_id, a bookmark_id, an image of the dataset (000001_01_01/103.png or 000001_01_01_103.png),
    a bookmark's key, a SOP Instance UID or a DICOM file. Needs the working folder; the answer identifies
    patients.
    """
    settings = configuration.settings
    with wiring.read_ledger(settings) as ledger:
        found = bookmarks_named(what, ledger, settings.run.out)
        if not found:
            notice(f"{what}: no bookmark of this working folder; see `mine status` and --work, --out")
            return Exit.NOTHING_MATCHED
        for number, (study, key) in enumerate(found, start=1):
            explanation = explain(study, key, ledger, settings)
            output.record("explanation", record(explanation), text(explanation))
            if png is not None:
                save(explanation, png if len(found) == 1 else png.with_stem(f"{png.stem}_{number}"))
    return Exit.DONE


def save(explanation: Explanation, path: Path) -> None:
    """Writes the picture, or says why there is none."""
    picture = explanation.picture()
    if picture is None:
        notice(f"no picture of {explanation.bookmark.key}: it has no place, or its image is not in the working folder")
        return
    picture.save(path, "PNG")
    notice(f"saved {path}")
