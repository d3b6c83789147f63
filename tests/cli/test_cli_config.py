"""Settings: flag > MINE_* > file > default, and every mistake is named with its place."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from cli_runs import Mine
from hypothesis import given
from hypothesis import strategies as st

from cli import config, wiring
from cli.config import Configuration, Given, Settings
from cli.config_command import template, toml_value
from cli.main import COMMANDS
from deeplesion_miner.errors import ConfigError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(file: str | None = None, flags: dict[str, Given] | None = None, **environment: str) -> Configuration:
    if file is not None:
        Path("mine.toml").write_text(file)
    return config.load(flags or {}, None, environment)


def test_without_anything_given_every_setting_is_its_default() -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default() -> None:
    file = "[run]\nworkers = 2\n[rules]\nmax_tilt_deg = 12\n[archive]\nmethod = 'move'"
    flag = {"run.workers": Given("4", "--workers")}
    loaded = load(file, flag, MINE_RUN_WORKERS="3", MINE_RULES_MAX_TILT_DEG="13")
    assert (loaded.settings.run.workers, loaded.origins["run.workers"]) == (4, "--workers")
    assert (loaded.settings.rules.max_tilt_deg, loaded.origins["rules.max_tilt_deg"]) == (
        13.0,
        "MINE_RULES_MAX_TILT_DEG",
    )
    assert (loaded.settings.archive.method, loaded.origins["archive.method"]) == ("move", "mine.toml")
    assert loaded.origins["archive.address"] == "default"


def test_every_problem_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError) as error:
        load("[run]\nworkers = 'many'\n[rules]\nmax_tilt = 3\n", None, MINE_ARCHIVE_METHOD="fetch")
    assert str(error.value).split("; ") == [
        "mine.toml: run.workers = 'many': expected a whole number",
        "mine.toml: rules.max_tilt is not a setting",
        "did you mean rules.max_tilt_deg?",
        "MINE_ARCHIVE_METHOD: archive.method = 'fetch': expected get or move",
    ]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("workers = 3", "workers stands outside of a section"),
        ("[runs]\nx = 1", "runs.x is not a setting"),
        ("[run", "not TOML"),
        ("[run]\nworkers = true", "expected a whole number"),
        ("[run]\nworkers = 1.5", "expected a whole number"),
        ("[run]\nout = 3", "expected a path"),
        ("[rules]\nkeep_lengths = 1", "expected true or false"),
        ("[rules]\nmax_tilt_deg = 'ten'", "expected a number"),
        ("[rules]\nmax_tilt_deg = -1", "not negative"),
        ("[archive]\nimages_per_minute = 'lots'", "expected a number or none"),
        ("[archive]\naddress = 3", "expected text"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(file: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(file)


def test_none_is_a_word_for_no_value() -> None:
    loaded = load("[archive]\nmax_object_mb = 'none'\n[deidentification]\nage_cap_years = 'none'")
    assert loaded.settings.archive.max_object_mb is None
    assert loaded.settings.deidentification.age_cap_years is None


def test_a_named_file_must_exist_and_an_unnamed_one_need_not() -> None:
    assert load().settings == Settings()
    for named in ({"MINE_CONFIG": "elsewhere.toml"}, {}):
        path = None if named else Path("elsewhere.toml")
        with pytest.raises(ConfigError, match=r"elsewhere\.toml: cannot be read"):
            config.load({}, path, named)


def test_variables_of_others_are_none_of_our_business() -> None:
    assert load(MINE_CRAFT="yes", HOME="/nowhere", MINE_KEY="secret").settings == Settings()


def test_every_setting_has_one_meaning_and_every_meaning_a_setting() -> None:
    settings = Settings()
    known = [
        f"{section.name}.{field.name}"
        for section in fields(Settings)
        for field in fields(getattr(settings, section.name))
    ]
    assert sorted(config.names()) == sorted(known)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_has_one_flag_for_two_things(name: str) -> None:
    found = import_module(COMMANDS[name]).command
    flags = [flag for parameter in found.params for flag in parameter.opts]
    assert sorted(flags) == sorted(set(flags))


def test_the_file_that_init_writes_changes_nothing_until_lines_are_uncommented() -> None:
    assert load(template()).settings == Settings()
    uncommented = [
        line.removeprefix("# ") if line.removeprefix("# ").split(" = ")[0].isidentifier() else line
        for line in template().splitlines()
    ]
    loaded = load("\n".join(uncommented))
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"mine.toml"}


@given(st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False)))
def test_values_are_written_as_toml_reads_them(value: str | float) -> None:
    written = toml_value(value)
    if isinstance(value, str) and not value.isprintable():
        return  # settings are one printable line
    assert tomllib.loads(f"x = {written}")["x"] == value


def test_show_prints_each_value_with_its_origin(mine: Mine, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[run]\nworkers = 2\n")
    answer = mine("config", "show", "--json", "--set", "archive.hours=19:00-07:00", MINE_RULES_MAX_TILT_DEG="15")
    shown = {record["setting"]: (record["value"], record["origin"]) for record in answer.records}
    assert answer.code == 0
    assert shown["run.workers"] == ("2", "mine.toml")
    assert shown["rules.max_tilt_deg"] == ("15.0", "MINE_RULES_MAX_TILT_DEG")
    assert shown["archive.hours"] == ('"19:00-07:00"', "--set")
    assert shown["archive.method"] == ('"get"', "default")
    assert list(shown) == list(config.names())


def test_init_writes_once_and_overwrites_nothing(mine: Mine, tmp_path: Path) -> None:
    assert mine("config", "init").code == 0
    assert (tmp_path / "mine.toml").read_text() == template()
    again = mine("config", "init")
    assert (again.code, again.out) == (2, "")
    assert "exists and is left alone" in again.err


@pytest.mark.parametrize(
    ("setting", "value", "decides"),
    [
        ("rules.max_tilt_deg", 11.0, True),
        ("archive.max_object_mb", 1.0, True),
        ("run.workers", 2, False),
        ("archive.images_per_minute", 60.0, False),
    ],
)
def test_a_study_is_mined_again_where_a_setting_that_decides_outcomes_changes(
    setting: str, value: float, decides: bool
) -> None:
    changed = load(None, {setting: Given(value, "test")}).settings
    assert (wiring.mine_settings(changed).digest != wiring.mine_settings(Settings()).digest) is decides
