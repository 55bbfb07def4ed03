"""The head of a request is scanned as it is written and as servers will read it."""

import base64
import gzip
import time

import pytest

from addons.text import Head, _inside, basic, head, unquoted
from addons.views import Tree
from tests.addons.conftest import request


@pytest.mark.parametrize(
    ("value", "views"),
    [
        pytest.param(b"plain", [], id="nothing to take off"),
        pytest.param(b"a%20b", [b"a b"], id="once"),
        pytest.param(b"a%2520b", [b"a%20b", b"a b"], id="twice"),
        pytest.param(b"a%252520b", [b"a%2520b", b"a%20b"], id="no further"),
        pytest.param(b"100%", [], id="no encoding"),
    ],
)
def test_unquoted(value: bytes, views: list[bytes]) -> None:
    assert list(unquoted(value)) == views


@pytest.mark.parametrize(
    ("value", "views"),
    [
        pytest.param(b"Basic " + base64.b64encode(b"user:pass"), [b"user:pass"], id="credentials"),
        pytest.param(b"Basic ???", [], id="not base64"),
        pytest.param(b"Bearer dXNlcg==", [], id="another scheme"),
    ],
)
def test_basic(value: bytes, views: list[bytes]) -> None:
    assert list(basic(value)) == views


@pytest.mark.parametrize(
    ("credentials", "seen"),
    [
        pytest.param(False, {b"note-value", b"/p%41th?q=1", b"/pAth?q=1", b"site.example"}, id="without credentials"),
        pytest.param(
            True,
            {b"note-value", b"/p%41th?q=1", b"/pAth?q=1", b"site.example", b"Basic dTpw", b"u:p", b"c=1"},
            id="with credentials",
        ),
    ],
)
def test_head(credentials: bool, seen: set[bytes]) -> None:
    flow = request("/p%41th?q=1", x_note="note-value", Authorization="Basic dTpw", cookie="c=1")
    assert set(head(flow.request, credentials).text.split(b"\0")) == seen


@pytest.mark.parametrize(
    ("offset", "where"),
    [(0, ("url", 0)), (4, ("url", 4)), (6, ("header:x-a", 0)), (9, ("header:x-a", 3)), (11, ("url", 1))],
)
def test_where(offset: int, where: tuple[str, int]) -> None:
    assert Head([(b"", "", b"/path"), (b"x-a", "", b"abc"), (b"", "", b"/p")]).where(offset) == where


@pytest.mark.parametrize(
    ("value", "built"),
    [
        pytest.param(b"/articles/2026/11/some-title-of-a-page?page=10&sort=date", False, id="an ordinary URL"),
        pytest.param(b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)", False, id="a browser"),
        pytest.param(b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False, id="Accept"),
        pytest.param(b"a=41=42", True, id="quoted-printable"),
        pytest.param(b"a\\u0041", True, id="escapes"),
    ],
)
def test_ordinary_heads_cost_no_tree(monkeypatch: pytest.MonkeyPatch, value: bytes, built: bool) -> None:
    made: list[object] = []
    monkeypatch.setattr("addons.text.Tree", lambda *args: made.append(args) or Tree(*args))
    _inside(value)
    assert bool(made) is built


def test_many_values_in_one_header_take_no_time() -> None:
    packed = (base64.b64encode(gzip.compress(b"a text, number %06d" % i, mtime=0)) for i in range(3000))
    value, start = b" ".join(packed), time.thread_time()
    assert len(_inside(value)) == 6000
    assert time.thread_time() - start < 1.5
