"""One reading per request over HTTP/2, no injection into what follows, and a cut response is seen to be cut."""

import contextlib
import socket

import h2.events
import h2.exceptions
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import AltSvcFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from tests.proxy.conftest import scanning
from tests.proxy.corpora import h2 as corpus
from tests.proxy.corpora import table
from tests.proxy.origin import Answer, H2Client


@pytest.fixture(scope="module")
def proxy(folder, h2_origin):
    with scanning(folder, h2_origin) as started:
        yield started


class Listening(H2Client):
    """Keeps every event, in the order in which they came."""

    def __init__(self, sock, host):
        self.heard = []
        super().__init__(sock, host)

    def _on(self, event):
        self.heard.append(event)
        super()._on(event)


def send(client, fields, *bodies):
    """Send a request as it stands; wait for its end."""
    stream = client.h2.get_next_available_stream_id()
    client.answers[stream] = Answer()
    client.h2.send_headers(stream, fields, end_stream=not bodies)
    for number, body in enumerate(bodies, 1):
        client.h2.send_data(stream, body, end_stream=number == len(bodies))
    client.flush()
    return client.wait(stream)


@pytest.mark.parametrize("fields", table(corpus.REFUSED))
def test_refused(proxy, h2_origin, fields):
    client = proxy.h2(h2_origin)
    answer = send(client, fields)
    assert answer.status in (400, 417, 421) or answer.reset is not None or not client.open
    assert answer.body != b"ok"
    assert h2_origin.record == b""


@pytest.mark.parametrize(("length", "bodies"), table(corpus.WRONG_BODIES))
def test_wrong_body(proxy, h2_origin, length, bodies):
    ended = []
    h2_origin.h2_paths["/length"] = lambda server, _: ended.append(server.ended)
    client = proxy.h2(h2_origin)
    answer = send(client, corpus.fields((b"content-length", length), method=b"POST", path=b"/length"), *bodies)
    assert answer.status in (0, 400)
    assert not any(ended)


@pytest.mark.parametrize(("fields", "seen"), table(corpus.FORWARDED))
def test_forwarded(proxy, h2_origin, fields, seen):
    client = proxy.h2(h2_origin)
    assert send(client, fields).body == b"ok"
    for name, value in seen:
        assert b"%b: %b\n" % (name, value) in h2_origin.record


def test_another_host_over_a_coalesced_connection(proxy, h2_origin):
    """421, so that the client tries again on a connection of its own; the streams beside it go on."""
    client = proxy.h2(h2_origin)
    assert client.wait(client.request("/", authority="other.test")).status == 421
    assert b"other.test" not in h2_origin.record
    assert client.wait(client.request("/")).body == b"ok"
    assert client.goaway is None
    reasons = [event["lockgate"].get("reason", "") for event in proxy.events()]
    assert any(reason.startswith("Domain fronting, or a connection reused: ") for reason in reasons)


# -- responses


def raw(server, *frames: Frame | bytes):
    with contextlib.suppress(OSError):
        server.sock.sendall(b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames))


def headers(server, stream, fields, *flags):
    return HeadersFrame(stream, server.h2.encoder.encode(fields), flags=["END_HEADERS", *flags])


@pytest.mark.parametrize("fields", table(corpus.BAD_RESPONSES))
def test_bad_response(proxy, h2_origin, fields):
    h2_origin.h2_paths["/bad"] = lambda server, stream: raw(
        server, headers(server, stream, fields), DataFrame(stream, b"hello", flags=["END_STREAM"]))
    client = proxy.h2(h2_origin)
    answer = client.wait(client.request("/bad"))
    assert answer.status in (502, 504, 0)
    assert answer.body != b"hello"
    assert "set-cookie" not in answer.headers
    assert client.wait(client.request("/")).body == b"ok"


def reset(server, _):
    server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    socket.socket.close(server.sock)


@pytest.mark.parametrize("end", [
    pytest.param(lambda server, stream: raw(server, RstStreamFrame(stream, ErrorCodes.CANCEL)), id="RST_STREAM CANCEL"),
    pytest.param(lambda server, stream: raw(server, RstStreamFrame(stream, ErrorCodes.INTERNAL_ERROR)), id="RST_STREAM"),
    pytest.param(lambda server, stream: raw(server, RstStreamFrame(stream, ErrorCodes.NO_ERROR)), id="RST_STREAM NO_ERROR"),
    pytest.param(lambda server, stream: raw(server, DataFrame(stream, b"", flags=["END_STREAM"])), id="END_STREAM early"),
    pytest.param(lambda server, stream: raw(server, DataFrame(stream, b"z" * 99)), id="more than its length"),
    pytest.param(lambda server, stream: raw(server, GoAwayFrame(0, 0, ErrorCodes.INTERNAL_ERROR)), id="GOAWAY"),
    pytest.param(lambda server, _: server.sock.close(), id="closed"),
    pytest.param(reset, id="reset"),
    pytest.param(lambda server, stream: raw(server, headers(server, stream, [(b":status", b"200")])), id="a second head"),
])
def test_cut_response_is_seen(proxy, h2_origin, end):
    """Never a clean end; and the next request is answered."""
    def act(server, stream):
        raw(server, server.h2.data_to_send(), headers(server, stream, [(b":status", b"200"), (b"content-length", b"50")]),
            DataFrame(stream, b"hello"))
        end(server, stream)

    h2_origin.h2_paths["/cut"] = act
    client = proxy.h2(h2_origin)
    with contextlib.suppress(h2.exceptions.InvalidBodyLengthError):
        answer = client.wait(client.request("/cut"))
        assert not answer.ended or answer.status == 502
        assert client.wait(client.request("/")).body == b"ok"


def test_alternative_service_frames_end_with_us(proxy, h2_origin):
    """RFC 7838, 4: a frame would lead the client to where nobody looks."""
    h2_origin.h2_paths["/alt"] = lambda server, stream: (
        raw(server, server.h2.data_to_send(), AltSvcFrame(stream, b"", b'h3=":8443"')), server.answer(stream))
    client = Listening(proxy.tls(h2_origin, alpn=("h2",)), "origin.test")
    assert client.wait(client.request("/alt")).body == b"ok"
    assert not [event for event in client.heard if isinstance(event, h2.events.AlternativeServiceAvailable)]
