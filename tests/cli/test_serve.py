"""`mine serve` as a person starts it: rules that are checked, a model that looks, results that come home."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_runs import Demo, Mine, clean_environment, mine_command
from pydicom import config, dcmread
from servers import free_port

from cli.config import Settings
from cli.exits import Exit
from cli.serve_jobs import Workers
from dicom_io.address import Address
from dicom_io.node import JobFailed, JobRequest, Problem
from dicom_io.node.rules import SeriesRule
from dicom_io.object_file import ObjectFile
from dicom_io.sending import StoreSender
from dicom_io.testbed.embedded import EmbeddedArchive
from tests.waiting import PATIENCE_S

RULES = """
[[peer]]
ae_title = "SENDER"
archive = "{archive}"
quiet_s = 0.5

[[rule]]
name = "lesions"
model = "{model}"
emit = ["dicom-sr", "dicom-seg"]
destination = "{archive}"
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    path = tmp_path / "rules.toml"
    path.write_text(RULES.format(archive="PACS@10.0.0.5:104", model="model"))
    return path


def test_a_rule_file_is_checked_and_told(mine: Mine, rules: Path) -> None:
    answer = mine("serve", "--rules", rules, "--check-rules", "--json")
    assert answer.code == Exit.DONE, answer.err
    (rule,) = answer.records
    assert (rule["rule"], rule["peers"], rule["modalities"], rule["emit"]) == (
        "lesions", "any", "CT", "dicom-sr,dicom-seg")  # fmt: skip
    assert "1 peer, 1 rule: the rule file is well" in answer.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("quiet_s = 0.5", "quiet = 0.5", "did you mean quiet_s?"),
        ('model = "model"', 'model = "none"', "there is no such folder"),
        ('"dicom-seg"', '"seg"', "'seg' is no kind"),
    ],
)
def test_a_mistake_in_the_rule_file_is_one_line_and_a_usage_error(
    mine: Mine, rules: Path, old: str, new: str, said: str
) -> None:
    rules.write_text(rules.read_text().replace(old, new))
    answer = mine("serve", "--rules", rules, "--check-rules")
    assert answer.code == Exit.USAGE
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


def test_two_models_that_call_themselves_the_same_are_not_shown_the_same_series(mine: Mine, rules: Path) -> None:
    """Their reports would be taken for those of one, and each for a correction of the other."""
    for name in ("model", "other"):
        (rules.parent / name).mkdir(exist_ok=True)
        (rules.parent / name / "recipe.json").write_text('{"name": "lesionnet-s-9"}')
    rule = rules.read_text()[rules.read_text().index("[[rule]]") :]
    rules.write_text(rules.read_text() + rule.replace("lesions", "again").replace('"model"', '"other"'))
    answer = mine("serve", "--rules", rules, "--check-rules")
    assert answer.code == Exit.USAGE
    assert "[[rule]] lesions and again: both would show lesionnet-s-9 a CT series for PACS@10.0.0.5:104" in answer.err
    assert len(answer.err.splitlines()) == 1
    (rules.parent / "other" / "recipe.json").write_text('{"name": "seed"}')
    assert mine("serve", "--rules", rules, "--check-rules").code == Exit.DONE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--rules FILE is missing"),
        (("--rules", "none.toml"), "cannot be read"),
        (("--set", "serve.tls_certificate=node.crt"), "tls_certificate needs tls_key"),
        (("--aet", "A TITLE THAT IS MUCH TOO LONG"), "from 1 to 16 are allowed"),
        (("--set", "serve.max_associations=0"), "associations = 0"),
        (("--set", "serve.max_waiting=2000"), "1024 can be used: lower one of them"),
    ],
)
def test_settings_that_cannot_work_are_one_line(mine: Mine, rules: Path, words: tuple[str, ...], said: str) -> None:
    given = words if not words or words[0] == "--rules" else ("--rules", rules, *words)
    answer = mine("serve", *given)
    assert answer.code == Exit.USAGE
    assert said in answer.err


def test_images_come_in_and_what_the_model_found_lies_in_the_archive(demo: Demo, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    images = [path for path in sorted(demo.folder.glob("newcomer/**/*.dcm")) if dcmread(path).Modality == "CT"]
    assert images
    for path in images:
        shutil.copy(path, folder)
    (tmp_path / "rules.toml").write_text("")
    port, health_port = free_port(), free_port()
    with EmbeddedArchive(folder) as archive:
        before = {one.sop_instance_uid for one in archive.objects}
        rules = RULES.format(archive=archive.address, model=demo.folder / "model")
        (tmp_path / "rules.toml").write_text(rules)
        command = mine_command("serve", "--rules", tmp_path / "rules.toml", "--aet", "NODE", "--host", "127.0.0.1",
                               "--port", str(port), "--health-port", str(health_port), "--work",
                               tmp_path / "work")  # fmt: skip
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=clean_environment(), stdout=log, stderr=log)
        try:
            _wait(lambda: _is_ready(health_port), tmp_path / "log")
            with StoreSender(Address("NODE", "127.0.0.1", port), "SENDER") as sender:
                answers = list(sender.send([ObjectFile.read(path) for path in images]))
            assert [one.status for one in answers] == [0] * len(images)
            _wait(lambda: len(archive.objects) >= len(before) + 2, tmp_path / "log", 4 * PATIENCE_S)
            _wait(lambda: _delivered(health_port) == 2, tmp_path / "log")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == Exit.DONE
        new = [one for one in archive.objects if one.sop_instance_uid not in before]
        assert sorted(one.keys["Modality"] for one in new) == ["SEG", "SR"]
        assert {one.keys["StudyInstanceUID"] for one in new} == {archive.objects[0].keys["StudyInstanceUID"]}
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert events[0] == "started"
    assert {"study_whole", "job_started", "job_done"} <= set(events)
    assert events[-1] == "stopped"


def test_a_broken_image_is_told_without_what_is_in_it_and_the_libraries_keep_still(demo: Demo, tmp_path: Path) -> None:
    (path, *_) = (path for path in sorted(demo.folder.glob("newcomer/**/*.dcm")) if dcmread(path).Modality == "CT")
    image = dcmread(path)
    image.PatientName, image.PatientID, image.PixelData = "Sikrit^Person", "ID-4711", image.PixelData[:100]
    with config.disable_value_validation():  # libraries warn of such a date, and quote it
        image.AcquisitionDate = image.PatientBirthDate = "Sikrit"
        image.save_as(tmp_path / "broken.dcm")
    port, health_port = free_port(), free_port()
    rules = RULES.format(archive="PACS@127.0.0.1:1", model=demo.folder / "model")
    (tmp_path / "rules.toml").write_text(rules.replace('archive = "PACS@127.0.0.1:1"\n', ""))
    command = mine_command("serve", "--rules", tmp_path / "rules.toml", "--aet", "NODE", "--host", "127.0.0.1",
                           "--port", str(port), "--health-port", str(health_port), "--work",
                           tmp_path / "work")  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=clean_environment(), stdout=log, stderr=log)
    try:
        _wait(lambda: _is_ready(health_port), tmp_path / "log")
        with StoreSender(Address("NODE", "127.0.0.1", port), "SENDER") as sender:
            (answer,) = sender.send([ObjectFile.read(tmp_path / "broken.dcm")])
        assert answer.status == 0
        _wait(lambda: '"job_failed"' in (tmp_path / "log").read_text(), tmp_path / "log", 4 * PATIENCE_S)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == Exit.DONE
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]  # nothing else on stderr
    (failed,) = (line for line in lines if line["event"] == "job_failed")
    assert failed["why"] == "images cannot be read"
    for secret in ("Sikrit", "ID-4711", str(image.StudyInstanceUID), str(image.SOPInstanceUID), str(tmp_path)):
        assert secret not in (tmp_path / "log").read_text()


def _is_ready(health_port: int) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{health_port}/ready", timeout=PATIENCE_S).status == 200)
    except OSError:
        return False


def _delivered(health_port: int) -> int:
    text = urllib.request.urlopen(f"http://127.0.0.1:{health_port}/metrics", timeout=PATIENCE_S).read().decode()
    lines = [line for line in text.splitlines() if line.startswith("mine_node_outbox") and "verified" in line]
    return int(lines[0].rpartition(" ")[2]) if lines else 0


def _wait(true: object, log: Path, within_s: float = PATIENCE_S) -> None:
    assert callable(true)
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, log.read_text()[-3000:]
        time.sleep(0.2)


# --- workers -----------------------------------------------------------------------------------------------


def request_for(model: Path) -> JobRequest:
    rule = SeriesRule("lesions", model, "PACS@10.0.0.5:104")
    return JobRequest("1.2", rule, {"1.2.3": (model / "none.dcm",)}, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_model_that_cannot_be_loaded_is_a_failure_that_no_repetition_helps(tmp_path: Path) -> None:
    with Workers(Settings(), 1) as workers, pytest.raises(JobFailed) as caught:
        workers.run(request_for(tmp_path))
    assert not caught.value.temporary
    assert str(tmp_path) in str(caught.value)


def test_a_worker_that_is_killed_is_a_failure_for_now_and_the_next_job_gets_another_one(tmp_path: Path) -> None:
    with Workers(Settings(), 1) as workers:
        with pytest.raises(JobFailed):
            workers.run(request_for(tmp_path))
        assert workers._pool is not None
        (process,) = workers._pool._processes.values()
        process.kill()
        process.join()
        with pytest.raises(JobFailed, match="killed") as caught:
            workers.run(request_for(tmp_path))
        assert caught.value.temporary
        with pytest.raises(JobFailed) as caught:
            workers.run(request_for(tmp_path))
        assert not caught.value.temporary


KILLED = """
import os, signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from cli.serve_jobs import _prepare_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, get_context("spawn"), initializer=_prepare_worker, initargs=(False,))
    pool.submit(os.getpid).result()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_node_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    # Whoever holds its end of the pipe keeps this from returning.
    ended = subprocess.run([sys.executable, tmp_path / "killed.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           timeout=4 * PATIENCE_S)  # fmt: skip
    assert ended.returncode == -signal.SIGKILL


def test_workers_that_are_closed_start_no_process(tmp_path: Path) -> None:
    with Workers(Settings(), 1) as workers:
        pass
    with pytest.raises(JobFailed) as caught:  # of a job that was claimed just before the node stopped
        workers.run(request_for(tmp_path))
    assert (caught.value.problem, caught.value.temporary, workers._pool) == (Problem.STOPPED, True, None)


def test_what_a_worker_says_of_a_failure_is_told_by_its_kind(tmp_path: Path) -> None:
    with Workers(Settings(), 1) as workers, pytest.raises(JobFailed) as caught:
        workers.run(request_for(tmp_path))
    assert caught.value.kind == "ConfigError"
    assert str(tmp_path) not in caught.value.kind + caught.value.problem
