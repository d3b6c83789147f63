"""`mine doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.config import Configuration
from cli.exits import Exit
from cli.health import Finding, findings_here, level_word
from cli.options import command as make_command
from cli.output import Output
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

EXAMPLE = """
mine doctor
mine doctor PACS@pacs.example.org:104 --method move --port 11112
mine doctor PACS@pacs.example.org:104 --target          # would it take results?
mine doctor --stow https://pacs.example.org/dicom-web
"""
SETTINGS = ("archive.address", "run.out", "run.work", "archive.method", "archive.calling_ae", "archive.move_port",
            "send.to", "send.stow_url", "send.report_port")  # fmt: skip


@make_command("doctor", EXAMPLE, *SETTINGS)
@click.option("--target", is_flag=True, help="Look, too, at what ARCHIVE takes of results; the same as --to ARCHIVE.")
def command(configuration: Configuration, output: Output, target: bool) -> Exit:
    """Check the installation, folders, an archive and where results go.

    Each line is ok, warn or fail; a fail says what to do. An archive, where one is named, is asked a few small
    questions and for one or two small objects. Where results go, objects and transfer syntaxes are negotiated, and
    commitment is asked for an object that nobody has; for what is refused the fallback is named. Nothing is stored.
    """
    found = [*findings_here(configuration), *archive_findings(configuration), *target_findings(configuration, target)]
    for finding in found:
        values = {"name": finding.name, "level": finding.level, "text": finding.text, "advice": finding.advice}
        advice = f"\n      {'':<20} -> {finding.advice}" if finding.advice else ""
        output.record("finding", values, f"{level_word(finding.level)} {finding.name:<20} {finding.text}{advice}")
    failed = {finding.name for finding in found if finding.level == "fail"}
    if failed & {"echo", "find", "target"}:
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


def target_findings(configuration: Configuration, archive_too: bool) -> Iterable[Finding]:
    """What the archive that results go to takes; nothing where none is named."""
    settings = configuration.settings
    send = settings.send
    to = send.to or (settings.archive.address if archive_too else "")
    if archive_too and not to:
        raise ConfigError("--target needs an archive: mine doctor AET@host:port --target")
    if not to and not send.stow_url:
        return []
    from cli.send import wire_settings
    from dicom_io.address import Address
    from dicom_io.target_probe import probe_target, probe_web_target
    from dicom_io.web import WebAddress, WebSession

    wire = wire_settings(send)
    own_title = configuration.origins["send.calling_ae"] != "default" and send.to
    found = []
    if to:
        found += probe_target(
            Address.parse(to),
            send.calling_ae if own_title else settings.archive.calling_ae,
            tls_context=wire.tls_context,
            report_host=wire.report_host,
            report_port=wire.report_port,
        )
    if send.stow_url:
        with WebSession(WebAddress(send.stow_url, wire.authorization), tls_context=wire.tls_context) as session:
            found += probe_web_target(session)
    return [Finding(one.name, one.level.value, one.text, one.advice) for one in found]
