"""Where encoded slices wait for the dataset: a content-addressed folder of the trusted side.

All files are written once and never modified. A file's name is the SHA-256 of its bytes, so a name that exists
is a file that is done.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dataset_builder.durable import PART_PREFIX, PART_SUFFIX, write_file
from dataset_builder.png import encode
from deeplesion_miner.types import Slice

FOLDER_MODE = 0o700


class Stage:
    """The port `PngStage` over a folder: `<folder>/ab/<sha256>.png`. Safe for several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the image of this name lies, or would lie."""
        return self.folder / sha256[:2] / f"{sha256}.png"

    def put(self, image: Slice) -> str:
        """Encodes HU + 32768 as 16-bit PNG, makes it durable and returns the sha256 of its bytes."""
        data = encode(image.hu)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        # A file of another length was damaged from outside; writing it again heals it.
        if not (path.is_file() and path.stat().st_size == len(data)):
            path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            write_file(path, data)
        return sha256

    def remove_left_overs(self) -> None:
        """Removes what killed writers left; only for who holds the ledger, so that nobody else writes meanwhile."""
        for part in self.folder.glob(f"??/{PART_PREFIX}*{PART_SUFFIX}"):
            part.unlink()
