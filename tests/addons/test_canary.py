"""A canary is seen wherever it appears."""

from pathlib import Path

import pytest

from addons.canary import Canary
from addons.connection import Connection
from addons.verdict import Action
from tests.addons.conftest import SIZES, heard, request

KEY = "AKIAOKN3IZZ4NHYG53CX"
VALUES = (f"{KEY} # the lab's laptop", "nina.weber1234@corp.example", "db-0a1b2c.corp.example", 'a "quoted" (value) $1')


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(KEY, "the lab's laptop", id="alone"),
        pytest.param(f"aws_key={KEY};", "the lab's laptop", id="in a line"),
        pytest.param(KEY.lower(), "the lab's laptop", id="in lower case"),
        pytest.param("<nina.weber1234@corp.example>", "nina…", id="e-mail"),
        pytest.param("https://DB-0a1b2c.corp.example:8443/x", "db-0…", id="host"),
        pytest.param("x.db-0a1b2c.corp.example", "db-0…", id="a name below it"),
        pytest.param('say a "quoted" (value) $1', 'a "q…', id="odd characters"),
        pytest.param("x" * 9000 + " " + KEY, "the lab's laptop", id="far inside"),
    ],
)
def test_found(text: str, name: str, size: int) -> None:
    said = heard(Canary(VALUES).requestviews(request()), text.encode(), size)
    assert [(v.action, [f.rule for f in v.findings]) for v in said] == [(Action.BLOCK, [name])]


@pytest.mark.parametrize("text", [KEY[:-1], "x" + KEY, KEY + "x", "AKIA", "db-0a1b2c.corp.examples"])
def test_not_found(text: str) -> None:
    assert not list(heard(Canary(VALUES).requestviews(request()), text.encode(), 7))


@pytest.mark.parametrize(
    ("path", "headers", "where"),
    [
        pytest.param(f"/{KEY}", {}, "url", id="URL"),
        pytest.param("/", {"x_key": KEY}, "header:x-key", id="header"),
        pytest.param("/", {"authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/2026"}, "header:authorization", id="used"),
        pytest.param("/", {"cookie": f"k={KEY}"}, "header:cookie > k", id="cookie"),
    ],
)
def test_head(path: str, headers: dict[str, str], where: str) -> None:
    verdict = Canary(VALUES).requestheaders(request(path, **headers))
    assert verdict
    assert [f.where for f in verdict.findings] == [where]


@pytest.mark.parametrize(
    ("host", "met"),
    [("db-0a1b2c.corp.example", True), ("x.db-0a1b2c.corp.example", True), ("corp.example", False), ("", False)],
)
def test_host(host: str, met: bool) -> None:
    rule = Canary(VALUES, action="kill")
    said = rule.connection(Connection(host, ("192.0.2.1", 443), ("127.0.0.1", 5)))
    assert (said and said.action) == (Action.KILL if met else None)
    said = rule.requestheaders(request(host=host))
    assert (said and said.action) == (Action.KILL if met else None)


def test_host_by_name_of_the_address() -> None:
    said = Canary(VALUES, action="alert").connection(Connection(None, ("db-0a1b2c.corp.example", 80), ("127.0.0.1", 5)))
    assert said
    assert said.action is Action.ALERT


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(f"# ours\n{KEY}\n")
    rule = Canary(lists=(tmp_path / "x",))
    assert rule.files == [tmp_path / "x"]
    assert rule.requestheaders(request(f"/{KEY}"))


@pytest.mark.parametrize(
    ("values", "says"), [((), "between 1"), (("short",), "8 to 512"), (("x" * 513,), "8 to 512"), ((KEY, " "), r"values\[1\]")]
)
def test_bad_options(values: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Canary(values)
