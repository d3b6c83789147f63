"""The work in its order: demo, find, run, import, status, explain, check, query, against a served archive."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from cli_runs import Demo, Mine, clean_environment, mine_command
from PIL import Image

from cli.exits import Exit
from cli.main import run
from dataset_builder.swap import held
from dicom_io.testbed.embedded import EmbeddedArchive

KEY = "0123456789abcdef" * 4


def test_the_demo_ends_in_a_checked_dataset_with_pictures(demo: Demo) -> None:
    (record,) = [one for one in demo.answer.records if one["type"] == "run"]
    assert record["schema_version"] == 1
    assert record["written"]["lesions"] == record["bookmarks_kept"] > 10
    assert record["bookmarks_found"] == record["bookmarks_kept"] + sum(record["rejected"].values())
    assert record["transfers"]["images_not_transferred"] > 0
    assert "every hash, sum and box" in demo.answer.err
    for name in ("report.html", "contact_sheet.png", "DL_info.csv", "manifest.json"):
        assert (demo.dataset / name).is_file()


def test_the_key_is_made_once_private_and_outside_of_the_dataset(demo: Demo, mine: Mine, tmp_path: Path) -> None:
    where = ("--out", tmp_path / "dataset", "--work", tmp_path / "work")
    key = tmp_path / "work" / "pseudonym.key"
    assert f"made a pseudonym key: {key}" in mine("import", demo.archive, *where).err
    made = key.read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(made.strip())) == 32
    assert "pseudonym key" not in mine("import", demo.archive, *where).err
    assert key.read_text() == made
    assert not list((tmp_path / "dataset").rglob("*.key"))


def test_find_lists_studies_and_transfers_nothing(mine: Mine, archive: EmbeddedArchive) -> None:
    answer = mine("find", archive.address, "--json")
    assert answer.code == 0
    assert {record["type"] for record in answer.records} == {"study"}
    assert all(record["measurement_objects"] >= 1 for record in answer.records)
    assert archive.sent == ()


def test_a_study_that_is_not_listed_is_named(mine: Mine, archive: EmbeddedArchive, tmp_path: Path) -> None:
    known = mine("find", archive.address, "--json").records[0]["study_instance_uid"]
    asked = ("--study", known, "--study", "1.2.3.4")
    places = ("--out", tmp_path / "dataset", "--work", tmp_path / "work")
    for answer in (mine("find", archive.address, *asked), mine("run", archive.address, *asked, *places)):
        assert answer.code == Exit.PARTIAL
        assert "study 1.2.3.4: the archive lists no such study with measurement series" in answer.err
        assert f"study {known}: " not in answer.err
    alone = mine("find", archive.address, "--study", "1.2.3.4")
    assert alone.code == Exit.NOTHING_MATCHED
    assert "study 1.2.3.4: " in alone.err


def test_find_narrows_by_day_and_patient(mine: Mine, archive: EmbeddedArchive) -> None:
    everything = mine("find", archive.address, "--json").records
    day = min(record["study_date"] for record in everything)
    patient = everything[0]["patient_id"]
    on_day = mine("find", archive.address, "--from", day, "--to", day, "--json").records
    of_patient = mine("find", archive.address, "--patient", patient, "--json").records
    assert on_day == [record for record in everything if record["study_date"] == day]
    assert of_patient == [record for record in everything if record["patient_id"] == patient]
    assert mine("find", archive.address, "--to", "1999-12-31").code == 4


def test_a_dry_run_says_the_load_and_changes_nothing(mine: Mine, archive: EmbeddedArchive, tmp_path: Path) -> None:
    answer = mine("run", archive.address, "--dry-run", "--images-per-minute", "60", "--json")
    (load,) = answer.records
    assert (answer.code, load["type"]) == (0, "load")
    assert load["new_studies"] == load["studies"] > 0
    assert load["measurement_objects"] > 0
    assert archive.sent == ()
    assert list(tmp_path.iterdir()) == []


def test_a_run_gives_the_dataset_that_an_import_gives_and_a_second_one_fetches_nothing(
    mine: Mine, archive: EmbeddedArchive, demo: Demo
) -> None:
    first = mine("run", archive.address, "--json", "--workers", "2", MINE_KEY=KEY)
    sent = archive.sent
    second = mine("run", archive.address, "--json", MINE_KEY=KEY)
    imported = mine("import", demo.archive, "--out", "i/d", "--work", "i/w", "--json", MINE_KEY=KEY)
    assert (first.code, second.code, imported.code) == (0, 0, 0), first.err + second.err + imported.err
    assert archive.sent == sent
    runs = [answer.records[0] for answer in (first, second, imported)]
    assert len({run["digest"] for run in runs}) == 1
    assert (runs[1]["run"]["mined"], runs[1]["run"]["unchanged"]) == (0, runs[0]["run"]["mined"])
    load = mine("run", archive.address, "--dry-run", "--json").records[0]
    assert load["new_studies"] == 0


def test_another_key_for_the_same_working_folder_is_refused(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(demo.work, work)
    work.chmod(0o700)
    answer = mine("import", demo.archive, "--work", work, MINE_KEY=KEY)
    assert answer.code == 2
    assert "another pseudonym key; give the old key" in answer.err
    short = mine("import", demo.archive, MINE_KEY="short")
    assert short.code == 2
    assert "pseudonym key has 5 bytes" in short.err
    both = mine("import", demo.archive, "--key-file", work / "pseudonym.key", MINE_KEY=KEY)
    assert "MINE_KEY and --key-file are both given" in both.err
    missing = mine("import", demo.archive, "--key-file", "nowhere")
    assert "key file nowhere: cannot be read" in missing.err


def test_status_tells_the_funnel_with_each_loss(mine: Mine, demo: Demo) -> None:
    (record,) = mine("status", "--work", demo.work, "--json").records
    run = demo.answer.records[0]
    assert {name: record[name] for name in ("bookmarks_found", "rejected", "unreadable", "flags", "transfers")} == {
        name: run[name] for name in ("bookmarks_found", "rejected", "unreadable", "flags", "transfers")
    }
    text = mine("status", "--work", demo.work).out
    for code, count in record["rejected"].items():
        assert f"{-count}  {code}: " in text


def test_status_lists_studies(mine: Mine, demo: Demo) -> None:
    records = mine("status", "--work", demo.work, "--studies", "--json").records
    assert len(records) == demo.answer.records[0]["studies_done"]
    assert {record["state"] for record in records} == {"done"}
    assert sum(record["bookmarks"] for record in records) == demo.answer.records[0]["bookmarks_found"]


@pytest.mark.parametrize("column", ["lesion_id", "bookmark_id", "file_name"])
def test_a_row_is_explained_with_source_rules_and_picture(mine: Mine, demo: Demo, tmp_path: Path, column: str) -> None:
    sql = "SELECT * FROM lesions JOIN bookmarks USING (bookmark_id) QUALIFY count(*) OVER (PARTITION BY file_name) = 1"
    row = mine("query", demo.dataset, sql + " LIMIT 1", "--json").records[0]
    where = ("--out", demo.dataset, "--work", demo.work)
    (record,) = mine("explain", row[column], "--json", "--png", "seen.png", *where).records
    assert record["verdict"] == "kept"
    assert f"lesion {row['lesion_id']}" in record["public_ids"]
    assert record["lesion"]["long_axis_mm"] == pytest.approx(row["long_axis_mm"])
    assert record["lesion"]["box_px"] == pytest.approx(row["box_px"])
    assert {"not_ct", "non_axial", "zero_length"} <= {rule["name"] for rule in record["rules"] if rule["passed"]}
    with Image.open(tmp_path / "seen.png") as picture:
        assert len(picture.getcolors(maxcolors=2**24) or []) > 10
    text = mine("explain", row[column], *where).out
    assert record["key"] in text
    assert record["bookmark"]["images"][0]["sop_instance_uid"] in text


def test_a_rejected_bookmark_is_explained_with_the_rule_that_failed(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    sql = "SELECT bookmark_id FROM bookmarks WHERE reason = 'non_axial' LIMIT 1"
    bookmark_id = mine("query", demo.dataset, sql, "--json").records[0]["bookmark_id"]
    answer = mine("explain", bookmark_id, "--json", "--png", "seen.png", "--out", demo.dataset, "--work", demo.work)
    (record,) = answer.records
    assert (record["verdict"], record["reason"]) == ("rejected", "non_axial")
    (failed,) = [rule for rule in record["rules"] if rule["name"] == "non_axial"]
    assert not failed["passed"]
    assert failed["facts"]["tilt_deg"] > failed["facts"]["limit_deg"]
    assert (tmp_path / "seen.png").stat().st_size > 0


def test_every_kind_of_loss_can_be_explained(mine: Mine, demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT min(bookmark_id) AS bookmark_id, verdict, reason FROM bookmarks GROUP BY verdict, reason"
    rows = mine("query", demo.dataset, sql, "--json").records
    assert len(rows) > 5
    where = ["--json", "--out", str(demo.dataset), "--work", str(demo.work)]
    for row in rows:
        assert run(["explain", row["bookmark_id"], *where]) == 0
        explained = json.loads(capsys.readouterr().out)
        assert (explained["verdict"], explained["reason"]) == (row["verdict"], row["reason"])
        assert run(["explain", explained["key"], *where]) == 0
        assert json.loads(capsys.readouterr().out) == explained


def test_a_file_is_explained_by_the_bookmarks_in_it_or_on_it(mine: Mine, demo: Demo) -> None:
    where = ("--out", demo.dataset, "--work", demo.work, "--json")
    key = mine("explain", first_lesion(mine, demo), *where).records[0]["key"]
    report, _, _ = key.partition("#")
    files = {path for path in demo.archive.rglob("*.dcm") if report.encode() in path.read_bytes()[:2000]}
    found = [record["key"] for path in files for record in mine("explain", path, *where).records]
    assert key in found
    answer = mine("explain", __file__, *where)
    assert answer.code == 2
    assert "not_dicom" in answer.err
    assert mine("explain", "no such thing", *where).code == 4


def first_lesion(mine: Mine, demo: Demo) -> str:
    sql = "SELECT lesion_id FROM lesions ORDER BY 1 LIMIT 1"
    return str(mine("query", demo.dataset, sql, "--json").records[0]["lesion_id"])


def test_query_answers_as_text_csv_and_json(mine: Mine, demo: Demo) -> None:
    sql = "SELECT verdict, count(*) AS n, list(DISTINCT kind) AS kinds FROM bookmarks GROUP BY 1 ORDER BY 1"
    records = mine("query", demo.dataset, sql, "--json").records
    rows = list(csv.DictReader(io.StringIO(mine("query", demo.dataset, sql, "--csv").out)))
    lines = mine("query", demo.dataset, sql).out.splitlines()
    assert [record["verdict"] for record in records] == ["kept", "rejected"]
    assert [int(row["n"]) for row in rows] == [record["n"] for record in records]
    assert [line.split("\t")[1] for line in lines] == ["n", *(str(record["n"]) for record in records)]
    for table in ("lesions", "slices", "bookmarks", "splits"):
        assert mine("query", demo.dataset, f"SELECT count(*) FROM {table}").code == 0
    wrong = mine("query", demo.dataset, "SELECT nothing FROM nowhere")
    assert wrong.code == 2
    assert "the tables are" in wrong.err
    assert mine("query", demo.dataset, "SELECT * FROM lesions WHERE false").code == 4


def test_the_doctor_tells_of_this_machine_and_of_an_archive(mine: Mine, archive: EmbeddedArchive) -> None:
    here = mine("doctor", "--json")
    assert here.code == 0
    assert [record["name"] for record in here.records] == [
        "python", "packages", "codecs", "names", "--work", "--out", "settings",
    ]  # fmt: skip
    there = mine("doctor", archive.address, "--json")
    assert there.code == 0, there.out
    levels = {record["name"]: record["level"] for record in there.records}
    assert levels["echo"] == "ok"
    assert set(levels.values()) <= {"ok", "warn"}
    bad = mine("doctor", "--out", "x", "--work", "x/y")
    assert bad.code == 1
    assert "lie in one another" in bad.out


def test_an_interrupted_run_says_so_and_goes_on_to_the_same_dataset(
    mine: Mine, archive: EmbeddedArchive, tmp_path: Path
) -> None:
    words = mine_command("run", archive.address, "--images-per-minute", "600")
    environment = clean_environment(MINE_KEY=KEY)
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while len(archive.sent) < 12 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert "finishing the current study" in said
    assert "run the same command again to go on" in said
    assert not (tmp_path / "dataset").exists()
    resumed = mine("run", archive.address, "--json", MINE_KEY=KEY)
    assert resumed.records[0]["run"]["unchanged"] > 0
    assert len(archive.sent) == len(set(archive.sent)), "nothing is fetched twice"
    whole = mine("run", archive.address, "--out", "other/d", "--work", "other/w", "--json", MINE_KEY=KEY)
    assert resumed.records[0]["digest"] == whole.records[0]["digest"]


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing(mine: Mine, archive: EmbeddedArchive, tmp_path: Path) -> None:
    words = mine_command("run", archive.address, "--images-per-minute", "30")
    environment = clean_environment(MINE_KEY=KEY)
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not archive.sent and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if "finishing" in line:
                break
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert mine("run", archive.address, "--json", MINE_KEY=KEY).code == 0


def test_a_dataset_with_another_margin_of_boxes_passes_its_check(mine: Mine, demo: Demo) -> None:
    assert mine("import", demo.archive, "--set", "rules.box_padding_px=3").code == 0
    checked = mine("check", "dataset")
    assert (checked.code, checked.out.count("sound")) == (0, 1), checked.out


def test_two_working_folders_with_keys_of_their_own_do_not_share_a_dataset(
    mine: Mine, demo: Demo, tmp_path: Path
) -> None:
    assert mine("import", demo.archive, "--work", "one").code == 0
    manifest = (tmp_path / "dataset" / "manifest.json").read_bytes()
    other = mine("import", demo.archive, "--work", "two")
    assert other.code == 2
    assert "a dataset made with another pseudonym key" in other.err
    assert (tmp_path / "dataset" / "manifest.json").read_bytes() == manifest
    same = mine("import", demo.archive, "--work", "three", "--key-file", "one/pseudonym.key")
    assert same.code == 0, same.err
    assert (tmp_path / "dataset" / "manifest.json").read_bytes() == manifest


def test_a_dataset_that_is_being_written_is_left_to_its_writer(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    with held(tmp_path / "dataset"):
        answer = mine("import", demo.archive)
    assert answer.code == 7
    assert "another `mine` writes this dataset" in answer.err
    assert not (tmp_path / "dataset").exists()


def test_a_lost_key_is_never_replaced_by_a_new_one(mine: Mine, demo: Demo, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(demo.work, work)
    work.chmod(0o700)
    (work / "pseudonym.key").rename(tmp_path / "backup")
    answer = mine("import", demo.archive, "--work", work)
    assert answer.code == 2
    assert f"key file {work / 'pseudonym.key'}: lost" in answer.err
    assert "put it back" in answer.err
    assert not (work / "pseudonym.key").exists()
    assert mine("import", demo.archive, "--work", work, "--key-file", "backup").code == 0


def test_a_dataset_of_two_rule_sets_is_never_made_without_a_word(
    mine: Mine, archive: EmbeddedArchive, tmp_path: Path
) -> None:
    studies = [record["study_instance_uid"] for record in mine("find", archive.address, "--json").records]
    whole = mine("run", archive.address, "--json")
    assert whole.records[0]["studies_under_other_settings"] == 0
    assert "other settings" not in whole.err
    changed = ("--set", "rules.max_tilt_deg=45")
    part = mine("run", archive.address, "--study", studies[0], *changed, "--json")
    assert part.records[0]["studies_under_other_settings"] == len(studies) - 1
    assert f"{len(studies) - 1} studies of this dataset were mined under other settings" in part.err
    assert "run again over everything" in part.err
    status = mine("status", "--json").records[0]
    assert sorted(status["studies_by_settings"].values()) == [1, len(studies) - 1]
    assert f"under 2 different settings or versions of mine ({len(studies) - 1} + 1)" in mine("status").out
    again = mine("run", archive.address, *changed, "--json")
    assert again.records[0]["studies_under_other_settings"] == 0
    assert "different settings" not in mine("status").out


def test_files_are_said_to_be_read_and_objects_to_be_moved(mine: Mine, archive: EmbeddedArchive, demo: Demo) -> None:
    imported = mine("import", demo.archive)
    status = mine("status")
    for answer in (imported, status):
        assert "files (" in answer.out
        assert "transferred" not in answer.out and "moved" not in answer.out
    moved = mine("run", archive.address)
    assert "transferred" in moved.out and "moved: " in moved.out


def test_what_the_readme_asks_of_the_demo_is_answered(demo: Demo, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    (block,) = [text for text in readme.split("```") if "mine query   demo/dataset" in text]
    (tmp_path / "demo").symlink_to(demo.folder)
    program = f'mine() {{ {shlex.join(mine_command())} "$@"; }}\nset -eu{block}'
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "verdict    kept" in done.stdout
    assert (tmp_path / "lesion.png").stat().st_size > 1000
