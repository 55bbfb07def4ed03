"""What was decided, as plain dicts in the field names of Suricata's EVE, so that existing tools read them.

A connection's event has the type `tls` (`tcp` without TLS), a request's `http`, the end of a bypass `flow`; whatever
was blocked, killed or alerted is an `alert`; our own life is `lockgate`. Nothing secret gets in: findings carry masked
samples, and the places that would repeat the value (URL, user agent, command line) are masked here.

Source of the names: Suricata user guide, "EVE JSON Format".
"""

import dataclasses
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from mitmproxy import http

from addons.connection import Connection, Process
from addons.verdict import SAMPLE, Action, Finding

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O, U: it will be read out over the telephone
COLUMNS = ("at", "type", "host", "app", "verdict", "filter", "incident")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ALERTS = frozenset({"alert", "redact", "block", "kill"})
#: Characters kept of what a client may make as long as it likes.
MAX_URL, MAX_AGENT, MAX_COMMAND = 4096, 512, 1024
UNMASKED_ARGUMENT = re.compile(r"[a-z][a-z-]{0,15}|(\.{0,2}/|~)[^\s=]*")  # a word, a path
URL = re.compile(r"(?P<scheme>https?://)([^/?#]*@)?(?P<host>[^/?#@]*)")
ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided: `verdict` is inspect, bypass, allow, alert, redact, block or kill; `filter` the id of the rule.

    `monitored` is what a rule in `mode: monitor` would have done; `failed` says that its `on_error` spoke.
    """

    verdict: str
    filter: str = ""
    reason: str = ""
    incident: str = ""
    findings: tuple[Finding, ...] = ()
    monitored: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Http:
    """A request and what became of it; lengths in bytes of body as sent."""

    hostname: str
    url: str
    http_method: str
    protocol: str
    status: int | None = None
    http_user_agent: str = ""
    http_content_type: str = ""
    length: int | None = None
    request_length: int | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """The TLS session with an origin; `ja3` and `ja4` are of our own hello, `ja3s` of its answer."""

    version: str
    cipher: str
    group: str
    resumed: bool
    ja3: str
    ja4: str
    ja3s: str


def incident() -> str:
    """Return an id of 50 random bits that a person can copy: ten letters and digits."""
    bits = secrets.randbits(50)
    return "".join(CROCKFORD[bits >> shift & 31] for shift in range(45, -1, -5))


def normal_incident(text: str) -> str:
    """Return an id as `incident` writes it, however it was typed (Crockford: I and L are 1, O is 0)."""
    return text.upper().replace("-", "").translate(str.maketrans("ILO", "110"))


def new_flow_id() -> int:
    """Return a number that ties the events of one connection together, exact in every JSON reader."""
    return secrets.randbits(53)


def connection_event(conn: Connection, outcome: Outcome, *, flow_id: int) -> Event:
    """Describe the verdict on a connection."""
    return _event("tls" if conn.tls else "tcp", conn, outcome, flow_id, sorted(conn.labels))


def flow_event(conn: Connection, outcome: Outcome, *, flow_id: int, sent: int, received: int) -> Event:
    """Describe a connection that passed unread and has ended; `sent` and `received` are the client's bytes."""
    moved = {"bytes_toserver": sent, "bytes_toclient": received}
    return connection_event(conn, outcome, flow_id=flow_id) | {"event_type": "flow", "flow": moved}


def http_event(conn: Connection, outcome: Outcome, request: Http, *, flow_id: int, labels: Iterable[str] = (),
               tls_version: str = "", upstream: Upstream | None = None) -> Event:
    """Describe what became of a request; `tls_version` is the client's, `upstream` the session with the origin."""
    event = _event("http", conn, outcome, flow_id, sorted({*conn.labels, *labels}))
    if conn.tls:
        event["tls"] |= {"version": tls_version} if tls_version else {}
        event["tls"] |= {"upstream": _filled(upstream)} if upstream else {}
    event["app_proto"] = "http2" if request.protocol.startswith("HTTP/2") else "http"
    event["http"] = _filled(request)
    return event


def lifecycle_event(what: str, detail: str = "") -> Event:
    """Describe something that happened to lockgate itself: started, reloaded, stopped, events lost."""
    return {"timestamp": _now(), "event_type": "lockgate", "lockgate": {"event": what, "reason": detail}}


def http_part(request: http.Request, response: http.Response | None, host: str, findings: Sequence[Finding] = (), *,
              sent: int | None = None, received: int | None = None) -> Http:
    """Take from a request what its event tells, masked where a finding lies; `sent` and `received` are bytes."""
    agent = request.headers.get("user-agent", "")
    if any(finding.where.startswith("header:user-agent") for finding in findings):
        agent = agent[:SAMPLE] + "…"
    return Http(
        hostname=host,
        url=mask_url(request.data.path, findings)[:MAX_URL],
        http_method=request.method,
        protocol=request.http_version,
        status=response.status_code if response else None,
        http_user_agent=agent[:MAX_AGENT],
        http_content_type=response.headers.get("content-type", "")[:MAX_AGENT] if response else "",
        length=received,
        request_length=sent,
    )


def _found(finding: Finding) -> dict[str, Any]:
    found = dataclasses.asdict(finding)
    del found["mark"]       # of the value: no business of a log
    return found


def mask_url(path: bytes, findings: Iterable[Finding]) -> str:
    """Return path and query with every finding's value masked, as often and however encoded it is there.

    A finding's offsets belong to one of the readings that were scanned: the path as it is, or with percent-encoding
    taken off once or twice. The one that shows its sample is it; if none does, or the value is inside another
    encoding, nothing of the path is shown.
    """
    if any(finding.where.startswith("url >") for finding in findings):
        return "…"
    findings = [finding for finding in findings if finding.where == "url"]
    if not findings:
        return path.decode("latin-1")
    views = list(_views(path))
    hidden: set[int] = set()
    for finding in findings:
        sample = finding.sample.removesuffix("…").encode()
        values = {text[finding.start : finding.end] for text, _ in views}
        values = {value for value in values if value and value.startswith(sample)}
        if not values:
            return "…"
        for text, places in views:
            for match in re.finditer(b"|".join(map(re.escape, values)), text):
                hidden.update(range(places[min(match.start() + SAMPLE, match.end())], places[match.end()]))
    return re.sub("\0+", "…", "".join("\0" if i in hidden else chr(c) for i, c in enumerate(path)))


def _views(path: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """Yield each reading of the path with the place of each of its bytes, and of its end, in the path itself."""
    text, places = path, [*range(len(path) + 1)]
    for _ in range(3):
        yield text, places
        starts = [match.start() for match in ESCAPE.finditer(text)]
        inside = {start + offset for start in starts for offset in (1, 2)}
        text, places = unquote_to_bytes(text), [place for i, place in enumerate(places) if i not in inside]


def mask_command(arguments: Sequence[str]) -> str:
    """Return a command line without the values in it: `curl -d AKIA… https://host.example/…`."""
    return " ".join([*arguments[:1], *map(_mask_argument, arguments[1:])])[:MAX_COMMAND]


def _mask_argument(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if name.startswith("--") and equals:
        return f"{name}={_mask_argument(value)}"
    if (name.startswith("--") and not equals) or UNMASKED_ARGUMENT.fullmatch(argument):
        return argument
    if url := URL.match(argument):
        return f"{url['scheme']}{url['host']}/…"
    return argument if len(argument) <= SAMPLE else argument[:SAMPLE] + "…"


def columns(event: Event) -> tuple[float | str | None, ...]:
    """Return what an event is looked up by, in the order of COLUMNS."""
    ours = event.get("lockgate", {})
    host = event.get("http", {}).get("hostname") or event.get("tls", {}).get("sni") or event.get("dest_ip")
    app = event.get("process", {}).get("exe", "").encode(errors="replace").decode()  # a path may be no UTF-8
    at = datetime.fromisoformat(event["timestamp"]).timestamp()
    return at, event["event_type"], host, app, ours.get("verdict"), ours.get("filter"), ours.get("incident")


def parse_time(text: str) -> float:
    """Return seconds of the epoch for `90s`, `10m`, `2h`, `3d` ago or an ISO time (local unless it says)."""
    if age := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return time.time() - int(age[1]) * UNITS[age[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 90s, 10m, 2h, 3d or 2026-01-31T12:00") from None


def line(event: Event) -> str:
    """Render an event for a person, on one line, with nothing in it that a terminal would obey."""
    ours, process = event.get("lockgate", {}), event.get("process", {})
    app = f"{process['exe'].rpartition('/')[2] or process.get('name') or '?'}({process['pid']})" if process else "-"
    words = [event["timestamp"][:19].replace("T", " "), f"{ours.get('verdict') or ours.get('event', ''):7}", app]
    words.append(_subject(event))
    if ours.get("filter"):
        words.append(f"{ours['filter']}:")
    words.append(ours.get("reason", ""))
    if moved := event.get("flow"):
        words.append(f"({moved['bytes_toserver']} bytes sent, {moved['bytes_toclient']} received)")
    if ours.get("incident"):
        words.append(f"[{ours['incident']}]")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(filter(None, words)))


def _subject(event: Event) -> str:
    if request := event.get("http"):
        scheme = "https" if "tls" in event else "http"
        status = f" {request['status']}" if "status" in request else ""
        return f"{request['http_method']} {scheme}://{request['hostname']}{request['url']}{status}"
    if "dest_ip" in event:
        return f"{event.get('tls', {}).get('sni') or event['dest_ip']}:{event['dest_port']}"
    return ""


def _event(kind: Literal["tls", "tcp", "http"], conn: Connection, outcome: Outcome, flow_id: int,
           labels: list[str]) -> Event:
    event: Event = {
        "timestamp": _now(),
        "event_type": "alert" if outcome.verdict in ALERTS else kind,
        "flow_id": flow_id,
        "src_ip": conn.client[0],
        "src_port": conn.client[1],
        **({"dest_ip": conn.address[0], "dest_port": conn.address[1]} if conn.address[0] else {}),
        "proto": "TCP",
        "app_proto": kind,
        "lockgate": _filled(outcome),
    }
    if outcome.findings:
        event["lockgate"]["findings"] = [_found(finding) for finding in outcome.findings]
    if conn.tls:
        tls = {"sni": conn.host, "alpn": list(conn.alpn), "ja4": conn.ja4, "ja3": conn.ja3 and {"hash": conn.ja3}}
        hidden = {"sni_absent": conn.unnamed, "ech": conn.ech}
        event["tls"] = {name: value for name, value in (tls | hidden).items() if value}
    if conn.process is not None:
        event["process"] = _process(conn.process)
    if labels:
        event["labels"] = labels
    if outcome.verdict in ALERTS:
        event["alert"] = {
            "action": "allowed" if outcome.verdict in (Action.ALERT, Action.REDACT) else "blocked",
            "signature": outcome.filter,
            "category": outcome.findings[0].kind if outcome.findings else "policy",
        }
    return event


@lru_cache(256)
def _process(process: Process) -> Event:
    """The same for every event of a process; events are not changed once they are made."""
    found = {"pid": process.pid, "exe": process.exe} | _filled(process)
    if process.cmdline:
        found["cmdline"] = mask_command(process.cmdline)
    if process.parents:
        found["parents"] = [parent._asdict() for parent in process.parents]
    del found["started"]
    if process.started:
        found["started"] = datetime.fromtimestamp(process.started, UTC).isoformat(timespec="milliseconds")
    if process.exe:
        found.pop("name", None)     # it says no more
    return found


def _filled(record: Any) -> Event:
    """Return the fields of a dataclass with slots that say something."""
    values = ((name, getattr(record, name)) for name in record.__slots__)
    return {name: value for name, value in values if value not in (None, "", ()) and value is not False}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
