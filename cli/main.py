"""The command `mine`: loads a command when it is asked for; errors become one line and an exit code."""

from __future__ import annotations

import difflib
import errno
import io
import logging
import os
import sys
import traceback
from importlib import import_module
from typing import NoReturn

import click

from cli.exits import Exit, of_error
from cli.options import HELP_WIDTH, Invocation
from cli.output import notice
from deeplesion_miner.errors import MinerError, SumsDoNotHold

COMMANDS = {
    "demo": "cli.demo",
    "doctor": "cli.doctor",
    "config": "cli.config_command",
    "find": "cli.find",
    "run": "cli.run",
    "import": "cli.import_files",
    "status": "cli.status",
    "explain": "cli.explain",
    "check": "cli.check",
    "query": "cli.query",
    "train": "cli.train",
    "predict": "cli.predict",
    "evaluate": "cli.evaluate",
    "place": "cli.place",
    "lint": "cli.lint",
    "export": "cli.export",
    "send": "cli.send",
    "serve": "cli.serve",
    "feedback": "cli.feedback",
}
"""Name -> module that holds it as `command`; in the order of the work."""


LIBRARIES = ("py.warnings", "pydicom", "pynetdicom", "highdicom")
"""Loggers whose messages quote values of the archive; they are heard with ``-v`` only."""


RESUMABLE = frozenset({"run", "import", "train", "predict", "send"})
"""Commands that go on where they were stopped; the others start anew."""


MODEL_LIBRARIES = frozenset({"cv2", "matplotlib", "safetensors", "scipy", "torch"})
"""What the extra 'models' installs; mining works without."""


class Commands(click.Group):
    """A group that imports a command's module only when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        found = import_module(COMMANDS[cmd_name]).command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; a usage error for another word names the nearest command."""
        near = difflib.get_close_matches(args[0], list(COMMANDS), n=1)
        if args[0] not in COMMANDS and not args[0].startswith("-") and near:
            ctx.fail(f"No such command '{args[0]}'; did you mean {near[0]}?")
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands,
    epilog="\b\nThe work: demo | doctor > config > find > run (or import) > status > explain > check > query"
    "\n          > train > predict > evaluate, place",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@click.version_option(package_name="deeplesion-miner", prog_name="mine")
def mine() -> None:
    """Mine radiologists' lesion measurements out of a DICOM archive into a DeepLesion-style dataset; learn from it."""


def main() -> NoReturn:
    """Runs `mine` with the process's arguments and ends the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs `mine` and returns its exit code; every foreseen error is one line on stderr."""
    invocation = Invocation()
    goes_on = not RESUMABLE.isdisjoint(arguments[:1])
    # basicConfig, which -v asks for, does nothing where the root has a handler: ours sits on the libraries.
    quiet = logging.NullHandler()
    for library in LIBRARIES:
        logging.getLogger(library).addHandler(quiet)
    logging.captureWarnings(True)
    try:
        code = mine.main(arguments, prog_name="mine", standalone_mode=False, obj=invocation)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        notice(said.getvalue().rstrip("\n"))
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        kept, on = ("nothing that was done is lost: ", " to go on") if goes_on else ("", "")
        notice(f"interrupted; {kept}run the same command again{on}")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone; Python must not fail again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except SumsDoNotHold as error:
        notice(f"mine: the sums do not hold, this is an error in mine: {error}")
        return Exit.FAILED
    except ModuleNotFoundError as error:
        if error.name not in MODEL_LIBRARIES:
            raise
        notice(f"mine: this needs {error.name}, which is not installed: pip install 'deeplesion-miner[models]'")
        return Exit.USAGE
    except (MinerError, OSError) as error:
        if invocation.verbose:
            traceback.print_exc()
        notice(f"mine: {error}{_advice(error, goes_on)}")
        return of_error(error) if isinstance(error, MinerError) else Exit.FAILED
    finally:
        logging.captureWarnings(False)
    return int(code or 0)


def _advice(error: Exception, goes_on: bool) -> str:
    """What to do where the disk is full; other errors say it themselves."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        kept = ": what was done is kept" if goes_on else ""
        return f"; free some space where --work and --out lie and run the same command again{kept}"
    return ""
