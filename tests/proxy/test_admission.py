"""Who may use an explicit proxy from elsewhere."""

import asyncio
import base64
import hashlib
import io
import time

import pytest

from proxy import admission, cli
from proxy.admission import Admission, basic, hashed, parse
from proxy.config import Config
from proxy.schema import Capture
from proxy.ways import Ways

SALT, DIGEST = "A" * 22, "B" * 43


def test_a_hash_is_scrypt_and_salted():
    """By the standard library's own scrypt, with the parameters that the line names."""
    line = hashed(b"secret")
    _, name, parameters, salt, digest = line.split("$")
    assert (name, parameters) == ("scrypt", "ln=14,r=8,p=1")
    raw = hashlib.scrypt(b"secret", salt=base64.b64decode(salt + "=="), n=2**14, r=8, p=1, dklen=32)
    assert base64.b64encode(raw).decode().rstrip("=") == digest
    assert hashed(b"secret") != line
    assert "secret" not in line


@pytest.mark.parametrize(("user", "password", "expected"), [
    (b"alice", b"secret", True), (b"alice", b"Secret", False), (b"alice", b"", False), (b"", b"secret", False),
    (b"bob", b"secret", False), (b"alice\0", b"secret", False), (b"alic", b"esecret", False),
    (b"alice", b"secret" * 100, False),
])
def test_good(user, password, expected):
    users = parse(f"# who\n\nalice:{hashed(b'secret')}\n")

    async def ask():
        known = Admission(users)
        return [await known.good(user, password), await known.good(user, password)]

    assert asyncio.run(ask()) == [expected] * 2


def test_a_known_pair_costs_nothing_and_does_not_let_others_in():
    async def ask():
        known = Admission(parse(f"alice:{hashed(b'secret')}\n"))
        assert await known.good(b"alice", b"secret")
        began = time.monotonic()
        for _ in range(100):
            assert await known.good(b"alice", b"secret")
        assert time.monotonic() - began < 0.5, "or each was computed anew, at some 30 ms"
        return await known.good(b"alice", b"secret2")

    assert asyncio.run(ask()) is False


@pytest.mark.parametrize(("text", "words"), [
    ("", "nobody"),
    ("alice:secret", "line 1"),
    (f"alice:$scrypt$ln=1,r=8,p=1${SALT}${DIGEST}", "too weak"),
    (f"alice:$scrypt$ln=25,r=8,p=1${SALT}${DIGEST}", "too costly"),
    (f"alice:$scrypt$ln=14,r=99,p=1${SALT}${DIGEST}", "too weak or too costly"),
    (f"alice:$scrypt$ln=14,r=8,p=0${SALT}${DIGEST}", "too weak"),
    (f"a b:$scrypt$ln=14,r=8,p=1${SALT}${DIGEST}", "line 1"),
    (f"# x\na:$scrypt$ln=14,r=8,p=1${SALT}${DIGEST}\na:$scrypt$ln=14,r=8,p=1${SALT}${DIGEST}", "line 3: a is there"),
    ("root:x:0:0::/root:/bin/sh", "line 1"),
])
def test_a_file_with_a_mistake(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("value", "expected"), [
    ("Basic " + base64.b64encode(b"me:a:b").decode(), (b"me", b"a:b")),
    ("basic   " + base64.b64encode(b"me:").decode(), (b"me", b"")),
    ("Basic " + base64.b64encode(b"me").decode(), None),
    ("Bearer abc", None), ("Basic ???", None), ("Basic é", None), ("Basic", None), ("", None),
])
def test_basic(value, expected):
    assert basic(value) == expected


def test_the_command_prints_a_line_that_is_read(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert cli.main(["proxy-user", "alice"]) == 0
    assert b"alice" in parse(capsys.readouterr().out)


@pytest.mark.parametrize(("name", "password"), [("a:b", "x"), ("", "x"), ("a b", "x"), ("a", ""), ("a", "x" * 256)])
def test_the_command_refuses(monkeypatch, capsys, name, password):
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    assert cli.main(["proxy-user", name]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("listen", "explicit", "users", "anyone", "expected"), [
    pytest.param(["127.0.0.1"], True, False, False, None, id="loopback"),
    pytest.param(["127.0.0.1", "::1"], True, True, False, None, id="loopback, with users"),
    pytest.param(["0.0.0.0"], True, True, False, Admission, id="everywhere, with users"),
    pytest.param(["127.0.0.1", "192.0.2.1"], True, True, False, Admission, id="somewhere, with users"),
    pytest.param(["0.0.0.0"], True, True, True, Admission, id="--allow-anyone does not let users' passwords go"),
    pytest.param(["0.0.0.0"], True, False, True, None, id="everybody, as asked"),
    pytest.param(["0.0.0.0"], True, False, False, ValueError, id="everybody, not asked"),
    pytest.param(["proxy.test"], True, False, False, ValueError, id="a name that may be anywhere"),
    pytest.param(["0.0.0.0"], False, False, False, None, id="captured connections"),
])
def test_who_is_let_in(tmp_path, listen, explicit, users, anyone, expected, caplog):
    path = tmp_path / "users"
    path.write_text(f"alice:{hashed(b'secret')}\n")
    config = Config("", None, explicit, [(host, 8080) for host in listen], anyone=anyone)
    ways = Ways(config, Capture(proxy_users=path if users else None), set())
    if expected is ValueError:
        with pytest.raises(ValueError, match="--allow-anyone"):
            ways.admission()
        return
    found = ways.admission()
    assert (type(found) is Admission) if expected else found is None
    assert ("everybody who reaches" in caplog.text) == (anyone and not users)


def test_limits_are_those_of_socks():
    assert admission.MAX_TEXT == 255
