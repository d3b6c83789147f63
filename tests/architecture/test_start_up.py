"""`mine --help` answers before a person notices: it loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "PIL",
    "cv2",
    "duckdb",
    "highdicom",
    "imagecodecs",
    "matplotlib",
    "numpy",
    "pandas",
    "pyarrow",
    "pydicom",
    "pynetdicom",
    "scipy",
    "torch",
}

PROBE = """
import json, sys
sys.argv = ["mine", "--help"]
from cli.main import main
try:
    main()
except SystemExit as end:
    print(json.dumps({"status": end.code, "modules": sorted(sys.modules)}))
"""


def test_help_loads_no_heavy_library() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["status"] in (0, None)
    assert "cli.main" in last["modules"]
    assert HEAVY & set(last["modules"]) == set()
