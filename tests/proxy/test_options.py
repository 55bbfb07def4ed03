"""Options mean one thing each."""

import argparse
from pathlib import Path

import pytest

from proxy import options


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("127.0.0.1:8080", ("127.0.0.1", 8080), id="IPv4"),
        pytest.param("[::1]:0", ("::1", 0), id="IPv6, any port"),
        pytest.param("localhost:1", ("localhost", 1), id="a name"),
        pytest.param("8080", None, id="no host"),
        pytest.param("127.0.0.1", None, id="no port"),
        pytest.param("127.0.0.1:", None, id="an empty port"),
        pytest.param(":8080", None, id="an empty host"),
        pytest.param("127.0.0.1:70000", None, id="no such port"),
    ],
)
def test_address(text, address):
    if address is not None:
        assert options.address(text) == address
        return
    with pytest.raises(argparse.ArgumentTypeError, match=r"127\.0\.0\.1:8080"):
        options.address(text)


@pytest.mark.parametrize("text", ["0", "-1", "", "x", "1.5"])
def test_count(text):
    assert options.count("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="from 1"):
        options.count(text)


@pytest.mark.parametrize(
    ("uid", "variable", "folder"),
    [
        pytest.param(0, "/x", "/var/lib/lockgate/state", id="root: the system's"),
        pytest.param(1000, "/x", "/x/lockgate", id="a user: where XDG says"),
        pytest.param(1000, "", "/home/me/.local/state/lockgate", id="a user: where XDG says by default"),
    ],
)
def test_the_default_state(monkeypatch, uid, variable, folder):
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setenv("XDG_STATE_HOME", variable)
    monkeypatch.setenv("HOME", "/home/me")
    assert options.default_state() == Path(folder)
    assert options.state(argparse.Namespace(state=None)) == Path(folder)
    assert options.state(argparse.Namespace(state=Path("here"))) == Path.cwd() / "here"
