"""What all commands share: settings as flags, ``--config``, ``--set``, ``--json``, ``-v``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click

import schemas
from cli import config
from cli.config import Given
from cli.output import Output

HELP_WIDTH = 100


@dataclass
class Invocation:
    """What `main` wants to know after a command has failed."""

    verbose: bool = False


class DicomDate(click.ParamType[str]):
    """A day written 2026-01-31 or 20260131; becomes YYYYMMDD."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The day as DICOM writes it; a usage error for anything else."""
        pattern = "%Y-%m-%d" if "-" in value else "%Y%m%d"
        try:
            return datetime.strptime(value, pattern).strftime("%Y%m%d")
        except ValueError:
            return self.fail(f"{value!r} is not a day; write 2026-01-31", param, ctx)


def command(name: str, example: str, *settings: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a function a command: `settings` become flags, `example` ends its help.

    The function is called with `configuration`, `output` and its own parameters.
    """

    examples = "\n".join(f"  {line}" for line in example.strip().splitlines())

    def decorate(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def invoke(config_file: Path | None, assignments: tuple[str, ...], as_json: bool, **given: Any) -> Any:
            flags = _assigned(assignments)
            for setting in settings:
                value = given.pop(_parameter(setting))
                if value is not None:
                    flags[setting] = Given(value, _flag(setting))
            return function(configuration=config.load(flags, config_file), output=Output(as_json), **given)

        decorated: Callable[..., Any] = invoke
        for setting in reversed(settings):
            decorated = _option(setting)(decorated)
        made = click.command(
            name,
            epilog=f"\b\nExample:\n{examples}",
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
        )(decorated)
        made.params.extend(_shared_options())
        return made

    return decorate


def _shared_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config", "config_file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"Settings file; default: {config.FILE_NAME} of the current folder.",
        ),
        click.Option(
            ["--set", "assignments"],
            multiple=True,
            metavar="SECTION.NAME=VALUE",
            help="Set anything that `mine config show` lists; may be repeated.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="One JSON object a line on stdout."),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_remember_verbose,
            help="Show tracebacks and the libraries' warnings (they may name patients).",
        ),
    ]


def _remember_verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).verbose = True
        logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)


def _parameter(setting: str) -> str:
    return setting.replace(".", "__")


def _flag(setting: str) -> str:
    section, name = setting.split(".")
    return str(schemas.load("config")[section][name].get("flag", "argument"))


def _option(setting: str) -> Callable[..., Any]:
    """The flag of a setting, or the optional argument where it has none."""
    section, name = setting.split(".")
    entry = schemas.load("config")[section][name]
    if "flag" not in entry:
        return click.argument(_parameter(setting), required=False, metavar="[ARCHIVE]")
    default = config.default_of(setting)
    shown = "" if default in ("", None) else f"  [default: {default}]"
    return click.option(
        entry["flag"], _parameter(setting), default=None, metavar=name.upper(), help=entry["meaning"] + shown
    )


def _assigned(assignments: tuple[str, ...]) -> dict[str, Given]:
    flags: dict[str, Given] = {}
    for assignment in assignments:
        setting, equals, text = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"--set {assignment}: write --set section.name=value")
        flags[setting.strip()] = Given(text.strip(), "--set")
    return flags
