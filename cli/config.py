"""Settings from flags, environment, `mine.toml` and defaults, in this order; each value knows where it came from."""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import schemas
from deeplesion_miner.errors import ConfigError
from deeplesion_miner.rules import Rules

FILE_NAME = "mine.toml"
NONE = "none"
"""How 'no value' is written, since TOML has no word for it."""


@dataclass(frozen=True)
class ArchiveSection:
    """[archive]: where the archive is and how gently it is asked."""

    address: str = ""
    calling_ae: str = "MINER"
    method: Literal["get", "move"] = "get"
    move_host: str = "0.0.0.0"
    move_port: int = 11112
    images_per_minute: float | None = None
    hours: str = ""
    max_object_mb: float | None = 4096.0
    max_associations: int = 2


@dataclass(frozen=True)
class RunSection:
    """[run]: folders and workers."""

    out: Path = Path("dataset")
    work: Path = Path("mine-work")
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"[run] workers = {self.workers}: at least 1 is needed")


@dataclass(frozen=True)
class DeidentificationSection:
    """[deidentification]: the key's place and what may leave."""

    key_file: str = ""
    age_cap_years: int | None = 89
    issuer_is_identity: bool = False


@dataclass(frozen=True)
class SendSection:
    """[send]: where results go, and how patiently."""

    to: str = ""
    stow_url: str = ""
    calling_ae: str = "MINER"
    outbox: str = ""
    commitment: Literal["auto", "required", "never"] = "auto"
    report_host: str = "0.0.0.0"
    report_port: int | None = None
    report_within_s: float = 3600.0
    attempts: int = 12
    refusals: int = 3
    first_pause_s: float = 2.0
    longest_pause_s: float = 3600.0
    refusal_pause_s: float = 60.0
    study_patience_h: float = 24.0
    same_issuers: str = ""
    compare_issuers: bool = True
    keep_done_days: float | None = None
    patience_s: float = 30.0
    idle_s: float = 120.0
    compare: Literal["auto", "always", "never"] = "auto"
    credentials: str = ""
    tls: bool = False
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""


@dataclass(frozen=True)
class ServeSection:
    """[serve]: the node that takes images in; what it does with them stands in its rule file."""

    rules: str = ""
    ae_title: str = "MINER"
    host: str = "0.0.0.0"
    port: int = 11113
    health_host: str = "127.0.0.1"
    health_port: int | None = 11180
    jobs: int = 1
    max_associations: int = 32
    max_waiting: int = 512
    max_pdu_bytes: int = 262_144
    max_open_studies: int = 10_000
    least_free_mb: float = 1000.0
    keep_images_h: float | None = None
    keep_journal_days: float | None = 30.0
    request_s: float = 10.0
    idle_s: float = 120.0
    stop_s: float = 30.0
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigError(f"[serve] jobs = {self.jobs}: at least 1 is needed")
        if self.keep_journal_days is not None and self.keep_journal_days < 0:
            raise ConfigError(f"[serve] keep_journal_days = {self.keep_journal_days}: 0 or more is needed")


@dataclass(frozen=True)
class Settings:
    """Everything that can be set."""

    archive: ArchiveSection = field(default_factory=ArchiveSection)
    run: RunSection = field(default_factory=RunSection)
    deidentification: DeidentificationSection = field(default_factory=DeidentificationSection)
    send: SendSection = field(default_factory=SendSection)
    serve: ServeSection = field(default_factory=ServeSection)
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Configuration:
    """The settings and, for each 'section.name', where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(frozen=True)
class Given:
    """A value that somebody gave, and where; text is read as the setting's type."""

    value: Any
    origin: str


def names() -> Iterator[str]:
    """Every setting as 'section.name', in the order of the schema."""
    for section, entries in schemas.load("config").items():
        for name in entries:
            yield f"{section}.{name}"


def default_of(setting: str) -> Any:
    """The default of 'section.name'."""
    section, name = setting.split(".")
    return getattr(getattr(Settings(), section), name)


def load(
    flags: Mapping[str, Given], config_file: Path | None = None, environment: Mapping[str, str] | None = None
) -> Configuration:
    """The configuration; raises ConfigError that names every problem with its place.

    `config_file` None takes MINE_CONFIG, else `mine.toml` of the current folder where there is one.
    """
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    given = {
        **_from_file(config_file, environment, problems),
        **_from_environment(environment),
        **flags,
    }
    values: dict[str, dict[str, Any]] = {item.name: {} for item in fields(Settings)}
    origins = dict.fromkeys(names(), "default")
    for setting, one in given.items():
        section, _, name = setting.partition(".")
        if setting not in origins:
            problems.append(f"{one.origin}: {setting} is not a setting{_did_you_mean(setting)}")
            continue
        origins[setting] = one.origin
        try:
            values[section][name] = _typed(one.value, _type_of(section, name))
        except ValueError as error:
            problems.append(f"{one.origin}: {setting} = {one.value!r}: expected {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    sections = {name: _section_types()[name](**entries) for name, entries in values.items()}
    return Configuration(Settings(**sections), origins)


def _from_file(config_file: Path | None, environment: Mapping[str, str], problems: list[str]) -> dict[str, Given]:
    """Settings of the TOML file, flat."""
    named = config_file or (Path(environment["MINE_CONFIG"]) if environment.get("MINE_CONFIG") else None)
    path = named or Path(FILE_NAME)
    if named is None and not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML ({error}); `mine config init` writes a file to start from") from error
    given: dict[str, Given] = {}
    for section, entries in table.items():
        if not isinstance(entries, dict):
            problems.append(f"{path}: {section} stands outside of a section; sections are {_sections()}")
            continue
        given |= {f"{section}.{name}": Given(value, str(path)) for name, value in entries.items()}
    return given


def _from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    """Settings of the variables MINE_SECTION_NAME; other variables are none of our business."""
    given: dict[str, Given] = {}
    for section in _section_types():
        prefix = f"MINE_{section.upper()}_"
        for variable, text in environment.items():
            if variable.startswith(prefix):
                given[f"{section}.{variable.removeprefix(prefix).lower()}"] = Given(text, variable)
    return given


def _section_types() -> dict[str, Any]:
    return get_type_hints(Settings)


def _type_of(section: str, name: str) -> Any:
    return get_type_hints(_section_types()[section])[name]


def _sections() -> str:
    return ", ".join(f"[{name}]" for name in _section_types())


def _did_you_mean(setting: str) -> str:
    near = difflib.get_close_matches(setting, list(names()), n=1)
    return f"; did you mean {near[0]}?" if near else f"; sections are {_sections()}"


def _typed(value: Any, wanted: Any) -> Any:
    """The value as the type of its setting; ValueError says in words what was expected."""
    if get_origin(wanted) in (Union, types.UnionType):
        (inner,) = [member for member in get_args(wanted) if member is not type(None)]
        try:
            return None if value in (None, NONE) else _typed(value, inner)
        except ValueError as error:
            raise ValueError(f"{error} or {NONE}") from None
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ValueError(" or ".join(get_args(wanted)))
        return value
    return _READERS[wanted](value)


def _read_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _read_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError("a whole number") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def _read_float(value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    return float(value)


def _read_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _read_path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("a path")
    return Path(value).expanduser()


_READERS: Mapping[Any, Any] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
    Path: _read_path,
}
