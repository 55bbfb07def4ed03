"""Labelled cases through the real chain: `python -m bench.labelled FOLDER [--pack gitleaks.toml] [--verbose]`

Each case is sent as it is, as a string of JSON and as a field of a form, to secrets.Secrets, pii.Pii with all kinds
and cards.Cards.  Beside them stand the plain expressions of a pack, and the expressions for personal data that many
tools begin with; both see the case as it is.
"""

import argparse
import asyncio
import base64
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from mitmproxy import connection, http

from addons.pii import known
from addons.rule_packs import read
from bench.filter_scan import UNFIT
from proxy import deadline, dryrun
from proxy.chain import Chain
from proxy.policy import parse
from proxy.registry import build

POLICY = b"""\
version: 1
filters:
  - {id: secrets, use: secrets.Secrets, deadline: 10000, with: {action: alert, unscannable: allow}}
  - {id: personal, use: pii.Pii, deadline: 10000, with: {action: alert, unscannable: allow, minimum: 1,
     kinds: [%b]}}
  - {id: cards, use: cards.Cards, deadline: 10000, with: {action: alert, unscannable: allow}}
"""
FORMS: dict[str, Callable[[str], tuple[str, bytes]]] = {
    "as it is": lambda text: ("text/plain", text.encode()),
    "JSON": lambda text: ("application/json", json.dumps({"text": text}).encode()),
    "form": lambda text: ("application/x-www-form-urlencoded", b"text=" + quote_plus(text).encode()),
}
#: What tutorials give for these.
NAIVE = {
    "pii.credit_card": rb"\b(?:\d[ -]*?){13,16}\b",
    "pii.iban": rb"\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b",
    "pii.us_ssn": rb"\b\d{3}-\d{2}-\d{4}\b",
    "pii.email": rb"[\w.+-]+@[\w-]+\.[\w.-]+",
    "pii.ip": rb"\b\d{1,3}(?:\.\d{1,3}){3}\b",
}

type Finds = Callable[[str], set[str]]


def cases(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        for case in map(json.loads, lines):
            if not any(case.get(flag) for flag in UNFIT):
                yield case


def text_of(case: dict[str, Any]) -> str:
    if "payload" in case:
        return str(case["payload"])
    return base64.b64decode(case["payload_b64"]).decode("utf-8", "replace")


def chained(form: str) -> Finds:
    chain = Chain(build(parse(POLICY % ", ".join(known()).encode(), Path("bench")), Path()))

    def finds(text: str) -> set[str]:
        declared, body = FORMS[form](text)
        flow = http.HTTPFlow(connection.Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0)),
                             connection.Server(address=None))
        flow.request = http.Request.make("POST", "https://files.example/", headers={"content-type": declared})
        dryrun.fill(flow.request, body)
        outcome = dryrun.outcome(asyncio.run(dryrun.through(chain, flow)))
        return {finding.kind for finding in outcome.findings if finding.where.startswith("body")}

    return finds


def plain(expressions: dict[str, re.Pattern[bytes]]) -> Finds:
    def finds(text: str) -> set[str]:
        data = text.encode()
        return {kind for kind, expression in expressions.items() if expression.search(data)}

    return finds


def hit(found: set[str], kind: str) -> bool:
    return any(each == kind or each.startswith(kind + ".") for each in found)


def score(path: Path, name: str, finds: Finds, *, verbose: bool) -> None:
    """Print precision and recall by kind, and of all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases(path):
        found = finds(text_of(case))
        for kind in case.get("scope") or case["expect"] or ["secret"]:
            got, due = hit(found, kind), any(each == kind or each.startswith(kind + ".") for each in case["expect"])
            sign = "TP" if got and due else "FP" if got else "FN" if due else "TN"
            for key in (kind, "all") if kind in NAIVE or kind == "secret" else ("all",):
                counts[key][sign] += 1
            if verbose and got != due:
                print("missed" if due else "false ", kind, repr(text_of(case))[:200])
    for kind, n in sorted(counts.items()):
        precision, recall = n["TP"] / ((n["TP"] + n["FP"]) or 1), n["TP"] / ((n["TP"] + n["FN"]) or 1)
        row = f"{path.name.partition('.')[0]:24} {name:12} {kind:16} {sum(n.values()):5}"
        print(f"{row} precision {precision:.3f} recall {recall:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    deadline.prepare()
    naive = {kind: re.compile(expression) for kind, expression in NAIVE.items()}
    if given.pack:
        naive |= {f"secret.{rule.id}": re.compile(rule.pattern.regex) for rule in read(given.pack.absolute()).rules}
    for path in sorted(given.folder.glob("*_*.jsonl.gz")):
        if path.name.startswith(("secrets", "pii")):
            for form in given.forms:
                score(path, form, chained(form), verbose=given.verbose)
            score(path, "expressions", plain(naive), verbose=False)
    deadline.rest()


if __name__ == "__main__":
    main()
