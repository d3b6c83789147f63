"""A password that somebody wrote into an address is repeated by no command."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import run

URLS = ("https://user:s3cret@pacs.example.org/x", "HTTPS://u:s3cret@h", "ftp://u:s3cret@h/x", "ftp://u:s3cret@h:21")


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("url", [*URLS, "user:s3cret@host"])
@pytest.mark.parametrize(
    "words",
    [
        ("send", ".", "--to"),
        ("send", ".", "--stow"),
        ("export", "missing.parquet", "--to", "dicom", "--queue"),
        ("doctor", "--to"),
        ("doctor", "--stow"),
        ("doctor",),
        ("find",),
        ("run",),
    ],
    ids=" ".join,
)
def test_an_address_with_a_password_is_refused_without_repeating_it(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], url: str
) -> None:
    code = run([*words, url])
    said = "".join(capfd.readouterr())
    assert code == 2
    assert "s3cret" not in said
    assert said


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "words", [("send",), ("send", "--set"), ("send", "--status", "--report-port"), ("config", "show"), ("lint",)]
)
def test_a_password_in_a_wrong_place_is_not_repeated(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], url: str
) -> None:
    code = run([*words, url])
    said = "".join(capfd.readouterr())
    assert code in (1, 2)
    assert "s3cret" not in said
    assert "***@" in said


@pytest.mark.parametrize("url", [*URLS, "user:s3cret@host"])
@pytest.mark.parametrize("setting", ["send.to", "send.stow_url", "archive.address"])
def test_settings_are_shown_without_the_passwords_in_them(
    capfd: pytest.CaptureFixture[str], url: str, setting: str
) -> None:
    assert run(["config", "show", "--set", f"{setting}={url}"]) == 0
    out, _ = capfd.readouterr()
    assert "s3cret" not in out
    assert "***@" in out
