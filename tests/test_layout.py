"""Arrows point one way, and no module hides one of the standard library."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "redirector": {"redirector"},
    "certs": {"certs"},
    "addons": {"addons"},
    "proxy": {"proxy", "addons", "certs", "redirector"},
}
OURS = {*ALLOWED, "lockgate"}
FILES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path):
    package = path.relative_to(ROOT).parts[0]
    assert set(imported(path)) & OURS <= ALLOWED[package]


def test_what_runs_as_root_needs_the_standard_library_only():
    foreign = {name for path in (ROOT / "redirector").rglob("*.py") for name in imported(path)}
    assert foreign <= set(sys.stdlib_module_names) | {"redirector"}


def test_pydivert_is_imported_in_one_file_and_late():
    """It brings a driver, or programs for the kernel: only the process that uses it loads it."""
    naming = {path.name for path in (ROOT / "redirector").rglob("*.py") if 'import_module("pydivert' in path.read_text()}
    assert naming == {"handles.py"}


def test_no_module_is_named_like_one_of_the_standard_library():
    """`mitmdump -s addons/x.py` puts that folder first on the path."""
    assert not {path.stem for path in FILES} & set(sys.stdlib_module_names) - {"__init__", "__main__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_reads_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 330
