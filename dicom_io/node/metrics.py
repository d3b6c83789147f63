"""Counters and gauges in Prometheus' text format (exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

PREFIX = "mine_node_"
HELP = {
    "connections_total": "TCP connections by what became of them before they asked for an association.",
    "associations_total": "Requests for an association by decision.",
    "associations": "Associations that are open.",
    "waiting_connections": "Connections that have not asked for an association.",
    "objects_total": "C-STORE requests by peer and status.",
    "object_bytes_total": "Bytes of data sets that were stored.",
    "services_total": "C-ECHO, C-FIND, C-GET and N-ACTION requests by status.",
    "aborts_total": "Associations that the node aborted, by reason.",
    "studies": "Studies by state.",
    "jobs": "Jobs by state.",
    "job_seconds_total": "Time that jobs took.",
    "results_total": "Objects that jobs made, by kind.",
    "outbox": "Objects of the outbox by state.",
    "free_bytes": "Free space of the disk that holds the objects.",
    "resident_bytes": "Resident memory of the process.",
    "open_descriptors": "File descriptors of the process.",
    "threads": "Threads of the process.",
    "start_time_seconds": "When the node started, Unix time.",
}

_Labels = tuple[tuple[str, str], ...]
Gauge = Callable[[], Mapping[str, float] | float]
"""A value now, or one a label value."""


class Metrics:
    """Counts, and asks for gauges when they are wanted; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, _Labels], float] = defaultdict(float)
        self._gauges: dict[str, tuple[str, Gauge]] = {}

    def count(self, metric: str, by: float = 1, **labels: str) -> None:
        """Adds to a counter. KeyError for one that `HELP` does not describe."""
        HELP[metric]
        with self._lock:
            self._counts[metric, tuple(sorted(labels.items()))] += by

    def gauge(self, metric: str, ask: Gauge, label: str = "") -> None:
        """Has a value asked for at each look; with `label` one for each of its values."""
        HELP[metric]
        self._gauges[metric] = (label, ask)

    def value(self, metric: str, **labels: str) -> float:
        """A counter's value, 0 where nothing was counted."""
        with self._lock:
            return self._counts.get((metric, tuple(sorted(labels.items()))), 0.0)

    def text(self) -> str:
        """All of them, in the order of `HELP`."""
        with self._lock:
            counts = dict(self._counts)
        lines: list[str] = []
        for metric, meaning in HELP.items():
            rows = [(labels, number) for (name, labels), number in sorted(counts.items()) if name == metric]
            if metric in self._gauges:
                label, ask = self._gauges[metric]
                now = ask()
                pairs = now.items() if isinstance(now, Mapping) else [("", now)]
                rows = [(((label, name),) if label else (), number) for name, number in pairs]
            if rows:
                kind = "gauge" if metric in self._gauges else "counter"
                lines += [f"# HELP {PREFIX}{metric} {meaning}", f"# TYPE {PREFIX}{metric} {kind}"]
                lines += [f"{PREFIX}{metric}{_labels(labels)} {_number(number)}" for labels, number in rows]
        return "\n".join(lines) + "\n"


def _labels(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
