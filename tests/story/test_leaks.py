"""Nothing that identifies a person is in any byte that may travel or be seen: the phantoms are full of canaries."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pytest

from dicom_io.testbed.identity import PERSONS
from dicom_io.testbed.phantoms import write_phantoms
from dicom_io.testbed.truth import PhantomArchive
from tests.experiments.mined import Ended, Mined, mine

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Run:
    """What a run of the phantoms left and said."""

    archive: PhantomArchive
    mined: Mined
    said: tuple[Ended, ...]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A broken file and a missing image are among the objects, so that errors are said, too."""
    folder = tmp_path_factory.mktemp("leaks")
    # Where the files lie is the caller's own word, not the archive's.
    archive = write_phantoms(folder / "files", small=True)
    report = next(path for path in sorted(archive.folder.rglob("*.dcm")) if path.stat().st_size < 20_000)
    (archive.folder / "broken.dcm").write_bytes(report.read_bytes()[:-400])
    mined = Mined(folder / "dataset", folder / "work")
    where = ("--out", mined.out, "--work", mined.work)
    said = (
        mine("import", archive.folder, *where),
        mine("import", archive.folder, *where, "--json"),
        mine("status", "--work", mined.work),
        mine("check", mined.out),
        mine("query", mined.out, "SELECT * FROM lesions"),
    )
    assert [ended.code for ended in said] == [3, 3, 0, 0, 0], [ended.stderr for ended in said]
    return Run(archive, mined, said)


def canaries(archive: PhantomArchive) -> frozenset[str]:
    """Every identifying word, date (in four formats) and UID of the archive, in lower case."""
    words = {word.lower() for word in archive.canaries} | archive.uids
    days = {*archive.study_dates, *(person.birth_date for person in PERSONS)}
    for day in days:
        on = date(int(day[:4]), int(day[4:6]), int(day[6:]))
        words |= {day, on.isoformat(), f"{on:%d.%m.%Y}", f"{on:%m/%d/%Y}"}
    return frozenset(words)


def found(text: bytes, words: frozenset[str]) -> set[str]:
    """The canaries in a text, in whatever case, as bytes or as UTF-16."""
    lower = text.lower()
    return {word for word in words if word.encode() in lower or word.encode("utf-16-le") in lower}


def readings(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what a reader finds in it after decompression."""
    content = path.read_bytes()
    yield content
    if path.suffix == ".parquet":
        yield json.dumps(duckdb.sql(f"SELECT * FROM '{path}'").fetchall(), default=str).encode()
        metadata = duckdb.sql(f"SELECT * FROM parquet_kv_metadata('{path}')").fetchall()
        yield json.dumps(metadata, default=bytes.decode).encode()
        schema = duckdb.sql(f"SELECT * FROM parquet_metadata('{path}')").fetchall()
        yield json.dumps(schema, default=str).encode()
    if content.startswith(PNG_SIGNATURE):
        yield from (body for name, body in chunks(content) if name != b"IDAT")
        yield zlib.decompress(b"".join(body for name, body in chunks(content) if name == b"IDAT"))


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each chunk of a PNG."""
    at = len(PNG_SIGNATURE)
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def test_the_canaries_are_in_what_was_read(run: Run) -> None:
    """What is looked for is there to be found."""
    in_archive = b"".join(path.read_bytes() for path in run.archive.folder.rglob("*.dcm"))
    seen = found(in_archive, frozenset(word.lower() for word in run.archive.canaries))
    assert seen == {word.lower() for word in run.archive.canaries}
    assert len(run.archive.uids) > 100


def test_no_file_of_the_dataset_holds_a_canary(run: Run) -> None:
    words = canaries(run.archive)
    leaks = {
        path.name: hits
        for path in sorted(run.mined.out.rglob("*"))
        if path.is_file() and (hits := set().union(*(found(text, words) for text in readings(path))))
    }
    assert leaks == {}


def test_no_name_of_a_file_or_folder_holds_a_canary(run: Run) -> None:
    names = "\n".join(str(path.relative_to(run.mined.out)) for path in run.mined.out.rglob("*"))
    assert found(names.encode(), canaries(run.archive)) == set()


def test_no_output_of_a_command_holds_a_canary(run: Run) -> None:
    words = canaries(run.archive)
    for ended in run.said:
        assert found((ended.stdout + ended.stderr).encode(), words) == set()


def test_no_uid_of_whatever_root_is_in_the_tables(run: Run) -> None:
    """Not even one that the phantoms did not know of."""
    uid = re.compile(rb"\b[012](?:\.(?:0|[1-9]\d*)){5,}\b")
    for name in ("lesions", "slices", "bookmarks", "splits"):
        for text in readings(run.mined.out / f"{name}.parquet"):
            assert uid.findall(text) == []
    assert uid.findall((run.mined.out / "DL_info.csv").read_bytes()) == []


def test_pictures_hold_pixels_and_nothing_else(run: Run) -> None:
    for path in sorted((run.mined.out / "Images_png").rglob("*.png")):
        assert {name for name, _ in chunks(path.read_bytes())} == {b"IHDR", b"IDAT", b"IEND"}, path.name


def test_the_way_back_is_open_to_its_owner_only(run: Run) -> None:
    """Staged pictures are public by themselves (the dataset links to them), but nobody else can enter the folder."""
    folders = [run.mined.work, *(path for path in run.mined.work.rglob("*") if path.is_dir())]
    ledger = sorted(run.mined.work.glob("ledger.sqlite*"))
    assert ledger
    assert [path for path in (*folders, *ledger) if path.stat().st_mode & 0o077] == []


def test_the_same_shift_for_all_studies_of_a_patient(run: Run) -> None:
    """Intervals survive: the shifted dates of a patient lie as far apart as the true ones, and none is a true one."""
    shifted: dict[str, dict[int, str]] = {}
    for row in run.mined.table("lesions"):
        shifted.setdefault(row["patient_id"], {})[row["study_index"]] = str(row["study_date_shifted"])
    intervals = sorted(
        (date.fromisoformat(days[2]) - date.fromisoformat(days[1])).days for days in shifted.values() if len(days) > 1
    )
    true = {
        (date.fromisoformat(second) - date.fromisoformat(first)).days
        for first in map(iso, run.archive.study_dates)
        for second in map(iso, run.archive.study_dates)
    }
    assert len(intervals) >= 3
    assert set(intervals) <= true
    assert not {day for days in shifted.values() for day in days.values()} & set(map(iso, run.archive.study_dates))


def iso(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
