"""Messages that parsers read in more than one way, as data: raw bytes, and what must become of them."""

import pytest


def table(cases):
    """Return the parameters of a test: one for each case, or as many as its tuple holds."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), id=name) for name, case in cases.items()]
