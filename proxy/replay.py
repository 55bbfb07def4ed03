"""`lockgate replay`: recorded traffic through a policy, or through two, to see what a change would change."""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mitmproxy import http

from addons.connection import Connection
from proxy import deadline, dryrun
from proxy.chain import Chain
from proxy.dryrun import Outcome
from proxy.explain import shown
from proxy.options import UsageError, state, tell
from proxy.pins import Pins
from proxy.policy import default_policy, load
from proxy.recorded import RecordedError, flows
from proxy.registry import build
from proxy.session import Rules

#: Characters of a URL in a line.
MAX_URL = 100
#: Flows between two words on how far it is.
PROGRESS = 1000


@dataclass(frozen=True, slots=True)
class Replayed:
    """One flow and what each policy makes of it."""

    number: int
    method: str
    url: str
    outcomes: tuple[Outcome, ...]

    @property
    def differs(self) -> bool:
        return len({(each.verdict, each.rule, _alerted(each)) for each in self.outcomes}) > 1


def replay(arguments: argparse.Namespace) -> int:
    """What a policy would decide on recorded traffic: a HAR file, or one of mitmproxy's flows.  Nothing is sent.

    Shown is what would not simply pass.  With --against, only what another policy would decide otherwise; the exit code
    is then 1 if there is such.  Which program asked is not in such files, so rules on programs do not hold.

    example:
      lockgate replay day.har --policy policy.yaml
      lockgate replay traffic.flow --policy policy.yaml --against new.yaml --json
    """
    deadline.prepare()
    policies = [arguments.policy, arguments.against] if arguments.against else [arguments.policy]
    rules = [_rules(path) for path in policies]
    try:
        differing = asyncio.run(_replay(arguments, rules))
    except (OSError, RecordedError) as error:
        raise UsageError(str(error)) from None
    finally:
        deadline.rest()     # at exit its clock would outlive its handler
    return 1 if arguments.against and differing else 0


def _rules(path: Path | None) -> Rules:
    policy = load(path) if path else default_policy()
    return Rules(policy, Chain(build(policy, (path or Path()).absolute().parent)))


async def _replay(arguments: argparse.Namespace, rules: list[Rules]) -> int:
    verdicts, count, differing = Counter[str](), 0, 0
    try:
        async for each in _judged(arguments.file, rules, Pins(state(arguments))):
            count, differing = count + 1, differing + each.differs
            verdicts[each.outcomes[0].verdict] += 1
            if arguments.json:
                print(json.dumps(_row(each)))
            elif each.differs if arguments.against else _notable(each.outcomes[0]):
                print(_line(each))
            if count % PROGRESS == 0 and sys.stderr.isatty():
                tell(f"{count} flows")
    finally:
        if not arguments.json:
            said = ", ".join(f"{number} {name}" for name, number in sorted(verdicts.items()))
            more = f"; {differing} would be decided otherwise" if arguments.against else ""
            print(f"{count} flows: {said or 'nothing'}{more}", file=sys.stderr)
    return differing


async def _judged(path: Path, rules: list[Rules], pins: Pins) -> AsyncIterator[Replayed]:
    for number, flow in flows(path):
        method, url = flow.request.method, flow.request.pretty_url
        outcomes = [await dryrun.judge(each, _connection(flow), _copy(flow), pins) for each in rules]
        yield Replayed(number, method, url, tuple(outcomes))


def _connection(flow: http.HTTPFlow) -> Connection:
    host, port = flow.request.pretty_host, flow.request.port
    try:
        name, address = None, str(ip_address(host))
    except ValueError:
        known = flow.server_conn.peername
        name, address = host, known[0] if known else ""
    return Connection(name, (address, port), ("127.0.0.1", 0), None, tls=flow.request.scheme == "https")


def _copy(flow: http.HTTPFlow) -> http.HTTPFlow:
    copy = http.HTTPFlow(flow.client_conn, flow.server_conn)
    copy.set_state(flow.get_state())
    return copy


def _alerted(outcome: Outcome) -> frozenset[str]:
    return frozenset(each.rule for each in outcome.alerts)


def _notable(outcome: Outcome) -> bool:
    return outcome.verdict != "pass" or bool(outcome.alerts)


def _line(each: Replayed) -> str:
    url = each.url if len(each.url) <= MAX_URL else each.url[: MAX_URL - 1] + "…"
    return f"{each.number:>6}  {each.method} {url}\n" + "\n".join(f"        {_said(one)}" for one in each.outcomes)


def _said(outcome: Outcome) -> str:
    by = f" by {outcome.rule}: {outcome.reason}" if outcome.rule else ""
    alerts = "".join(f"; alert by {each.rule}: {each.reason}" for each in outcome.alerts)
    found = "".join(f"\n          {f.kind} in {f.where} at {f.start}: {f.sample}" for f in outcome.findings)
    return f"{outcome.verdict}{by}{alerts}{found}"


def _row(each: Replayed) -> dict[str, Any]:
    rows = [{"verdict": one.verdict, "rule": one.rule, "reason": one.reason,
             "alerts": [{"rule": a.rule, "reason": a.reason} for a in one.alerts],
             "findings": list(map(shown, one.findings)), "labels": sorted(one.labels)} for one in each.outcomes]
    row: dict[str, Any] = {"flow": each.number, "method": each.method, "url": each.url, **rows[0]}
    return row | ({"against": rows[1], "differs": each.differs} if len(rows) > 1 else {})
