"""Labels for every request: protocol, direction, content, kind, application, category, operation."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from mitmproxy import http
from mitmproxy.certs import Cert

from addons import heads, opening, operation, providers
from addons.catalogue import AGENT_CONFIDENCE, CERTIFICATE_CONFIDENCE, JA4_CONFIDENCE, MOST_NAMES, Catalogue, load
from addons.connection import Connection
from addons.heads import Headers
from addons.names import host_of
from addons.operation import File, Names, Operation
from addons.protocols import by_offer
from addons.sniff import ENOUGH, kind, mismatch
from addons.verdict import DONE, BodyScanner, Verdict, label, labels

#: User-Agents, and connections by certificate, whose labels are remembered.
_REMEMBERED: Final = 256

#: Labels of a connection that lasts, beyond which its operations are not told apart any more.
_MOST_LABELS: Final = 1000

#: Declared types whose first bytes may name the operation.
_TELLING: Final = ("json", "form", "graphql", "text/plain")
#: What a kind of request does, where nothing tells more.
_OPERATIONS: Final = {"kind:stream": "op:stream", "kind:upload": "op:upload", "kind:api": "op:api"}
#: What a browser asks for to show it (Fetch Metadata, 2.1).
_PAGES: Final = (b"document", b"iframe", b"frame")
_MEASURING: Final = frozenset({"category:analytics", "category:monitoring"})


@dataclass
class Http:
    """Labels for rules and events; decides nothing.

    `protocol:` http/1.1, http/2, websocket, grpc, sse, graphql, doh, mqtt; `direction:` upload or download; `kind:`
    api, page, download, upload or stream; `content:` what the first bytes of a body are, with `mismatch` where the
    declared type says otherwise; `app:` and `category:` by host and path, else by the client; `op:` what is done;
    `llm:` whose model is asked.  docs/built-in-filters.md says which are known when.

    `catalogue` names files that add applications to the built-in ones, or replace them.
    """

    catalogue: tuple[Path, ...] = ()
    _known: Catalogue = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._known = load(Path(path) for path in self.catalogue)
        self._by_connection: dict[str, tuple[str, ...]] = {}
        self._agent = lru_cache(_REMEMBERED)(self._known.of_agent)

    @property
    def files(self) -> list[Path]:
        """What is read anew when it changes."""
        return [Path(path) for path in self.catalogue]

    def connection(self, conn: Connection) -> None:
        protocol, sure = by_offer(conn.alpn, conn.address[1])
        if protocol:
            label(conn, f"protocol:{protocol}", sure)
        if conn.host and (found := self._known.of(conn.host)):
            for name in found:
                label(conn, name)
        else:
            for name in self._known.of_ja4(conn.ja4):
                label(conn, name, JA4_CONFIDENCE)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        data = flow.request.data
        headers = {name.lower(): value.lower() for name, value in data.headers.fields}
        uploads = data.method in heads.UPLOADS and headers.get(b"content-length") != b"0"
        try:
            host = host_of(flow.request)
        except ValueError:
            host = ""
        known = self._known.of(host, data.path)
        names = [heads.protocol(flow.request, headers), "direction:upload" if uploads else "direction:download", *known]
        if told := heads.request_kind(headers, uploads, data.method):
            names += told, _OPERATIONS[told]
            if told == "kind:upload":
                _upload(flow, headers)
            elif told == "kind:stream":
                heads.streams(headers, data.path, names)
        elif headers.get(b"sec-fetch-dest") in _PAGES:
            names.append("op:page")
        _attach(flow, names)
        parts = operation.segments(data.path)
        if not operation.WORDS.isdisjoint(parts):
            _by_path(flow, parts, uploads)
        if uploads or b"upgrade" in headers:
            _by_type(flow, headers, known)
            providers.recognise(flow, host, parts)
        if not known:
            self._guess(flow, headers)

    def _guess(self, flow: http.HTTPFlow, headers: Headers) -> None:
        """The host is not known: what the client says of itself, and the origin's certificate, may tell."""
        for name in self._agent(headers.get(b"user-agent", b"")):
            label(flow, name, AGENT_CONFIDENCE)
        if chain := flow.server_conn.certificate_list:
            for name in self._certified(flow.server_conn.id, chain[0]):
                label(flow, name, CERTIFICATE_CONFIDENCE)

    def _of_certificate(self, leaf: Cert) -> tuple[str, ...]:
        names = [str(each.value) for each in leaf.altnames if isinstance(each, x509.DNSName)]
        return self._known.of_names(names) if len(names) <= MOST_NAMES else ()

    def _certified(self, connection: str, leaf: Cert) -> tuple[str, ...]:
        """Look at a connection's certificate once: to take one apart takes as long as ten requests."""
        if (found := self._by_connection.get(connection)) is None:
            if len(self._by_connection) >= _REMEMBERED:
                self._by_connection.clear()
            found = self._by_connection[connection] = self._of_certificate(leaf)
        return found

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None:
            return
        headers = {name.lower(): value.lower() for name, value in flow.response.data.headers.fields}
        streams = headers.get(b"content-type", b"").startswith(heads.SSE)
        if streams:
            _attach(flow, ["protocol:sse", "op:stream"])
        if not any(name.startswith("kind:") for name in labels(flow)):
            told = heads.response_kind(headers)
            label(flow, told)
            if told == "kind:download":
                _attach(flow, ["op:download"])
                _download(flow, headers)
            elif told in ("kind:page", "kind:api") and not streams:
                label(flow, f"op:{told[5:]}", 0.8)

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner:
        return _sniffer(flow, flow.request.headers.get("content-type", ""), request=True)

    def responsebody(self, flow: http.HTTPFlow) -> BodyScanner | None:
        declared = flow.response.headers.get("content-type", "") if flow.response else ""
        return _sniffer(flow, declared, request=False) if flow.response else None

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """The operations of GraphQL over WebSocket."""
        if flow.websocket and "protocol:graphql" in (known := labels(flow)) and flow.websocket.messages[-1].from_client:
            head = flow.websocket.messages[-1].content[: opening.READ]
            found = opening.told(head, "application/json", graphql=True)
            for name, sure in found if len(known) < _MOST_LABELS else [("op:graphql:unread", 1.0)]:
                label(flow, name, sure)


def _sniffer(flow: http.HTTPFlow, declared: str, *, request: bool) -> BodyScanner:
    """Return a scanner that looks at the first bytes and is then done."""
    head, multipart = b"", declared.lower().startswith("multipart/")
    telling = request and (multipart or any(word in declared.lower() for word in _TELLING))
    enough = opening.READ if telling else ENOUGH

    def scan(data: bytes) -> Verdict | None:
        nonlocal head
        head += data[: enough - len(head)]
        if data and len(head) < enough:
            return None
        if head:
            found = kind(head)
            _attach(flow, [f"content:{found}", *(("mismatch",) if mismatch(declared, found) else ())])
            if telling:
                _opened(flow, head, found)
            else:
                _sniffed(flow, found, request)
        return DONE

    return scan


def _opened(flow: http.HTTPFlow, head: bytes, found: str) -> None:
    done = operation.operation(flow)
    for name, sure in opening.told(head, found, "protocol:graphql" in labels(flow)):
        label(flow, name, sure)
        if name.count(":") >= 2:
            done.kind, done.name = name.split(":", 2)[1:]
    for file in opening.files(head) if found == "multipart/form-data" else ():
        done.add(done.uploads, file)


def _sniffed(flow: http.HTTPFlow, found: str, request: bool) -> None:
    """The kind of a file that is a message's body."""
    if (done := flow.metadata.get("operation")) is not None:
        for file in (done.uploads if request else done.downloads)[:1]:
            file.kind = found


def _upload(flow: http.HTTPFlow, headers: Headers) -> None:
    done, declared = operation.operation(flow), headers.get(b"content-type", b"")
    done.kind, done.size = "upload", heads.length(headers)
    if not declared.startswith(b"multipart/"):
        given = operation.file_name(flow.request.headers.get("content-disposition", ""))
        name = given or (operation.path_name(flow.request.data.path) if flow.request.data.method == b"PUT" else "")
        done.add(done.uploads, File(name, declared.decode("latin-1"), done.size))


def _download(flow: http.HTTPFlow, headers: Headers) -> None:
    assert flow.response is not None
    done: Operation = operation.operation(flow)
    given = operation.file_name(flow.response.headers.get("content-disposition", ""))
    name = given or operation.path_name(flow.request.data.path)
    done.add(done.downloads, File(name, headers.get(b"content-type", b"").decode("latin-1"), heads.length(headers)))


def _by_path(flow: http.HTTPFlow, parts: list[bytes], uploads: bool) -> None:
    path = flow.request.data.path
    found: Names = operation.by_path(parts, uploads)
    if not uploads and b"query=" in path:
        found += opening.told(path.partition(b"?")[2][: opening.READ], "application/form", graphql=True)
    for name, sure in found:
        label(flow, name, sure)


def _by_type(flow: http.HTTPFlow, headers: Headers, known: tuple[str, ...]) -> None:
    declared = headers.get(b"content-type", b"")
    if declared.startswith(b"application/graphql"):
        label(flow, "protocol:graphql")
    elif operation.reports(declared):
        label(flow, "op:telemetry")
    elif not _MEASURING.isdisjoint(known):
        label(flow, "op:telemetry", 0.8)


def _attach(flow: http.HTTPFlow, names: list[str]) -> None:
    """Attach labels that are certain, all different, many at once: this is on every request's way."""
    if (known := flow.metadata.get("labels")) is None:
        flow.metadata["labels"] = names
        return
    known += [name for name in names if name not in known]
    if doubts := flow.metadata.get("doubts"):
        for name in names:
            doubts.pop(name, None)
