"""Small results sent to real archives by `mine send`, while everything that can break is broken.

    python -m tests.experiments.sending [--objects N] [--studies N] [--seed N] [--archive NAME] [--calm] [--keep FOLDER]

The archive (Orthanc with storage commitment, DCMTK's dcmqrscp without) is killed -9 and started again; a proxy before
it refuses, warns, lies, cuts, resets, aborts and falls silent; commitment reports are lost or come twice; two processes
of ours work at once and are killed -9. At the end the archive is asked by DCMTK's own clients: each object
must be there exactly once and say what was queued, and the outbox must agree with it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread

from dicom_io.emit import EmittedObject
from tests.experiments.hostile_proxy import Chances, HostileProxy
from tests.experiments.killed_archive import CALLING_AE, LOOPBACK, KilledArchive
from tests.experiments.stamped import Stamps
from tests.servers import free_port

FINDSCU, GETSCU, STORESCU = "/usr/bin/findscu", "/usr/bin/getscu", "/usr/bin/storescu"

STORM = Chances(
    close_at_connect=0.05,
    reject_transient=0.05,
    refuse={0xA700: 0.005, 0xC000: 0.005, 0x0110: 0.002},
    warn={0xB000: 0.005, 0xB006: 0.002, 0xB007: 0.005},
    lie={0xA700: 0.003, 0xC000: 0.003},
    reset_before=0.003,
    reset_after=0.003,
    cut=0.002,
    abort=0.002,
    silence=0.0005,
    reset_other=0.01,
)
"""Before the archive."""
REPORTS = Chances(close_at_connect=0.3, replay=0.2)
"""Before our receiver of commitment reports."""
CALM: dict[str, Any] = {
    "storm": Chances(),
    "reports": Chances(),
    "archive_lives": (1 << 30, 1 << 30),
    "process_lives": (1 << 30, 1 << 30),
    "processes": 1,
}
"""What a plan has instead when nothing is to break."""
PLANTED = {"mismatch": "patient_mismatch", "unknown": "study_unknown", "poison": "refused"}
"""Objects that must not arrive, and the reason by which they are refused."""


@dataclass
class Plan:
    """How much, and how rough."""

    objects: int
    studies: int
    seed: int
    planted: int = 10
    """Of each kind of `PLANTED`."""
    archive_lives: tuple[int, int] = (150, 800)
    """So many objects are queued or delivered between two kills; by the clock a slow machine would come to nothing."""
    archive_rests_s: tuple[float, float] = (0.2, 3.0)
    process_lives: tuple[int, int] = (50, 800)
    processes: int = 2
    storm: Chances = STORM
    reports: Chances = REPORTS
    compare: str = "auto"
    """Value of [send] compare."""
    idle_s: float = 8.0
    report_within_s: float = 20.0
    study_patience_h: float = 0.001
    """So long a study that never comes is waited for."""
    most_s: float = 7200.0


@dataclass
class Outcome:
    """What happened and what was found."""

    archive: str
    seconds: float = 0.0
    archive_kills: int = 0
    process_kills: int = 0
    process_starts: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bit_for_bit: int = 0
    problems: list[str] = field(default_factory=list)


class Bench:
    """One archive with its proxies, the results to be sent and the processes that send them."""

    def __init__(self, folder: Path, kind: str, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.outcome = Outcome(kind)
        self._die = random.Random(plan.seed)
        self._progress = self._files = 0
        self._listen_port = free_port()
        self._reports = HostileProxy(self._listen_port, plan.seed + 1, plan.reports)
        self.archive = KilledArchive(kind, folder / "archive", self._reports.port)
        self._stamps = Stamps.make(plan.seed, folder)
        self.wanted = {one.sop_instance_uid: one for one in self._results()}
        self.planted = dict(self._planted())
        poison = {uid: 0xA900 for uid, what in self.planted.items() if what == "poison"}
        self._proxy = HostileProxy(self.archive.port, plan.seed + 2, plan.storm, poison=poison)
        self.destination = f"{self.archive.title}@{LOOPBACK}:{self._proxy.port}"

    def close(self) -> None:
        """Ends archive and proxies."""
        self.archive.stop()
        self._proxy.close()
        self._reports.close()

    # --- what is sent ---

    def _results(self) -> Iterator[EmittedObject]:
        for number in range(self.plan.objects):
            yield self._stamps.result(number % self.plan.studies, number)

    def _planted(self) -> Iterator[tuple[str, str]]:
        """Writes what must not arrive beside the rest; UID and kind of each."""
        folder = self.folder / "results"
        folder.mkdir()
        for one in self.wanted.values():
            (folder / f"{one.sop_instance_uid}.dcm").write_bytes(one.encoded)
        number = self.plan.objects
        for what in PLANTED:
            for _ in range(self.plan.planted):
                study = number % self.plan.studies
                own = study if what != "unknown" else 90000 + study
                one = self._stamps.result(own, number)
                encoded = one.encoded
                if what == "mismatch":
                    other = self._stamps.patient(study + self.plan.studies)
                    encoded = encoded.replace(one.patient_id.encode(), other.encode())
                (folder / f"{one.sop_instance_uid}.dcm").write_bytes(encoded)
                yield one.sop_instance_uid, what
                number += 1

    # --- the run ---

    def run(self) -> Outcome:
        """The storm, then the look at what it left."""
        self._files = sum(1 for _ in (self.folder / "results").iterdir())
        self.archive.start()
        self._seed_studies()
        begun_s = time.monotonic()
        ending = threading.Event()
        killer = threading.Thread(target=self._kill_archive, args=(ending, random.Random(self.plan.seed + 3)))
        killer.start()
        try:
            self._send_and_kill(begun_s)
        finally:
            ending.set()
            killer.join()
        self.outcome.seconds = time.monotonic() - begun_s
        self.outcome.archive_kills = self.archive.kills
        self.outcome.happened, self.outcome.reports = self._proxy.happened, self._reports.happened
        self._look()
        return self.outcome

    def _seed_studies(self) -> None:
        """One image a study, by DCMTK's own client: what the archive has before results come."""
        folder = self.folder / "seed"
        folder.mkdir()
        for study in range(self.plan.studies):
            (folder / f"{study}.dcm").write_bytes(self._stamps.study_image(study))
        self._dcmtk(STORESCU, "+sd", "-R", LOOPBACK, str(self.archive.port), str(folder))

    def _kill_archive(self, ending: threading.Event, die: random.Random) -> None:
        end = die.randint(*self.plan.archive_lives)
        while not ending.wait(0.1):
            if self._progress >= end:
                self.archive.kill()
                time.sleep(die.uniform(*self.plan.archive_rests_s))
                self.archive.start()
                end = self._progress + die.randint(*self.plan.archive_lives)

    def _send_and_kill(self, begun_s: float) -> None:
        """Processes of ours, each killed after a while, until nothing is left to do."""
        running: dict[subprocess.Popen[bytes], int] = {}
        try:
            while time.monotonic() - begun_s < self.plan.most_s:
                self._progress = self._progressed()
                for process, end in list(running.items()):
                    if process.poll() is None and self._progress >= end:
                        process.send_signal(signal.SIGKILL)
                        process.wait()
                        self.outcome.process_kills += 1
                    if process.poll() is not None:
                        del running[process]
                if self._is_done():
                    break
                # Only one of them queues.
                while len(running) < (self.plan.processes if self._is_queued() else 1):
                    running[self._start()] = self._progress + self._die.randint(*self.plan.process_lives)
                time.sleep(0.1)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self.outcome.process_starts += 1
        words = ["send", "--to", self.destination, "--outbox", str(self.folder / "outbox"), "--wait"]
        if not self._is_queued():
            words.insert(1, str(self.folder / "results"))
        if self.archive.kind == "orthanc":
            words += ["--report-port", str(self._listen_port)]
        settings = {
            "first_pause_s": 0.2,
            "longest_pause_s": 5,
            "refusal_pause_s": 0.5,
            "compare": self.plan.compare,
            "idle_s": self.plan.idle_s,
            "report_within_s": self.plan.report_within_s,
            "study_patience_h": self.plan.study_patience_h,
        }
        for name, value in settings.items():
            words += ["--set", f"send.{name}={value}"]
        with (self.folder / "mine.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", "from cli.main import main; main()", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if not name.startswith("MINE_")},
            )

    # --- the outbox, from outside ---

    def _rows(self, sql: str) -> list[tuple[str, ...]]:
        path = self.folder / "outbox" / "outbox.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
            try:
                return database.execute(sql).fetchall()
            except sqlite3.OperationalError:  # its tables are about to be made
                return []

    def _progressed(self) -> int:
        """How many objects were queued, and how many are settled, together."""
        found = self._rows("SELECT count(*) + coalesce(sum(state IN ('committed', 'verified', 'dead')), 0) FROM object")
        return int(found[0][0]) if found else 0

    def _is_queued(self) -> bool:
        total = self._rows("SELECT count(*) FROM object")
        return bool(total) and int(total[0][0]) == self._files

    def _is_done(self) -> bool:
        left = self._rows("SELECT count(*) FROM object WHERE state IN ('queued', 'sent', 'failed')")
        return self._is_queued() and int(left[0][0]) == 0

    # --- the look ---

    def _look(self) -> None:
        """Compares outbox, archive and what was queued."""
        rows = self._rows("SELECT sop_instance_uid, state, reason FROM object")
        self.outcome.states = Counter(state for _, state, _ in rows)
        self.outcome.reasons = Counter(f"{state}: {reason}" for _, state, reason in rows if reason)
        delivered = {uid for uid, state, _ in rows if state in ("committed", "verified")}
        dead = {uid: reason for uid, state, reason in rows if state == "dead"}
        self._expect(delivered == set(self.wanted), "the outbox does not say that all and only those arrived",
                     delivered ^ set(self.wanted))  # fmt: skip
        wanted_dead = {uid: PLANTED[what] for uid, what in self.planted.items()}
        self._expect(dead == wanted_dead, "dead letters are not those that were planted, by their reasons",
                     set(dead.items()) ^ set(wanted_dead.items()))  # fmt: skip
        listed: Counter[str] = Counter()
        for study in range(self.plan.studies):
            listed.update(self._listed(study))
            self._compare(study)
        twice = {uid for uid, count in listed.items() if count > 1}
        self._expect(not twice, "listed more than once", twice)
        self._expect(set(listed) == set(self.wanted), "not what the archive lists", set(listed) ^ set(self.wanted))
        self._expect(set(listed) == delivered, "the outbox does not agree with C-FIND", set(listed) ^ delivered)

    def _expect(self, holds: bool, text: str, differing: set[object] | set[str]) -> None:
        if not holds:
            some = ", ".join(sorted(map(str, differing))[:5])
            self.outcome.problems.append(f"{text}: {len(differing)}, for instance {some}")

    def _listed(self, study: int) -> list[str]:
        """SOP Instance UIDs of the study's results, by findscu; the image that was there before is left out."""
        said = self._ask(
            FINDSCU, "-v", "-S", "-k", "SeriesInstanceUID", "-k", "SOPInstanceUID", level="IMAGE", study=study
        )
        answers = said.partition("Find Response: 1")[2]
        found = re.findall(r"\(0008,0018\) UI \[([0-9.]+)", answers)
        image = str(dcmread(BytesIO(self._stamps.study_image(study))).SOPInstanceUID)
        return [uid for uid in found if uid != image]

    def _compare(self, study: int) -> None:
        """Fetches a study by getscu and compares each result with what was queued, element by element."""
        folder = self.folder / "fetched"
        folder.mkdir()
        self._ask(GETSCU, "-S", "+B", "-od", str(folder), level="STUDY", study=study)
        files = [(path, dcmread(path)) for path in folder.iterdir()]
        results = [(path, one) for path, one in files if one.SOPInstanceUID in self.wanted]
        expected = {uid for uid, one in self.wanted.items() if one.study_instance_uid == self._stamps.study_uid(study)}
        found = {str(one.SOPInstanceUID) for _, one in results}
        self._expect(found == expected, f"study {study}: not what can be fetched", found ^ expected)
        self._expect(len(files) == len(results) + 1, f"study {study}: fetched files", {str(len(files))})
        for path, one in results:
            own = self.wanted[str(one.SOPInstanceUID)].encoded
            ours = dcmread(BytesIO(own))
            self._expect(one == ours, "changed", {str(one.SOPInstanceUID)})
            self.outcome.bit_for_bit += path.read_bytes().endswith(own[_data_set_at(own) :])
        shutil.rmtree(folder)

    def _ask(self, program: str, *words: str, level: str, study: int) -> str:
        keys = ("-k", f"QueryRetrieveLevel={level}", "-k", f"StudyInstanceUID={self._stamps.study_uid(study)}")
        return self._dcmtk(program, *words, *keys, LOOPBACK, str(self.archive.port))

    def _dcmtk(self, *words: str) -> str:
        title = ["-aet", CALLING_AE, "-aec", self.archive.title]
        done = subprocess.run(
            [words[0], *title, *words[1:]], capture_output=True, text=True, env={**os.environ, "TCP_NODELAY": "1"}
        )
        assert done.returncode == 0, f"{words[0]}: {done.stdout[-1000:]} {done.stderr[-1000:]}"
        return done.stdout + done.stderr


def _data_set_at(file: bytes) -> int:
    """Where the data set of a PS3.10 file begins."""
    return 144 + int.from_bytes(file[140:144], "little")


@contextmanager
def bench(folder: Path, kind: str, plan: Plan) -> Iterator[Bench]:
    """A bench that is taken down at the end."""
    with closing(Bench(folder, kind, plan)) as made:
        yield made


def report(outcome: Outcome, plan: Plan) -> str:
    """What happened and what was found, as Markdown."""
    lines = [
        f"## {outcome.archive}",
        "",
        f"{plan.objects:,} results and {plan.planted * len(PLANTED)} that must not arrive, in {plan.studies} studies:"
        f" {outcome.seconds:.0f} s, {plan.objects / outcome.seconds:.0f} a second.",
        f"The archive was killed {outcome.archive_kills} times, of {outcome.process_starts} processes of ours"
        f" {outcome.process_kills} were.",
        "",
        "| what happened on the way | times |",
        "|---|---|",
        *(f"| {what} | {count:,} |" for what, count in sorted(outcome.happened.items())),
        *(f"| reports: {what} | {count:,} |" for what, count in sorted(outcome.reports.items())),
        "",
        "| in the outbox at the end | objects |",
        "|---|---|",
        *(f"| {what} | {count:,} |" for what, count in sorted(outcome.states.items())),
        *(f"| {what} | {count:,} |" for what, count in sorted(outcome.reasons.items())),
        "",
        f"Fetched back with the very bytes of the data set that was queued: {outcome.bit_for_bit:,}.",
        "",
        "Problems: " + ("none." if not outcome.problems else ""),
        *(f"- {problem}" for problem in outcome.problems),
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Prints what was found; 1 where something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.sending")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--archive", choices=["orthanc", "dcmqrscp"], action="append")
    parser.add_argument("--compare", choices=["auto", "always"], default="auto", help="as [send] compare")
    parser.add_argument("--calm", action="store_true", help="one process and no faults: how fast it is")
    parser.add_argument("--keep", type=Path, help="work here and keep it")
    options = parser.parse_args(arguments)
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        for kind in options.archive or ["orthanc", "dcmqrscp"]:
            folder = (options.keep or Path(temporary)) / kind
            folder.mkdir(parents=True)
            plan = Plan(options.objects, options.studies, options.seed, compare=options.compare)
            plan = replace(plan, **CALM) if options.calm else plan
            with bench(folder, kind, plan) as stand:
                outcome = stand.run()
            print(report(outcome, plan), flush=True)
            wrong += len(outcome.problems)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
