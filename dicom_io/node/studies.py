"""Looks after studies: asks whether they are whole, queues their jobs, frees the disk when they are done."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_io.node.completeness import ArchiveListing, Listing, Look, look_at
from dicom_io.node.journal import Journal, JournalError
from dicom_io.node.journal_pruning import prune
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics
from dicom_io.node.records import ReceivedSeries, ReceivedStudy
from dicom_io.node.rules import NodeRules, PeerRule
from dicom_io.node.sweeping import sweep
from dicom_io.store import ObjectStore

if TYPE_CHECKING:
    from dicom_io.node.server import NodeSettings

_LOOK_S = 0.25
_TROUBLE_S = 5.0
_LONGEST_PAUSE_S = 900.0
_FREE_EVERY_S = 60.0
_PRUNE_EVERY_S = 3600.0
_SWEEP_S = 0.05
"""What is given to left-overs between two looks."""
_CUT_EVERY_S = 0.1


class Studies:
    """One thread, from `start` to `stop`."""

    def __init__(
        self,
        journal: Journal,
        store: ObjectStore,
        rules: NodeRules,
        settings: NodeSettings,
        tls: ssl.SSLContext | None,
        *,
        log: NodeLog,
        metrics: Metrics,
    ) -> None:
        self._journal, self._store, self._rules, self._settings = journal, store, rules, settings
        self._tls, self._log, self._metrics = tls, log, metrics
        self._stopping = threading.Event()
        self._freed_s = self._pruned_s = float("-inf")
        self._sweep, self._swept, self.is_swept = sweep(journal, store, time.time()), 0, False
        self._lock = threading.Lock()
        self._listing: Listing | None = None
        """The archive that is asked just now."""
        # A daemon: an archive that does not answer must not keep the node from stopping.
        self._thread = threading.Thread(target=self._look_after, name="studies", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def look_no_more(self) -> None:
        """The study that is looked at now is looked at again after a restart; no archive is waited for."""
        self._stopping.set()
        with self._lock:
            if self._listing is not None:
                self._listing.cut()

    def stop(self, within_s: float) -> bool:
        """Looks no more; True where that was in time."""
        until_s = time.monotonic() + within_s
        while True:
            self.look_no_more()  # again and again: it may not have been waiting yet
            if self._thread.is_alive():
                self._thread.join(_CUT_EVERY_S)
            if not self._thread.is_alive() or time.monotonic() > until_s:
                return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """False where nobody looks."""
        return self._thread.is_alive()

    def _look_after(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                self._look_once()
            except (JournalError, OSError) as error:
                if self._stopping.is_set():
                    return  # it is closed
                self._log.error("journal", error)
                self._stopping.wait(_TROUBLE_S)

    def _look_once(self) -> None:
        for study in self._journal.studies_to_look_at(time.time()):
            if self._stopping.is_set():
                return
            self.look(study)
        if time.monotonic() - self._freed_s > _FREE_EVERY_S:
            self._free()
            self._freed_s = time.monotonic()
        if time.monotonic() - self._pruned_s > _PRUNE_EVERY_S:
            self._prune()
            self._pruned_s = time.monotonic()
        if not self.is_swept:
            self._go_on_sweeping()

    def look(self, study: ReceivedStudy) -> None:
        """Looks at one study: its jobs are queued, or it is looked at again later, or it is incomplete."""
        here = self._journal.series_of(study.study_instance_uid)
        known = (*here, *self._own(study.study_instance_uid))
        found = look_at(study.study_instance_uid, study.source, known, self._rules, self._open_archive)
        with self._lock:
            self._listing = None
        if self._stopping.is_set() and found.error is not None:
            return  # it was cut off
        peer = self._rules.peer(study.source)
        name = self._log.name(study.study_instance_uid)
        if found.is_whole:
            self._settle(study, "whole", "", here, run_all=True)
            return
        why = {} if found.error is not None else {"why": found.reason}
        assert peer is not None  # without a rule for its peer a study is whole
        if time.time() - study.last_arrival_s > peer.give_up_h * 3600:
            self._log.warning("study_incomplete", found.error, study=name, **why)
            self._settle(study, "incomplete", found.reason, here, run_all=False)
            return
        self._journal.look_again(study, found.reason, time.time() + _pause_s(peer, study, found))
        self._log.info("study_waits", found.error, study=name, missing=found.missing, **why)

    def _own(self, study_instance_uid: str) -> tuple[ReceivedSeries, ...]:
        """Our results of the study, one a series: the archive lists them, and nobody sends them to us."""
        results = self._journal.results([study_instance_uid])
        return tuple(
            ReceivedSeries(one.keys["SeriesInstanceUID"], "", "", "", None, (one.sop_instance_uid,)) for one in results
        )

    def _settle(
        self, study: ReceivedStudy, state: str, reason: str, here: Sequence[ReceivedSeries], *, run_all: bool
    ) -> None:
        jobs = []
        for rule in self._rules.of_peer(study.source):
            wanted = [one for one in here if rule.wants(one)]
            if wanted and (run_all or rule.incomplete == "run"):
                jobs.append((rule.name, [one.series_instance_uid for one in wanted], rule.digest(wanted)))
        queued = self._journal.settle(study, state, reason, jobs, time.time())
        if queued is not None:
            objects = sum(len(one.sop_instance_uids) for one in here)
            self._log.info(f"study_{state}", study=self._log.name(study.study_instance_uid), objects=objects,
                           jobs=queued)  # fmt: skip

    def _open_archive(self, address: str) -> Listing:
        listing = ArchiveListing(address, self._settings.ae_title, self._tls)
        with self._lock:
            self._listing = listing
        return listing

    def _free(self) -> None:
        """Removes received objects whose time is over; a study that comes once more is a new one."""
        if self._settings.keep_images_h is None:
            return
        before_s = time.time() - self._settings.keep_images_h * 3600
        for study in self._journal.to_free(before_s):
            # First it is no longer answered for, then it goes: a kill between leaves files, never promises.
            uids = self._journal.freed(study, before_s)
            for uid in uids:
                with self._journal.undisturbed():
                    if not self._journal.is_received(uid):  # else it has come once more meanwhile
                        self._store.remove(uid)
            if uids:
                self._log.info("study_freed", study=self._log.name(study), objects=len(uids))

    def _go_on_sweeping(self) -> None:
        """Removes what the last run left behind; a little at a time, since a store may hold millions of files."""
        until_s = time.monotonic() + _SWEEP_S
        while time.monotonic() < until_s and not self._stopping.is_set():
            removed = next(self._sweep, None)
            if removed is None:
                if self._swept:
                    self._log.info("left_overs_removed", count=self._swept)
                self.is_swept = True
                return
            self._swept += removed

    def _prune(self) -> None:
        """Forgets what has been done for long, in small steps: a kill between two loses nothing."""
        days, forgotten = self._settings.keep_journal_days, 0
        while days is not None and not self._stopping.is_set():
            count = prune(self._journal, time.time() - days * 86_400)
            forgotten += count
            if count == 0:
                break
        if forgotten:
            self._log.info("forgotten", count=forgotten)


def _pause_s(peer: PeerRule, study: ReceivedStudy, found: Look) -> float:
    """Until the next look: doubled each time, since nearline archives and long transfers take their time."""
    return min(peer.quiet_s * 2.0 ** min(study.looks, 10), _LONGEST_PAUSE_S)
