"""Jobs: a rule, applied to the chosen series of a whole study, by whoever can look at images.

The room of DICOM knows no models: a `Runner` is given at the top. Jobs are in the journal before they run, and what
they made is in the outbox and among our own results before they are done; so a job that was interrupted runs again
and makes the same objects once more, which change nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deeplesion_miner.errors import MinerError
from dicom_io.emit import Emission, LeftOut
from dicom_io.node.failures import JobFailed, Problem
from dicom_io.node.journal import Journal, JournalError
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics
from dicom_io.node.own_results import OwnResults
from dicom_io.node.records import Job
from dicom_io.node.rules import NodeRules, SeriesRule
from dicom_io.outbox import Outbox
from dicom_io.outbox_file import OutboxNotWorking
from dicom_io.outbox_reports import reports_of
from dicom_io.store import ObjectStore

ATTEMPTS = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 3600.0
_LOOK_S = 0.5
_TROUBLE_S = 5.0


@dataclass(frozen=True)
class JobRequest:
    """What a runner is asked to do. It can be sent to another process."""

    study_instance_uid: str
    rule: SeriesRule
    paths: Mapping[str, tuple[Path, ...]]
    """Files of the chosen series, by Series Instance UID."""
    made_at: datetime
    """Date and time of the results: the same however often the job runs."""
    earlier: tuple[Path, ...] = ()
    """Files of the reports that the rule's destination has got for the study, or will get."""


Runner = Callable[[JobRequest], Emission]
"""Looks at the series, and says which lesions are not in which objects.

Raises `JobFailed` or another `MinerError` (permanent), or OSError (temporary).
"""


class Jobs:
    """Runs the journal's jobs in `concurrency` threads, from `start` to `stop`."""

    def __init__(
        self,
        journal: Journal,
        store: ObjectStore,
        own_results: OwnResults,
        outbox: Outbox,
        rules: NodeRules,
        runner: Runner,
        concurrency: int,
        *,
        log: NodeLog,
        metrics: Metrics,
    ) -> None:
        self._journal, self._store, self._own_results, self._outbox = journal, store, own_results, outbox
        self._rules, self._runner, self._log, self._metrics = rules, runner, log, metrics
        self._stopping = threading.Event()
        # Daemons: a model that does not come to its end must not keep the node from stopping.
        self._threads = [
            threading.Thread(target=self._work, name=f"job-{number}", daemon=True) for number in range(concurrency)
        ]

    def start(self) -> None:
        """Queues again what was interrupted, and begins."""
        interrupted = self._journal.requeue_interrupted()
        if interrupted:
            self._log.info("jobs_taken_up_again", count=interrupted)
        for thread in self._threads:
            thread.start()

    def claim_no_more(self) -> None:
        """What runs goes on."""
        self._stopping.set()

    def stop(self, within_s: float) -> bool:
        """Claims no more; True where all running ones ended in time. The others run again after a restart."""
        self.claim_no_more()
        until_s = time.monotonic() + within_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(until_s - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def is_alive(self) -> bool:
        """False where a thread has ended that should run."""
        return all(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while not self._stopping.is_set():
            job: Job | None = None
            try:
                job = self._journal.claim_job(time.time())
                if job is None:
                    self._stopping.wait(_LOOK_S)
                else:
                    self.run_one(job)
            except JournalError as error:
                if self._stopping.is_set():
                    return  # it is closed, and the job runs again after a restart
                self._log.error("journal", error)
                self._give_back(job)

    def _give_back(self, job: Job | None) -> None:
        """Waits for a journal that could not be written, and has the job run again; a restart would do so, too."""
        while not self._stopping.wait(_TROUBLE_S):
            try:
                if job is not None:
                    now_s = time.time()
                    self._journal.job_failed(job, "the journal could not be written", now_s, now_s=now_s)
            except JournalError:
                continue
            return

    def run_one(self, job: Job) -> None:
        """Runs a claimed job and records what came of it."""
        started_s = time.monotonic()
        name = self._log.name(job.study_instance_uid)
        self._log.info("job_started", study=name, rule=job.rule, attempt=job.attempts)
        try:
            emission = self._made(job)
        except (MinerError, OSError) as error:
            temporary = _may_pass(error)
            if temporary and self._stopping.is_set():
                self._journal.job_interrupted(job)
                return
            again = temporary and job.attempts < ATTEMPTS
            pause_s = min(_FIRST_PAUSE_S * 2 ** (job.attempts - 1), _LONGEST_PAUSE_S)
            now_s = time.time()
            self._journal.job_failed(job, str(error), now_s + pause_s if again else None, now_s=now_s)
            self._log.warning("job_failed", error, study=name, rule=job.rule, job=job.number, again=again)
            return
        seconds = time.monotonic() - started_s
        left_out = _left_out_text(emission.left_out)
        self._journal.job_done(job, len(emission.objects), left_out, now_s=time.time())
        self._metrics.count("job_seconds_total", by=seconds)
        for one in emission.objects:
            self._metrics.count("results_total", kind=one.kind)
        made = len(emission.objects)
        self._log.info(
            "job_done",
            study=name,
            rule=job.rule,
            results=made,
            left_out=left_out,
            corrects=len(emission.corrects),
            seconds=round(seconds, 3),
        )

    def _made(self, job: Job) -> Emission:
        rule = self._rules.rule(job.rule)
        if rule is None:
            text = f"the rule {job.rule} is no longer in the rule file"
            raise JobFailed(text, temporary=False, problem=Problem.NO_RULE)
        chosen = set(job.series_instance_uids)
        paths: dict[str, tuple[Path, ...]] = {}
        for series in self._journal.series_of(job.study_instance_uid):
            if series.series_instance_uid in chosen:
                here = (self._store.path(uid) for uid in series.sop_instance_uids)
                paths[series.series_instance_uid] = tuple(path for path in here if path is not None)
        if not any(paths.values()):
            raise JobFailed("its images are no longer here", temporary=False, problem=Problem.NO_IMAGES)
        made_at = datetime.fromtimestamp(int(job.made_s), UTC).astimezone()
        earlier = self._earlier(rule.destination, job.study_instance_uid)
        emission = self._runner(JobRequest(job.study_instance_uid, rule, paths, made_at, earlier))
        self._own_results.keep(emission.objects)
        self._outbox.put(emission.objects, rule.destination, time.time())
        return emission

    def _earlier(self, destination: str, study_instance_uid: str) -> tuple[Path, ...]:
        """Reports for this destination, of which our own results keep the files for good."""
        queued = reports_of(self._outbox, destination, study_instance_uid)
        return tuple(self._own_results.path(uid) or path for uid, path in sorted(queued.items()))


def _left_out_text(left_out: Sequence[LeftOut]) -> str:
    """'2 no_axes of dicom-sr, 1 no_mask of dicom-seg'; '' where every lesion is in every object."""
    counts = Counter((one.why, one.kind) for one in left_out)
    return ", ".join(f"{count} {why} of {kind}" for (why, kind), count in sorted(counts.items()))


def _may_pass(error: MinerError | OSError) -> bool:
    """Whether the job may succeed later: of a full disk it is known, and of what the runner says of itself."""
    if isinstance(error, JobFailed):
        return error.temporary
    return isinstance(error, OSError | JournalError | OutboxNotWorking)
