"""Three archives, one dataset, over C-GET and C-MOVE; mined again nothing moves; grown no index changes.

The whole, with real data and long series: `python -m tests.experiments.three_archives`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import DCMQRSCP, ORTHANC

from tests.experiments.three_archives import compare, write_input

INSTALLED = {"orthanc": Path(ORTHANC).exists(), "dcmqrscp": Path(DCMQRSCP).exists(), "embedded": True}
SENDER = Path("/usr/bin/dcmsend")


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("archive", INSTALLED)
def test_an_archive_gives_the_dataset_of_its_files_by_either_method_and_grows_without_changing_it(
    archive: str, tmp_path: Path
) -> None:
    if not INSTALLED[archive]:
        pytest.skip(f"{archive} is not installed")
    if not SENDER.exists():
        pytest.skip("DCMTK's dcmsend is not installed (apt-get install dcmtk)")
    files, added, _ = write_input(tmp_path, None, small=True, people=("bertram", "elena"))
    rows, problems = compare(tmp_path, files, added, (archive,))
    assert problems == []
    assert rows[0].lesions > 0
