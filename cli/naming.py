"""From what a person has in hand (a row, an image, a file, a UID) to bookmarks of the ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from dataset_builder.ledger import SqliteLedger

_IMAGE_NAME = re.compile(r"(?:^|/)(\d{6}_\d{2}_\d{2})[/_](\d+\.png)$")
_PUBLIC_KINDS = ("lesion", "bookmark", "source")


def bookmarks_named(what: str, ledger: SqliteLedger, dataset: Path) -> list[tuple[str, str]]:
    """StudyInstanceUID and key of each bookmark that `what` names, sorted; empty if none.

    Raises ConfigError where an image of the dataset is named and there is no dataset, or a file is no DICOM.
    """
    image = _IMAGE_NAME.search(what)
    if image:
        words = _keys_on_image(f"{image[1]}/{image[2]}", ledger, dataset)
    elif Path(what).is_file():
        words = _uids_of_file(Path(what))
    else:
        words = [what, *(row.original for row in ledger.crosswalk(what) if row.kind in _PUBLIC_KINDS)]
    return sorted({found for word in words for found in ledger.find_bookmarks(word)})


def _keys_on_image(file_name: str, ledger: SqliteLedger, dataset: Path) -> list[str]:
    """Keys of the bookmarks whose lesions lie on an image of the dataset."""
    from dataset_builder.sql import query

    _, rows = query(dataset, f"SELECT lesion_id FROM lesions WHERE file_name = '{file_name}'")
    return [row.original for (lesion_id,) in rows for row in ledger.crosswalk(lesion_id) if row.kind == "lesion"]


def _uids_of_file(path: Path) -> list[str]:
    """The SOP Instance UID of a DICOM file."""
    from dicom_io.folder import FolderIndex

    index = FolderIndex([path])
    for problem in index.unreadable:
        raise ConfigError(f"{path}: {problem.why} ({problem.detail}); give a DICOM file or a name of the dataset")
    files = [file for study in index.studies().values() for series in study.values() for file in series]
    return [file.sop_instance_uid for file in files]
