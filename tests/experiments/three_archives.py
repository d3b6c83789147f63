"""Three archives, one dataset: the same objects in Orthanc, dcmqrscp and our own archive, by C-GET and by C-MOVE.

    python -m tests.experiments.three_archives [--small] [--data FOLDER] [--slices N] [--keep FOLDER]

Every archive is filled by DCMTK's dcmsend, mined with one key, and must give the digest that `mine import` of the
files themselves gives. Then each is mined again (nothing may move), and one more patient comes into the archive
(no index may change). Last, an archive of long series says how many images were left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dicom_io.testbed.phantoms import write_phantoms
from tests.experiments.mined import Mined, mine
from tests.experiments.plant import plant
from tests.servers import CALLING_AE, LOOPBACK, Server, dcmqrscp, free_port, orthanc
from tests.waiting import PATIENCE_S

LONG_SERIES = 100
"""Slices of the series of which the share of images left alone is asked."""
FAR_SHARE_PX = 64
"""Matrix of long series: what is counted does not depend on it."""
COMES_LATER = "chiara"
"""The phantom patient who comes into the archives when they have been mined."""
ACCEPTED = (0, 3)
"""Done, or done with unreadable objects named: the real data hold some."""


@dataclass(frozen=True)
class Row:
    """One mining of one archive."""

    archive: str
    method: str
    lesions: int
    slices: int
    moved: int
    """Objects moved by this command."""
    images: int
    """Images of the studies found."""
    images_left: int
    """Those of them that were not transferred."""
    bytes_moved: int
    seconds: float
    digest: str
    mined: Mined

    @property
    def share_left(self) -> float:
        """Share of images not transferred."""
        return self.images_left / self.images if self.images else 0.0


@contextmanager
def embedded(folder: Path) -> Iterator[Server]:
    """Our own archive in a process of its own, empty, its files below `folder`."""
    move_port = free_port()
    (folder / "db").mkdir()
    title = f"{CALLING_AE}@{LOOPBACK}:{move_port}"
    command = [sys.executable, "-m", "dicom_io.testbed.embedded", str(folder / "db"), "--move", title]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split(" ")[0]
        assert address, (folder / "server.log").read_text(errors="replace")
        yield Server("embedded", address, move_port)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        process.stdout.close()


Starter = Callable[[Path], AbstractContextManager[Server]]
ARCHIVES: dict[str, Starter] = {"orthanc": orthanc, "dcmqrscp": dcmqrscp, "embedded": embedded}


class Miner:
    """Mines with one key file and reads what `mine --json` said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = folder / "pseudonym.key"
        self._key.write_text(secrets.token_hex(32))
        self._key.chmod(0o600)

    def run(self, server: Server, method: str, name: str, *arguments: object) -> Row:
        """`mine run` of an archive into the dataset and working folder `name`."""
        port = ("--port", server.move_port) if method == "move" else ()
        return self._mine(server.name, method, name, "run", server.address, "--method", method, *port, *arguments)

    def import_files(self, folder: Path, name: str) -> Row:
        """`mine import` of a folder."""
        return self._mine("folder", "import", name, "import", folder)

    def _mine(self, archive: str, method: str, name: str, *command: object) -> Row:
        mined = Mined(self.folder / name / "dataset", self.folder / name / "work")
        before = _moved(mined)
        begun_s = time.monotonic()
        ended = mine(
            *command, "--out", mined.out, "--work", mined.work, "--key-file", self._key, "--json",
            environment={"MINE_KEY": ""},
        )  # fmt: skip
        seconds = time.monotonic() - begun_s
        assert ended.code in ACCEPTED, f"{archive} {method}: exit code {ended.code}\n{ended.stdout}\n{ended.stderr}"
        said = json.loads(ended.stdout.splitlines()[-1])
        transfers = said["transfers"]
        return Row(
            archive=archive,
            method=method,
            lesions=said["written"]["lesions"],
            slices=said["written"]["slices"],
            moved=_moved(mined) - before if method != "import" else 0,
            images=transfers["images_in_studies"],
            images_left=transfers["images_not_transferred"],
            bytes_moved=transfers["bytes"],
            seconds=seconds,
            digest=said["digest"],
            mined=mined,
        )


def _moved(mined: Mined) -> int:
    """Objects that lie in the store of received objects."""
    return sum(1 for _ in (mined.work / "objects").rglob("*.dcm"))


def compare(
    folder: Path, files: Path, added: Path, archives: Sequence[str] = tuple(ARCHIVES), *, workers: int = 2
) -> tuple[list[Row], list[str]]:
    """Mines `files` everywhere, twice, then `files` and `added`; the rows and what does not hold.

    With more than one worker there is a run with so many as well.
    """
    miner = Miner(folder)
    rows = [miner.import_files(files, "import")]
    problems: list[str] = []
    for name in archives:
        place = folder / name
        place.mkdir()
        with ARCHIVES[name](place) as server:
            server.send(files)
            for method in ("get", "move"):
                rows.append(miner.run(server, method, f"{name}-{method}"))
            if workers > 1:
                several = miner.run(server, "get", f"{name}-workers", "--workers", workers)
                rows.append(replace(several, method=f"get, {workers} workers"))
            again = replace(miner.run(server, "get", f"{name}-get"), method="get, again")
            rows.append(again)
            if again.moved:
                problems.append(f"{name}: a second run moved {again.moved} objects")
            server.send(added)
            old = _indices(again.mined)
            grown = replace(miner.run(server, "get", f"{name}-get"), method="get, grown")
            problems += _growth_problems(name, old, grown, again)
            rows.append(grown)
    problems += [
        f"{row.archive} {row.method}: digest {row.digest}, of the files themselves {rows[0].digest}"
        for row in rows
        if row.digest != rows[0].digest and not row.method.endswith("grown")
    ]
    grown_digests = {row.digest for row in rows if row.method.endswith("grown")}
    if len(grown_digests) > 1:
        problems.append(f"the grown archives give {len(grown_digests)} datasets")
    return rows, problems


def _indices(mined: Mined) -> dict[str, tuple[Any, ...]]:
    """Where each lesion is found: its numbers and file, by lesion id."""
    columns = ("patient_index", "study_index", "series_index", "file_name", "key_slice_number", "split")
    return {row["lesion_id"]: tuple(row[name] for name in columns) for row in mined.table("lesions")}


def _growth_problems(name: str, old: dict[str, tuple[Any, ...]], grown: Row, before: Row) -> list[str]:
    """What a new patient must not change, and what must have come."""
    new = _indices(grown.mined)
    moved = [one for one in old if new.get(one) != old[one]]
    problems = [f"{name}: grown, lesion {one} is {new.get(one)}, was {old[one]}" for one in moved]
    came = set(new) - set(old)
    patients = max((place[0] for place in old.values()), default=0)
    if not came or any(new[one][0] <= patients for one in came):
        problems.append(f"{name}: {len(came)} lesions came, of patients {sorted({new[one][0] for one in came})}")
    if not 0 < grown.moved < before.images:
        problems.append(f"{name}: growing moved {grown.moved} objects")
    return problems


# --- what is mined ---------------------------------------------------------------------------------------


def write_input(
    folder: Path, data: Path | None, *, small: bool, people: Sequence[str] = ()
) -> tuple[Path, Path, list[str]]:
    """Writes the objects to mine and those of one more patient; both folders, and what is among them.

    `people` are the phantom patients among the first, all but the last one where none is named.
    """
    files, added = folder / "files", folder / "added"
    phantoms = write_phantoms(files / "phantoms", small=small)
    names = [f"phantoms ({phantoms.images} images, {phantoms.reports} reports)"]
    added.mkdir()
    shutil.move(files / "phantoms" / COMES_LATER, added / COMES_LATER)
    for person in sorted((files / "phantoms").iterdir()):
        if people and person.name not in people:
            shutil.rmtree(person)
    if data is not None:
        shutil.copytree(data / "ohif_phantom", files / "ohif_phantom", ignore=shutil.ignore_patterns("*.json", "*.md"))
        names.append("ohif_phantom")
        names += _real(files, data)
    return files, added, names


def _real(files: Path, data: Path) -> list[str]:
    """Real CT with the reports and structures that came with it, and with crosses planted on it by highdicom."""
    planted = plant(data, files / "real")
    for came in ("ct_nlst_sr/sr_sybil_bounding_boxes.dcm", "ct_lung1_rtstruct/rtstruct_gtv1.dcm"):
        shutil.copy(data / came, files / "real")
    return [f"real CT of ct_nlst_sr and ct_lung1_rtstruct with {len(planted)} planted crosses"]


def long_series(folder: Path, slices: int) -> Row:
    """Mines an archive whose series have so many slices."""
    place = folder / "embedded"
    place.mkdir(parents=True)
    write_phantoms(folder / "files", slices_per_series=slices, matrix=FAR_SHARE_PX)
    with embedded(place) as server:
        server.send(folder / "files")
        return replace(Miner(folder).run(server, "get", "long"), method=f"get, {slices} slices")


def table(rows: Sequence[Row]) -> str:
    """The rows for people, as Markdown."""
    lines = ["| archive | method | lesions | slices | objects moved | images not transferred | s | digest |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        left = f"{row.images_left} of {row.images} ({row.share_left:.1%})"
        counts = f"{row.lesions} | {row.slices} | {row.moved} | {left} | {row.seconds:.1f}"
        lines.append(f"| {row.archive} | {row.method} | {counts} | {row.digest[:16]} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Prints the tables and what does not hold; 1 where something does not."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.three_archives")
    parser.add_argument("--small", action="store_true", help="small phantoms")
    parser.add_argument("--data", type=Path, default=os.environ.get("DLM_REAL_DATA"), help="the real data, unpacked")
    parser.add_argument("--slices", type=int, default=120, help="slices of the long series; 0 leaves them out")
    parser.add_argument("--keep", type=Path, help="work here and keep it")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = None if options.data is None else Path(options.data)
        files, added, names = write_input(folder, data, small=options.small)
        print("; ".join(names), flush=True)
        rows, problems = compare(folder, files, added)
        if options.slices:
            rows.append(long_series(folder / "long", options.slices))
        print(table(rows))
    print("\n".join(problems) or "one dataset")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
