"""The node as a whole: builds its parts, starts them, stops them so that nothing is lost."""

from __future__ import annotations

import os
import resource
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_io import commitment, negotiation
from dicom_io.delivery import Wire
from dicom_io.node.admission import Admission
from dicom_io.node.association import NodeAssociation, make_association
from dicom_io.node.commitments import Commitments
from dicom_io.node.deliveries import Deliveries, OpenWire
from dicom_io.node.gate import Gate
from dicom_io.node.health import HealthServer
from dicom_io.node.intake import Intake
from dicom_io.node.jobs import Jobs, Runner
from dicom_io.node.journal import Journal
from dicom_io.node.limits import NodeLimits
from dicom_io.node.log import NodeLog
from dicom_io.node.metrics import Metrics
from dicom_io.node.own_results import OwnResults
from dicom_io.node.pace import Paces
from dicom_io.node.rules import NodeRules
from dicom_io.node.studies import Studies
from dicom_io.outbox import Outbox
from dicom_io.store import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, ObjectStore

SUCCESS = 0x0000
_STANDING_S = 0.05
_LEAST_S = 1.0
"""What each part gets to end, however long the others took."""


@dataclass(frozen=True)
class NodeSettings:
    """How a node is run."""

    folder: Path
    """The node's own: received objects, journal, results. Trusted side."""
    ae_title: str
    host: str = "127.0.0.1"
    port: int = 11113
    """0 takes a free one."""
    health_host: str = "127.0.0.1"
    health_port: int | None = None
    """0 takes a free one; None answers nobody."""
    max_object_bytes: int | None = None
    concurrency: int = 1
    """Jobs at one time."""
    keep_images_h: float | None = None
    """Received objects of studies that are done are removed after this; None keeps them."""
    keep_journal_days: float | None = 30.0
    """What was done and removed is forgotten after this; None keeps it in the journal."""
    verbose: bool = False
    """The log holds UIDs."""
    limits: NodeLimits = field(default_factory=NodeLimits)


class Node:
    """A running node, from `start` to `stop`; a folder has one at a time."""

    def __init__(
        self,
        settings: NodeSettings,
        rules: NodeRules,
        outbox: Outbox,
        runner: Runner,
        *,
        open_wire: OpenWire | None = None,
        tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        log_to: TextIO = sys.stderr,
    ) -> None:
        """`open_wire` opens the ways to destinations; None leaves results in the outbox.

        `tls` is for those who connect to us, `client_tls` for the archives and peers that we connect to.
        """
        self._settings, self._rules, self._outbox = settings, rules, outbox
        self._associations: set[NodeAssociation] = set()
        self._lock, self._stop_lock = threading.Lock(), threading.Lock()
        self._is_stopping = self._all_ended = False
        self._health: HealthServer | None = None
        self.journal = Journal(settings.folder)
        try:
            self._make_parts(runner, open_wire, client_tls, log_to)
            self._take_ports(tls)
        except BaseException:
            if self._health is not None:
                self._health.close()
            self.journal.close()
            raise

    def _make_parts(
        self, runner: Runner, open_wire: OpenWire | None, client_tls: ssl.SSLContext | None, log_to: TextIO
    ) -> None:
        """All that works behind the ports; none of it runs before `start`."""
        settings, rules, limits = self._settings, self._rules, self._settings.limits
        self.log = NodeLog(log_to, self.journal.log_key(), verbose=settings.verbose)
        self.metrics = Metrics()
        self.store = ObjectStore(settings.folder / "objects", settings.max_object_bytes)
        self._own_results = OwnResults(ObjectStore(settings.folder / "results"), self.journal, settings.ae_title)
        peers = [one.peer() for one in rules.peers]
        self._intake = Intake(
            self.store, settings.folder, self.journal, limits, quiet_s=self._quiet_s,
            paces=Paces({one.ae_title: one.objects_per_minute for one in peers}), log=self.log, metrics=self.metrics,
        )  # fmt: skip
        self._studies = Studies(
            self.journal, self.store, rules, settings, client_tls, log=self.log, metrics=self.metrics
        )
        self._jobs = Jobs(
            self.journal,
            self.store,
            self._own_results,
            self._outbox,
            rules,
            runner,
            settings.concurrency,
            log=self.log,
            metrics=self.metrics,
        )
        report_to = {one.ae_title: one.report_to for one in peers}
        self._commitments = Commitments(
            self.journal,
            settings.ae_title,
            lambda peer: report_to.get(peer, ""),
            tls=client_tls,
            log=self.log,
            metrics=self.metrics,
        )
        destinations = rules.destinations() if open_wire is not None else ()
        self._deliveries = Deliveries(self._outbox, destinations, open_wire or _no_wire, self.log)
        self._admission = Admission(settings.ae_title, peers, limits.associations)
        self._entity = self._made_entity()

    def _take_ports(self, tls: ssl.SSLContext | None) -> None:
        """Before a thread runs: threads would go on without the one who could stop them."""
        settings = self._settings
        if settings.health_port is not None:
            self._health = HealthServer(
                settings.health_host, settings.health_port, self.health_problems, self.readiness_problems, self.metrics
            )
        self._gate = Gate(
            (settings.host, settings.port),
            self._admission,
            settings.limits,
            self._enter,
            tls=tls,
            log=self.log,
            metrics=self.metrics,
        )
        self.port = self._gate.port
        self.health_port = None if self._health is None else self._health.port

    def start(self) -> None:
        """Opens the door, after what the last run left is taken up. Where it cannot, nothing of it stays running."""
        try:
            self._gauges()
            self._jobs.start()
            self._studies.start()
            self._commitments.start()
            self._deliveries.start()
            self._gate.start()
            if self._health is not None:
                self._health.start()
        except BaseException:
            self.stop()
            raise
        self.log.info("started", ae_title=self._settings.ae_title, port=self.port, health_port=self.health_port)

    def stop(self) -> bool:
        """Takes no more associations, lets those that are open and the running jobs end within `stop_s`.

        True where all ended by themselves. What did not is aborted, and goes on after a restart: its sender was not
        told of success, its job is queued. A second call waits for the first, and does nothing more.
        """
        with self._stop_lock:
            if not self._is_stopping:
                self._is_stopping = True
                self._all_ended = self._stop()
            return self._all_ended

    def _stop(self) -> bool:
        self._admission.close()
        self.log.info("stopping", associations=self._admission.inside())
        until_s = time.monotonic() + self._settings.limits.stop_s
        self._jobs.claim_no_more()
        self._studies.look_no_more()
        ended = [self._wait_for_associations(until_s)]
        self._gate.close()
        for association in self._open():
            association.abort(block=False)
        self._wait_for_associations(time.monotonic() + _LEAST_S)
        for association in self._open():
            association.cut_off()
        self._wait_for_associations(time.monotonic() + _LEAST_S)
        parts = (self._studies, self._commitments, self._jobs, self._deliveries)
        ended += [part.stop(max(until_s - time.monotonic(), _LEAST_S)) for part in parts]
        if self._health is not None:
            self._health.close()
        self.log.info("stopped", all_ended=all(ended))
        # A thread that is late is told that it is closed; what it did not record is done again after a restart.
        self.journal.close()
        return all(ended)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- how it is -----------------------------------------------------------------------------------------

    def health_problems(self) -> dict[str, str]:
        """Parts that have ended and should not have."""
        alive = {
            "gate": self._gate.is_alive,
            "studies": self._studies.is_alive,
            "jobs": self._jobs.is_alive,
            "commitments": self._commitments.is_alive,
            "deliveries": self._deliveries.is_alive,
        }
        return {name: "has ended" for name, is_alive in alive.items() if not is_alive and not self._is_stopping}

    def readiness_problems(self) -> dict[str, str]:
        """Why objects would be refused now."""
        limits, problems = self._settings.limits, {}
        if self._is_stopping:
            problems["stopping"] = "no new associations"
        if self._intake.free_bytes() < limits.free_bytes:
            problems["disk"] = f"{self._intake.free_bytes()} bytes are free, {limits.free_bytes} are kept free"
        if self.journal.open_studies() >= limits.open_studies:
            problems["studies"] = f"{limits.open_studies} studies wait to be looked at"
        return problems

    def thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """For `threading.excepthook`: Python's own would write the error's text, and the lines of the program."""
        tell = self.log.error
        tell("thread_failed", failure.exc_value, thread=failure.thread.name if failure.thread else "")

    def _gauges(self) -> None:
        metrics = self.metrics
        metrics.gauge("associations", self._admission.inside)
        metrics.gauge("waiting_connections", lambda: self._gate.waiting)
        metrics.gauge("studies", self.journal.studies_by_state, "state")
        metrics.gauge("jobs", self.journal.jobs_by_state, "state")
        metrics.gauge("outbox", self._outbox_counts, "state")
        metrics.gauge("free_bytes", self._intake.free_bytes)
        metrics.gauge("resident_bytes", resident_bytes)
        metrics.gauge("open_descriptors", open_descriptors)
        metrics.gauge("threads", threading.active_count)
        started_s = time.time()
        metrics.gauge("start_time_seconds", lambda: started_s)

    def _outbox_counts(self) -> dict[str, float]:
        totals: dict[str, float] = {}
        for counts in self._outbox.counts().values():
            for state, count in counts.items():
                totals[state] = totals.get(state, 0) + count
        return totals

    # --- associations --------------------------------------------------------------------------------------

    def _made_entity(self) -> AE:
        limits = self._settings.limits
        entity = AE(ae_title=self._settings.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_associations = 2 * limits.associations  # the gate counts; some are just ending
        entity.maximum_pdu_size = limits.pdu_bytes
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = limits.idle_s
        for one in negotiation.node_contexts():  # set as a list, they would lose their roles
            entity.add_supported_context(one.abstract_syntax, one.transfer_syntax, scu_role=True, scp_role=True)
        for service in (negotiation.ECHO, negotiation.FIND, negotiation.GET):
            entity.add_supported_context(service, negotiation.UNCOMPRESSED)
        # Peers ask for commitment as users, and report on our own requests as providers.
        entity.add_supported_context(StorageCommitmentPushModel, negotiation.UNCOMPRESSED, scu_role=True, scp_role=True)
        return entity

    def _enter(self, connection: Any, remote: tuple[str, int], first_pdu: bytes, peer: Any) -> None:
        association = make_association(
            self._entity,
            connection,
            remote,
            first_pdu,
            peer,
            store=self.store,
            limits=self._settings.limits,
            handlers=self._handlers(),
            ended=self._left,
            aborted=lambda reason: self._aborted(peer.ae_title, reason),
        )
        with self._lock:
            self._associations.add(association)
        try:
            association.start()
        except RuntimeError:
            with self._lock:
                self._associations.discard(association)
            raise

    def _handlers(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        return [
            (evt.EVT_CONN_OPEN, negotiation.send_at_once),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._intake.on_store),
            (evt.EVT_C_FIND, self._counted("C-FIND", self._own_results.on_find)),
            (evt.EVT_C_GET, self._counted("C-GET", self._own_results.on_get)),
            (evt.EVT_N_ACTION, self._commitments.on_action),
            commitment.handler(self._on_report),
        ]

    def _counted(self, service: str, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def handle(event: Any) -> Any:
            self.metrics.count("services_total", service=service)
            return handler(event)

        return handle

    def _on_echo(self, event: Any) -> int:
        self.metrics.count("services_total", service="C-ECHO")
        return SUCCESS

    def _on_report(self, report: commitment.CommitmentReport) -> bool:
        """An archive's word for what our outbox sent."""
        is_ours = self._outbox.report(report.transaction_uid, report.committed, report.failed, time.time())
        self.log.info("report_came", transaction=self.log.name(report.transaction_uid), is_ours=is_ours,
                      committed=len(report.committed), failed=len(report.failed))  # fmt: skip
        return is_ours

    def _left(self, association: NodeAssociation) -> None:
        self._admission.leave(association.peer)
        with self._lock:
            self._associations.discard(association)

    def _aborted(self, peer: str, reason: str) -> None:
        self.metrics.count("aborts_total", reason=reason)
        self.log.warning("aborted", peer=peer, why=reason)

    def _open(self) -> list[NodeAssociation]:
        with self._lock:
            return list(self._associations)

    def _wait_for_associations(self, until_s: float) -> bool:
        # Counted by admission: one that was just admitted is not among the open ones yet.
        while self._admission.inside() and time.monotonic() < until_s:
            time.sleep(_STANDING_S)
        return not self._admission.inside()

    def _quiet_s(self, ae_title: str) -> float:
        peer = self._rules.peer(ae_title)
        return peer.quiet_s if peer is not None else 0.0


def _no_wire(destination: str) -> Wire:
    raise AssertionError(f"nothing is delivered to {destination}")


def resident_bytes() -> float:
    """Resident memory of this process now; of its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def open_descriptors() -> float:
    """File descriptors of this process; 0 where the system does not tell."""
    try:
        return float(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    except OSError:
        return 0.0
