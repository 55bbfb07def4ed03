"""What a policy file holds: frozen dataclasses, the connection verdict that they lead to, and their JSON Schema.

An annotation holds a field's documentation and bounds as a `Key`. `policy.py` reads a file into these.

    python -m proxy.schema [--check] FILE    write the JSON Schema, or see that FILE has it: exit code 1 if not
"""

import dataclasses
import fnmatch
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from addons.connection import Connection, Process

LABEL = "label:"
NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
JSON_TYPES = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value (None, bool, int, float, str, a tuple or a dict of nodes) and its place in a file."""

    file: str
    line: int
    path: str
    value: Any

    def get(self, key: str) -> "Node":
        """Return the node under `key`, or this one if it has none: the place to name in an error."""
        return typing.cast(Node, self.value.get(key, self)) if isinstance(self.value, dict) else self

    def plain(self) -> Any:
        """Return the value as plain Python objects."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, tuple) else self.value

    def __str__(self) -> str:
        names = {dict: "a mapping", tuple: "a list", types.NoneType: "nothing"}
        return names.get(type(self.value)) or json.dumps(self.value)


@dataclass(frozen=True, slots=True)
class Key:
    """What an annotation says about a field beyond its type: `name: Annotated[str, Key("what it is for")]`.

    `name` is its name in YAML if it differs. `convert` takes each text, of the type `raw`, or raises ValueError.
    """

    doc: str = ""
    name: str = ""
    raw: Any = None
    convert: Callable[[str], Any] | None = None
    minimum: int | None = None
    maximum: int | None = None


ANY_VALUE = Key()


def host_pattern(text: str) -> str:
    """Return a pattern in the form in which host names are compared; ValueError if it could match none."""
    prefix = "*." if text.startswith("*.") else ""
    name = text.removeprefix(prefix).removesuffix(".")
    if not name.isascii():
        name = name.encode("idna").decode()
    if not NAME.fullmatch(name := name.lower()):
        raise ValueError(f"{text!r} is not a host pattern: write host.example, or *.host.example for names below it")
    if name.replace(".", "").isdigit():
        raise ValueError(f"{text!r} is an address: write it under `addresses` of a connection rule")
    return prefix + name


def host_or_label(text: str) -> str:
    """Like `host_pattern`, and `label:NAME` stands for every connection with that label."""
    return text if text.startswith(LABEL) and text != LABEL else host_pattern(text)


def matches_host(pattern: str, host: str) -> bool:
    """Tell whether `*.a.b` (every name below a.b) or `a.b` (that name alone) covers `host`."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


@dataclass(frozen=True, slots=True)
class Capture:
    """Which connections are diverted."""

    ports: Annotated[tuple[int, ...], Key("TCP ports that are diverted", minimum=1, maximum=65535)] = (80, 443)
    quic: Annotated[Literal["reject", "allow"], Key("UDP 443: rejected, browsers fall back to TCP at once")] = "reject"
    fail: Annotated[Literal["closed", "open"], Key("without a proxy: no connection, or an uninspected one")] = "closed"
    loopback: Annotated[bool, Key("divert connections to this computer itself too")] = False
    lan: Annotated[bool, Key("divert connections to private and link-local addresses too")] = False
    existing: Annotated[Literal["report", "cut"], Key("connections that were open before the start")] = "report"
    other: Annotated[Literal["block", "relay"], Key("what is neither TLS nor HTTP, or not HTTP inside TLS")] = "block"

    def __post_init__(self) -> None:
        if not self.ports:
            raise ValueError("`ports` is empty: nothing would be captured")


@dataclass(frozen=True, slots=True)
class Upstream:
    """The TLS session with the origin."""

    trusted_ca: Annotated[Path | None, Key("PEM file that replaces the roots by which origins are verified")] = None


@dataclass(frozen=True, slots=True)
class Tls:
    """What is decrypted."""

    bypass: Annotated[tuple[str, ...], Key("never decrypted: hosts, or label:NAME", convert=host_or_label)] = ()
    pinned: Annotated[Literal["block"], Key("programs that refuse our certificate")] = "block"
    upstream: Annotated[Upstream, Key("the session with the origin")] = field(default_factory=Upstream)


@dataclass(frozen=True, slots=True)
class ConnectionRule:
    """Decides on a connection before it is decrypted. Every condition that is given must hold."""

    id: Annotated[str, Key("name of the rule in events; unique")]
    verdict: Annotated[Literal["inspect", "bypass", "block"], Key("what to do with a connection that matches")]
    hosts: Annotated[tuple[str, ...] | None, Key("host.example or *.host.example", convert=host_pattern)] = None
    addresses: Annotated[tuple[Network, ...] | None, Key("CIDR blocks", raw=tuple[str, ...], convert=ip_network)] = None
    ports: Annotated[tuple[int, ...] | None, Key("destination ports", minimum=1, maximum=65535)] = None
    apps: Annotated[tuple[str, ...] | None, Key("executable paths; * ? [] as in a shell, * also matches /")] = None
    users: Annotated[tuple[str, ...] | None, Key('user names, or uids in quotes ("1000")')] = None
    ja4: Annotated[tuple[str, ...] | None, Key("JA4 fingerprints of the ClientHello; * ? [] as in a shell")] = None

    def matches(self, conn: Connection) -> bool:
        """Tell whether all conditions hold; one about something unknown (an ended process, no SNI) does not."""
        process, host, ja4 = conn.process or Process(0), conn.host or "", conn.ja4 or ""
        app, users = process.exe, {process.user, "" if process.uid is None else str(process.uid)} - {""}
        conditions: tuple[tuple[tuple[Any, ...] | None, Callable[[Any], bool]], ...] = (
            (self.hosts, lambda pattern: matches_host(pattern, host)),
            (self.addresses, lambda block: _is_in(conn.address[0], block)),
            (self.ports, lambda port: port == conn.address[1]),
            (self.apps, lambda glob: app != "" and fnmatch.fnmatchcase(app, glob)),
            (self.users, lambda user: user in users),
            (self.ja4, lambda glob: ja4 != "" and fnmatch.fnmatchcase(ja4, glob)),
        )
        return all(values is None or any(map(test, values)) for values, test in conditions)


def _is_in(address: str, block: Network) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:  # a request through the explicit listener names a host instead
        return False
    return (getattr(parsed, "ipv4_mapped", None) or parsed) in block  # a dual-stack listener sees ::ffff:192.0.2.1


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One filter in the chain. `options` is what `with:` says; the registry checks it against the filter."""

    id: Annotated[str, Key("name of the rule in events; unique")]
    use: Annotated[str, Key("a built-in filter, an entry point in lockgate.filters, ./mine.py:Class or ./addon.py")]
    source: Node = field(repr=False, compare=False)  # the mapping that this was built from
    when: Annotated[str | None, Key("mitmproxy filter expression, also ~app REGEX, ~label NAME; absent: always")] = None
    options: Annotated[Any, Key("the filter's own options", name="with")] = field(default_factory=dict)
    mode: Annotated[Literal["monitor", "enforce"], Key("monitor: verdicts become alerts")] = "enforce"
    on_error: Annotated[Literal["block", "allow"], Key("what counts when the filter fails or is late")] = "block"
    deadline: Annotated[int, Key("milliseconds that one call may take", minimum=1, maximum=10_000)] = 50
    buffer: Annotated[int, Key("bytes of body kept for filters that need it whole", minimum=0, maximum=2**26)] = 2**20


@dataclass(frozen=True, slots=True)
class Sqlite:
    """The event database, which `lockgate events` reads."""

    max_mb: Annotated[int, Key("MiB on disk; the oldest events go first", minimum=1)] = 256
    max_days: Annotated[int, Key("days that an event is kept", minimum=1)] = 30


@dataclass(frozen=True, slots=True)
class Events:
    """Where the record of decisions goes."""

    sqlite: Annotated[Sqlite, Key("the event database")] = field(default_factory=Sqlite)
    jsonl: Annotated[Path | None, Key("a file of JSON lines as well")] = None
    on_full: Annotated[Literal["drop", "block"], Key("unwritable events: lose them, or refuse requests")] = "drop"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds."""

    hello: Annotated[int, Key("until the ClientHello or the request line is there", minimum=1, maximum=600)] = 10
    answer: Annotated[int, Key("until the origin answers; then an error page is shown", minimum=1, maximum=600)] = 10


class ConnectionVerdict(NamedTuple):
    """`rule` is the id of the rule that decided, `tls.bypass`, or empty for the default."""

    verdict: Literal["inspect", "bypass", "block"]
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole file."""

    version: Annotated[Literal[1], Key("of this format")]
    capture: Annotated[Capture, Key("which connections are diverted")] = field(default_factory=Capture)
    tls: Annotated[Tls, Key("what is decrypted")] = field(default_factory=Tls)
    connections: Annotated[tuple[ConnectionRule, ...], Key("first match decides; then tls.bypass; else inspect")] = ()
    filters: Annotated[tuple[FilterRule, ...], Key("in order; the first allow, block or kill decides")] = ()
    events: Annotated[Events, Key("where the record of decisions goes")] = field(default_factory=Events)
    limits: Annotated[Limits, Key("how long things may take")] = field(default_factory=Limits)

    def connection_verdict(self, conn: Connection) -> ConnectionVerdict:
        """Decide from what is known before anything is decrypted or dialled."""
        for rule in self.connections:
            if rule.matches(conn):
                return ConnectionVerdict(rule.verdict, rule.id, f"connection rule {rule.id}")
        marks = {LABEL + name for name in conn.labels}
        for pattern in self.tls.bypass if conn.tls else ():
            if pattern in marks or matches_host(pattern, conn.host or ""):
                return ConnectionVerdict("bypass", "tls.bypass", f"tls.bypass has {pattern}")
        return ConnectionVerdict("inspect", "", "no rule says otherwise")


class Field(NamedTuple):
    """A field of a dataclass as YAML sees it: its name and type there, and whether it must be given."""

    attribute: str
    name: str
    kind: Any
    key: Key
    required: bool
    default: Any


def fields_of(cls: type) -> list[Field]:
    """Return what a mapping for `cls` may hold. NameError if an annotation names something unknown."""
    found = []
    hints = typing.get_type_hints(cls, include_extras=True)
    for each in dataclasses.fields(cls):
        kind, key = hints[each.name], ANY_VALUE
        if typing.get_origin(kind) is Annotated:
            key = next((extra for extra in kind.__metadata__ if isinstance(extra, Key)), key)
            kind = kind.__origin__
        if each.init and kind is not Node and not each.name.startswith("_"):
            required = each.default is each.default_factory  # both are MISSING
            found.append(Field(each.name, key.name or each.name, key.raw or kind, key, required, each.default))
    return found


def json_schema(kind: Any, key: Key = ANY_VALUE) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record_schema(kind)
    if origin is types.UnionType:
        return {"anyOf": [json_schema(argument, key) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": json_schema(arguments[0], key)}
    bounds = {"minimum": key.minimum, "maximum": key.maximum} if kind is int else {}
    return {"type": JSON_TYPES.get(kind, "object")} | {name: n for name, n in bounds.items() if n is not None}


def _record_schema(cls: type) -> dict[str, Any]:
    properties = {}
    for each in (fields := fields_of(cls)):
        properties[each.name] = schema = json_schema(each.kind, each.key) | {"description": each.key.doc}
        if each.default is not dataclasses.MISSING:
            schema["default"] = list(each.default) if isinstance(each.default, tuple) else each.default
    required = [each.name for each in fields if each.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def main(argv: Sequence[str]) -> int:
    """Write the schema to the file that is named last, or with `--check` compare it."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lockgate policy"}
    text = json.dumps(head | json_schema(Policy), indent=2) + "\n"
    target = Path(argv[-1])
    if "--check" not in argv:
        target.write_text(text)
    elif target.read_text() != text:
        print(f"{target} is out of date; run: python -m proxy.schema {target}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
