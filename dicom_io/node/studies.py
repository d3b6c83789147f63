"""Looks after studies: asks whether they are whole, queues their jobs, frees the disk when they are done."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_io.node.completeness import ArchiveListing, Listing, Look, look_at
from dicom_io.node.journal import Journal, JournalError
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics
from dicom_io.node.records import ReceivedSeries, ReceivedStudy
from dicom_io.node.rules import NodeRules, PeerRule
from dicom_io.store import ObjectStore

if TYPE_CHECKING:
    from dicom_io.node.server import NodeSettings

_LOOK_S = 0.25
_TROUBLE_S = 5.0
_LONGEST_PAUSE_S = 900.0
_FREE_EVERY_S = 60.0


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
        self._freed_s = float("-inf")
        self._thread = threading.Thread(target=self._look_after, name="studies")

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the study that is looked at now."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """False where nobody looks."""
        return self._thread.is_alive()

    def _look_after(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                self._look_once()
            except (JournalError, OSError) as error:
                self._log.error("journal", why=str(error))
                self._stopping.wait(_TROUBLE_S)

    def _look_once(self) -> None:
        for study in self._journal.studies_to_look_at(time.time()):
            if self._stopping.is_set():
                return
            self.look(study)
        if time.monotonic() - self._freed_s > _FREE_EVERY_S:
            self._free()
            self._freed_s = time.monotonic()

    def look(self, study: ReceivedStudy) -> None:
        """Looks at one study: its jobs are queued, or it is looked at again later, or it is incomplete."""
        here = self._journal.series_of(study.study_instance_uid)
        known = (*here, *self._own(study.study_instance_uid))
        found = look_at(study.study_instance_uid, study.source, known, self._rules, self._open_archive)
        peer = self._rules.peer(study.source)
        name = self._log.name(study.study_instance_uid)
        if found.is_whole:
            self._settle(study, "whole", "", here, run_all=True)
            return
        assert peer is not None  # without a rule for its peer a study is whole
        if time.time() - study.last_arrival_s > peer.give_up_h * 3600:
            self._log.warning("study_incomplete", study=name, why=found.reason)
            self._settle(study, "incomplete", found.reason, here, run_all=False)
            return
        self._journal.look_again(study, found.reason, time.time() + _pause_s(peer, study, found))
        self._log.info("study_waits", study=name, missing=found.missing, why=found.reason)

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
        return ArchiveListing(address, self._settings.ae_title, self._tls)

    def _free(self) -> None:
        """Removes received objects whose time is over; a study that comes once more is a new one."""
        if self._settings.keep_images_h is None:
            return
        for study, uids in self._journal.to_free(time.time() - self._settings.keep_images_h * 3600):
            # First it is no longer answered for, then it goes: a kill between leaves files, never promises.
            self._journal.freed(study)
            for uid in uids:
                with self._journal.undisturbed():
                    if not self._journal.is_received(uid):  # else it has come once more meanwhile
                        self._store.remove(uid)
            self._log.info("study_freed", study=self._log.name(study), objects=len(uids))


def _pause_s(peer: PeerRule, study: ReceivedStudy, found: Look) -> float:
    """Until the next look: doubled each time, since nearline archives and long transfers take their time."""
    return min(peer.quiet_s * 2.0 ** min(study.looks, 10), _LONGEST_PAUSE_S)
