"""Fixtures of the commands' tests; the words that tests import stand in cli_runs.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cli_runs import Answer, Demo, Mine, run_mine

from dicom_io.testbed.embedded import EmbeddedArchive
from models import recipe as recipes
from models.training import model_folder, registry


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    """Runs `mine` with the given words, as a process of its own in an empty folder."""

    def run(*words: str | Path, **environment: str) -> Answer:
        return run_mine(words, tmp_path, environment)

    return run


KEY = "2b" * 32
"""Of the demo's pseudonyms: its patients' order and splits, and so what its detector learns, hang on them."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished `mine demo --small --json`, the same each time."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    (folder / "work").mkdir(parents=True, mode=0o700)
    (folder / "work" / "pseudonym.key").write_text(f"{KEY}\n")
    (folder / "work" / "pseudonym.key").chmod(0o600)
    answer = run_mine(("demo", "--small", "--json", "--out", folder), folder.parent, {})
    assert answer.code == 0, answer.err
    return Demo(folder, answer)


@pytest.fixture
def archive(demo: Demo) -> Iterator[EmbeddedArchive]:
    """The demo's archive on loopback."""
    with EmbeddedArchive(demo.archive) as served:
        yield served


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was never trained: what it finds is of no interest."""
    plan = recipes.load("lesionnet-xs-9")
    torch.manual_seed(0)
    weights = registry.network(plan).state_dict()
    folder = tmp_path_factory.mktemp("models") / "untrained"
    model_folder.save(folder, plan, weights, dataset_digest="d", metrics={"validation": {}}, card="card\n")
    return folder
