"""What the node says of itself: pages, counters, log; and that none of it names a patient."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from io import StringIO
from pathlib import Path

import pytest
from little_objects import ct, ct_uid, study_uid
from node_under_test import UnderTest, associate, running, send_all
from servers import free_port

from deeplesion_miner.errors import ConfigError
from dicom_io.node.health import HealthServer
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import HELP, PREFIX, Metrics
from tests.waiting import PATIENCE_S, until

SAMPLE = re.compile(r'^[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? -?[0-9.e+-]+$')


def page(under_test: UnderTest, name: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{under_test.node.health_port}/{name}", timeout=PATIENCE_S
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_pages_say_that_all_is_well_and_count_what_happened(tmp_path: Path) -> None:
    with running(tmp_path, health_port=0) as under_test:
        send_all(under_test.port, [ct(1, 1), ct(1, 2)])
        assert page(under_test, "health")[0] == 200
        assert page(under_test, "ready") == (200, '{"status": "ok", "problems": {}}\n')
        status, text = page(under_test, "metrics")
        assert status == 200
        samples = [line for line in text.splitlines() if not line.startswith("#")]
        assert all(SAMPLE.match(line) for line in samples)
        assert f'{PREFIX}objects_total{{peer="SENDER",status="0000"}} 2' in samples
        assert f'{PREFIX}associations_total{{outcome="admitted"}} 1' in samples
        for line in samples:
            metric = line.removeprefix(PREFIX).partition("{")[0].partition(" ")[0]
            assert f"# TYPE {PREFIX}{metric} {'counter' if metric.endswith('_total') else 'gauge'}" in text
        assert page(under_test, "nothing")[0] == 404


def test_a_part_that_has_ended_is_not_healthy(tmp_path: Path) -> None:
    with running(tmp_path, health_port=0) as under_test:
        assert under_test.node._studies.stop(30.0)
        status, text = page(under_test, "health")
        assert (status, json.loads(text)["problems"]) == (503, {"studies": "has ended"})


def test_a_node_that_stops_is_not_ready(tmp_path: Path) -> None:
    with running(tmp_path, health_port=0) as under_test:
        association = associate(under_test.port)
        stopping = threading.Thread(target=under_test.node.stop)
        stopping.start()
        until(lambda: under_test.events("stopping"))
        assert page(under_test, "ready")[0] == 503
        assert page(under_test, "health")[0] == 200
        association.release()
        stopping.join()


def test_a_health_port_that_is_taken_is_one_line() -> None:
    first = HealthServer("127.0.0.1", 0, dict, dict, Metrics())
    with pytest.raises(ConfigError, match="health page: cannot listen"):
        HealthServer("127.0.0.1", first.port, dict, dict, Metrics())
    first.close()


def test_a_node_without_its_health_port_does_not_start_and_leaves_no_part_of_it_running(tmp_path: Path) -> None:
    taken, port = HealthServer("127.0.0.1", 0, dict, dict, Metrics()), free_port()
    before = set(threading.enumerate())
    with pytest.raises(ConfigError, match="health page"), running(tmp_path, health_port=taken.port, port=port):
        pass
    assert set(threading.enumerate()) <= before
    taken.close()
    with running(tmp_path, health_port=taken.port, port=port) as under_test:
        assert page(under_test, "health")[0] == 200


def test_neither_log_nor_counters_hold_names_ids_or_uids_of_patients(tmp_path: Path) -> None:
    image = ct(1, 1)
    image.PatientName, image.PatientID = "Sikrit^Person", "ID-4711"
    with running(tmp_path, health_port=0) as under_test:
        other = ct(1, 1)
        other.PatientID = "ID-4712"
        send_all(under_test.port, [image, other])
        until(lambda: under_test.events("study_whole"))
        said = under_test.log.getvalue() + page(under_test, "metrics")[1]
    for secret in ("Sikrit", "ID-4711", "ID-4712", study_uid(1), ct_uid(1, 1)):
        assert secret not in said


def test_lines_of_one_study_are_found_together_and_lead_nowhere_without_the_key() -> None:
    stream = StringIO()
    log, other = NodeLog(stream, b"key" * 10), NodeLog(stream, b"other" * 10)
    assert log.name("1.2.3") == log.name("1.2.3") != log.name("1.2.4")
    assert log.name("1.2.3") != other.name("1.2.3")
    assert "1.2.3" not in log.name("1.2.3")
    assert NodeLog(stream, b"key", verbose=True).name("1.2.3") == "1.2.3"


def test_a_line_of_the_log_is_one_json_object() -> None:
    stream = StringIO()
    log = NodeLog(stream, b"key")
    log.info("one", text='a "quoted"\nline', number=1)
    log.debug("none")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert (record["level"], record["event"], record["text"]) == ("info", "one", 'a "quoted"\nline')


def test_labels_are_escaped_and_unknown_counters_refused() -> None:
    metrics = Metrics()
    metrics.count("objects_total", peer='A"\\\n', status="0000")
    assert f'{PREFIX}objects_total{{peer="A\\"\\\\\\n",status="0000"}} 1' in metrics.text()
    with pytest.raises(KeyError):
        metrics.count("surprises_total")
    assert all(text.endswith(".") for text in HELP.values())


def test_uids_within_texts_of_errors_are_told_by_their_short_names() -> None:
    stream = StringIO()
    log = NodeLog(stream, b"key")
    log.info(
        "one", why="1.2.840.113619.2.55.3: no association with 127.0.0.1:104", study=log.name("1.2.840.113619.2.55.3")
    )
    record = json.loads(stream.getvalue())
    assert record["why"] == f"{record['study']}: no association with 127.0.0.1:104"
