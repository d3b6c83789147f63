"""Which studies: the options of `find`, `run` and `predict`, and what to say of those that are not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.options import DicomDate
from cli.output import notice
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from deeplesion_miner.studies import StudyQuery


def study_options(function: Callable[..., Any], last_day: tuple[str, ...] = ("--to", "--until")) -> Callable[..., Any]:
    """Adds --from, --to, --patient and --study; the function gets date_from, date_to, patient, studies."""
    for option in (
        click.option("--study", "studies", multiple=True, metavar="UID", help="A StudyInstanceUID; may be repeated."),
        click.option("--patient", default="", metavar="ID", help="Only this PatientID."),
        click.option(*last_day, "date_to", type=DicomDate(), help="Last study date, e.g. 2026-12-31."),
        click.option("--from", "date_from", type=DicomDate(), help="First study date, e.g. 2026-01-01."),
    ):
        function = option(function)
    return function


def study_options_until(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for commands whose --to says what becomes of the results: the last day is --until alone."""
    return study_options(function, ("--until",))


def study_query(date_from: str | None, date_to: str | None, patient: str, studies: tuple[str, ...]) -> StudyQuery:
    """The query of the options; ConfigError for an impossible one."""
    from deeplesion_miner.studies import StudyQuery

    if date_from and date_to and date_to < date_from:
        raise ConfigError(f"--from {date_from} lies after --to {date_to}")
    return StudyQuery(date_from or "", date_to or "", patient, studies)


def tell_absent(query: StudyQuery, absent: Sequence[str]) -> None:
    """Names the studies that were asked for and are not listed, one line each."""
    which = " with measurement series" if query.measured else ""
    if query.date_from or query.date_to or query.patient_id:
        which += " that matches the other options"
    for uid in absent:
        notice(f"study {uid}: the archive lists no such study{which}; check the UID and the archive")
