"""Jobs of the node: a model looks at the series of a study in a process of its own.

A process of its own keeps a model's memory, and its crashes, away from the associations.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cli.config import Settings
from deeplesion_miner.errors import MinerError
from dicom_io.node import JobFailed, JobRequest, Problem

if TYPE_CHECKING:
    from cli.finding import Predictor
    from deeplesion_miner.results import Result
    from dicom_io.emit import Emission

MOST_DETECTIONS = 100
"""Of a series, the surest; what is beyond is told with the job."""


class Workers:
    """Processes that run jobs; the first job of each loads its model, later ones find it loaded."""

    def __init__(self, settings: Settings, count: int, verbose: bool = False) -> None:
        self._settings, self._count, self._verbose = settings, count, verbose
        self._lock = threading.Lock()
        self._is_closed = False
        self._pool: ProcessPoolExecutor | None = None
        self._submitted: list[Future[Emission | Failure]] = []

    def run(self, request: JobRequest) -> Emission:
        """`dicom_io.node.Runner`: what one job gives."""
        with self._lock:
            if self._is_closed:  # a process that is made now would outlive the node
                raise JobFailed("the node stopped", temporary=True, problem=Problem.STOPPED)
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._count, get_context("spawn"), initializer=_prepare_worker, initargs=(self._verbose,)
                )
            pool = self._pool
        try:
            running = pool.submit(run_job, request, self._settings)
            with self._lock:
                self._submitted = [*(one for one in self._submitted if not one.done()), running]
            failure = running.exception()
        except (RuntimeError, CancelledError) as error:  # the node stops, or the pool broke just now
            raise self._failed(pool, error) from error
        if failure is not None:
            raise self._failed(pool, failure)
        answer = running.result()
        if isinstance(answer, Failure):
            raise JobFailed(answer.text, temporary=answer.temporary, problem=answer.problem, kind=answer.kind)
        return answer

    def _failed(self, pool: ProcessPoolExecutor, error: BaseException) -> JobFailed:
        """What no job foresees: a killed or crashed process, too little memory, an error in a library."""
        if isinstance(error, BrokenProcessPool):
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            return JobFailed(str(Problem.KILLED), temporary=True, problem=Problem.KILLED)
        temporary = isinstance(error, MemoryError | RuntimeError | CancelledError)
        kind = type(error).__name__
        return JobFailed(f"{kind}: {error}", temporary=temporary, problem=Problem.UNFORESEEN, kind=kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_closed = True
        if self._pool is None:
            return
        if any(not one.done() for one in self._submitted):
            for process in list(self._pool._processes.values()):
                process.terminate()  # the job is queued in the journal
        self._pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker(verbose: bool) -> None:
    """Leaves Ctrl-C, which goes to all processes of a terminal, to the node, and keeps libraries off its log.

    Ends with the node, however that ends: workers of a killed one would keep their models in memory for ever.
    """
    from cli.main import LIBRARIES

    threading.Thread(target=_end_with_the_node, name="end-with-the-node", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not verbose:  # what they warn of quotes values of the images
        logging.captureWarnings(True)
        for library in LIBRARIES:
            logging.getLogger(library).addHandler(logging.NullHandler())


def _end_with_the_node() -> None:
    node = parent_process()
    assert node is not None
    node.join()
    os._exit(1)  # nothing is to be tidied up: the job is queued in the journal


@dataclass(frozen=True)
class Failure:
    """Why a job was not done, as it comes over from a worker's process: exceptions of ours do not travel whole."""

    text: str
    temporary: bool
    problem: Problem = Problem.OTHER
    kind: str = ""


def run_job(request: JobRequest, settings: Settings) -> Emission | Failure:
    """Looks at the series and writes what was found; no objects where nothing was. Runs in a worker process."""
    try:
        return _looked(request, settings)
    except JobFailed as error:
        return Failure(str(error), error.temporary, error.problem, error.kind)
    except MinerError as error:
        return Failure(str(error), temporary=False, kind=type(error).__name__)
    except OSError as error:
        return Failure(str(error), temporary=True, kind=type(error).__name__)


def _looked(request: JobRequest, settings: Settings) -> Emission:
    from cli.finding import DROPPED, in_studies
    from cli.results import results_of
    from deeplesion_miner.studies import StudyQuery
    from dicom_io.emit import Emission, LeftOut

    rule = request.rule
    paths = tuple(path for series in sorted(request.paths) for path in request.paths[series])
    query = StudyQuery(study_instance_uids=(request.study_instance_uid,), measured=False)
    finding = in_studies(_predictor(rule.model, rule.least_score), settings, paths, query)
    if finding.is_partial:
        broken = ", ".join(f"{count} {reason}" for reason, count in finding.left_out.items())
        raise JobFailed(f"images cannot be read: {broken}", temporary=False, problem=Problem.IMAGES_UNREADABLE)
    if not finding.looked_at:
        raise MinerError(f"{finding.nothing}: {dict(finding.left_out)}")
    results = results_of(finding.detections, request.made_at)
    emissions = [_emitted(result, request, settings, paths) for result in results]
    left_out = [one for emission in emissions for one in emission.left_out]
    for why in DROPPED:
        left_out += [LeftOut("", "", kind, why) for kind in rule.emit] * finding.left_out[why]
    return Emission(
        tuple(one for emission in emissions for one in emission.objects),
        tuple(left_out),
        tuple(one for emission in emissions for one in emission.corrects),
        tuple(one for emission in emissions for one in emission.corrected_by),
    )


def _emitted(result: Result, request: JobRequest, settings: Settings, paths: tuple[Path, ...]) -> Emission:
    """One result, its objects checked before anybody sees them."""
    from cli import wiring
    from dicom_io.emit.from_archive import emit_from
    from dicom_io.lint import check_before_sending
    from dicom_io.opening import ArchiveOpener

    with ArchiveOpener(wiring.folder_settings(settings, paths)) as opener, closing(opener.open()) as opened:
        emission = emit_from(opened, result, request.rule.emit, waiting=request.earlier)
    for one in emission.objects:
        for broken in check_before_sending(one.encoded):
            raise MinerError(f"{one.kind} breaks {broken.rule} at {broken.path}: {broken.found}; not sent")
    return emission


@cache
def _predictor(model: Path, least_score: float) -> Predictor:
    from cli.finding import load

    return load(model, least_score=least_score, most=MOST_DETECTIONS, masks=True, delineator=None, device="auto",
                precision="auto")  # fmt: skip
