"""`mine config`: the settings, and a file to start from."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import schemas
from cli.config import FILE_NAME, NONE, Configuration, default_of, names
from cli.exits import Exit
from cli.options import HELP_WIDTH
from cli.options import command as make_command
from cli.output import Output, notice
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.redaction import shown_address

ADDRESSES = frozenset({"archive.address", "send.to", "send.stow_url"})
"""Settings into which somebody may write credentials."""
SHOW_EXAMPLE = """
mine config show
MINE_RULES_MAX_TILT_DEG=15 mine config show --set run.workers=2 --json
"""
INIT_EXAMPLE = """
mine config init            # writes mine.toml into the current folder
mine config init site.toml
"""


@click.group("config", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH})
def command() -> None:
    """Show the settings, or write a mine.toml to start from.

    A flag goes before the variable MINE_SECTION_NAME, this before mine.toml, this before the default. The
    pseudonym key itself may stand in MINE_KEY, never in mine.toml.
    """


@make_command("show", SHOW_EXAMPLE)
def show(configuration: Configuration, output: Output) -> Exit:
    """Print every setting with its value and where it came from.

    Addresses are shown without passwords.
    """
    values = asdict(configuration.settings)
    rows = []
    for setting in names():
        section, name = setting.split(".")
        value = values[section][name]
        shown = shown_address(value) if setting in ADDRESSES else value
        rows.append((setting, toml_value(shown), configuration.origins[setting]))
    output.table("setting", ("setting", "value", "origin"), rows)
    return Exit.DONE


@make_command("init", INIT_EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path), default=FILE_NAME)
def init(configuration: Configuration, output: Output, path: Path) -> Exit:
    """Write a settings file in which every setting is explained and commented out."""
    text = template()
    tomllib.loads(text)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: exists and is left alone; name another file") from None
    notice(f"wrote {path}")
    return Exit.DONE


def template() -> str:
    """The settings file: each setting's meaning, and its default behind a '#'."""
    lines: list[str] = []
    for section, entries in schemas.load("config").items():
        lines += [f"[{section}]"]
        for name, entry in entries.items():
            lines += [f"# {entry['meaning']}", f"# {name} = {toml_value(default_of(f'{section}.{name}'))}"]
        lines.append("")
    return "\n".join(lines)


def toml_value(value: Any) -> str:
    """A value as TOML writes it; `none` where there is no value."""
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


command.add_command(show)
command.add_command(init)
