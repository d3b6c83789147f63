"""`mine send`: results to an archive, and what became of each."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import wiring
from cli.config import Configuration, SendSection
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice, plural, size_text
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.redaction import shown_address

if TYPE_CHECKING:
    from dicom_io.delivery import Tally
    from dicom_io.delivery_rules import Policy
    from dicom_io.destination import WireSettings
    from dicom_io.outbox import Outbox
    from dicom_io.outbox_rows import Parcel

EXAMPLE = """
mine send results/ --to PACS@pacs.example.org:104             # queue files and deliver them
mine send --to PACS@pacs.example.org:104 --report-port 11113  # go on with what is queued
mine send results/ --stow https://pacs.example.org/dicom-web
mine send --status
"""
SETTINGS = ("run.work", "send.outbox", "send.to", "send.stow_url", "send.calling_ae", "send.report_port")
COLUMNS = ("destination", "state", "reason", "attempts", "kind", "patient_id", "study_instance_uid",
           "sop_instance_uid", "detail", "waits_until")  # fmt: skip


@make_command("send", EXAMPLE, *SETTINGS)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="[FILES...]")
@click.option(
    "--status", is_flag=True, help="Show what is in the outbox, dead letters and what waits one by one; send nothing."
)
@click.option(
    "--retry-dead",
    is_flag=True,
    help="Queue dead letters anew and ask at once for studies that are waited for, then deliver.",
)
@click.option("--forget-delivered", is_flag=True,
              help="Delete our copies of what has arrived; that it was sent stays known. Sends nothing.")  # fmt: skip
@click.option("--wait", is_flag=True, help="Go on until everything has arrived or is a dead letter.")
def command(
    configuration: Configuration,
    output: Output,
    files: tuple[Path, ...],
    status: bool,
    retry_dead: bool,
    forget_delivered: bool,
    wait: bool,
) -> Exit:
    """Bring results to an archive, without losing or doubling one.

    FILES (and what lies in folders) are put in the outbox, then everything in it for the destination is delivered:
    only into a study that the archive has, of the object's own patient. What comes before its study waits in the
    outbox, for hours ([send] study_patience_h); only --wait waits with it. What the archive took is confirmed by
    storage commitment, or by asking for each object. An interrupted run, ours or the archive's, goes on with the same
    command; several may run at once. Exit code 3: something has not arrived, or not yet.
    """
    from dicom_io.destination import checked, is_web
    from dicom_io.web import printable

    send = configuration.settings.send
    if send.to and send.stow_url:
        raise ConfigError("--to and --stow both say where results go; give one")
    if send.stow_url and not is_web(send.stow_url):
        raise ConfigError(
            f"--stow {printable(send.stow_url)}: expected a URL, for instance https://pacs.example.org/dicom-web"
        )
    destination = checked(send.to or send.stow_url) if send.to or send.stow_url else None
    if files and (status or forget_delivered):
        raise ConfigError("--status and --forget-delivered send nothing; leave out the files")
    folder = wiring.outbox_folder(configuration.settings)
    if not files and not folder.exists():
        raise ConfigError(f"{folder}: no outbox here; name the files to be sent, or the outbox (--outbox, --work)")
    with wiring.outbox(configuration.settings) as outbox:
        if forget_delivered:
            count, freed_bytes = outbox.forget_delivered()
            notice(f"deleted {plural(count, 'file')}, {size_text(freed_bytes)}")
        if status or forget_delivered:
            return show(outbox, destination, output)
        destination = destination or _only_destination(outbox)
        left_out = _queue(outbox, files, destination) if files else 0
        if retry_dead:
            notice(f"queued {plural(outbox.retry_dead(destination), 'dead letter')} anew")
        tally = deliver(outbox, destination, send, wait)
        shown = show(outbox, destination, output)
    if tally.away is not None:
        raise tally.away  # one line and the exit code of an archive that is away
    return Exit.PARTIAL if left_out else shown


def deliver(outbox: Outbox, destination: str, send: SendSection, wait: bool) -> Tally:
    """Works on what is queued for the destination. Raises ArchiveError where no repetition can help."""
    from dicom_io.delivery import Delivery, Pace
    from dicom_io.destination import open_wire

    report_within_s = send.report_within_s
    if send.report_port is None and send.commitment == "auto":
        # A report can come on the association of the request only, which this run holds: it is not missed for long.
        report_within_s = min(report_within_s, send.patience_s / 2)
    pace = Pace(patience_s=send.patience_s, report_within_s=report_within_s)
    with ExitStack() as closing:
        wire = open_wire(destination, wire_settings(send), outbox)
        closing.callback(wire.close)
        return Delivery(outbox, destination, wire, pace=pace).run(wait)


def wire_settings(send: SendSection) -> WireSettings:
    """How the archive is talked to. ConfigError for certificates that cannot work."""
    from dicom_io.association import Limits
    from dicom_io.destination import WireSettings
    from dicom_io.tls import client_context, server_context
    from dicom_io.web import read_authorization

    def named(path: str) -> Path | None:
        return Path(path).expanduser() if path else None

    asking = reporting = None
    if send.tls:
        ca, certificate, key = map(named, (send.tls_ca, send.tls_certificate, send.tls_key))
        asking = client_context(ca, certificate, key)
        if send.report_port is not None:
            if certificate is None or key is None:
                raise ConfigError("[send] tls: reports come over TLS, too; give tls_certificate and tls_key")
            reporting = server_context(ca, certificate, key)
    return WireSettings(
        calling_ae=send.calling_ae,
        report_host=send.report_host,
        report_port=send.report_port,
        tls_context=asking,
        report_tls_context=reporting,
        limits=Limits(idle_s=send.idle_s),
        authorization=read_authorization(named(send.credentials), os.environ, "MINE_WEB_CREDENTIALS"),
        compare=send.compare,
    )


def _only_destination(outbox: Outbox) -> str:
    """The one destination that the outbox knows, where none was named."""
    known = list(outbox.counts())
    if len(known) == 1:
        return known[0]
    several = f"the outbox knows {', '.join(map(shown_address, known))}; " if known else ""
    raise ConfigError(f"where to? {several}name --to AET@host:port or --stow URL")


def _queue(outbox: Outbox, files: Iterable[Path], destination: str) -> int:
    """Puts files in the outbox; how many were left out."""
    from deeplesion_miner.types import Unreadable
    from dicom_io.queueing import queue_files

    states: Counter[str] = Counter()
    left_out = 0
    for one in queue_files(outbox, files, destination, time.time()):
        if isinstance(one, Unreadable):
            notice(f"left out: {one.source}: {one.detail or one.why}")
            left_out += 1
        else:
            states[one.state] += 1
    known = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    notice(f"in the outbox: {known or 'nothing'}")
    return left_out


def show(outbox: Outbox, destination: str | None, output: Output) -> Exit:
    """Prints counts by state, and what is dead, refused or waits for its study one by one with what to do."""
    from dicom_io.delivery_rules import State, reason_text

    counts = outbox.counts(destination)
    for where, states in counts.items():
        text = ", ".join(f"{states[state]:,} {state}" for state in State if state in states)
        where = shown_address(where)
        output.record("outbox", {"destination": where, **{str(state): states.get(state, 0) for state in State}},
                      f"{where}: {text}")  # fmt: skip
    troubled = [
        one
        for one in outbox.parcels(destination, (State.QUEUED, State.SENT, State.FAILED, State.DEAD))
        if one.standing.state in (State.FAILED, State.DEAD) or one.standing.awaited_since_s is not None
    ]
    if troubled:
        output.table("letter", COLUMNS, (_row(one, outbox.policy) for one in troubled))
    for reason in sorted({one.standing.reason for one in troubled}):
        message, advice = reason_text(reason)
        notice(f"{reason}: {message} -> {advice}")
    sent = sum(states.get(State.SENT, 0) for states in counts.values())
    if sent:
        notice(f"{sent:,} sent: the archive took them and has not confirmed them yet -> Run `mine send` again;"
               " where no report comes within [send] report_within_s, the archive is asked what it has.")  # fmt: skip
    undelivered = sum(states.get(state, 0) for states in counts.values() for state in State if not state.is_delivered)
    return Exit.PARTIAL if undelivered else Exit.DONE


def _row(one: Parcel, policy: Policy) -> tuple[Any, ...]:
    from dicom_io.delivery_rules import awaited_until_s
    from dicom_io.store_status import one_line

    stands, until_s = one.standing, awaited_until_s(one.standing, policy)
    until = "" if until_s is None else datetime.fromtimestamp(until_s).astimezone().isoformat(timespec="seconds")
    return (shown_address(one.destination), str(stands.state), stands.reason, stands.attempts + stands.refusals,
            one.kind, one_line(one.patient_id), one.study_instance_uid, one.sop_instance_uid, one_line(stands.detail),
            until)  # fmt: skip
