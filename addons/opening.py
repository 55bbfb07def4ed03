"""What the first bytes of a request body tell about the operation: GraphQL, RPC, logins, the names of files."""

import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_plus

from addons.operation import File, Names, file_name, shown

#: Bytes that are looked at: as many as the chain holds back, so that what they tell is known before any of them leave.
READ: Final = 4000

_STRING: Final = rb'"((?:[^"\\]|\\.){0,%d})'
_OPERATION_NAME: Final = re.compile(rb'"operationName"\s{0,4}:\s{0,4}"([_A-Za-z]\w{0,63})"')
_QUERY: Final = re.compile(rb'"query"\s{0,4}:\s{0,4}' + _STRING % 2048)
_PERSISTED: Final = re.compile(rb'"(?:persistedQuery|sha256Hash|documentId|doc_id|queryId)"')
#: An operation of a document (GraphQL, 2.3): its type, its name or, without one, its first field.
_DEFINITION: Final = re.compile(
    r"(?:^|[\s}])(query|mutation|subscription)\b\s*([_A-Za-z]\w{0,63})?"
    r"(?:\s*\([^)]{0,500}\))?[^{]{0,200}\{\s*(?:[_A-Za-z]\w{0,63}\s*:\s*)?([_A-Za-z]\w{0,63})?"
)
_SHORT: Final = re.compile(r"\s*\{\s*(?:[_A-Za-z]\w{0,63}\s*:\s*)?([_A-Za-z]\w{0,63})")
_COMMENT: Final = re.compile(r"#[^\n]{0,500}")

_RPC: Final = re.compile(rb'"method"\s{0,4}:\s{0,4}"([\w./$-]{1,64})"')
_TOOL: Final = re.compile(rb'"name"\s{0,4}:\s{0,4}"([\w./-]{1,64})"')

#: Fields that hold a password, as forms and APIs of several languages name them (HTML, "current-password").
_SECRET_FIELD: Final = (
    rb"(?:user|login|account|current|old|new|confirm|j)?[_.-]?(?:pass(?:word|wd|phrase|code)?|pwd|passwort|kennwort|senha"
    rb"|contrasena|motdepasse|mdp|wachtwoord|haslo|parola)[_.-]?(?:1|2|hash|confirmation)?"
)
_FORM_LOGIN: Final = re.compile(
    rb"(?i)(?:^|&)(?:[\w.]{1,30}(?:%%5B|\[))?%b(?:%%5D|\])?=[^&]|(?:^|&)grant_type=" % _SECRET_FIELD)
_JSON_LOGIN: Final = re.compile(rb'(?i)"(?:%b|grant_type)"\s{0,4}:\s{0,4}"' % _SECRET_FIELD)
_DISPOSITION: Final = re.compile(
    rb"(?i)content-disposition:([^\r\n]{0,600})\r\n(?:content-type:\s{0,4}([^\r\n;]{0,100}))?")


def told(head: bytes, kind: str, graphql: bool) -> Names:
    """Return the labels that a body with these first bytes, of that kind (see `sniff`), gives its request."""
    found: Names = []
    if kind == "application/json":
        found += _graphql(head, graphql)
        if b'"jsonrpc"' in head:
            found += _rpc(head)
        if _JSON_LOGIN.search(head):
            found.append(("op:login", 0.9))
    elif kind == "application/form":
        if graphql and (query := re.search(rb"(?:^|&)query=([^&]{0,2048})", head)):
            found += [("protocol:graphql", 1.0), *document(unquote_plus(query[1].decode("utf-8", "replace")))]
        if _FORM_LOGIN.search(head):
            found.append(("op:login", 0.95))
    elif graphql and kind == "text/plain":
        found += document(head.decode("utf-8", "replace"))
    return found


def _graphql(head: bytes, expected: bool) -> Names:
    """A request, or several in a list (GraphQL over HTTP, 5.4)."""
    texts = [_unescaped(match[1]) for match in _QUERY.finditer(head)]
    found = [each for text in texts for each in document(text)]
    if not found and expected and (name := _OPERATION_NAME.search(head)) and _PERSISTED.search(head):
        found = [(f"op:graphql:persisted:{shown(name[1].decode())}", 1.0)]
    if len(head) >= READ and (found or expected):
        found.append(("op:graphql:unread", 1.0))        # an operation, or another "query", may stand further on
    return [("protocol:graphql", 1.0), *found] if found else []


def _unescaped(text: bytes) -> str:
    try:
        return str(json.loads(b'"' + text + b'"', strict=False))
    except ValueError:
        return text.decode("utf-8", "replace").replace("\\n", "\n")


def document(text: str) -> Names:
    """Return `op:graphql:TYPE:NAME` for the operations in a document; an unnamed one goes by its first field."""
    text = _COMMENT.sub("", text)
    found: Names = []
    for kind, name, first in _DEFINITION.findall(text):
        found.append((f"op:graphql:{kind}:{shown(name or first or 'unnamed')}", 1.0 if name else 0.8))
    if not found and (short := _SHORT.match(text)):
        found.append((f"op:graphql:query:{shown(short[1])}", 0.8))
    return found


def _rpc(head: bytes) -> Iterator[tuple[str, float]]:
    """JSON-RPC 2.0, and what the Model Context Protocol makes of it."""
    for match in _RPC.finditer(head):
        method = match[1].decode()
        yield f"op:rpc:{shown(method)}", 0.9
        if method == "tools/call" and (tool := _TOOL.search(head)):
            yield f"op:mcp:tool:{shown(tool[1].decode())}", 0.9


def files(head: bytes) -> list[File]:
    """Return the files that the first parts of a multipart form name (RFC 7578, 4.2)."""
    named = [(file_name(text.decode("utf-8", "replace")), kind) for text, kind in _DISPOSITION.findall(head)]
    return [File(name, kind.decode("latin-1").strip()) for name, kind in named if name]
