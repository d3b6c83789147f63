"""How tests run commands: as a person does, in a process and a folder of their own."""

from __future__ import annotations

import json
import os
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
