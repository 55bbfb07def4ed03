"""One host per request, whatever way the request names it."""

import pytest
from mitmproxy import http

from addons.connection import Connection
from proxy.hosts import Disagreement, agreed_host, normalize, split_authority

TLS = Connection("origin.test", ("192.0.2.1", 443), ("127.0.0.1", 1))
NAMELESS = Connection(None, ("192.0.2.1", 443), ("127.0.0.1", 1))
NAMELESS6 = Connection(None, ("2001:db8::1", 443), ("127.0.0.1", 1))
PLAIN = Connection(None, ("192.0.2.1", 80), ("127.0.0.1", 1), tls=False)
TUNNEL = Connection("origin.test", ("192.0.2.1", 80), ("127.0.0.1", 1), tls=False)
DOOR = Connection(None, ("", 0), ("127.0.0.1", 1), tls=False)


def request(*hosts, authority="", target="192.0.2.1", port=443, scheme="https", path=b"/", fields=()):
    headers = http.Headers([*((b"host", h.encode() if isinstance(h, str) else h) for h in hosts), *fields])
    return http.Request(target, port, b"GET", scheme.encode(), authority.encode(), path, b"HTTP/1.1", headers, b"",
                        None, 0, 0)


@pytest.mark.parametrize(("connection", "asked", "host"), [
    pytest.param(TLS, request("origin.test"), "origin.test", id="as the SNI"),
    pytest.param(TLS, request("ORIGIN.test"), "origin.test", id="in capitals"),
    pytest.param(TLS, request("origin.test."), "origin.test", id="with a trailing dot"),
    pytest.param(TLS, request("origin.test:443"), "origin.test", id="with the port"),
    pytest.param(TLS, request("origin.test:"), "origin.test", id="with an empty port"),
    pytest.param(TLS, request(authority="origin.test"), "origin.test", id=":authority alone"),
    pytest.param(TLS, request("origin.test:443", authority="origin.test"), "origin.test", id="host and :authority"),
    pytest.param(NAMELESS, request("192.0.2.1"), "192.0.2.1", id="no SNI: the address"),
    pytest.param(NAMELESS6, request("[2001:db8:0::1]:443"), "2001:db8::1", id="no SNI: an IPv6 address"),
    pytest.param(PLAIN, request("any.test", scheme="http"), "any.test", id="plain: what the request says"),
    pytest.param(TUNNEL, request("origin.test:80", scheme="http"), "origin.test", id="a plain tunnel"),
    pytest.param(DOOR, request("a.test", target="a.test", port=80, scheme="http"), "a.test", id="absolute form"),
    pytest.param(DOOR, request("[::1]:81", target="::1", port=81, scheme="http"), "::1", id="absolute form, IPv6"),
])
def test_agrees(connection, asked, host):
    assert agreed_host(asked, connection) == host


@pytest.mark.parametrize(("connection", "asked", "status"), [
    pytest.param(TLS, request(), 400, id="none"),
    pytest.param(TLS, request(""), 400, id="an empty one"),
    pytest.param(TLS, request("origin.test", "origin.test"), 400, id="two"),
    pytest.param(TLS, request("other.test"), 421, id="not the SNI's"),
    pytest.param(TLS, request("origin.test", authority="other.test"), 400, id="host against :authority"),
    pytest.param(TLS, request("origin.test:444", authority="origin.test"), 400, id="ports that differ"),
    pytest.param(TLS, request("origin.test:8443"), 421, id="another port than dialled"),
    pytest.param(TLS, request("origin.test:99999"), 400, id="no port number"),
    pytest.param(TLS, request("origin.test:4٤3"), 400, id="digits that are not ASCII"),
    pytest.param(TLS, request("user@origin.test"), 400, id="user information"),
    pytest.param(TLS, request("origin.test/path"), 400, id="a path"),
    pytest.param(TLS, request("origin.test, other.test"), 400, id="a list"),
    pytest.param(TLS, request("origin.te%73t"), 400, id="an escape"),
    pytest.param(TLS, request("origín.test"), 400, id="not ASCII"),
    pytest.param(TLS, request("xn--orgn-1pa.test"), 421, id="another name in IDNA"),
    pytest.param(TLS, request(" origin.test"), 400, id="a space"),
    pytest.param(TLS, request("origin.test\0"), 400, id="a NUL"),
    pytest.param(TLS, request("origin.test", fields=[(b"x", b"a\rb")]), 400, id="a bare CR"),
    pytest.param(TLS, request("origin.test", fields=[(b"x", b"a\r\n b")]), 400, id="a folded line"),
    pytest.param(TLS, request("origin.test", fields=[(b"x\0", b"a")]), 400, id="a NUL in a name"),
    pytest.param(TLS, request("origin.test", path=b"/a\0"), 400, id="a NUL in the target"),
    pytest.param(TLS, request("origin.test", path=b"/a b"), 400, id="a space in the target"),
    pytest.param(NAMELESS, request("origin.test"), 421, id="no SNI, but a name"),
    pytest.param(NAMELESS, request("192.0.2.2"), 421, id="no SNI, another address"),
    pytest.param(TUNNEL, request("other.test", scheme="http"), 421, id="not the tunnel's"),
    pytest.param(DOOR, request("b.test", target="a.test", port=80, scheme="http"), 400, id="host against the target"),
    pytest.param(DOOR, request("a.test:81", target="a.test", port=80, scheme="http"), 400, id="port against it"),
    pytest.param(DOOR, request("a.test", target="a.test", scheme="https"), 400, id="https without a tunnel"),
])
def test_disagrees(connection, asked, status):
    with pytest.raises(Disagreement) as error:
        agreed_host(asked, connection)
    assert error.value.status == status


@pytest.mark.parametrize(("host", "normal"), [
    ("A.Example.", "a.example"), ("[2001:DB8::0001]", "2001:db8::1"), ("192.0.2.1", "192.0.2.1"), ("0x7f.1", "0x7f.1"),
])
def test_normalize(host, normal):
    assert normalize(host) == normal


def test_split_authority():
    assert split_authority("[::1]:8443") == ("::1", 8443)
    assert split_authority("a.example") == ("a.example", None)
