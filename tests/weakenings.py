"""Breaks promises on purpose, one at a time and in a copy, to see that the tests bite.

    .venv/bin/python tests/weakenings.py [WORD ...]     those whose names hold a word; without any, all: some minutes

Exit code 1 if a weakening survives, that is if one of its tests does not fail; 2 if the table does not fit the sources.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.weakened import WEAKENINGS, Edit, Weakening  # noqa: E402  # this is run as a file
from tests.weakened_filters import FILTERS  # noqa: E402

#: Seconds for the cases of one weakening, some ten times what they take, and for all of them in sound sources.
LIMIT = 180
#: What a copy does without.
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
#: Lines of pytest's summary; a reason follows.
FAILED = re.compile(r"^FAILED (.+?)(?: - .*)?$", re.MULTILINE)
NOT_PASSED = re.compile(r"^(?:FAILED|ERROR) .+$", re.MULTILINE)


class Misfit(Exception):
    """The table names what is not there."""


class Copy:
    """A checkout and an environment of its own: `python -I` finds these sources, and everything else where it is."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        shutil.copytree(ROOT, self.root, ignore=IGNORED)
        if (shared := ROOT.parent / "shared").is_dir():     # what tests look for beside a checkout
            (folder / "shared").symlink_to(shared)
        venv.create(self.root / ".venv", symlinks=True)
        site = next(self.root.glob(".venv/lib/python3*/site-packages"))
        packages = [path for path in sys.path if path.endswith("site-packages")]
        (site / "checkout.pth").write_text("\n".join([str(self.root), *packages]))
        self._times = itertools.count(1)

    def pytest(self, *words: str) -> str:
        command = [self.root / ".venv/bin/python", "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", *words]
        try:
            done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=LIMIT, check=False,
                                  env=os.environ | {"COLUMNS": "400"})
        except subprocess.TimeoutExpired:
            raise Misfit(f"no end within {LIMIT} s of pytest {' '.join(words)}") from None
        if done.returncode not in (0, 1):
            raise Misfit(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def cases(self, files: Iterable[str]) -> list[str]:
        """The ids of all tests in these files."""
        return [line for line in self.pytest("--collect-only", *files).splitlines() if "::" in line]

    def failing(self, cases: Sequence[str]) -> set[str]:
        """Which of these fail.  Those that cannot even begin do not count: a worker that does not start is no proof."""
        return set(FAILED.findall(self.pytest("-rf", *cases)))

    @contextmanager
    def weakened(self, edits: Sequence[Edit]) -> Iterator[None]:
        before = {file: (self.root / file).read_text() for file, _, _ in edits}
        try:
            for file, old, new in edits:
                text = (self.root / file).read_text()
                if (found := text.count(old)) != 1:
                    raise Misfit(f"{file} has {old!r} {found} times, not once")
                self._write(file, text.replace(old, new))
            yield
        finally:
            for file, text in before.items():
                self._write(file, text)

    def _write(self, file: str, text: str) -> None:
        """With a time of its own, in seconds: by that Python knows whether what it compiled is current."""
        (self.root / file).write_text(text)
        os.utime(self.root / file, (next(self._times),) * 2)


def chosen_cases(copy: Copy, weakenings: Sequence[Weakening]) -> dict[str, list[str]]:
    """The cases of each test that is named, in sources as they are: all there, and passing."""
    tests = sorted({test for weakening in weakenings for test in weakening.tests})
    there = copy.cases(sorted({test.partition("::")[0] for test in tests}))
    cases = {test: [case for case in there if case.startswith(test)] for test in tests}
    if absent := [test for test, found in cases.items() if not found]:
        raise Misfit(f"there is no {', '.join(absent)}")
    wanted = sorted({case for found in cases.values() for case in found})
    if bad := NOT_PASSED.findall(copy.pytest("-rfE", *wanted)):
        raise Misfit(f"without any weakening: {'; '.join(bad)}")
    return cases


def survivors(copy: Copy, weakening: Weakening, cases: Mapping[str, Sequence[str]]) -> list[str]:
    """The tests that do not notice."""
    with copy.weakened(weakening.edits):
        failing = copy.failing(sorted({case for test in weakening.tests for case in cases[test]}))
    return [test for test in weakening.tests if failing.isdisjoint(cases[test])]


def main(words: Sequence[str]) -> int:
    chosen = [each for each in (*WEAKENINGS, *FILTERS) if not words or any(word in each.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="weakenings-") as name:
        copy, caught = Copy(Path(name)), 0
        for weakening in chosen:
            with copy.weakened(weakening.edits):
                """All of them fit, before time is spent on the first."""
        cases = chosen_cases(copy, chosen)
        for number, weakening in enumerate(chosen, 1):
            unnoticed = survivors(copy, weakening, cases)
            caught += not unnoticed
            print(f"{number:3} {weakening.name:50} {f'SURVIVES {unnoticed}' if unnoticed else 'caught'}", flush=True)
    print(f"{caught} of {len(chosen)} caught")
    return int(caught < len(chosen))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Misfit as misfit:
        print(f"weakenings: {misfit}", file=sys.stderr)
        sys.exit(2)
