"""Each message is a view, and when it has come whole nothing waits for the next."""

import base64
import gzip

import pytest

from addons.views import Tree, budget
from tests.addons.conftest import SIZES
from tests.addons.views.collect import Collect, read

GZIP = "application/grpc; encoding=gzip"


def message(data: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(data).to_bytes(4) + data


TWO = message(b"\n\3one") + message(b"\n\3two")
CASES = [
    pytest.param(TWO, "application/grpc", {"grpc[1]": b"\n\3one", "grpc[2]": b"\n\3two"}, id="messages"),
    pytest.param(message(b"") + TWO, "application/grpc+proto", {"grpc[3]": b"\n\3two"}, id="an empty one"),
    pytest.param(message(b'{"a":"b"}'), "application/grpc+json", {"grpc[1]": b'{"a":"b"}'}, id="JSON"),
    pytest.param(message(gzip.compress(b"secret" * 9000), 1) + message(b"plain"), GZIP, {"grpc[1]": b"secret" * 9000, "grpc[2]": b"plain"}, id="compressed"),
    pytest.param(TWO + message(b"grpc-status: 0\r\n", 0x80), "application/grpc-web", {"trailers": b"grpc-status: 0\r\n"}, id="gRPC-Web"),
    pytest.param(base64.b64encode(message(b"a")) + base64.b64encode(message(b"bb")), "application/grpc-web-text", {"grpc[1]": b"a", "grpc[2]": b"bb"}, id="gRPC-Web as text"),
    pytest.param(message(b"a") + message(b"{}", 2), "application/connect+proto", {"grpc[1]": b"a", "grpc[2]": b"{}"}, id="Connect"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "declared", "views"), CASES)
def test_messages(body, declared, views, size):
    heard = read(body, size, declared)
    assert not heard.refused
    assert {f"body > {path}": text for path, text in views.items()}.items() <= heard.texts.items()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "declared", "reason", "rest"), [
    pytest.param(TWO[:-1], "application/grpc", "cut short", b"\n\3one", id="cut"),
    pytest.param(TWO + b"PK\3\4 something else", "application/grpc", "unknown flags", b"\n\3one", id="no messages"),
    pytest.param(message(b"x", 1) + TWO, "application/grpc", "no encoding is declared", None, id="compressed, undeclared"),
    pytest.param(message(b"x", 1) + TWO, "application/grpc; encoding=snappy", "unknown content coding", None, id="unknown coding"),
    pytest.param(message(b"xxxxxxxxxxxxxxxxxxxxxx", 1) + TWO, GZIP, "corrupt", None, id="not gzip"),
    pytest.param(message(gzip.compress(b"abc")[:-3], 1) + TWO, GZIP, "cut short", None, id="gzip, cut"),
    pytest.param(message(gzip.compress(bytes(4_000_000)), 1), GZIP, "times its size", None, id="bomb"),
    pytest.param(b"%%%%", "application/grpc-web-text", "base64", None, id="no base64"),
])
def test_unscannable(body, declared, reason, rest, size, monkeypatch):
    monkeypatch.setattr(budget, "FREE", 1 << 20)
    heard = read(body, size, declared)
    assert [why for _, why in heard.refused if reason in why]
    if TWO in body:
        assert heard.views[-2][1] == b"\n\3two" or heard.views[-1][1] or rest is not None


@pytest.mark.parametrize("declared", ["application/grpc", "application/grpc+json", "application/grpc-web"])
def test_a_whole_message_may_leave_though_half_of_another_came(declared):
    hear = Collect()
    tree = Tree(hear, declared=declared)
    first = message(b"hello")
    tree.feed(first)
    assert tree.clear == len(first)
    tree.feed(TWO[:11])
    assert len(first) + 10 <= tree.clear <= len(first) + 11
    tree.feed(TWO[11:18])
    assert tree.clear == len(first) + 15


def test_a_stream_may_last():
    heard = read(message(b"x") * 30_000, 1 << 16, "application/grpc")
    assert not heard.refused
    assert len(heard.views) == 30_000
