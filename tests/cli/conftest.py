"""Fixtures of the commands' tests; the words that tests import stand in cli_runs.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import Answer, Demo, Mine, run_mine

from dicom_io.testbed.embedded import EmbeddedArchive


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    """Runs `mine` with the given words, as a process of its own in an empty folder."""

    def run(*words: str | Path, **environment: str) -> Answer:
        return run_mine(words, tmp_path, environment)

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished `mine demo --small --json`."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    answer = run_mine(("demo", "--small", "--json", "--out", folder), folder.parent, {})
    assert answer.code == 0, answer.err
    return Demo(folder, answer)


@pytest.fixture
def archive(demo: Demo) -> Iterator[EmbeddedArchive]:
    """The demo's archive on loopback."""
    with EmbeddedArchive(demo.archive) as served:
        yield served
