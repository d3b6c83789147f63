"""Three archives, one dataset, over C-GET and C-MOVE; mined again nothing moves; grown no index changes.

The whole, with real data and long series: `python -m tests.experiments.three_archives`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import DCMQRSCP, ORTHANC

from tests.experiments.three_archives import Row, compare, write_input

INSTALLED = {"orthanc": Path(ORTHANC).exists(), "dcmqrscp": Path(DCMQRSCP).exists(), "embedded": True}
SENDER = Path("/usr/bin/dcmsend")


pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], list[str]]:
    """Every installed archive, mined again and again."""
    if not SENDER.exists():
        pytest.skip("DCMTK's dcmsend is not installed (apt-get install dcmtk)")
    folder = tmp_path_factory.mktemp("archives")
    files, added, _ = write_input(folder, None, small=True, people=("bertram", "elena"))
    return compare(folder, files, added, [name for name, there in INSTALLED.items() if there], workers=1)


@pytest.mark.parametrize("archive", INSTALLED)
def test_an_archive_gives_the_dataset_of_its_files_by_either_method(
    compared: tuple[list[Row], list[str]], archive: str
) -> None:
    if not INSTALLED[archive]:
        pytest.skip(f"{archive} is not installed")
    rows, _ = compared
    digests = {row.method: row.digest for row in rows if row.archive == archive}
    assert rows[0].lesions > 0
    assert {digests["get"], digests["move"], digests["get, again"]} == {rows[0].digest}


def test_mined_again_nothing_moves_and_a_new_patient_changes_no_index(compared: tuple[list[Row], list[str]]) -> None:
    rows, problems = compared
    assert {row.moved for row in rows if row.method == "get, again"} == {0}
    assert problems == []
