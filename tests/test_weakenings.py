"""The table of weakenings fits the sources: each edit has its one place, each test is there."""

from pathlib import Path

import pytest

from tests.weakened import WEAKENINGS
from tests.weakened_filters import FILTERS

TESTS = Path(__file__).parent


@pytest.mark.parametrize("weakening", [pytest.param(each, id=each.name) for each in (*WEAKENINGS, *FILTERS)])
def test_it_fits(weakening):
    for file, old, new in weakening.edits:
        assert ((TESTS.parent / file).read_text().count(old), old != new) == (1, True), (file, old)
    for test in weakening.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}" in (TESTS / file.removeprefix("tests/")).read_text(), test
