"""`mine status`: what the working folder knows."""

from __future__ import annotations

from typing import Any

import click

from cli import funnel, wiring
from cli.config import Configuration
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output

EXAMPLE = """
mine status --work mine-work
mine status --unreadable --json
"""


@make_command("status", EXAMPLE, "run.work")
@click.option("--unreadable", is_flag=True, help="List the objects that could not be read (identifies patients).")
@click.option("--studies", is_flag=True, help="List the studies (identifies patients).")
def command(configuration: Configuration, output: Output, unreadable: bool, studies: bool) -> Exit:
    """Show the funnel, each loss by its reason.

    Found, readable, located, kept: counted over all studies that the working folder knows. Reads the ledger
    alone, also while a run goes on.
    """
    with wiring.read_ledger(configuration.settings) as ledger:
        if studies:
            columns = ("number", "state", "attempts", "bookmarks", "kept", "unreadable", "study_date", "patient_id",
                       "study_instance_uid", "last_error")  # fmt: skip
            known = ledger.studies()
            output.table("study", columns, [(s.number, s.state, s.attempts, s.bookmarks, s.kept, s.unreadable,
                         s.study.study_date, s.study.patient_id, s.study.study_instance_uid, s.last_error)
                         for s in known])  # fmt: skip
        if unreadable:
            rows = [(number, one.why, one.source, one.detail) for number, one in ledger.unreadable()]
            output.table("unreadable", ("study", "why", "source", "detail"), rows)
        if not (studies or unreadable):
            found, transfers, by_settings = ledger.funnel(), ledger.transfers(), ledger.studies_by_settings()
            only_files = wiring.knows_only_files(ledger)
            text = [
                *_run_lines(ledger.runs()),
                *funnel.lines(found, transfers, only_files=only_files),
                *_settings_lines(by_settings),
            ]
            values = {**funnel.values(found, transfers), "studies_by_settings": by_settings}
            output.record("funnel", values, "\n".join(text))
    return Exit.DONE


def _run_lines(runs: list[dict[str, Any]]) -> list[str]:
    """The last run, and whether it came to its end."""
    if not runs:
        return []
    last = runs[-1]
    end = f"finished {last['finished']}" if last["finished"] else "not finished: it goes on, or was interrupted"
    return [f"last run: mine {last['command']}, started {last['started']}, {end}"]


def _settings_lines(by_settings: dict[str, int]) -> list[str]:
    """What to do where not all studies were mined under the same settings."""
    if len(by_settings) < 2:
        return []
    counts = " + ".join(f"{count:,}" for count in by_settings.values())
    return [
        f"studies were mined under {len(by_settings)} different settings or versions of mine ({counts});"
        " to have one rule for all, run again over everything"
    ]
