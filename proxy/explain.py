"""`lockgate explain`: a dry run of one request, or many, through a policy; nothing is dialled."""

import argparse
import asyncio
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from mitmproxy import connection as mitm
from mitmproxy import http
from mitmproxy.net import check

from addons.connection import Connection, Process
from addons.verdict import Finding
from proxy import assumed, deadline, dryrun
from proxy.chain import Chain, Exchange
from proxy.dryrun import Outcome
from proxy.options import UsageError, state
from proxy.pins import Pins, learnable
from proxy.policy import default_policy, load
from proxy.registry import build
from proxy.schema import Policy
from proxy.session import Rules

#: What a path or a query may have in it as it is (RFC 3986, 3.3 and 3.4), or quoted already.
URL_SAFE = "%/?:@!$&'()*+,;=-._~[]|"
#: Schemes of what a browser has already.
INSIDE = ("data:", "blob:", "about:", "javascript:")
#: What a browser says of the kind of resource it asks for (Fetch Metadata), by the names that filter lists use.
DESTINATIONS = {"xmlhttprequest": "empty", "subdocument": "iframe", "stylesheet": "style", "media": "video",
                "ping": "empty", "websocket": "websocket", "other": "empty"}


@dataclass(slots=True)
class Asked:
    """A request that might be made.  Raises ValueError where the URL is none, or not of the web."""

    url: str
    method: str = "GET"
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    app: str | None = None
    user: str | None = None
    parents: tuple[str, ...] = ()
    service: str | None = None
    container: str | None = None
    source: str | None = None
    type: str | None = None
    tls: bool = field(init=False)
    host: str = field(init=False)
    port: int = field(init=False)
    path: str = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        name = (parts.hostname or "").rstrip(".")
        if parts.scheme not in ("http", "https", "ws", "wss") or not name:
            raise ValueError(f"not a URL of http or https: {self.url!r}")
        self.tls = parts.scheme in ("https", "wss")
        self.host = name if name.isascii() else name.encode("idna").decode()
        if not check.is_valid_host(self.host.encode()):
            raise ValueError(f"not a host: {self.host!r}")
        self.port = parts.port or (443 if self.tls else 80)
        target = self.url.partition("#")[0].partition("://")[2].partition(parts.netloc)[2]
        self.path = quote(target if target.startswith("/") else f"/{target}", safe=URL_SAFE)

    @property
    def authority(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == (443 if self.tls else 80) else f"{shown}:{self.port}"

    @property
    def process(self) -> Process | None:
        return assumed.process(self.app, self.user, self.parents, self.service, self.container)

    def flow(self) -> http.HTTPFlow:
        client = mitm.Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0))
        flow = http.HTTPFlow(client, mitm.Server(address=(self.host, self.port)))
        headers = [(name.strip().lower().encode(), value.strip().encode()) for name, value in self.headers]
        if self.source:
            headers.append((b"referer", self.source.encode()))
        if self.type:
            headers.append((b"sec-fetch-dest", DESTINATIONS.get(self.type, self.type).encode()))
        url = f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"
        flow.request = http.Request.make(self.method, url, b"", headers)
        dryrun.fill(flow.request, self.body)
        flow.request.path = self.path       # as it is, with an empty query or two slashes
        flow.request.headers.setdefault("host", self.authority)
        flow.metadata["process"] = self.process
        if self.type:
            flow.metadata["resource_type"] = self.type      # headers cannot say all of them
        return flow

    def connection(self) -> Connection:
        name: str | None
        try:
            name, address = None, str(ipaddress.ip_address(self.host))
        except ValueError:
            name, address = self.host, ""
        return Connection(name, (address, self.port), ("127.0.0.1", 0), self.process, tls=self.tls)


@dataclass(frozen=True)
class Inside:
    """A URL among many that a browser resolves by itself."""

    url: str


async def judge(rules: Rules, asked: Asked, pins: Pins) -> dict[str, Any]:
    """Return the verdict, the rule and reason behind it, what every rule said, the labels, and what TLS would be."""
    connection = asked.connection()
    found = await dryrun.judge(rules, connection, asked.flow(), pins)
    if found.proved:
        found.reason += f", if {connection.host}'s address proves to be that name's (probe)"
    answer = _answer(asked.url, found)
    if found.exchange is None:
        return answer
    return answer | {"findings": list(map(shown, found.findings)), "labels": sorted(found.labels),
                     "rules": _said(rules.chain, found.exchange),
                     "tls": list(_tls(rules.policy, connection)) if asked.tls else []}


def _answer(url: str, found: Outcome) -> dict[str, Any]:
    return {"url": url, "verdict": found.verdict, "rule": found.rule, "reason": found.reason,
            "alerts": [{"rule": each.rule, "reason": each.reason} for each in found.alerts]}


def _tls(policy: Policy, connection: Connection) -> Iterator[str]:
    """What the policy says of the two TLS sessions of an inspected connection, beyond its defaults."""
    upstream, host = policy.tls.upstream, connection.host or connection.address[0]
    if exempt := upstream.exempt(host):
        only = f", by the certificate {exempt.fingerprint} alone" if exempt.fingerprint else ""
        yield f"tls.exceptions tolerates: {', '.join(exempt.accept) or 'no broken rule'}{only}"
        if exempt.min_version != "1.2":
            yield f"tls.exceptions lets it speak TLS {exempt.min_version}"
    if identity := upstream.identity(host):
        yield f"tls.upstream.identities has a certificate for it, if it asks for one: {identity}"
    app = connection.process.exe if connection.process else ""
    if not policy.connection_verdict(connection).rule and any(rule.covers(app, host) for rule in learnable(policy.tls)):
        yield "tls.pinned: the program passes unread for a time once it has refused our certificate twice"


def shown(finding: Finding) -> dict[str, Any]:
    """A finding, as programs read it."""
    return {"kind": finding.kind, "rule": finding.rule, "where": finding.where, "offset": finding.start,
            "sample": finding.sample}


def _said(chain: Chain, exchange: Exchange) -> list[dict[str, str]]:
    """Each rule in order: what it decided, or why it did not."""
    spoken = {d.rule: d for d in (*exchange.alerts, *([exchange.decision] if exchange.decision else []))}
    rows, final = [], exchange.decision
    reached = True
    for rule in chain.rules:
        if rule.id in spoken:
            said, why = str(spoken[rule.id].action), spoken[rule.id].reason
        elif not reached:
            said, why = "not asked", f"{final.rule} had decided" if final else ""
        elif not exchange.applies(rule):
            said, why = "not asked", "its `when` does not match"
        else:
            said, why = "no opinion", ""
        rows.append({"rule": rule.id, "said": said, "why": why})
        reached = reached and not (final and final.rule == rule.id)
    return rows


def explain(arguments: argparse.Namespace) -> int:
    """Which rule would decide on a request, and why the others did not.  Nothing is sent.

    With --app also the pins of that program, and what may be learned of it, are looked at.
    With --requests, one JSON object a line: url, and if need be method, headers, body, app, user, parents (a list,
    nearest first), service, container, source_url, type.

    example:
      lockgate explain https://ads.example/x.js --policy policy.yaml
      lockgate explain https://api.example/up --body-file dump.json --policy policy.yaml
      lockgate explain https://api.example/ --app /usr/bin/curl --parent /bin/sh --user ann --policy policy.yaml
      lockgate explain --requests requests.jsonl --json --policy policy.yaml
    """
    if bool(arguments.url) == bool(arguments.requests):
        raise UsageError("give a URL, or --requests FILE")
    deadline.prepare()
    policy = load(arguments.policy) if arguments.policy else default_policy()
    rules = Rules(policy, Chain(build(policy, (arguments.policy or Path()).absolute().parent)))
    try:
        asyncio.run(_explain(rules, Pins(state(arguments)), arguments))
    finally:
        deadline.rest()     # at exit its clock would outlive its handler
    return 0


async def _explain(rules: Rules, pins: Pins, arguments: argparse.Namespace) -> None:
    for asked in _many(arguments.requests) if arguments.requests else [_one(arguments)]:
        answer = _answer(asked.url, Outcome("pass", "", "nothing of it meets a proxy")) if isinstance(asked, Inside) \
            else await judge(rules, asked, pins)
        print(json.dumps(answer) if arguments.json else _text(answer), flush=not arguments.requests)


def _one(arguments: argparse.Namespace) -> Asked:
    if bad := next((text for text in arguments.header if ":" not in text), None):
        raise UsageError(f"not a header: {bad!r}; write it as \"Name: value\"")
    headers = [(name, value) for name, _, value in (text.partition(":") for text in arguments.header)]
    try:
        body = arguments.body_file.read_bytes() if arguments.body_file else b""
        return Asked(arguments.url, arguments.method or ("POST" if body else "GET"), headers, body, arguments.app,
                     arguments.asking_user, tuple(arguments.parent), arguments.service, arguments.container,
                     arguments.source, arguments.type)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def _many(path: Path) -> Iterator[Asked | Inside]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield _parse(text, f"{path}:{number}")
    except OSError as error:
        raise UsageError(str(error)) from None


def _parse(text: str, place: str) -> Asked | Inside:
    try:
        given = json.loads(text)
        if str(given["url"]).lower().startswith(INSIDE):
            return Inside(str(given["url"]))
        body = str(given.get("body", "")).encode()
        return Asked(given["url"], given.get("method") or ("POST" if body else "GET"),
                     list(given.get("headers", {}).items()), body, *assumed.given(given),
                     given.get("source_url") or given.get("source"), given.get("type"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{place}: not a request: {type(error).__name__}: {error}") from None


def _text(answer: dict[str, Any]) -> str:
    by = f" by {answer['rule']}" if answer["rule"] else ""
    lines = [f"{answer['verdict']}{by}: {answer['reason']}"]
    lines += [f"  {row['rule']}: {row['said']}" + (f" ({row['why']})" if row["why"] else "")
              for row in answer.get("rules", [])]
    lines += [f"  found {f['kind']} in {f['where']} at {f['offset']}: {f['sample']}"
              for f in answer.get("findings", [])]
    lines += [f"  {text}" for text in answer.get("tls", [])]
    if answer.get("labels"):
        lines.append("  labels: " + ", ".join(answer["labels"]))
    return "\n".join(lines)
