"""The page of all commands (`docs/cli.md`), made from what ``--help`` prints."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cli.exits import MEANINGS
from cli.main import mine

PAGE_WIDTH = 96


def page() -> str:
    """The page as Markdown."""
    lines = [
        "# Commands",
        "",
        "Written by `make docs` from `mine --help` and its like.",
        "",
        "Results go to stdout; progress and messages go to stderr. `--json` prints one JSON object a line, with its",
        "`type` and `schema_version`. Settings come from flags, then `MINE_SECTION_NAME`, then `mine.toml`, then",
        "the defaults; `mine config show` prints each with its origin.",
        "",
        "| exit code | meaning |",
        "| --- | --- |",
        *(f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()),
    ]
    for name, text in helps():
        lines += ["", f"## {name}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def helps() -> Iterator[tuple[str, str]]:
    """Full name and help text of `mine` and of each command, in the order of the work."""
    yield from _helps(mine, None, "mine")


def _helps(command: click.Command, parent: click.Context | None, name: str) -> Iterator[tuple[str, str]]:
    context = click.Context(command, parent, name, terminal_width=PAGE_WIDTH, **command.context_settings)
    yield context.command_path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _helps(found, context, child)
