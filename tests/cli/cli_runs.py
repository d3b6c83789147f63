"""How tests run commands: as a person does, in a process and a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Mine = Callable[..., Answer]


def mine_command(*words: str | Path) -> list[str]:
    return [sys.executable, "-c", "from cli.main import main; main()", *map(str, words)]


def clean_environment(**variables: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MINE_")} | variables


def run_mine(words: tuple[str | Path, ...], folder: Path, environment: dict[str, str]) -> Answer:
    done = subprocess.run(
        mine_command(*words), cwd=folder, env=clean_environment(**environment), capture_output=True, text=True
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Moment:
    """When a command is sent a signal: as soon as a file of its folder says so."""

    number: signal.Signals
    file: str
    """Glob below the command's folder; its stderr is `STDERR`."""
    text: str = ""
    """Stands in the file."""
    beyond_bytes: int = 0
    """The file is longer than that."""


STDERR = "stderr.txt"

WATCHED = """
import json, os, sys, threading, time
from pathlib import Path
moments = json.loads(sys.argv.pop(1))
def has_come(file, text, beyond_bytes):
    found = [path.read_bytes() for path in Path().glob(file)]
    return any(len(content) > beyond_bytes and text.encode() in content for content in found)
def watch():
    for number, file, text, beyond_bytes in moments:
        while not has_come(file, text, beyond_bytes):
            time.sleep(0.005)
        os.kill(os.getpid(), number)
threading.Thread(target=watch, daemon=True).start()
from cli.main import main
main()
"""
"""`mine` that sends itself the signals: from outside they might come when all is done."""


def interrupted(words: tuple[str | Path, ...], folder: Path, *moments: Moment) -> Answer:
    """The command, sent a signal at each moment, one after the other."""
    told = json.dumps([[int(one.number), one.file, one.text, one.beyond_bytes] for one in moments])
    command = [sys.executable, "-c", WATCHED, told, *map(str, words)]
    with (folder / STDERR).open("wb") as err:
        done = subprocess.run(
            command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, stderr=err, text=True
        )
    return Answer(done.returncode, done.stdout, (folder / STDERR).read_text())


@dataclass(frozen=True)
class Demo:
    """A finished small demo; tests read it and change nothing."""

    folder: Path
    answer: Answer

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    @property
    def work(self) -> Path:
        return self.folder / "work"
