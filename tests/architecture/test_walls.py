"""The walls of the house: who may import, make and catch what."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOMS, ROOT, calls, imported, modules

PUBLIC_RECORDS = {"Sample", "LesionRecord", "SliceRecord", "BookmarkRecord"}
LONGEST_MODULE_LINES = 450


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("lint-imports")
    command = [tool, "--no-cache", "--config", ROOT / "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("deeplesion_miner/types.py", "import pydicom"),
        ("dicom_io/__init__.py", "import dataset_builder"),
        ("deeplesion_miner/types.py", "import dicom_io"),
    ],
)
def test_the_import_contracts_notice_a_broken_wall(tmp_path: Path, where: str, line: str) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    broken = tmp_path / where
    broken.write_text(broken.read_text("utf-8") + f"\n{line}\n", "utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


def test_the_core_knows_numpy_and_the_standard_library_only() -> None:
    allowed = (sys.stdlib_module_names - {"sqlite3", "socket", "subprocess"}) | {"numpy", "deeplesion_miner", "schemas"}
    core = {path: tree for path, tree in modules().items() if path.startswith(("deeplesion_miner/", "schemas/"))}
    assert {path: imported(tree) - allowed for path, tree in core.items() if imported(tree) - allowed} == {}


def test_sql_lives_where_state_is_kept_only() -> None:
    keepers = ("dataset_builder/ledger", "dicom_io/database", "dicom_io/outbox", "dicom_io/node/journal")
    using = {path for path, tree in modules().items() if "sqlite3" in imported(tree)}
    assert {path for path in using if not path.startswith(keepers)} == set()


def test_dicom_libraries_are_known_to_dicom_io_only() -> None:
    libraries = {"pydicom", "pynetdicom", "highdicom"}
    using = {path for path, tree in modules().items() if libraries & imported(tree)}
    assert {path for path in using if not path.startswith("dicom_io/")} == set()


def test_torch_is_known_to_models_only() -> None:
    using = {path for path, tree in modules().items() if "torch" in imported(tree)}
    assert {path for path in using if not path.startswith("models/")} == set()


def test_only_the_door_makes_public_records() -> None:
    makers = {path for path, tree in modules().items() if PUBLIC_RECORDS & {name for name, _ in calls(tree)}}
    assert makers <= {"deeplesion_miner/deidentify.py"}


def test_no_handler_catches_everything() -> None:
    broad = [
        f"{path}:{node.lineno}"
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    ]
    assert broad == []


def catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    named = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    if not any(isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"} for name in named):
        return False
    last = handler.body[-1]
    return not (isinstance(last, ast.Raise) and last.exc is None)  # tidying up and raising on hides nothing


def test_no_module_is_called_by_what_it_is_not() -> None:
    vague = {"utils", "helpers", "common", "misc"}
    assert {path for path in modules() if Path(path).stem in vague} == set()


def test_modules_stay_readable() -> None:
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in modules()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE_LINES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_the_generic_room_names_resolve_into_this_checkout(room: str) -> None:
    spec = importlib.util.find_spec(room)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / room / "__init__.py"
