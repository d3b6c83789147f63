"""`mine doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.config import Configuration
from cli.exits import Exit
from cli.health import Finding, findings_here, level_word
from cli.options import command as make_command
from cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable

EXAMPLE = """
mine doctor
mine doctor PACS@pacs.example.org:104 --method move --port 11112
"""
SETTINGS = ("archive.address", "run.out", "run.work", "archive.method", "archive.calling_ae", "archive.move_port")


@make_command("doctor", EXAMPLE, *SETTINGS)
def command(configuration: Configuration, output: Output) -> Exit:
    """Check the installation, folders and an archive.

    Each line is ok, warn or fail; a fail says what to do. An archive, where one is named, is asked a few small
    questions and for one or two small objects; nothing is stored there.
    """
    found = [*findings_here(configuration), *archive_findings(configuration)]
    for finding in found:
        values = {"name": finding.name, "level": finding.level, "text": finding.text, "advice": finding.advice}
        advice = f"\n      {'':<20} -> {finding.advice}" if finding.advice else ""
        output.record("finding", values, f"{level_word(finding.level)} {finding.name:<20} {finding.text}{advice}")
    failed = {finding.name for finding in found if finding.level == "fail"}
    if failed & {"echo", "find"}:
        return Exit.ARCHIVE_AWAY
    return Exit.FAILED if failed else Exit.DONE


def archive_findings(configuration: Configuration) -> Iterable[Finding]:
    """What the named archive answers; nothing where none is named."""
    archive = configuration.settings.archive
    if not archive.address:
        return []
    from dicom_io.address import Address
    from dicom_io.probe import probe

    move_port = archive.move_port if archive.method == "move" else None
    found = probe(Address.parse(archive.address), archive.calling_ae, move_host=archive.move_host, move_port=move_port)
    return [Finding(one.name, one.level.value, one.text, one.advice) for one in found]
