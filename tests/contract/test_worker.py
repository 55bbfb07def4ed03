"""What the stand-in cannot show: the real proxy passes on as the contract says."""

import tempfile
import uuid
from pathlib import Path

import pytest

from tests.contract.lab import BANNER4, ORIGIN4, ORIGIN6, REFUSED4, UNREACHABLE4
from tests.contract.rig import ask
from tests.contract.worker import started

pytestmark = pytest.mark.live
TO = {"address": ORIGIN4, "port": 443}


@pytest.fixture(scope="module")
def client(backend, lab):
    with tempfile.TemporaryDirectory(prefix="lockgate-worker-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with started(lab, Path(name), backend.declaration.name) as client:
            yield client


@pytest.mark.parametrize(("action", "arguments", "answer"), [
    pytest.param("talk", {"pieces": list("echo\nhello")}, {"answer": "hello"}, id="byte by byte"),
    pytest.param("cut_off", {"count": 0}, {"got": 0, "end": "reset"}, id="the origin resets"),
    pytest.param("cut_off", {"count": 100_000}, {"got": 100_000, "end": "reset"}, id="the origin resets in the middle"),
    pytest.param("urgent", {}, {"answer": "abcde"}, id="an urgent byte"),
    pytest.param("upload", {"count": 200_000_000}, {"intact": True}, id="much, and fast"),
])
def test_as_without_us(client, action, arguments, answer):
    assert ask(client, action, 60, **TO, **arguments) == answer


@pytest.mark.parametrize(("how", "end"), [("reset", "reset"), ("close", "eof")])
def test_the_client_hangs_up(client, how, end):
    ident = uuid.uuid4().hex
    ask(client, "hang_up", ident=ident, how=how, **TO)
    assert client.lab.heard(ident) == {"id": ident, "end": end, "bytes": 5}


def test_the_origin_ends_its_half(client):
    ident = uuid.uuid4().hex
    assert ask(client, "go_on_after_the_end", ident=ident, count=1000, **TO) == {"said": "bye"}
    assert client.lab.heard(ident) == {"id": ident, "end": "eof", "bytes": 1000}


@pytest.mark.parametrize("address", [REFUSED4, UNREACHABLE4])
def test_an_origin_that_cannot_be_had(client, address):
    assert ask(client, "who", address=address, port=443)["error"] in ("ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH")


def test_many_at_a_time(client):
    targets = [(ORIGIN4, 443), (ORIGIN6, 443), (ORIGIN4, 80)]
    assert ask(client, "many", 60, targets=targets, count=300, threads=8) == {"right": 300}


def test_the_origin_speaks_first(client):
    """The proxy waits for the client's first words for as long as `limits.hello` says, then for the origin's."""
    answer = ask(client, "listen_first", address=BANNER4, port=443)
    assert answer["greeting"] == "220 origin speaks first"
