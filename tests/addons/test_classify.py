"""Every request gets labels; classifying decides nothing and costs little."""

import datetime
import json
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy import http
from mitmproxy.certs import Cert
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from addons.classify import Http
from addons.connection import Connection
from addons.labelled import Labels
from addons.operation import operation
from addons.verdict import DONE, confidence, label, labels
from tests.addons.conftest import request


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        pytest.param(request(method="GET"), {"protocol:http/1.1", "direction:download"}, id="GET"),
        pytest.param(request(content_type="application/json"),
                     {"protocol:http/1.1", "direction:upload", "kind:api", "op:api"}, id="JSON API"),
        pytest.param(request(content_type="application/grpc+proto"),
                     {"protocol:grpc", "direction:upload", "kind:stream", "op:stream"}, id="gRPC"),
        pytest.param(request(method="GET", upgrade="WebSocket"),
                     {"protocol:websocket", "direction:download", "kind:stream", "op:stream"}, id="WebSocket"),
        pytest.param(request(content_type="multipart/form-data; boundary=x"),
                     {"protocol:http/1.1", "direction:upload", "kind:upload", "op:upload"}, id="file upload"),
        pytest.param(request(method="PUT", content_length="5000000"),
                     {"protocol:http/1.1", "direction:upload", "kind:upload", "op:upload"}, id="large"),
        pytest.param(request(content_length="0"), {"protocol:http/1.1", "direction:download"}, id="empty POST"),
        pytest.param(request(method="GET", accept="text/event-stream"),
                     {"protocol:http/1.1", "direction:download", "kind:stream", "op:stream"}, id="asks for events"),
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
        pytest.param({"content-type": "text/html"}, {"kind:page", "op:page"}, id="page"),
        pytest.param({"content-type": "application/json"}, {"kind:api", "op:api"}, id="api"),
        pytest.param({"content-type": "text/event-stream"}, {"kind:stream", "protocol:sse", "op:stream"}, id="events"),
        pytest.param({"content-type": "video/mp4"}, {"kind:stream"}, id="video"),
        pytest.param({"content-disposition": "attachment; filename=x"}, {"kind:download", "op:download"}, id="attachment"),
        pytest.param({"content-type": "application/zip"}, {"kind:download", "op:download"}, id="archive"),
        pytest.param({"content-type": "text/plain", "content-length": "9999999"}, {"kind:download", "op:download"}, id="large"),
        pytest.param({"content-length": "9" * 5000}, {"kind:download", "op:download"}, id="absurd length"),
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


def classified(body: bytes, **given: str) -> http.HTTPFlow:
    """A request with this body, as the filter leaves it behind."""
    flow = request(**given)
    Http().requestheaders(flow)
    scan = Http().requestbody(flow)
    if scan(body) is not DONE:
        assert scan(b"") is DONE
    return flow


@pytest.mark.parametrize(
    ("given", "label", "sure"),
    [
        ({"path": "/shop.v1.Orders/Place", "content_type": "application/grpc"}, "op:grpc:shop.v1.Orders/Place", 1),
        ({"method": "GET", "sec_fetch_dest": "document"}, "op:page", 1),
        ({"path": "/oauth2/v4/token", "content_type": "application/x-www-form-urlencoded"}, "op:login", 0.9),
        ({"path": "/users/sign_in"}, "op:login", 0.7),
        ({"path": "/graphql", "content_type": "application/json"}, "protocol:graphql", 0.9),
        ({"path": "/q", "content_type": "application/graphql"}, "protocol:graphql", 1),
        ({"path": "/graphql?query=query%20Me%20%7Bme%7D", "method": "GET"}, "op:graphql:query:Me", 1),
        ({"path": "/dns-query", "content_type": "application/dns-message"}, "protocol:doh", 1),
        ({"method": "GET", "upgrade": "websocket", "sec_websocket_protocol": "x, mqtt"}, "protocol:mqtt", 1),
        ({"path": "/v1/traces", "content_type": "application/x-protobuf"}, "op:telemetry", 0.95),
        ({"path": "/api/2/envelope/", "host": "o1.ingest.sentry.io"}, "op:telemetry", 0.8),
        ({"content_type": "application/csp-report"}, "op:telemetry", 1),
        ({"method": "PUT", "path": "/bucket/plan.docx", "content_length": "9"}, "op:upload", 1),
        ({"method": "PUT", "content_type": "application/json"}, "op:upload", 0),
        ({"path": "/v1/chat/completions", "host": "api.openai.com"}, "llm:openai", 1),
        ({"path": "/v1/chat/completions", "host": "llm.corp.example"}, "op:llm:prompt", 0.8),
        ({"method": "GET", "host": "x.example", "user_agent": "pip/24.0 {}"}, "app:pypi", 0.7),
        ({"method": "GET", "host": "github.com", "user_agent": "pip/24.0 {}"}, "app:pypi", 0),
    ],
)  # fmt: skip
def test_operation(given: dict[str, str], label: str, sure: float) -> None:
    flow = request(**given)
    Http().requestheaders(flow)
    assert confidence(flow, label) == sure, labels(flow)


@pytest.mark.parametrize(
    ("body", "given", "expected"),
    [
        pytest.param(b'{"query": "mutation Drop($id: ID!) { drop(id: $id) { ok } }"}',
                     {"path": "/graphql", "content_type": "application/json"}, "op:graphql:mutation:Drop", id="GraphQL"),
        pytest.param(b'{"username": "ann", "password": "x"}', {"content_type": "application/json"}, "op:login", id="JSON"),
        pytest.param(b"user=ann&passwd=x", {"content_type": "application/x-www-form-urlencoded"}, "op:login", id="form"),
    ],
)  # fmt: skip
def test_the_body_tells_more(body: bytes, given: dict[str, str], expected: str) -> None:
    assert expected in labels(classified(body, **given))


def test_a_form_names_its_files() -> None:
    body = (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x\r\nContent-Disposition: form-data; '
            b'name="f"; filename="plan.docx"\r\nContent-Type: application/msword\r\n\r\n...')  # fmt: skip
    found = operation(classified(body, content_type="multipart/form-data; boundary=x")).uploads
    assert [(file.name, file.kind) for file in found] == [("plan.docx", "application/msword")]


def test_an_upload_and_a_download_are_named() -> None:
    flow = classified(b"%PDF-1.7 ...", method="PUT", path="/b/pl%C3%A4ne.pdf?x=1", content_length="12")
    assert [(file.name, file.kind, file.size) for file in operation(flow).uploads] == [
        ("pl\xe4ne.pdf", "application/pdf", 12)]  # fmt: skip
    flow = request(method="GET")
    assert flow.response
    flow.response.headers["content-disposition"] = "attachment; filename=a.zip; filename*=UTF-8''%e2%82%ac.zip"
    Http().responseheaders(flow)
    assert operation(flow).downloads[0].name == "\u20ac.zip"


@pytest.mark.parametrize(
    ("names", "app"),
    [(["*.github.com", "x.example"], True), (["github.com", "slack.com"], False), (["x.example"], False),
     (["github.com", *(f"h{n}.example" for n in range(30))], False)],
)  # fmt: skip
def test_a_certificate_tells_whose_an_unknown_host_is(names: list[str], app: bool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), key.public_key(), 1, datetime.datetime(2026, 1, 1), datetime.datetime(2036, 1, 1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    flow = request(host="192.0.2.9", method="GET")
    flow.server_conn.certificate_list = [Cert(made.sign(key, hashes.SHA256()))]
    Http().requestheaders(flow)
    assert confidence(flow, "app:github") == (0.6 if app else 0)


def test_a_connection_gets_labels_before_it_is_dialled() -> None:
    conn = Connection("imap.gmail.com", ("192.0.2.1", 993), ("127.0.0.1", 1), alpn=("imap",))
    Http().connection(conn)
    assert labels(conn) == {"protocol:imap", "app:gmail", "category:mail"}
    conn = Connection(None, ("192.0.2.1", 22), ("127.0.0.1", 1), tls=False)
    Http().connection(conn)
    assert (labels(conn), confidence(conn, "protocol:ssh")) == ({"protocol:ssh"}, 0.5)


def test_a_request_costs_microseconds() -> None:
    """A guard against gross slowness: 12 us on the machine of 2026."""
    flows = [request(method="GET", host="www.example.com") for _ in range(200)]
    start = time.perf_counter()
    for flow in flows:
        Http().requestheaders(flow)
    assert (time.perf_counter() - start) / len(flows) < 0.001


def test_operations_over_websocket_are_told_apart_up_to_a_bound() -> None:
    flow = request()
    label(flow, "protocol:graphql")
    flow.websocket = WebSocketData()
    for name in (*(f"query Q{i}" for i in range(2000)), "mutation Drop"):
        text = json.dumps({"type": "subscribe", "payload": {"query": f"{name} {{ a }}"}}).encode()
        flow.websocket.messages = [WebSocketMessage(Opcode.TEXT, True, text)]
        Http().websocket_message(flow)
    assert "op:graphql:unread" in labels(flow)
    assert len(labels(flow)) <= 1001


def test_a_refused_operation_ends_a_websocket() -> None:
    flow, rules = request(), Labels(block=("op:graphql:mutation:Drop",))
    label(flow, "protocol:graphql")
    said = []
    for name in ("query Q", "mutation Drop"):
        text = json.dumps({"payload": {"query": f"{name} {{ a }}"}}).encode()
        flow.websocket = WebSocketData(messages=[WebSocketMessage(Opcode.TEXT, True, text)])
        Http().websocket_message(flow)
        said.append(rules.websocket_message(flow))
    assert [each and each.reason for each in said] == [None, "it is op:graphql:mutation:Drop"]
