"""What a policy file holds: frozen dataclasses, the connection verdict that they lead to, and their JSON Schema.

`policy.py` reads a file into these; the section `tls` is in `tlspolicy.py`.

    python -m proxy.schema [--check] FILE    write the JSON Schema, or see that FILE has it: exit code 1 if not
"""

import fnmatch
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from addons.connection import Connection, Process
from proxy import resolvers
from proxy.keys import Key, Node, json_schema
from proxy.patterns import LABEL, host_pattern, matches_host
from proxy.proxyurl import LOCAL, exception, proxy_url
from proxy.tlspolicy import Tls

Network = IPv4Network | IPv6Network


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
    encrypted_dns: Annotated[Literal["allow", "refuse"], Key(
        "refuse: DNS over TLS, QUIC and HTTPS, so that programs fall back to the system's resolver")] = "allow"
    quic_users: Annotated[tuple[str, ...], Key(
        'user names, or uids in quotes ("1000"), whose QUIC is let go although `quic` says reject')] = ()
    proxy_users: Annotated[Path | None, Key("who may use an explicit proxy that listens for other computers")] = None
    upstream_proxy: Annotated[str | None, Key(
        "the proxy that all connections leave by: http://HOST:PORT or socks5://HOST:PORT", convert=proxy_url)] = None
    upstream_proxy_username: Annotated[str | None, Key("what it knows us by")] = None
    upstream_proxy_password_file: Annotated[Path | None, Key("file with the password; nobody else may read it")] = None
    upstream_proxy_except: Annotated[tuple[str, ...], Key(
        "met without it: hosts, addresses, CIDR blocks; local: private networks", convert=exception)] = (LOCAL,)

    def __post_init__(self) -> None:
        if not self.ports:
            raise ValueError("`ports` is empty: nothing would be captured")
        if (self.upstream_proxy_username is None) != (self.upstream_proxy_password_file is None):
            raise ValueError("`upstream_proxy_username` and `upstream_proxy_password_file` need each other")
        if self.upstream_proxy_username and self.upstream_proxy is None:
            raise ValueError("`upstream_proxy_username` is given, but no `upstream_proxy`")

    def allows_quic(self, process: Process | None) -> bool:
        return self.quic == "allow" or bool(set(self.quic_users) & _names(process or Process(0)))


@dataclass(frozen=True, slots=True)
class ConnectionRule:
    """Decides on a connection before it is decrypted. Every condition that is given must hold."""

    id: Annotated[str, Key("name of the rule in events; unique")]
    verdict: Annotated[Literal["inspect", "bypass", "block"], Key("what to do with a connection that matches")]
    hosts: Annotated[tuple[str, ...] | None, Key("host.example or *.host.example", convert=host_pattern)] = None
    addresses: Annotated[tuple[Network, ...] | None, Key("CIDR blocks", raw=tuple[str, ...], convert=ip_network)] = None
    ports: Annotated[tuple[int, ...] | None, Key("destination ports", minimum=1, maximum=65535)] = None
    clients: Annotated[tuple[Network, ...] | None,
                       Key("CIDR blocks of those who connect", raw=tuple[str, ...], convert=ip_network)] = None
    apps: Annotated[tuple[str, ...] | None, Key("executable paths; * ? [] as in a shell, * also matches /")] = None
    trees: Annotated[tuple[str, ...] | None, Key("executable paths, of the program or of any ancestor")] = None
    services: Annotated[tuple[str, ...] | None, Key("systemd units (nginx.service); * ? [] as in a shell")] = None
    containers: Annotated[tuple[str, ...] | None, Key("containers (docker:3f4e*); * ? [] as in a shell")] = None
    users: Annotated[tuple[str, ...] | None, Key('user names, or uids in quotes ("1000")')] = None
    ja4: Annotated[tuple[str, ...] | None, Key("JA4 fingerprints of the ClientHello; * ? [] as in a shell")] = None
    sni: Annotated[Literal["present", "absent"] | None, Key("does the ClientHello name a host?")] = None
    ech: Annotated[Literal["present", "absent"] | None, Key(
        "has the ClientHello encrypted_client_hello? Most browsers always send it")] = None

    def __post_init__(self) -> None:
        who = self.clients or self.apps or self.trees or self.services or self.containers or self.users
        sent = self.ja4 or self.sni or self.ech
        if self.verdict == "bypass" and sent and not (self.hosts or self.addresses or who):
            raise ValueError("any program can send that ClientHello: to bypass, name hosts, addresses, clients, apps "
                             "or users")

    def matches(self, conn: Connection) -> bool:
        """Tell whether all conditions hold; one about something unknown (an ended process, no SNI) does not."""
        process, host, ja4 = conn.process or Process(0), conn.host or "", conn.ja4 or ""
        users = _names(process)
        conditions: tuple[tuple[tuple[Any, ...] | None, Callable[[Any], bool]], ...] = (
            (self.hosts, lambda pattern: matches_host(pattern, host)),
            (self.addresses, lambda block: _is_in(conn.address[0], block)),
            (self.ports, lambda port: port == conn.address[1]),
            (self.clients, lambda block: _is_in(conn.client[0], block)),
            (self.apps, lambda glob: _is_like(process.exe, glob)),
            (self.trees, lambda glob: any(_is_like(exe, glob) for exe in process.tree)),
            (self.services, lambda glob: _is_like(process.service, glob)),
            (self.containers, lambda glob: _is_like(process.container, glob)),
            (self.users, lambda user: user in users),
            (self.ja4, lambda glob: _is_like(ja4, glob)),
            (self.sni and (self.sni,), lambda wanted: conn.tls and conn.unnamed == (wanted == "absent")),
            (self.ech and (self.ech,), lambda wanted: conn.tls and conn.ech == (wanted == "present")),
        )
        return all(values is None or any(map(test, values)) for values, test in conditions)


def _is_like(text: str, glob: str) -> bool:
    return text != "" and fnmatch.fnmatchcase(text, glob)


def _names(process: Process) -> set[str]:
    """What a policy may call the user of a process."""
    return {process.user, "" if process.uid is None else str(process.uid)} - {""}


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
    when: Annotated[str | None, Key("mitmproxy filter expression; also ~app ~exe ~tree ~user ~label")] = None
    options: Annotated[Any, Key("the filter's own options", name="with")] = field(default_factory=dict)
    mode: Annotated[Literal["monitor", "enforce"], Key("monitor: verdicts become alerts")] = "enforce"
    on_error: Annotated[Literal["block", "allow"], Key("what counts when the filter fails or is late")] = "block"
    answer: Annotated[Literal["page", "placeholder", "reset"], Key(
        "to what it blocks: words and parts of pages with status 403; parts with status 200; a reset")] = "page"
    deadline: Annotated[int, Key("milliseconds that one call may take", minimum=1, maximum=10_000)] = 50
    buffer: Annotated[int, Key("bytes of body kept for filters that need it whole", minimum=0, maximum=2**26)] = 2**20


@dataclass(frozen=True, slots=True)
class Sqlite:
    """The event database, which `lockgate events` reads."""

    max_mb: Annotated[int, Key("MiB on disk; the oldest events go first", minimum=1)] = 256
    max_days: Annotated[int, Key("days that an event is kept", minimum=1)] = 30


@dataclass(frozen=True, slots=True)
class History:
    """The database of connections, captured or not, which `lockgate connections --history` reads."""

    max_rows: Annotated[int, Key("connections; the oldest go first", minimum=1)] = 500_000
    max_days: Annotated[int, Key("days that a connection is kept; 0: none is written", minimum=0)] = 30


@dataclass(frozen=True, slots=True)
class Events:
    """Where the record of decisions goes."""

    sqlite: Annotated[Sqlite, Key("the event database")] = field(default_factory=Sqlite)
    jsonl: Annotated[Path | None, Key("a file of JSON lines as well")] = None
    history: Annotated[History, Key("the database of connections")] = field(default_factory=History)
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
        if self.capture.encrypted_dns == "refuse" and (resolver := resolvers.known(conn.host or "", conn.address)):
            return ConnectionVerdict("block", resolvers.RULE, f"{resolver} is a resolver: DNS over HTTPS is refused")
        if self.tls.ech == "block" and conn.tls and conn.ech:
            return ConnectionVerdict("block", "tls.ech", "its ClientHello has ECH, which may hide another name")
        marks = {LABEL + name for name in conn.labels}
        for pattern in self.tls.bypass if conn.tls else ():
            if pattern in marks or matches_host(pattern, conn.host or ""):
                return ConnectionVerdict("bypass", "tls.bypass", f"tls.bypass has {pattern}")
        return ConnectionVerdict("inspect", "", "no rule says otherwise")

    def waits_for_address(self, conn: Connection) -> bool:
        """Tell whether a rule about addresses might decide on it before any other does, once its name is looked up."""
        for rule in self.connections:
            if rule.matches(conn):
                return False
            if rule.addresses is not None and replace(rule, addresses=None).matches(conn):
                return True
        return False


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
