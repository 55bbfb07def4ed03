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
_QUERY: Final = re.compile(rb'"query"\s{0,4}:\s{0,4}' + _STRING % READ)
_PERSISTED: Final = re.compile(rb'"(?:persistedQuery|sha256Hash|documentId|doc_id|queryId)"')
#: What a document is made of, as far as it says where operations begin (GraphQL, 2.1); comments and strings are passed
#: over, and one that is not closed goes on to the end.
_TOKEN: Final = re.compile(
    r'#[^\n\r]*+|"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)|"(?:[^"\\\n\r]|\\.)*+"?|[_A-Za-z][_0-9A-Za-z]{0,63}+|\.{3}|[{}():@]',
    re.DOTALL)
_TYPES: Final = ("query", "mutation", "subscription")

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
        if graphql and (query := re.search(rb"(?:^|&)query=([^&]*)", head)):
            found += [("protocol:graphql", 1.0), *document(unquote_plus(query[1].decode("utf-8", "replace")))]
        if _FORM_LOGIN.search(head):
            found.append(("op:login", 0.95))
    elif graphql and kind == "text/plain":
        found += document(head.decode("utf-8", "replace"))
    if len(head) >= READ and (graphql or ("protocol:graphql", 1.0) in found):
        found.append(("op:graphql:unread", 1.0))        # an operation, or another "query", may stand further on
    return found


def _graphql(head: bytes, expected: bool) -> Names:
    """A request, or several in a list (GraphQL over HTTP, 5.4)."""
    texts = [_unescaped(match[1]) for match in _QUERY.finditer(head)]
    found = [each for text in texts for each in document(text)]
    if not found and expected and (name := _OPERATION_NAME.search(head)) and _PERSISTED.search(head):
        found = [(f"op:graphql:persisted:{shown(name[1].decode())}", 1.0)]
    return [("protocol:graphql", 1.0), *found] if found else []


def _unescaped(text: bytes) -> str:
    try:
        return str(json.loads(b'"' + text + b'"', strict=False))
    except ValueError:
        return text.decode("utf-8", "replace").replace("\\n", "\n")


def document(text: str) -> Names:
    """Return `op:graphql:TYPE:NAME` for the operations in a document; an unnamed one goes by its first field."""
    tokens = [each for each in _TOKEN.findall(text) if each[0] not in "#\""]
    found: Names = []
    depth, kind, name = 0, "", ""       # open brackets; what is defined here, and its name
    for at, each in enumerate(tokens):
        if each in "{(":
            if each == "{" and not depth and (kind in _TYPES or (not kind and _selects(tokens, at))):
                label = f"op:graphql:{kind or 'query'}:{shown(name or _first_field(tokens, at))}"
                found.append((label, 1.0 if name else 0.8))
            depth, kind = depth + 1, kind or "query"
        elif each in "})":
            depth -= 1
            kind, name = ("", "") if depth <= 0 and each == "}" else (kind, name)
            depth = max(0, depth)
        elif not depth and not kind:
            kind = each
        elif not depth and not name and tokens[at - 1] == kind:
            name = each if each.isidentifier() else ""
    return found


def _selects(tokens: list[str], at: int) -> bool:
    """True if a bracket without a word before it begins a query in its short form (2.3)."""
    return at + 1 < len(tokens) and (tokens[at + 1].isidentifier() or tokens[at + 1] == "...")


def _first_field(tokens: list[str], at: int) -> str:
    """Return the first field behind a bracket, not its alias."""
    first, colon, field = [*tokens[at + 1 : at + 4], "", "", ""][:3]
    name = field if colon == ":" else first
    return name if name.isidentifier() else "unnamed"


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
