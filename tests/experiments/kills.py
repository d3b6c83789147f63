"""kill -9 at any instant of `mine run`, then the same command again: the dataset of the undisturbed run.

    python -m tests.experiments.kills [--spread N] [--each N] [--chains N] [--keep FOLDER]

Kills come at moments spread evenly over the undisturbed run, at named instants of the work (`killed_child`), and
several in a row. They hit a first run and one that replaces an older dataset. After each the dataset folder must be
absent, or sound for `mine check`, or be called unfinished by it; after the restart digest, files and crosswalk must be
those of the undisturbed run, so no temporary file is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dicom_io.testbed.phantoms import write_phantoms
from tests.experiments.mined import KEY, Mined, mine
from tests.experiments.three_archives import embedded

UNTIL = "20201231"
"""The older dataset holds the studies until this day."""
ENDED = (0, 3)


@dataclass(frozen=True)
class Instant:
    """The n-th time that a step of the work comes to a point; `torn` leaves half of the file."""

    name: str
    number: int
    torn: bool = False

    def __str__(self) -> str:
        return f"{self.name} #{self.number}{' torn' if self.torn else ''}"


@dataclass(frozen=True)
class Start:
    """What a run starts from, and what it gives when nobody disturbs it."""

    name: str
    folder: Path | None
    """State to start from; None is nothing."""
    old_digest: str
    digest: str
    files: frozenset[str]
    crosswalk: frozenset[tuple[str, ...]]
    instants: Counter[str]
    seconds: float


@dataclass
class Result:
    """What the kills met."""

    phases: Counter[str] = field(default_factory=Counter)
    """Kills by the step that they hit."""
    datasets: Counter[str] = field(default_factory=Counter)
    """What lay in the dataset's place after a kill."""
    restarts: int = 0
    too_late: int = 0
    """Runs that had ended before their kill."""
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes that were ended by SIGKILL."""
        return sum(self.phases.values())


class Bench:
    """An archive in another process, the states to start from, and the undisturbed runs."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.result = Result()
        self._states = 0

    @cached_property
    def first(self) -> Start:
        """From nothing."""
        return self._undisturbed("first run", None)

    @cached_property
    def growing(self) -> Start:
        """From a dataset of the older studies, which is replaced."""
        base = self._state(None)
        self._run(base, "--to", UNTIL)
        return self._undisturbed("growing", base)

    def kill_at(self, start: Start, instants: Sequence[Instant]) -> None:
        """One kill after the other on one state, then a restart."""
        state = self._state(start.folder)
        for instant in instants:
            words = [instant.name, str(instant.number), *(["torn"] if instant.torn else [])]
            code = self._child(state, words)
            self._look(start, state, code, str(instant), instant.name)
        self._restart(start, state, " then ".join(map(str, instants)))

    def kill_after(self, start: Start, seconds: float) -> None:
        """A kill so many seconds after the start of the process, then a restart."""
        state = self._state(start.folder)
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "mine"), *self._words(state)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        self._look(start, state, process.wait(), f"{seconds:.2f} s", f"by clock: {_phase(state)}")
        self._restart(start, state, f"{start.name}, {seconds:.2f} s")

    # --- runs ---

    def _state(self, start: Path | None) -> Path:
        self._states += 1
        state = self.folder / f"state{self._states}"
        if start is None:
            state.mkdir()
        else:
            shutil.copytree(start, state)
        return state

    def _words(self, state: Path) -> list[str]:
        return ["run", self.address, "--out", str(state / "dataset"), "--work", str(state / "work")]

    def _run(self, state: Path, *more: str) -> None:
        ended = mine(*self._words(state), *more)
        assert ended.code in ENDED, f"exit code {ended.code}\n{ended.stdout}\n{ended.stderr}"

    def _child(self, state: Path, words: Iterable[str]) -> int:
        log = self.folder / "instants.log"
        log.unlink(missing_ok=True)
        child = [sys.executable, "-m", "tests.experiments.killed_child", str(log), *words, "--", *self._words(state)]
        done = subprocess.run(child, capture_output=True, text=True, env=_environment())
        assert done.returncode in (*ENDED, -signal.SIGKILL), f"exit code {done.returncode}\n{done.stderr}"
        return done.returncode

    def _undisturbed(self, name: str, base: Path | None) -> Start:
        state = self._state(base)
        old_digest = Mined(state / "dataset", state / "work").digest if base else ""
        begun_s = time.monotonic()
        self._run(state)
        seconds = time.monotonic() - begun_s
        watched = self._state(base)
        self._child(watched, [])
        instants = Counter((self.folder / "instants.log").read_text().splitlines())
        mined = Mined(state / "dataset", state / "work")
        assert Mined(watched / "dataset", watched / "work").digest == mined.digest, "watching changes the dataset"
        start = Start(name, base, old_digest, mined.digest, _files(state), _crosswalk(mined), instants, seconds)
        for done in (state, watched):
            shutil.rmtree(done)
        return start

    # --- checks ---

    def _look(self, start: Start, state: Path, code: int, name: str, phase: str) -> None:
        """What a killed process left; it must be nothing, whole, or known as unfinished."""
        if code != -signal.SIGKILL:
            self.result.too_late += 1
            return
        self.result.phases[phase] += 1
        self.result.datasets[self._dataset(start, state, name)] += 1

    def _dataset(self, start: Start, state: Path, name: str) -> str:
        dataset = state / "dataset"
        if not dataset.exists():
            return "absent"
        ended = mine("check", dataset, "--json")
        if ended.code == 0:
            digest = json.loads(ended.stdout.splitlines()[-1])["digest"]
            if digest in (start.old_digest, start.digest):
                return "old, sound" if digest == start.old_digest else "new, sound"
        elif ended.code == 6 and "no finished dataset" in ended.stdout:
            return "unfinished, said so"
        self.result.problems.append(f"{start.name}, {name}: mine check: {ended.code} {ended.stdout}{ended.stderr}")
        return "wrong"

    def _restart(self, start: Start, state: Path, name: str) -> None:
        """The normal command again: nothing may tell its result from the undisturbed run's."""
        self.result.restarts += 1
        ended = mine(*self._words(state))
        mined = Mined(state / "dataset", state / "work")
        wrong = []
        if ended.code not in ENDED:
            wrong.append(f"exit code {ended.code}: {ended.stderr}")
        elif mined.digest != start.digest:
            wrong.append(f"digest {mined.digest}, undisturbed {start.digest}")
        else:
            if mine("check", mined.out).code != 0:
                wrong.append("mine check finds fault")
            if _files(state) != start.files:
                wrong.append(f"files differ: {sorted(_files(state) ^ start.files)[:5]}")
            if _crosswalk(mined) != start.crosswalk:
                wrong.append("the crosswalk differs")
        if wrong:
            self.result.problems.append(f"{start.name}, {name}: {'; '.join(wrong)}")
        else:
            shutil.rmtree(state)


def _environment() -> dict[str, str]:
    return {**os.environ, "MINE_KEY": KEY}


def _files(state: Path) -> frozenset[str]:
    """Every file below the state, hidden ones too."""
    return frozenset(path.relative_to(state).as_posix() for path in state.rglob("*") if not path.is_dir())


def _crosswalk(mined: Mined) -> frozenset[tuple[str, ...]]:
    rows = mined.sql("SELECT public_id, kind, original FROM crosswalk")
    assert mined.sql("PRAGMA integrity_check") == [("ok",)], "the ledger is damaged"
    return frozenset(rows)


def _phase(state: Path) -> str:
    """Where a killed run was, from what lies on the disk."""
    ledger = state / "work" / "ledger.sqlite"
    if (state / ".dataset.building" / "manifest.json").exists():
        return "before or in the swap"
    if any((state / f".dataset.{end}").exists() for end in ("old", "trash")):
        return "in the swap"
    if (state / ".dataset.building").exists():
        return "building the dataset"
    if not ledger.exists():
        return "starting"
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if "run" not in tables or not database.execute("SELECT count(*) FROM run").fetchone()[0]:
            return "starting"
        ((finished,),) = database.execute("SELECT finished IS NOT NULL FROM run ORDER BY number DESC LIMIT 1")
        ((done,),) = database.execute("SELECT count(*) FROM study WHERE state = 'done'")
    if finished:
        return "ending"
    received = sum(1 for _ in (state / "work").glob("objects/*/*/*.dcm"))
    return f"finding or mining, {done} studies done" if received else "finding"


# --- which kills -----------------------------------------------------------------------------------------


def instants_of(start: Start, each: int) -> Iterator[Instant]:
    """For every instant that an undisturbed run passes `each` of its times, evenly chosen; flushes torn as well."""
    for name, count in sorted(start.instants.items()):
        wanted = sorted({1 + round((count - 1) * (place + 0.5) / each) for place in range(each)})
        for number in wanted:
            yield Instant(name, number)
            if name.endswith("before flush"):
                yield Instant(name, number, torn=True)


def chains_of(start: Start, chains: int, length: int = 4) -> Iterator[list[Instant]]:
    """Several kills in a row, at instants drawn by a fixed die and in the order of the work as far as it allows."""
    die = random.Random(8)
    names = sorted(start.instants)
    for _ in range(chains):
        drawn = [die.choice(names) for _ in range(length)]
        # A resumed run passes an instant less often: the first time is the likeliest still to come.
        yield [Instant(name, die.randint(1, min(3, start.instants[name]))) for name in drawn]


@contextmanager
def bench(folder: Path, people: Sequence[str] = ()) -> Iterator[Bench]:
    """A bench over small phantoms, of the named people or of all."""
    write_phantoms(folder / "phantoms", small=True)
    for person in sorted((folder / "phantoms").iterdir()):
        if people and person.name not in people:
            shutil.rmtree(person)
    place = folder / "embedded"
    place.mkdir()
    with embedded(place) as server:
        server.send(folder / "phantoms")
        yield Bench(folder, server.address)


def report(result: Result) -> str:
    """What was hit and what lay there, as Markdown."""
    late = f"{result.too_late} runs had ended before their kill"
    lines = [f"{result.kills} kills, {result.restarts} restarts; {late}", ""]
    for title, counted in (("hit", result.phases), ("dataset folder after the kill", result.datasets)):
        rows = [f"| {name} | {count} |" for name, count in sorted(counted.items())]
        lines += [f"| {title} | kills |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Prints the table and what does not hold; 1 where something does not."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.kills")
    parser.add_argument("--spread", type=int, default=20, help="kills spread over the time, in each of two starts")
    parser.add_argument("--each", type=int, default=1, help="kills at each named instant")
    parser.add_argument("--chains", type=int, default=5, help="chains of four kills, in each of two starts")
    parser.add_argument("--keep", type=Path, help="work here and keep it")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with bench(folder) as stand:
            for name in ("first", "growing"):
                start: Start = getattr(stand, name)
                print(f"{start.name}: {start.seconds:.1f} s undisturbed, {len(start.instants)} instants", flush=True)
                for place in range(options.spread):
                    stand.kill_after(start, start.seconds * (place + 0.5) / options.spread)
                for instant in instants_of(start, options.each) if options.each else ():
                    stand.kill_at(start, [instant])
                for chain in chains_of(start, options.chains):
                    stand.kill_at(start, chain)
                print(f"{stand.result.kills} kills, {len(stand.result.problems)} problems", flush=True)
    print(report(stand.result))
    print("\n".join(stand.result.problems) or "every restart gave the undisturbed dataset")
    return 1 if stand.result.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
