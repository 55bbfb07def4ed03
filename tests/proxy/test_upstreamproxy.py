"""Chains: app -> lockgate -> another proxy -> origin.  Names are the other's to look up, our password is its alone."""

import asyncio
import base64
import json
import socket
import ssl
import time
from pathlib import Path

import pytest

from proxy.fetching import Unanswered, fetch
from proxy.policy import PolicyError, parse
from proxy.proxyurl import Exceptions, place
from proxy.upstreamproxy import UpstreamProxy, dial
from tests.proxy.conftest import GET, read_answer, running
from tests.proxy.origin import Origin
from tests.proxy.parent import Parent

#: Nothing of it may be seen anywhere but at the proxy it is for.
PASSWORD = "correct-horse-7"
POLICY = """\
version: 1
capture:
  upstream_proxy: {kind}://127.0.0.1:{port}
  upstream_proxy_except: [direct.test]
{login}
tls: {{upstream: {{trusted_ca: {roots}}}, bypass: [other.test]}}
limits: {{answer: 2, hello: 2}}
connections:
  - {{id: by-address, verdict: bypass, addresses: [192.0.2.7/32]}}
filters:
  - {{id: no-secrets, use: secrets.Secrets}}
"""
LOGIN = "  upstream_proxy_username: me\n  upstream_proxy_password_file: password"


@pytest.fixture(scope="module")
def parent():
    with Parent().serve() as served:
        yield served


@pytest.fixture(autouse=True)
def _forget_parent(parent, http_origin):
    parent.forget()
    http_origin.record.clear()


@pytest.fixture(scope="module")
def http_origin(folder):
    with Origin(folder / "http", tls=False).serve() as served:
        yield served


def started(folder, origin, parent, kind, login=LOGIN):
    folder.mkdir()
    (folder / "password").touch(0o600)
    (folder / "password").write_text(PASSWORD + "\n")
    return running(folder, POLICY.format(kind=kind, port=parent.port, roots=origin.roots, login=login))


@pytest.fixture(scope="module", params=["http", "socks5"])
def proxy(request, folder, origin, parent):
    with started(folder / request.param, origin, parent, request.param) as proxy:
        proxy.kind = request.param
        yield proxy


def page(proxy, origin, name="origin.test", ca=None, connect=None):
    """Ask over TLS through a tunnel to that name."""
    context = ssl.create_default_context(cafile=str(ca or proxy.ca))
    with context.wrap_socket(proxy.tunnel(origin, connect or name), server_hostname=name) as sock:
        sock.sendall(GET.replace(b"origin.test", name.encode()))
        return read_answer(sock)


def plain(proxy, origin, name="origin.test", path="/"):
    with proxy.plain() as sock:
        sock.sendall(f"GET http://{name}:{origin.port}{path} HTTP/1.1\r\nhost: {name}:{origin.port}\r\n\r\n".encode())
        return read_answer(sock)


@pytest.mark.parametrize("login", [None, ("me", PASSWORD)], ids=["open", "with a password"])
def test_a_tunnel(proxy, origin, parent, login):
    parent.login = login
    assert page(proxy, origin).status == 200
    assert set(parent.asked) == {f"origin.test:{origin.port}"}, "the name, not an address of ours"
    assert PASSWORD.encode() not in origin.record


@pytest.mark.parametrize("login", [None, ("me", PASSWORD)], ids=["open", "with a password"])
def test_a_plain_request(proxy, http_origin, parent, login):
    parent.login = login
    assert plain(proxy, http_origin, path="/x?y").body == b"ok"
    whole = f"http://origin.test:{http_origin.port}/x?y"
    assert parent.asked == [whole if proxy.kind == "http" else f"origin.test:{http_origin.port}"]
    assert b"GET /x?y HTTP/1.1" in http_origin.record
    assert b"authorization" not in http_origin.record.lower()


def test_plain_http_in_a_tunnel(proxy, http_origin, parent):
    """A captured connection looks the same: it is known where it goes, and then that it speaks HTTP."""
    with proxy.tunnel(http_origin, "origin.test") as sock:
        for _ in range(2):
            sock.sendall(f"GET / HTTP/1.1\r\nhost: origin.test:{http_origin.port}\r\n\r\n".encode())
            assert read_answer(sock).status == 200
    asked = f"http://origin.test:{http_origin.port}/" if proxy.kind == "http" else f"origin.test:{http_origin.port}"
    assert parent.asked[0] == asked


def test_a_bypass_is_proved_and_passes_through_the_proxy(proxy, origin, parent):
    assert page(proxy, origin, "other.test", ca=origin.roots).status == 200
    assert parent.asked == [f"other.test:{origin.port}"] * 2, "our own handshake, and the client's"


def test_a_bypass_by_address_leads_to_that_address(proxy, origin, parent):
    """Whatever name the client says: the rule is about the address."""
    assert page(proxy, origin, ca=origin.roots, connect="192.0.2.7").status == 200
    assert parent.asked == [f"192.0.2.7:{origin.port}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001"])
def test_exceptions_are_met_directly(proxy, http_origin, parent, host):
    assert plain(proxy, http_origin, host).status == 200
    assert parent.heard == b""


@pytest.mark.parametrize("host", ["169.254.169.254", "0xa9fea9fe"])
def test_forbidden_addresses_stay_forbidden(proxy, parent, host):
    with proxy.plain() as sock:
        sock.sendall(f"CONNECT {host}:80 HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        assert read_answer(sock).status == 403
    assert parent.heard == b""


def test_filters_still_decide(proxy, http_origin, parent):
    assert plain(proxy, http_origin, path="/?k=AKIA4QXB7ZKLMRTW2NPD").status == 403
    assert parent.heard == b""


HTTP_REFUSALS = {
    b"HTTP/1.1 407 Who?\r\nproxy-authenticate: Basic realm=x\r\ncontent-length: 0\r\n\r\n": "name and password",
    b"HTTP/1.1 403 No\r\ncontent-length: 4\r\n\r\nsorry": "does not allow",
    b"HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n": "could not reach",
    b"HTTP/1.1 503 Full\r\ncontent-length: 0\r\n\r\n": "is not available",
    b"HTTP/1.1 302 Elsewhere\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n": "302",
    b"garbage\r\n\r\n": "upstream proxy",
    b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000 + b"\r\n\r\n": "larger than",
    b"": "closed the connection",
}
SOCKS_REFUSALS = {
    b"\x05\xff": "name and password",
    b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0": "does not allow",
    b"\x05\x00\x05\x04\x00\x01\0\0\0\0\0\0": "cannot reach that host",
    b"\x05\x00\x05\x63\x00\x01\0\0\0\0\0\0": "means nothing",
    b"\x05\x00\x05\x00\x00\x07\0\0\0\0\0\0": "kind 7",
    b"\x05\x02\x01\x01": "name and password",
    b"HTTP/1.1 400 Bad\r\n\r\n": "speaks no SOCKS",
    b"": "closed the connection",
}


@pytest.mark.parametrize("number", range(8))
def test_a_refusal_is_a_clear_page(proxy, origin, parent, number):
    """Of ours, with the proxy named; nothing that the proxy says about passwords reaches a client."""
    parent.answer, words = list((HTTP_REFUSALS if proxy.kind == "http" else SOCKS_REFUSALS).items())[number]
    answer = page(proxy, origin)
    assert answer.status == 502
    assert not {name for name in answer.headers if name.startswith("proxy-")}
    assert words in json.loads(answer.body)["detail"]
    assert f"upstream proxy 127.0.0.1:{parent.port}" in json.loads(answer.body)["detail"]


def test_a_plain_request_that_it_wants_a_password_for(proxy, http_origin, parent):
    parent.login = ("somebody", "else")
    answer = plain(proxy, http_origin)
    assert (answer.status, "name and password" in json.loads(answer.body)["detail"]) == (502, True)
    assert parent.refused == 1


def test_a_proxy_that_says_nothing(proxy, origin, parent):
    parent.answer = lambda _: time.sleep(5)
    begun = time.monotonic()
    assert page(proxy, origin).status == 502
    assert time.monotonic() - begun < 4


def test_an_answer_in_pieces_with_the_origins_first_words_behind_it(folder, origin):
    """Those words are the origin's, not the proxy's: nothing of them is lost."""
    def speak(sock):
        for byte in b"HTTP/1.1 103 Soon\r\n\r\nHTTP/1.1 200 OK\r\na: b\r\n\r\n":
            sock.sendall(bytes((byte,)))
        sock.sendall(b"220 hello\r\n")

    with Parent(answer=speak).serve() as parent:
        async def run():
            via = UpstreamProxy(place(f"http://127.0.0.1:{parent.port}"), Exceptions(()))
            with await dial(via, [("192.0.2.1", 25)]) as sock:
                return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100), 5)

        assert asyncio.run(run()) == b"220 hello\r\n"


def test_nobody_else_sees_the_password(proxy, origin, http_origin, parent):
    parent.login = ("me", PASSWORD)
    assert page(proxy, origin).status == 200
    assert plain(proxy, http_origin).status == 200
    parent.login = ("me", "another")
    assert page(proxy, origin).status == 502
    places = [json.dumps(proxy.events()).encode(), proxy.stderr.encode(), bytes(origin.record),
              bytes(http_origin.record), *(Path(f"/proc/{proxy.process.pid}/{name}").read_bytes()
                                           for name in ("cmdline", "environ"))]
    places += [path.read_bytes() for path in (proxy.folder / "state").rglob("*") if path.is_file()]
    for secret in (PASSWORD.encode(), base64.b64encode(f"me:{PASSWORD}".encode())):
        assert not [place for place in places if secret in place]


def test_a_reload_changes_the_way(folder, origin, http_origin, parent):
    with started(folder / "reload", origin, parent, "http") as proxy, proxy.tunnel(http_origin, "origin.test") as older:
        assert plain(proxy, http_origin).status == 200
        assert len(parent.asked) == 1
        proxy.reload("version: 1\n")
        proxy.said("reloaded")
        older.sendall(f"GET / HTTP/1.1\r\nhost: origin.test:{http_origin.port}\r\n\r\n".encode())
        answer = read_answer(older)     # a name that nobody has looked at is not looked up now, past all checks
        assert (answer.status, b"no longer has" in answer.body) == (502, True)
        assert plain(proxy, http_origin, "origin.invalid").status == 502     # nobody here knows that name
        assert len(parent.asked) == 1


def test_our_own_listener_is_no_upstream_proxy(folder, origin, http_origin):
    """By a name of this computer that cannot be told before it is looked up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    policy = f"version: 1\ncapture: {{upstream_proxy: 'http://127.0.0.1:{port}'}}\n"
    with running(folder / "loop", policy) as proxy:
        proxy.reload(policy.replace(str(port), str(proxy.port)))
        proxy.said("reloaded")
        answer = plain(proxy, http_origin)
        assert answer.status == 502
        assert "lockgate itself" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize(("capture", "words"), [
    ("upstream_proxy: 'ftp://a.test:1'", "write it as http://HOST:PORT"),
    ("upstream_proxy: 'http://a.test'", "write it as"),
    ("upstream_proxy: 'a.test:3128'", "write it as"),
    ("upstream_proxy: 'http://me:secret@a.test:1'", "upstream_proxy_password_file"),
    ("upstream_proxy: 'http://a.test:1/path'", "write it as"),
    ("upstream_proxy: 'http://a_b c:1'", "write it as"),
    ("{upstream_proxy: 'http://a.test:1', upstream_proxy_username: me}", "need each other"),
    ("{upstream_proxy_username: me, upstream_proxy_password_file: x}", "no `upstream_proxy`"),
    ("upstream_proxy_except: ['10.0.0.1/8']", "no CIDR block"),
    ("upstream_proxy_except: ['*']", "not a host pattern"),
])
def test_a_policy_with_a_mistake(capture, words):
    text = f"version: 1\ncapture: {capture if capture.startswith('{') else '{' + capture + '}'}\n"
    with pytest.raises(PolicyError, match=words.replace("*", r"\*")) as caught:
        parse(text.encode(), Path("policy.yaml"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("mode", "content", "words"), [
    (0o640, PASSWORD, "chmod 600"), (0o600, "a\nb", "control character"), (None, "", "No such file"),
    (0o600, "\xff", "not UTF-8"),
])
def test_a_password_file_that_is_not_fit(folder, origin, parent, tmp_path, mode, content, words):
    if mode is not None:
        (tmp_path / "password").write_bytes(content.encode("latin-1"))
        (tmp_path / "password").chmod(mode)
    policy = POLICY.format(kind="http", port=parent.port, roots=origin.roots, login=LOGIN)
    with pytest.raises(AssertionError, match=words), running(tmp_path, policy):
        """It does not start."""


# -- questions of our own

@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_revocation_is_asked_by_the_proxy_too(parent, http_origin, kind):
    """With the password for the proxy and none for the responder; exceptions are asked directly."""
    parent.login = ("me", PASSWORD)
    via = UpstreamProxy(place(f"{kind}://127.0.0.1:{parent.port}"), Exceptions(()), parent.login)

    def ask(host):
        return asyncio.run(fetch(f"http://{host}:{http_origin.port}/x", 100, b"question", "application/ocsp-request", via))

    assert ask("origin.test") == b"ok"
    whole = f"http://origin.test:{http_origin.port}/x"
    assert parent.asked == [whole if kind == "http" else f"origin.test:{http_origin.port}"]
    assert b"POST /x HTTP/1.1" in http_origin.record
    assert b"question" in http_origin.record
    assert b"authorization" not in http_origin.record.lower()
    parent.heard.clear()
    assert ask("127.0.0.1") == b"ok"
    assert parent.heard == b""
    parent.login = ("me", "another")
    with pytest.raises(Unanswered):
        ask("origin.test")
