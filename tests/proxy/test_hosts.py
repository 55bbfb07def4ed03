"""One host per request, whatever way the request names it."""

import random
import re

import h11
import pytest
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.net.http import http1

from addons.connection import Connection
from proxy.hosts import Disagreement, agreed_host, normalize, split_authority
from proxy.http1 import read_request
from proxy.normal import normalize_request

TLS = Connection("origin.test", ("192.0.2.1", 443), ("127.0.0.1", 1))
NAMELESS = Connection(None, ("192.0.2.1", 443), ("127.0.0.1", 1))
NAMELESS6 = Connection(None, ("2001:db8::1", 443), ("127.0.0.1", 1))
PLAIN = Connection(None, ("192.0.2.1", 80), ("127.0.0.1", 1), tls=False)
TUNNEL = Connection("origin.test", ("192.0.2.1", 80), ("127.0.0.1", 1), tls=False)
DOOR = Connection(None, ("", 0), ("127.0.0.1", 1), tls=False)


def request(*hosts, authority="", target="192.0.2.1", port=443, scheme="https", version=b"HTTP/1.1"):
    headers = http.Headers([(b"host", host.encode()) for host in hosts])
    return http.Request(target, port, b"GET", scheme.encode(), authority.encode(), b"/", version, headers, b"", None, 0, 0)


@pytest.mark.parametrize(("connection", "asked", "host"), [
    pytest.param(TLS, request("origin.test"), "origin.test", id="as the SNI"),
    pytest.param(TLS, request("ORIGIN.test"), "origin.test", id="in capitals"),
    pytest.param(TLS, request("origin.test."), "origin.test", id="with a trailing dot"),
    pytest.param(TLS, request("origin.test:443"), "origin.test", id="with the port"),
    pytest.param(TLS, request("origin.test:"), "origin.test", id="with an empty port"),
    pytest.param(TLS, request(authority="origin.test", version=b"HTTP/2.0"), "origin.test", id=":authority alone"),
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
    pytest.param(TLS, request(version=b"HTTP/2.0"), 400, id="none in HTTP/2"),
    pytest.param(TLS, request(authority="origin.test"), 400, id="none but in an absolute target"),
    pytest.param(DOOR, request(target="a.test", port=80, scheme="http"), 400, id="none but in a target for the door"),
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


# -- whatever is sent, the host that was classified is the host that the origin is asked for

HOSTS = ("origin.test", "ORIGIN.test", "origin.test.", "origin.test:443", "other.test", "192.0.2.1", "[::1]", "", "origin.test:80",
         "origin.test@other.test", "origin.test,other.test", "origin.test other.test", "other.test:443")
NAMES = (*("Host",) * 9, "host", "HOST", "Host ", " Host", "X-Host", "Host\0", "Hos\u00ef", "x")
JUNK = (*("",) * 40, " ", "\t", "\r", "\n", "\0", "\x0b", "\x85", "\xa0", "/", "@", "#", "?", "\\", ":", ",", "%2e", "\r\n ")


def random_head(pick, good):
    """A request's head out of pieces that parsers are known to disagree on; some of them are good."""
    def spoilt(text):
        place = pick.randrange(len(text) + 1)
        return text[:place] + pick.choice(JUNK) + text[place:]

    hosts = (good,) * len(HOSTS) + HOSTS
    target = pick.choice(("/", "/a", "*", f"https://{pick.choice(hosts)}/", f"https://{pick.choice(hosts)}", pick.choice(hosts)))
    lines = [spoilt(f"{pick.choice(('GET', 'OPTIONS', 'PUT'))} {target} HTTP/1.1")]
    for _ in range(pick.choice((1, 1, 1, 2))):
        lines.append(spoilt(f"{pick.choice(NAMES)}:{pick.choice(('', ' '))}{pick.choice(hosts)}"))
    return pick.choice(("\r\n", "\r\n", "\n")).join((*lines, "", "")).encode("latin-1")


@pytest.mark.parametrize(("connection", "good"), [
    (TLS, "origin.test"), (NAMELESS, "192.0.2.1"), (PLAIN, "any.test")], ids=["TLS", "no SNI", "plain"])
def test_the_host_classified_is_the_host_forwarded(connection, good):
    pick, passed = random.Random(3), 0
    for _ in range(20_000):
        buffer, raw = ReceiveBuffer(), random_head(pick, good)
        buffer += raw
        while (lines := buffer.maybe_extract_lines()) == []:
            """Blank lines before it."""
        if lines is None:
            continue
        try:
            asked = read_request(lines, connection.tls)
            host = agreed_host(asked, connection)
            normalize_request(asked)
        except ValueError:
            continue
        passed += 1
        line, _, fields = http1.assemble_request_head(asked).partition(b"\r\n")
        assert re.fullmatch(rb"\S+ (/|\*)\S* HTTP/1\.1", line), raw
        origin = h11.Connection(h11.SERVER)     # it has no mind for targets that are not ASCII
        origin.receive_data(b"GET / HTTP/1.1\r\n" + fields)
        named = [value.decode() for name, value in origin.next_event().headers if name == b"host"]
        assert [split_authority(name)[0] for name in named] == [host], raw
    assert passed > 1000
