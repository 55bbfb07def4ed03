"""Hosts are blocked by name, suffix, address and network; a bad list names its bad lines."""

import time
from pathlib import Path

import pytest

from addons.blocklist import Hosts, entries
from addons.connection import Connection
from addons.verdict import Action
from tests.addons.conftest import request


def reason(hosts: Hosts, host: str) -> str | None:
    verdict = hosts.requestheaders(request(host=host))
    assert verdict is None or verdict.action is Action.BLOCK
    return verdict and verdict.reason


@pytest.mark.parametrize(
    ("entry", "host", "blocked"),
    [
        pytest.param("ads.example", "ads.example", True, id="name"),
        pytest.param("ads.example", "x.y.ads.example", True, id="name covers sub-domains"),
        pytest.param("ads.example", "bads.example", False, id="not a suffix of letters"),
        pytest.param("ads.example", "example", False, id="not its parent"),
        pytest.param("*.ads.example", "x.ads.example", True, id="star: below"),
        pytest.param("*.ads.example", "ads.example", False, id="star: not itself"),
        pytest.param(".ads.example", "x.y.ads.example", True, id="dot: below"),
        pytest.param(".ads.example", "ads.example", False, id="dot: not itself"),
        pytest.param("=ads.example", "ads.example", True, id="exact"),
        pytest.param("=ads.example", "x.ads.example", False, id="exact: not below"),
        pytest.param("ADS.Example.", "ads.EXAMPLE.", True, id="case and dot"),
        pytest.param("bücher.example", "xn--bcher-kva.example", True, id="IDNA"),
        pytest.param("192.0.2.7", "192.0.2.7", True, id="address"),
        pytest.param("192.0.2.0/24", "192.0.2.200", True, id="network"),
        pytest.param("192.0.2.0/24", "192.0.3.1", False, id="outside"),
        pytest.param("2001:db8::/32", "[2001:db8::5]", True, id="IPv6 network"),
        pytest.param("192.0.2.0/24", "[::ffff:192.0.2.1]", True, id="mapped address"),
        pytest.param("0.0.0.0/0", "x.example", False, id="a network covers no names"),
    ],
)
def test_entries(entry: str, host: str, blocked: bool) -> None:
    assert (reason(Hosts(hosts=(entry,)), host) is not None) is blocked


@pytest.mark.parametrize(
    ("host", "address", "blocked"),
    [
        pytest.param("a.ads.example", "198.51.100.1", True, id="by name"),
        pytest.param("good.example", "192.0.2.1", True, id="by address"),
        pytest.param(None, "192.0.2.1", True, id="no name"),
        pytest.param(None, "::ffff:192.0.2.1", True, id="mapped"),
        pytest.param("good.example", "198.51.100.1", False, id="neither"),
    ],
)
def test_connection(host: str | None, address: str, blocked: bool) -> None:
    hosts = Hosts(hosts=("ads.example", "192.0.2.0/24"))
    assert bool(hosts.connection(Connection(host, (address, 443), ("127.0.0.1", 1)))) is blocked


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("0.0.0.0 a.example\n127.0.0.1\tb.example c.example\n", ["a.example", "b.example", "c.example"],
                     id="hosts format"),
        pytest.param("a.example\n\n  b.example  # why\n# c.example\n! d.example\n", ["a.example", "b.example"],
                     id="one a line, comments"),
        pytest.param("::1 ip6-loopback\n127.0.0.1 localhost\n0.0.0.0 0.0.0.0\n::1 a.example", ["a.example"],
                     id="names of the machine itself"),
        pytest.param("192.0.2.1\n10.0.0.0/8", ["192.0.2.1", "10.0.0.0/8"], id="addresses"),
        pytest.param("two words", ["two words"], id="left for the error"),
    ],
)  # fmt: skip
def test_list_formats(text: str, found: list[str]) -> None:
    assert [entry for _, entry in entries(text.splitlines())] == found


def test_the_reason_names_entry_and_list(tmp_path: Path) -> None:
    path = tmp_path / "ads.txt"
    path.write_text("\ufeff0.0.0.0 ads.example\n", "utf-8")
    hosts = Hosts(hosts=("own.example",), files=(path,))
    assert reason(hosts, "x.ads.example") == "host is blocked: ads.example in ads.txt"
    assert reason(hosts, "own.example") == "host is blocked: own.example in hosts"


def test_all_bad_entries_are_reported_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_text("good.example\nbad name\n-x.example\n10.0.0.1/8\n")
    with pytest.raises(ValueError, match="is neither") as caught:
        Hosts(hosts=("ok.example", "http://x/"), files=(path, tmp_path / "none.txt"))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "hosts[1]", f"{path}:2", f"{path}:3", f"{path}:4", str(tmp_path / "none.txt"),
    ]  # fmt: skip


@pytest.mark.parametrize(("content", "says"), [(b"\xff\xfe\0", "UTF-8"), (b"bad name\n" * 99, "not listed")])
def test_files_that_are_no_lists(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "l.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        Hosts(files=(path,))
    assert len(str(caught.value).splitlines()) <= 11


def test_a_name_that_cannot_be_compared_is_blocked() -> None:
    assert "a:b:c" in (reason(Hosts(), "a:b:c") or "")


def test_a_hundred_thousand_names(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    path.write_text("".join(f"0.0.0.0 h{n}.d{n % 500}.example\n" for n in range(100_000)))
    start = time.perf_counter()
    hosts = Hosts(files=(path,))
    assert time.perf_counter() - start < 3
    assert reason(hosts, "x.h7.d7.example")
    assert not reason(hosts, "h7.d8.example")
