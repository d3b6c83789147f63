"""Ctrl-C: at once while there is nothing to finish, politely while a study is being mined."""

from __future__ import annotations

import signal
from contextlib import closing

import pytest

from cli.progress import Bar, stopping_politely


def test_ctrl_c_before_the_first_study_stops_at_once() -> None:
    with (
        closing(Bar()) as bar,
        pytest.raises(KeyboardInterrupt),
        stopping_politely(lambda: bar.is_mining),
    ):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_while_studies_are_mined_asks_to_stop(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with closing(Bar()) as bar, stopping_politely(lambda: bar.is_mining) as should_stop:
        bar.found(3)
        assert not should_stop()
        signal.raise_signal(signal.SIGINT)
        assert should_stop()
    assert "finishing the current study" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
