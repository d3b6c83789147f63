"""Fixtures that every room shares."""

from __future__ import annotations

import os
import signal
import socketserver
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["servers"]

# A slow machine is no failure. By `ci` the same examples are tried each time: what a change is held to is no lottery.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("patient"), derandomize=True, database=None, print_blob=True)
settings.load_profile("patient")

# A shell's job in the background ignores Ctrl-C, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Who closes a server waits until it looks at its end: by itself every half second, hundreds of times in all tests.
socketserver.BaseServer.serve_forever.__defaults__ = (0.1,)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real data that may lie beside the checkout, unpacked; the test is skipped, with a word, elsewhere."""
    named = os.environ.get("DLM_REAL_DATA")
    if named:
        return Path(named)
    unpack = Path(__file__).resolve().parents[2] / "shared" / "data" / "unpack.sh"
    if not unpack.exists():
        pytest.skip("the real data do not lie beside this checkout")
    done = subprocess.run(["sh", str(unpack)], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def viewer_variants() -> Path:
    """Reports that were opened in a viewer, with what it did (`variants.json` beside their folder), where they lie."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "ohif" / "variants"
    if not folder.exists():
        pytest.skip("the reports that were opened in a viewer do not lie beside this checkout")
    return folder
