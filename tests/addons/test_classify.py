"""Every request gets labels; classifying decides nothing and costs little."""

import time

import pytest
from mitmproxy import http

from addons.classify import Http, catalogue, host_labels
from addons.verdict import DONE, labels
from tests.addons.conftest import request


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        pytest.param(request(method="GET"), {"protocol:http/1.1", "direction:download"}, id="GET"),
        pytest.param(request(content_type="application/json"),
                     {"protocol:http/1.1", "direction:upload", "kind:api"}, id="JSON API"),
        pytest.param(request(content_type="application/grpc+proto"),
                     {"protocol:grpc", "direction:upload", "kind:stream"}, id="gRPC"),
        pytest.param(request(method="GET", upgrade="WebSocket"),
                     {"protocol:websocket", "direction:download", "kind:stream"}, id="WebSocket"),
        pytest.param(request(content_type="multipart/form-data; boundary=x"),
                     {"protocol:http/1.1", "direction:upload", "kind:upload"}, id="file upload"),
        pytest.param(request(method="PUT", content_length="5000000"),
                     {"protocol:http/1.1", "direction:upload", "kind:upload"}, id="large"),
        pytest.param(request(content_length="0"), {"protocol:http/1.1", "direction:download"}, id="empty POST"),
        pytest.param(request(method="GET", accept="text/event-stream"),
                     {"protocol:http/1.1", "direction:download", "kind:stream"}, id="asks for events"),
        pytest.param(request(method="GET", host="gist.github.com"),
                     {"protocol:http/1.1", "direction:download", "app:github-gist", "category:code", "category:paste"},
                     id="application"),
        pytest.param(request(method="GET", host="a:b:c"), {"protocol:http/1.1", "direction:download"}, id="bad host"),
    ],
)  # fmt: skip
def test_request(flow: http.HTTPFlow, expected: set[str]) -> None:
    assert Http().requestheaders(flow) is None
    assert labels(flow) == expected


def test_http2() -> None:
    flow = request(method="GET")
    flow.request.http_version = "HTTP/2.0"
    Http().requestheaders(flow)
    assert "protocol:http/2" in labels(flow)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"content-type": "text/html"}, {"kind:page"}, id="page"),
        pytest.param({"content-type": "application/json"}, {"kind:api"}, id="api"),
        pytest.param({"content-type": "text/event-stream"}, {"kind:stream", "protocol:sse"}, id="events"),
        pytest.param({"content-type": "video/mp4"}, {"kind:stream"}, id="video"),
        pytest.param({"content-disposition": "attachment; filename=x"}, {"kind:download"}, id="attachment"),
        pytest.param({"content-type": "application/zip"}, {"kind:download"}, id="archive"),
        pytest.param({"content-type": "text/plain", "content-length": "9999999"}, {"kind:download"}, id="large"),
        pytest.param({"content-length": "9" * 5000}, {"kind:download"}, id="absurd length"),
    ],
)
def test_response(headers: dict[str, str], expected: set[str]) -> None:
    flow = request()
    assert flow.response
    flow.response.headers.clear()
    flow.response.headers.update(headers)
    Http().responseheaders(flow)
    assert labels(flow) == expected


def test_the_request_has_the_first_word() -> None:
    flow = request(content_type="application/json")
    Http().requestheaders(flow)
    Http().responseheaders(flow)
    assert [name for name in labels(flow) if name.startswith("kind:")] == ["kind:api"]


@pytest.mark.parametrize(
    ("declared", "chunks", "expected"),
    [
        pytest.param("image/png", [b"\x89PNG\r\n\x1a\n" + b"x" * 600], {"content:image/png"}, id="in one chunk"),
        pytest.param("image/png", [b"\x89P", b"NG\r\n", b"\x1a\n", b""], {"content:image/png"}, id="in pieces"),
        pytest.param("image/png", [b"MZ" + b"\0" * 600], {"content:application/pe", "mismatch"}, id="not as declared"),
        pytest.param("text/html", [b""], set(), id="no body"),
    ],
)
def test_sniffing(declared: str, chunks: list[bytes], expected: set[str]) -> None:
    flow = request(content_type=declared)
    assert flow.response
    flow.response.headers["content-type"] = declared
    for scan in (Http().requestbody(flow), Http().responsebody(flow)):
        assert scan
        assert [scan(chunk) for chunk in chunks] == [None] * (len(chunks) - 1) + [DONE]
    assert labels(flow) == expected


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("github.com", ("app:github", "category:code")),
        ("api.github.com", ("app:github", "category:code")),
        ("notgithub.com", ()),
        ("mail.google.com", ("app:gmail", "category:mail")),
        ("unknown.example", ()),
    ],
)
def test_longest_suffix_wins(host: str, found: tuple[str, ...]) -> None:
    assert host_labels(host) == found


def test_the_catalogue_is_in_normal_form() -> None:
    assert all(host == host.lower().strip(".") for host in catalogue())
    assert all(name.startswith(("app:", "category:")) for names in catalogue().values() for name in names)


def test_a_request_costs_microseconds() -> None:
    """A guard against gross slowness: 12 us on the machine of 2026."""
    flows = [request(method="GET", host="www.example.com") for _ in range(200)]
    start = time.perf_counter()
    for flow in flows:
        Http().requestheaders(flow)
    assert (time.perf_counter() - start) / len(flows) < 0.001
