"""Every case of this folder that asks for `rig` runs over each backend that can be tested here.

A case says by `offers` which fields of a Declaration it is about; a backend that does not declare them is recorded as
`not offered`, with the field. CONTRACT_RESULTS=FILE in the environment writes all outcomes there as JSON, for table.py.
"""

import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from redirector.wire import Ready
from tests.contract.lab import Lab
from tests.contract.rig import Rig, Running, available, root, usual
from tests.redirector.namespaces import mount

#: Backend, case, outcome.
_results: dict[str, dict[str, str]] = {}
_declared: dict[str, dict[str, Any]] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        made = [pytest.param(rig, id=name) for name, rig in available().items()]
        metafunc.parametrize("backend", made, indirect=True, scope="module")


def pytest_runtest_setup(item: pytest.Item) -> None:
    backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")   # type: ignore[attr-defined]
    if isinstance(backend, str):
        pytest.skip(backend)
    for marker in item.iter_markers("offers") if backend else ():
        for field in marker.args:
            if not getattr(backend.declaration, field):
                pytest.skip(f"not offered: {field}")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if not root():
        pytest.skip("namespaces need root")
    with tempfile.TemporaryDirectory(prefix="lockgate-contract-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        lab = Lab(folder)
        try:
            yield lab
        finally:
            lab.close()


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> Any:
    """The class of a rig."""
    return request.param


@contextmanager
def _rigs(backend: Any, lab: Lab) -> Iterator[Callable[[], Rig]]:
    """Makes rigs of the backend; in the end nothing of them may be left."""
    made: list[Rig] = []
    with tempfile.TemporaryDirectory(prefix="lockgate-rig-") as name:
        def make() -> Rig:
            folder = Path(name, str(len(made)))
            folder.mkdir()
            for path in (folder.parent, folder):
                path.chmod(0o755)
            made.append(backend(lab, folder))
            return made[-1]

        try:
            yield make
        finally:
            for rig in made:
                rig.close()
                for path in Path(name).glob("*/stderr"):        # shown where a case fails
                    print(path.read_text(), end="")
        assert [rig.left() for rig in made] == [[] for _ in made]


@pytest.fixture
def new_rig(backend: Any, lab: Lab) -> Iterator[Callable[[], Rig]]:
    with _rigs(backend, lab) as make:
        yield make


@pytest.fixture
def rig(new_rig: Callable[[], Rig]) -> Rig:
    """One that the case starts, and may kill."""
    return new_rig()


@pytest.fixture(scope="module")
def _started(backend: Any, lab: Lab) -> Iterator[Rig]:
    with _rigs(backend, lab) as make:
        rig = make()
        answer = rig.start(usual(rig))
        assert isinstance(answer, Ready), answer
        yield rig


@pytest.fixture
def running(_started: Rig) -> Running:
    """One that has been started as usual, for the cases of a module that do it no harm."""
    return Running(_started)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """An empty control group."""
    folder = Path(mount(), f"lockgate-contract-{os.getpid()}")
    folder.mkdir()
    yield folder
    folder.rmdir()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = (yield).get_result()       # type: ignore[misc]
    params = getattr(getattr(item, "callspec", None), "params", {})
    if "backend" not in params:
        return
    declaration = getattr(params["backend"], "declaration", None)
    name = declaration.name if declaration else next(n for n, made in available().items() if made == params["backend"])
    if declaration:
        _declared[name] = asdict(declaration)
    case = f"{item.path.stem.removeprefix('test_')}: {_title(item)}"
    if report.when == "call" or report.outcome != "passed":
        reason = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else ""
        _results.setdefault(name, {})[case] = reason or report.outcome


def _title(item: pytest.Item) -> str:
    """The case without its backend."""
    name, _, ident = item.name.partition("[")
    rest = "-".join(part for part in ident.removesuffix("]").split("-") if part not in available())
    return name.removeprefix("test_").replace("_", " ") + (f" ({rest})" if rest else "")


def pytest_sessionfinish() -> None:
    if path := os.environ.get("CONTRACT_RESULTS"):
        sizes = ", ".join(f"{name}={os.environ[name]}" for name in ("FULL", "ROUNDS") if name in os.environ)
        ran = f"Linux {'.'.join(platform.release().split('.')[:2])}" + (f", {sizes}" if sizes else "")
        results = {name: {"declaration": _declared.get(name), "cases": cases, "ran": ran}
                   for name, cases in _results.items()}
        Path(path).write_text(json.dumps(results, indent=1))
