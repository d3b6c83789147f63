"""The rule file: who may send, which series go to which model, and where the results go.

[[peer]]
ae_title = "PACS"
archive = "PACS@10.0.0.5:104"      # asked whether a study is whole; without it silence has to do
quiet_s = 30.0

[[rule]]
name = "lesions"
peers = ["PACS"]
modalities = ["CT"]
descriptions = ["*thorax*", "*chest*"]
slice_thickness_mm = [0.5, 5.0]
model = "models/lesionnet"
emit = ["dicom-sr", "dicom-seg"]
destination = "PACS@10.0.0.5:104"
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from typing import Any, get_type_hints

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.redaction import shown_address
from dicom_io.address import Address, ae_title
from dicom_io.destination import checked
from dicom_io.emit import KINDS
from dicom_io.emit.identity import CORRECTING
from dicom_io.node.admission import Peer
from dicom_io.node.overlap import shared_series
from dicom_io.node.records import ReceivedSeries


@dataclass(frozen=True)
class PeerRule:
    """[[peer]]: an application entity that may send to us."""

    ae_title: str
    host: str = ""
    """Numeric address that it must come from."""
    archive: str = ""
    """AET@host:port of the archive that knows its studies."""
    quiet_s: float = 30.0
    """After so long a silence a study is looked at."""
    give_up_h: float = 24.0
    """A study that the archive still lists more of is incomplete after this."""
    associations: int = 8
    objects_per_minute: float | None = None
    report_to: str = ""
    """AET@host:port that takes its storage commitment reports."""

    def peer(self) -> Peer:
        """As the gate knows it."""
        return Peer(self.ae_title, self.host, self.associations, self.objects_per_minute, self.report_to)


@dataclass(frozen=True)
class SeriesRule:
    """[[rule]]: which series are looked at by what. An empty list takes all."""

    name: str
    model: Path
    destination: str
    """AET@host:port, or the http(s) address of a DICOMweb server."""
    emit: tuple[str, ...] = ("dicom-sr",)
    peers: tuple[str, ...] = ()
    """AE titles."""
    modalities: tuple[str, ...] = ("CT",)
    descriptions: tuple[str, ...] = ()
    """Patterns (* and ?) of SeriesDescription, else ProtocolName; any of them, in any case."""
    not_descriptions: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    """Patterns of BodyPartExamined."""
    slice_thickness_mm: tuple[float, ...] = ()
    """Least and most; a series that does not state its thickness is not taken."""
    least_images: int = 1
    least_score: float = 0.1
    """Detections that score less are not reported."""
    incomplete: str = "wait"
    """What becomes of a study that the archive lists more of when its time is over: 'wait' leaves it, 'run' goes on."""

    def wants(self, series: ReceivedSeries) -> bool:
        """Whether the series is one of those that the rule takes, as far as its first object tells."""
        thickness_mm = series.slice_thickness_mm
        least_mm, most_mm = self.slice_thickness_mm or (0.0, float("inf"))
        return (
            (not self.modalities or series.modality in self.modalities)
            and _matches(series.description, self.descriptions, True)
            and not _matches(series.description, self.not_descriptions, False)
            and _matches(series.body_part, self.body_parts, True)
            and (not self.slice_thickness_mm or (thickness_mm is not None and least_mm <= thickness_mm <= most_mm))
            and len(series.sop_instance_uids) >= self.least_images
        )

    def digest(self, series: Sequence[ReceivedSeries]) -> str:
        """Of what the rule would do with these series: the same again is no new job."""
        what = {**asdict(self), "model": str(self.model), "objects": [one.sop_instance_uids for one in series]}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class NodeRules:
    """All of a rule file."""

    peers: tuple[PeerRule, ...]
    rules: tuple[SeriesRule, ...] = ()

    def peer(self, ae_title: str) -> PeerRule | None:
        """The peer of a title; None for one that is no longer among the rules."""
        return next((one for one in self.peers if one.ae_title == ae_title), None)

    def rule(self, name: str) -> SeriesRule | None:
        """The rule of a name; None for one that is no longer there."""
        return next((one for one in self.rules if one.name == name), None)

    def of_peer(self, ae_title: str) -> tuple[SeriesRule, ...]:
        """The rules for what a peer sends."""
        return tuple(one for one in self.rules if not one.peers or ae_title in one.peers)

    def destinations(self) -> tuple[str, ...]:
        """Where results go, each once."""
        return tuple(sorted({one.destination for one in self.rules}))


def _matches(value: str, patterns: Sequence[str], otherwise: bool) -> bool:
    if not patterns:
        return otherwise
    # A bracket is one: descriptions hold them.
    plain = (pattern.casefold().replace("[", "[[]") for pattern in patterns)
    return any(fnmatchcase(value.casefold(), pattern) for pattern in plain)


def read_rules(path: Path, algorithm_of: Callable[[Path], str] = str) -> NodeRules:
    """The rules of a TOML file. ConfigError that names each problem with its table, key, value and what is expected.

    Paths of models are relative to the file. `algorithm_of` says what the model in a folder calls itself in reports.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    problems: list[str] = []
    unknown = sorted(set(table) - {"peer", "rule"})
    problems += [f"[[{name}]] is not known; tables are [[peer]] and [[rule]]" for name in unknown]
    peers = _tables(table, "peer", PeerRule, problems)
    rules = _tables(table, "rule", SeriesRule, problems)
    for number, peer in enumerate(peers, start=1):
        problems += [f"[[peer]] {number}: {text}" for text in _peer_problems(peer)]
    titles = {one.ae_title for one in peers}
    for number, rule in enumerate(rules, start=1):
        problems += [f"[[rule]] {number}: {text}" for text in _rule_problems(rule, titles)]
    problems += [f"[[peer]] {one}: is there twice" for one in _twice([peer.ae_title for peer in peers])]
    problems += [f"[[rule]] {one}: is there twice" for one in _twice([rule.name for rule in rules])]
    if not peers and not problems:
        problems.append("no [[peer]]: nobody could send anything")
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems))
    rules = [
        replace(rule, model=path.parent / rule.model.expanduser(), destination=checked(rule.destination))
        for rule in rules
    ]
    contested = _contested(rules, algorithm_of)
    if contested:
        raise ConfigError(f"{path}: " + "; ".join(contested))
    return NodeRules(tuple(peers), tuple(rules))


def _tables(table: Mapping[str, Any], name: str, kind: Any, problems: list[str]) -> list[Any]:
    entries = table.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problems.append(f"{name}: write [[{name}]], with two brackets")
        return []
    made = []
    for number, entry in enumerate(entries, start=1):
        found: list[str] = []
        values = _values(entry, kind, found)
        problems += [f"[[{name}]] {number}: {text}" for text in found]
        if not found:
            made.append(kind(**values))
    return made


def _values(entry: Mapping[str, Any], kind: Any, problems: list[str]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    for key in sorted(set(entry) - set(hints)):
        near = difflib.get_close_matches(key, hints, n=1)
        problems.append(f"{key} is not known" + (f"; did you mean {near[0]}?" if near else ""))
    needed = [item.name for item in fields(kind) if item.default is MISSING]
    problems += [f"{name} is missing" for name in needed if name not in entry]
    values = {}
    for key in set(entry) & set(hints):
        try:
            values[key] = _READERS[str(hints[key])](entry[key])
        except (TypeError, ValueError, ConfigError) as error:
            problems.append(f"{key} = {entry[key]!r}: {error}")
    return values


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("expected a whole number")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("expected a list, in brackets")
    return value


_READERS: Mapping[str, Any] = {
    str(str): _text,
    str(int): _whole,
    str(float): _number,
    str(float | None): _number,
    str(Path): lambda value: Path(_text(value)),
    str(tuple[str, ...]): lambda value: tuple(map(_text, _list(value))),
    str(tuple[float, ...]): lambda value: tuple(map(_number, _list(value))),
}


def _peer_problems(peer: PeerRule) -> list[str]:
    problems = _checked("ae_title", peer.ae_title, ae_title)
    problems += _checked("host", peer.host, ip_address) if peer.host else []
    for key in ("archive", "report_to"):
        value = getattr(peer, key)
        problems += _checked(key, value, Address.parse) if value else []
    for key in ("quiet_s", "give_up_h", "associations", "objects_per_minute"):
        value = getattr(peer, key)
        if value is not None and value <= 0:
            problems.append(f"{key} = {value}: more than 0 is needed")
    return problems


def _rule_problems(rule: SeriesRule, titles: set[str]) -> list[str]:
    problems = [f"name = {rule.name!r}: a name is needed"] if not rule.name else []
    problems += [f"peers: {one} is no [[peer]]" for one in rule.peers if one not in titles]
    problems += _checked("destination", rule.destination, checked)
    problems += [f"emit: {one!r} is no kind; kinds are {', '.join(KINDS)}" for one in rule.emit if one not in KINDS]
    if not rule.emit:
        problems.append("emit: name at least one kind")
    limits = rule.slice_thickness_mm
    if limits and (len(limits) != 2 or limits[0] > limits[1]):
        problems.append(f"slice_thickness_mm = {list(limits)}: expected [least, most]")
    if rule.incomplete not in ("wait", "run"):
        problems.append(f"incomplete = {rule.incomplete!r}: expected 'wait' or 'run'")
    if not 0 <= rule.least_score <= 1:
        problems.append(f"least_score = {rule.least_score}: expected 0 to 1")
    return problems


def _contested(rules: Sequence[SeriesRule], algorithm_of: Callable[[Path], str]) -> list[str]:
    """Pairs of rules whose reports would correct each other: of one algorithm on one series, for one destination."""
    problems = []
    reporting = [(rule, algorithm_of(rule.model.resolve())) for rule in rules if CORRECTING in rule.emit]
    for (one, algorithm), (other, same) in combinations(reporting, 2):
        if algorithm != same or one.destination != other.destination:
            continue
        if one.peers and other.peers and not set(one.peers) & set(other.peers):
            continue
        series = shared_series(one, other)
        if series is not None:
            called = f" called {series.description!r}" if series.description else ""
            problems.append(
                f"[[rule]] {one.name} and {other.name}: both would show {algorithm} a {series.modality} series{called}"
                f" for {one.destination}, and each report would correct the other rule's: let one of them not take"
                " such a series (not_descriptions, modalities, body_parts, slice_thickness_mm, peers), or leave"
                f" {CORRECTING} out of its emit"
            )
    return problems


def _checked(key: str, value: str, read: Any) -> list[str]:
    try:
        read(value)
    except (ConfigError, ValueError) as error:
        return [f"{key} = {shown_address(value)!r}: {error}"]
    return []


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
