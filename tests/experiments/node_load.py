"""Twenty studies pushed at once into the node by DCMTK, in peace and while it is stopped, killed and abused.

    python -m tests.experiments.node_load [--studies 20] [--images 40] [--rows 512] [--write]

Every scenario has a fresh node in a process of its own and one storescu process a study, all at once; a sender sends
again what was not answered with success, as senders do, until all of it was. Afterwards each object that was answered
0000 must be in the journal and in the store, with the data set that was sent, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dicom_io.node.journal import Journal
from dicom_io.object_file import ObjectFile
from dicom_io.store import ObjectStore
from tests.certificates import make_certificates
from tests.experiments.node_world import (
    ECHOSCU,
    LOOPBACK,
    NODE_AE,
    RunningNode,
    SmallObjects,
    running_node,
    storescu,
    write_rules,
)
from tests.servers import free_port
from tests.waiting import PATIENCE_S

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiments" / "node.md"
PEERS = ("STORESCU", "ECHOSCU", "PUSHER")
MOST_TURNS = 60
"""How often a sender begins anew before it gives up."""
HALF_OPEN = 500


@dataclass
class Sender:
    """What one peer was told."""

    succeeded: set[str] = field(default_factory=set)
    refused: int = 0
    unanswered: int = 0
    turns: int = 0


@dataclass
class Outcome:
    """What a scenario came to."""

    name: str
    objects: int
    megabytes: float
    seconds: float = 0.0
    answered_0000: int = 0
    refused: int = 0
    unanswered: int = 0
    turns: int = 0
    lost: int = 0
    changed: int = 0
    left_over: int = 0
    """Temporary files after the end."""
    peak_mb: float = 0.0
    before_mb: float = 0.0
    most_descriptors: int = 0
    most_threads: int = 0
    exits: list[int] = field(default_factory=list)
    """Exit codes of the node's processes, in order; -9 is the kill."""
    notes: dict[str, object] = field(default_factory=dict)
    is_refused: bool = False
    """Whether every object is to be refused."""

    @property
    def is_well(self) -> bool:
        """Everything was taken in the end, or refused where it should be; nothing was lost, changed or left over."""
        answered = self.refused if self.is_refused else self.answered_0000
        return answered == self.objects and not (self.lost or self.changed or self.left_over)


@dataclass(frozen=True)
class Load:
    """What is pushed."""

    studies: int
    images: int
    rows: int

    def objects(self) -> list[list[ObjectFile]]:
        """By study."""
        maker = SmallObjects(self.rows)
        return [
            [maker.one(study * 10_000 + number, study, study) for number in range(self.images)]
            for study in range(self.studies)
        ]


class Watch:
    """The most that the node's processes took, looked at often."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome, self._stop = outcome, threading.Event()
        self.node: RunningNode | None = None
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            node = self.node
            if node is None:
                continue
            with suppress(OSError, StopIteration):
                outcome = self._outcome
                outcome.peak_mb = max(outcome.peak_mb, round(node.peak_bytes() / 1e6, 1))
                outcome.most_descriptors = max(outcome.most_descriptors, node.descriptors())
                outcome.most_threads = max(outcome.most_threads, node.threads())

    def stop(self) -> None:
        """Looks no more."""
        self._stop.set()
        self._thread.join()


def push(
    port: int, objects: Sequence[ObjectFile], folder: Path, more: Sequence[str], sender: Sender, turns: int
) -> None:
    """Sends until every object was answered with success, or too often."""
    while len(sender.succeeded) < len(objects) and sender.turns < turns:
        left = [one for one in objects if one.sop_instance_uid not in sender.succeeded]
        sent = storescu(port, left, folder, more=more)
        sender.turns += 1
        sender.succeeded.update(sent.succeeded)
        sender.refused += sent.refused
        sender.unanswered += sent.unanswered
        if len(sent.succeeded) < len(left):
            time.sleep(0.5)


def scenario(
    name: str,
    load: Load,
    folder: Path,
    *,
    more: Sequence[str] = (),
    settings: Sequence[str] = (),
    during: Callable[[Pushing], None] | None = None,
    is_refused: bool = False,
) -> Outcome:
    """Runs one scenario in an empty folder; with `is_refused` nobody sends twice."""
    folder.mkdir(parents=True)
    studies = load.objects()
    size = sum(one.size_bytes() for study in studies for one in study)
    outcome = Outcome(name, sum(map(len, studies)), round(size / 1e6, 1), is_refused=is_refused)
    turns = 1 if is_refused else MOST_TURNS
    rules = write_rules(folder / "rules.toml", *PEERS, quiet_s=2.0)
    senders = [Sender() for _ in studies]
    watch = Watch(outcome)
    with Pushing(folder / "work", rules, free_port(), settings, outcome, watch, senders) as pushing:
        outcome.before_mb = round(pushing.node.resident_bytes() / 1e6, 1)
        began_s = time.monotonic()
        threads = [
            threading.Thread(target=push, args=[pushing.port, study, folder / f"study-{number}", more, sender, turns])
            for number, (study, sender) in enumerate(zip(studies, senders, strict=True))
        ]
        for thread in threads:
            thread.start()
        if during is not None:
            during(pushing)
        for thread in threads:
            thread.join()
        outcome.seconds = round(time.monotonic() - began_s, 1)
        time.sleep(0.5)
    watch.stop()
    outcome.refused, outcome.unanswered = sum(one.refused for one in senders), sum(one.unanswered for one in senders)
    outcome.turns = max(one.turns for one in senders)
    _compare(outcome, studies, senders, folder / "work" / "node")
    shutil.rmtree(folder)
    return outcome


class Pushing:
    """A node that can be stopped and started again while it is pushed at."""

    def __init__(
        self,
        work: Path,
        rules: Path,
        port: int,
        settings: Sequence[str],
        outcome: Outcome,
        watch: Watch,
        senders: Sequence[Sender],
    ) -> None:
        self._work, self._rules, self.port, self._settings = work, rules, port, settings
        self.outcome, self._watch, self._senders = outcome, watch, senders
        self._stack = ExitStack()

    def __enter__(self) -> Pushing:
        self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(signal.SIGTERM)

    def again(self, number: signal.Signals) -> None:
        """Ends the node by a signal and starts another on the same folder and port."""
        self._end(number)
        self._start()

    def wait_for(self, objects: int) -> None:
        """Until so many objects lie in the store, or the senders have ended."""
        store = self._work / "node" / "objects"
        until_s = time.monotonic() + 300
        while time.monotonic() < until_s and sum(1 for _ in store.glob("??/??/*.dcm")) < objects:
            time.sleep(0.05)

    def _start(self) -> None:
        self._stack = ExitStack()
        self.node = self._stack.enter_context(
            running_node(self._work, self._rules, port=self.port, settings=self._settings)
        )
        self._watch.node = self.node

    def _end(self, number: signal.Signals) -> None:
        self._watch.node = None
        self.outcome.exits.append(self.node.kill(number))
        self._stack.close()


def _compare(outcome: Outcome, studies: Sequence[Sequence[ObjectFile]], senders: Sequence[Sender], node: Path) -> None:
    """What was answered against what is there."""
    outcome.left_over = sum(1 for _ in (node / "objects" / "incoming").iterdir())
    journal, store = Journal(node), ObjectStore(node / "objects")
    known = journal.object_uids()
    journal.close()
    for study, sender in zip(studies, senders, strict=True):
        outcome.answered_0000 += len(sender.succeeded)
        for one in study:
            if one.sop_instance_uid not in sender.succeeded:
                continue
            path = store.path(one.sop_instance_uid)
            if path is None or one.sop_instance_uid not in known:
                outcome.lost += 1
            elif _digest(ObjectFile.read(path)) != _digest(one):
                outcome.changed += 1


def _digest(one: ObjectFile) -> str:
    return hashlib.sha256(one.data_set_bytes()).hexdigest()


# --- what happens meanwhile --------------------------------------------------------------------------------


def ended_and_started(number: signal.Signals, load: Load) -> Callable[[Pushing], None]:
    """Twice, when a quarter and when half of the objects are there."""

    def during(pushing: Pushing) -> None:
        for part in (4, 2):
            pushing.wait_for(load.studies * load.images // part)
            pushing.again(number)

    return during


def abused(pushing: Pushing) -> None:
    """Strangers, lies about lengths and connections that say nothing, while C-ECHO is asked again and again."""
    with half_open(pushing.port, HALF_OPEN) as count:
        pushing.outcome.notes["half-open connections"] = count
        pushing.outcome.notes["C-ECHO with them, s"] = _echoes(pushing.port, 5)
        pushing.outcome.notes["unknown AE"] = _echo(pushing.port, "STRANGER")[1]
        pushing.outcome.notes["wrong called AE"] = _echo(pushing.port, "ECHOSCU", "ELSE")[1]
        answers = [_oversized(pushing.port, length) for length in (2**32 - 1, 2**31, 300_000)]
        pushing.outcome.notes["oversized PDU"] = ", ".join(answers)
        pushing.outcome.notes["threads with them"] = pushing.node.threads()
    metrics = [line for line in pushing.node.page("metrics")[1].splitlines() if not line.startswith("#")]
    pushing.outcome.notes["counted"] = [line for line in metrics if "connections_total" in line or "aborts" in line]


@contextmanager
def half_open(port: int, count: int) -> Iterator[int]:
    """Connections that never ask for an association; how many were made."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=PATIENCE_S))
        yield count


def _echo(port: int, title: str, called: str = NODE_AE) -> tuple[int, str]:
    done = subprocess.run([ECHOSCU, "-aet", title, "-aec", called, LOOPBACK, str(port)], capture_output=True,
                          text=True)  # fmt: skip
    said = [line.partition(": ")[2] for line in (done.stdout + done.stderr).splitlines() if "Reason" in line]
    return done.returncode, "; ".join(said) or "answered"


def _echoes(port: int, count: int) -> list[float]:
    """Seconds that each took, the process of echoscu among them."""
    took = []
    for _ in range(count):
        began_s = time.monotonic()
        code, _said = _echo(port, "ECHOSCU")
        assert code == 0
        took.append(round(time.monotonic() - began_s, 2))
    return took


def _oversized(port: int, length: int) -> str:
    """How an established association answers the header of such a PDU."""
    from pynetdicom import AE

    entity = AE(ae_title="PUSHER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate(LOOPBACK, port, ae_title=NODE_AE)
    if not association.is_established:
        return "no association"
    association.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, length))
    until_s = time.monotonic() + PATIENCE_S
    while association.is_established and time.monotonic() < until_s:
        time.sleep(0.01)
    return "aborted" if association.is_aborted else "went on"


def tls_settings(folder: Path) -> list[str]:
    """Settings of a node with certificates."""
    return [f"serve.tls_ca={folder / 'ca.crt'}", f"serve.tls_certificate={folder / 'server.crt'}",
            f"serve.tls_key={folder / 'server.key'}"]  # fmt: skip


def tls_flags(folder: Path) -> list[str]:
    """Flags of a DCMTK client with a certificate."""
    return ["+tls", str(folder / "client.key"), str(folder / "client.crt"), "+cf", str(folder / "ca.crt")]


def run(load: Load, folder: Path) -> list[Outcome]:
    """All scenarios."""
    (folder / "certificates").mkdir()
    secrets = make_certificates(folder / "certificates")
    secure = {"more": tls_flags(secrets), "settings": tls_settings(secrets)}
    outcomes = []
    for outcome in (
        scenario("in peace", load, folder / "1"),
        scenario("in peace, TLS", load, folder / "2", **secure),
        scenario("SIGTERM and restart, twice", load, folder / "3", during=ended_and_started(signal.SIGTERM, load)),
        scenario("SIGTERM that waits 1 s, and restart, twice", load, folder / "7", settings=["serve.stop_s=1"],
                 during=ended_and_started(signal.SIGTERM, load)),
        scenario("kill -9 and restart, twice", load, folder / "4", during=ended_and_started(signal.SIGKILL, load)),
        scenario("kill -9 and restart, twice, TLS", load, folder / "5",
                 during=ended_and_started(signal.SIGKILL, load), **secure),
        scenario("abused", load, folder / "6", during=abused),
        scenario("all too large", load, folder / "8", settings=["archive.max_object_mb=0.001"], is_refused=True),
        scenario("disk almost full", load, folder / "9", settings=["serve.least_free_mb=1e9"], is_refused=True),
    ):  # fmt: skip
        print(json.dumps(asdict(outcome)), flush=True)
        outcomes.append(outcome)
    return outcomes


METHOD = " ".join((__doc__ or "").split("\n\n")[2].split())


def commit() -> str:
    """Short hash of the checkout."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def verdict(outcomes: Sequence[Outcome]) -> str:
    """One sentence."""
    lost, changed = sum(one.lost for one in outcomes), sum(one.changed for one in outcomes)
    answered, peak = sum(one.answered_0000 for one in outcomes), max(one.peak_mb for one in outcomes)
    ends = sum(len(one.exits) - 1 for one in outcomes)
    refused = sum(one.refused for one in outcomes)
    return (
        f"{answered:,} objects answered 0000 in {len(outcomes)} scenarios with {ends} restarts under load: {lost} lost,"
        f" {changed} changed; {refused:,} refused with a status, where they were to be."
        f" Never more than {peak:.0f} MB resident."
    )


def page(outcomes: Sequence[Outcome], load: Load, command: str) -> str:
    """The page of the experiment."""
    rows = [
        f"| {one.name} | {one.objects} | {one.answered_0000} | {one.refused} | {one.unanswered} | {one.turns} |"
        f" {one.lost} | {one.changed} | {one.left_over} | {one.before_mb:.0f} → {one.peak_mb:.0f} |"
        f" {one.most_threads} | {one.most_descriptors} | {one.seconds:.0f} | {', '.join(map(str, one.exits))} |"
        for one in outcomes
    ]
    notes = [f"- {name}: {value}" for one in outcomes for name, value in one.notes.items()]
    return "\n".join(
        [
            "# The node under load",
            "",
            "**Question.** Does `mine serve` lose, change or silently drop an object while twenty peers push at once,"
            " while it is stopped, killed and abused, and does its memory stay bounded?",
            "",
            f"**Method.** {METHOD}",
            "",
            f"{load.studies} studies of {load.images} images of {load.rows} x {load.rows} pixels,"
            f" {outcomes[0].megabytes:.0f} MB, {load.studies} storescu processes (DCMTK) at once, on loopback. Nothing"
            " is random but the machine's timing.",
            "",
            f"**Run it.** `{command}` (commit {commit()}; a small form is part of `make test`).",
            "",
            f"**Result.** {verdict(outcomes)}",
            "",
            "| scenario | objects | answered 0000 | refused | unanswered | turns of a sender, most | lost | changed |"
            " left over | resident MB, before → peak | threads, most | descriptors, most | s | exit codes |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "*Unanswered* are objects that were under way when the node ended, that waited in the sender behind them,"
            " and those of every attempt while nobody listened; their senders sent them again. *Refused* are answers"
            " other than 0000. *Left over* are temporary files after the last stop. The second SIGTERM gives"
            " associations one second and then aborts them (exit code 3); the first waits until they have ended.",
            "",
            "Abused, while the twenty studies came in:",
            "",
            *notes,
            "",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Runs all scenarios; 1 where one of them lost, changed or refused something for good."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.node_load", description=__doc__)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help="write the page, in docs/experiments")
    options = parser.parse_args(arguments)
    load = Load(options.studies, options.images, options.rows)
    folder = Path(tempfile.mkdtemp(prefix="node-load-"))
    try:
        outcomes = run(load, folder)
    finally:
        shutil.rmtree(folder)
    if options.write is not None:
        options.write.write_text(page(outcomes, load, "python -m tests.experiments.node_load --write"))
    return 0 if all(one.is_well for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
