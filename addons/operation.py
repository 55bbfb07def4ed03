"""What a request does, as far as its head tells: `op:` labels, and the details that a label cannot hold.

The details are an `Operation` in `flow.metadata["operation"]`; body-time ones are added by `addons.opening`.
"""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from mitmproxy import http

#: Names that a label takes from a message: any other character, or more of them, is nobody's method or tool.
_SHOWN: Final = re.compile(r"[\w./$:-]{1,80}")
#: So many digits in one word are a value, not a name: no event is to show it.
_VALUE: Final = re.compile(r"(?=\w*(?:\d\w*){5})\w{14,}|(?:sk|pk|ghp|xox)[_-]\w{8,}")
_METHOD: Final = re.compile(rb"/((?:[A-Za-z_]\w{0,63}\.){0,8}[A-Za-z_]\w{0,63}/[A-Za-z_]\w{0,63})")
_FILE_NAME: Final = re.compile(r"""(?i)filename(\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))""")
#: Files of one message whose names are kept.
MOST_FILES: Final = 100
MAX_FILE_NAME: Final = 255

Names = list[tuple[str, float]]

_LOGIN: Final = frozenset({b"login", b"signin", b"sign-in", b"sign_in", b"log-in", b"logon", b"authenticate", b"authn"})
_OAUTH: Final = frozenset({b"oauth", b"oauth2", b"openid-connect", b"oidc", b"connect", b"auth", b"identity"})
_TRACKING: Final = frozenset({b"collect", b"beacon", b"beacons", b"telemetry", b"track", b"tracking", b"analytics",
                              b"pixel", b"envelope", b"csp-report", b"rum", b"heartbeat", b"metrics"})  # fmt: skip
_OTLP: Final = frozenset({b"traces", b"metrics", b"logs"})
_GRAPHQL: Final = frozenset({b"graphql", b"gql", b"graphiql"})
#: Path segments that are worth a second look.
WORDS: Final = _LOGIN | _TRACKING | _OTLP | _GRAPHQL | {b"token", b"sessions", b"session"}
_REPORTS: Final = (b"text/ping", b"application/csp-report", b"application/reports+json")


@dataclass(slots=True)
class File:
    """A file in a message: its name as the sender gives it, its kind (see `sniff`), its size in bytes if announced."""

    name: str = ""
    kind: str = ""
    size: int | None = None


@dataclass(slots=True)
class Operation:
    """What a request does.  `name` is a GraphQL operation, a gRPC method, a tool; `size` the body's announced bytes."""

    kind: str = ""
    name: str = ""
    uploads: list[File] = field(default_factory=list)
    downloads: list[File] = field(default_factory=list)
    size: int | None = None

    def add(self, files: list[File], file: File) -> None:
        if len(files) < MOST_FILES and file not in files:
            files.append(file)


def operation(flow: http.HTTPFlow) -> Operation:
    """Return what is known of the flow's operation."""
    found: Operation = flow.metadata.setdefault("operation", Operation())
    return found


def shown(name: str) -> str:
    """Return a name from a message as a label may show it, `…` where it looks like a value."""
    return name if _SHOWN.fullmatch(name) and not _VALUE.search(name) else "…"


def segments(path: bytes) -> list[bytes]:
    """Return the parts of a path, without the query, in lower case; of `model:verb` the verb is a part, too."""
    parts = path.partition(b"?")[0].lower().split(b"/")
    if b":" in parts[-1]:
        parts.append(parts[-1].rpartition(b":")[2])
    return parts


def grpc_method(path: bytes) -> str:
    """Return `package.Service/Method` (gRPC over HTTP/2, "Path"); empty if it is none."""
    found = _METHOD.fullmatch(path)
    return shown(found[1].decode()) if found else ""


def by_path(parts: list[bytes], uploads: bool) -> Names:
    """Return the operations that a path with such parts suggests, each with its confidence."""
    words = WORDS.intersection(parts)
    found: Names = []
    if not words:
        return found
    if words & _GRAPHQL:
        found.append(("protocol:graphql", 0.9 if uploads else 0.6))
    if uploads and b"token" in words and _OAUTH.intersection(parts):
        found.append(("op:login", 0.9))
    elif uploads and words & _LOGIN:
        found.append(("op:login", 0.7))
    if uploads and words & _OTLP and b"v1" in parts:
        found.append(("op:telemetry", 0.95))
    elif words & _TRACKING:
        found.append(("op:telemetry", 0.6))
    return found


def reports(declared: bytes) -> bool:
    """True for what browsers report by themselves (HTML standard, "Hyperlink auditing"; Reporting API)."""
    return declared.startswith(_REPORTS)


def file_name(disposition: str) -> str:
    """Return the file name in a Content-Disposition (RFC 6266, 4.3; the extended form wins); empty if it has none."""
    best = ""
    for star, quoted, plain in _FILE_NAME.findall(disposition[:4096]):
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        if star and value.count("'") >= 2:
            charset, _, rest = value.partition("'")
            try:
                return unquote(rest.partition("'")[2], charset or "utf-8", "replace")[:MAX_FILE_NAME]
            except LookupError:
                continue
        best = best or value
    return best[:MAX_FILE_NAME]


def path_name(path: bytes) -> str:
    """Return the last part of a path, which a PUT or a download names its file by."""
    return unquote(path.partition(b"?")[0].rpartition(b"/")[2].decode("latin-1"))[:MAX_FILE_NAME]
