"""Every foreseen error is one line that says what to do, and one exit code."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cli_runs import Demo, Mine, clean_environment, mine_command
from servers import free_port

from cli.exits import MEANINGS, Exit, of_error
from cli.main import COMMANDS
from dataset_builder.ledger import FILE_NAME, SqliteLedger
from deeplesion_miner.errors import ArchiveError, ConfigError, LedgerInUse, MinerError, VerificationFailed


@pytest.fixture
def silent_port() -> int:
    """A port on which nobody listens."""
    return free_port()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MinerError("x"), 1),
        (ConfigError("x"), 2),
        (ArchiveError("x", peer="P", operation="C-ECHO", temporary=True), 5),
        (VerificationFailed("x"), 6),
        (LedgerInUse("x"), 7),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: MinerError, code: int) -> None:
    assert of_error(error) == code


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)
    assert {int(code) for code in Exit} == {0, 1, 2, 3, 4, 5, 6, 7, 130}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Usage: mine"),
        (("dig",), "No such command 'dig'"),
        (("imprt",), "No such command 'imprt'; did you mean import?"),
        (("run",), "no archive is named; write AET@host:port"),
        (("run", "pacs.example.org"), "expected AET@host:port"),
        (("run", "PACS@host:104", "--workers", "many"), "--workers: run.workers = 'many': expected a whole number"),
        (("run", "PACS@host:104", "--workers", "0"), "[run] workers = 0: at least 1 is needed"),
        (("import", ".", "--workers", "-2"), "[run] workers = -2: at least 1 is needed"),
        (("run", "PACS@host:104", "--set", "workers"), "write --set section.name=value"),
        (("run", "PACS@host:104", "--from", "yesterday"), "'yesterday' is not a day; write 2026-01-31"),
        (("run", "PACS@host:104", "--from", "20260131", "--to", "2026-01-01"), "lies after"),
        (("run", "PACS@host:104", "--out", "w/dataset", "--work", "w"), "lie in one another"),
        (("run", "PACS@host:104", "--out", "w", "--work", "w/work"), "lie in one another"),
        (("run", "PACS@host:104", "--out", "w", "--work", "./w"), "lie in one another"),
        (("run", "PACS@host:104", "--key-file", "dataset/key"), "lies inside the dataset"),
        (("import", "nowhere"), "nowhere"),
        (("import", "."), "lies inside ., which is to be imported"),
        (("status",), "no ledger here; mine something first"),
        (("query", ".", "SELECT 1"), "not a dataset"),
    ],
)
def test_a_mistake_of_usage_is_named_with_what_to_do(mine: Mine, words: tuple[str, ...], said: str) -> None:
    answer = mine(*words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_an_archive_that_is_away_ends_with_its_own_code(mine: Mine, silent_port: int) -> None:
    for command in ("find", "run", "doctor"):
        answer = mine(command, f"PACS@127.0.0.1:{silent_port}")
        assert answer.code == 5, command
        assert f"PACS@127.0.0.1:{silent_port}" in answer.err + answer.out
        assert "Traceback" not in answer.err


def test_a_host_that_nobody_knows_is_named_with_what_to_do(mine: Mine) -> None:
    for command in ("find", "run", "doctor"):
        answer = mine(command, "PACS@pacs.invalid:104")
        assert answer.code == 5, command
        assert "PACS@pacs.invalid:104: A-ASSOCIATE: the host pacs.invalid is not known here" in answer.err + answer.out
        assert "check its name" in answer.err + answer.out


def test_verbose_shows_the_traceback(mine: Mine) -> None:
    answer = mine("status", "-v")
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("mine: mine-work: no ledger here")


def test_a_second_run_on_the_same_working_folder_is_refused(mine: Mine, tmp_path: Path, demo: Demo) -> None:
    with SqliteLedger(tmp_path / "work" / FILE_NAME):
        answer = mine("import", demo.archive, "--work", "work")
    assert answer.code == 7
    assert "another `mine` works here" in answer.err
    assert not (tmp_path / "dataset").exists()


def test_nothing_found_is_not_success(mine: Mine, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "notes.txt").write_text("no DICOM")
    answer = mine("import", "files")
    assert (answer.code, answer.out) == (4, "")
    assert "nothing matched" in answer.err
    assert not (tmp_path / "dataset").exists()


def test_a_broken_file_is_named_and_makes_the_result_partial(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    whole = sorted(demo.archive.rglob("*.dcm"))[0].read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:300])
    assert mine("import", "files").code == 3
    answer = mine("status", "--unreadable", "--work", "mine-work", "--json")
    assert [Path(record["source"]).name for record in answer.records] == ["cut.dcm"]
    both = mine("import", "files", demo.archive, "--json")
    assert both.code == 3
    assert sum(both.records[-1]["unreadable"].values()) == 1
    assert both.records[-1]["written"]["lesions"] > 0


def test_a_finding_of_check_ends_with_its_own_code(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", demo.dataset, copy], check=True)
    assert mine("check", copy).code == 0
    with (copy / "DL_info.csv").open("a") as file:
        file.write("\n")
    answer = mine("check", copy)
    assert answer.code == 6
    assert "DL_info.csv" in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_is_for_and_gives_an_example(mine: Mine, command: str) -> None:
    nested = [(command, "show"), (command, "init")] if command == "config" else [(command,)]
    for words in nested:
        answer = mine(*words, "--help")
        assert answer.code == 0
        assert re.search(r"Example:\n +mine " + " ".join(words), answer.out)


def test_results_can_be_piped_into_a_program_that_stops_reading(demo: Demo) -> None:
    words = mine_command("query", demo.dataset, "SELECT * FROM lesions, range(5000)")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_table_is_drawn_on_a_terminal_only(demo: Demo) -> None:
    words = mine_command("query", demo.dataset, "SELECT 'a' AS first, 1.5 AS second UNION ALL SELECT 'long', 2")
    piped = subprocess.run(words, capture_output=True, text=True, env=clean_environment())
    assert piped.stdout == "first\tsecond\na\t1.5\nlong\t2\n"
    ours, theirs = pty.openpty()
    subprocess.run(words, stdout=theirs, env=clean_environment(), check=True)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # EIO: the other end is closed, and all was read
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert shown.decode().replace("\r\n", "\n") == "first  second\na      1.5\nlong   2\n"


def test_a_full_disk_is_one_line_with_what_to_do(mine: Mine, demo: Demo) -> None:
    # Every write to /dev/full fails as on a full disk.
    answer = mine("explain", first_lesion_id(mine, demo), "--png", "/dev/full", "--work", demo.work)
    assert answer.code == 1
    (line,) = answer.err.splitlines()
    assert "No space left on device" in line
    assert "free some space where --work and --out lie" in line
    assert "is kept" not in line  # a drawing starts anew


def first_lesion_id(mine: Mine, demo: Demo) -> str:
    return str(mine("query", demo.dataset, "SELECT min(lesion_id) AS one FROM lesions", "--json").records[0]["one"])


def test_no_folder_of_ours_lies_inside_a_dataset(mine: Mine, demo: Demo) -> None:
    for flag, other in (("--out", "--work"), ("--work", "--out")):
        answer = mine("import", demo.archive, flag, demo.dataset / "Images_png" / "x", other, "elsewhere")
        assert answer.code == 2
        assert f"{flag} {demo.dataset / 'Images_png' / 'x'} lies inside the dataset {demo.dataset}" in answer.err
        assert not (demo.dataset / "Images_png" / "x").exists()
