"""Write the tables of docs/capture.md: what backends declare, and what the suite found.

    python -m tests.contract.table [RESULTS...]        RESULTS: files that the suite wrote (CONTRACT_RESULTS=FILE)

Each table is between two markers, `<!-- NAME -->` and `<!-- /NAME -->`. Without RESULTS only what is declared is
written. Of a case in several files the last one counts. Exit code 1: a case fails.
"""

import importlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from redirector.plan import Declaration
from tests.contract.rig import NAMES

DOCS = Path(__file__).parents[2] / "docs/capture.md"
#: The fields of a Declaration, in the words of the table.
WORDS = {
    "transparent": "programs need not know of it", "everything": "the whole computer", "users": "one user's",
    "groups": "one control group's", "trees": "one process and its children", "forwarded": "containers, other computers",
    "ipv6": "IPv6", "udp": "QUIC is refused", "local": "loopback and LAN, when asked for", "lan": "the LAN alone, when asked for",
    "existing": "older connections: counted, cut when asked", "processes": "names also processes that are gone at once",
    "dns": "encrypted DNS refused, QUIC for single users", "servers": "any server in the proxy's place",
    "peername": "programs see the origin as their peer", "refusals": "connect() fails in the origin's words",
    "closed": "`fail: closed`", "open": "`fail: open`",
}
#: The modules of the suite, in the order of the table.
AREAS = {
    "captured": "what is captured and what is not", "plans": "what can be asked for, or is refused",
    "scope": "whose, and who it is", "exempt": "exemption of the proxy alone", "unmatched": "UDP, and the rest",
    "ends": "beginnings and ends", "bytes": "all bytes, in order", "failures": "origins that cannot be had",
    "many": "many connections", "older": "connections from before", "start": "start, stop, others' rules",
    "forwarded": "containers, other computers", "deaths": "deaths and hangs under load", "worker": "the real proxy behind it",
}


def declarations() -> dict[str, Declaration]:
    """Of every backend that has a rig."""
    found = {}
    for name in NAMES:
        try:
            module = importlib.import_module(f"tests.contract.rig_{name}")
        except ModuleNotFoundError:
            continue
        found[name] = module.Rig.declaration
    return found


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def declared(found: Mapping[str, Declaration]) -> str:
    """A row for each field."""
    flags = [field.name for field in fields(Declaration) if field.type is bool or field.type == "bool"]
    assert set(flags) == set(WORDS), "a field of Declaration has no words"
    rows = [["runs on", *(", ".join(each.systems) for each in found.values())],
            ["needs", *(each.rights for each in found.values())]]
    rows += [[WORDS[flag], *("yes" if getattr(each, flag) else "no" for each in found.values())] for flag in WORDS]
    return _rows(["declared", *(f"`{name}`" for name in found)], rows)


def _cell(cases: Mapping[str, str], area: str) -> str:
    outcomes = Counter(outcome.partition(":")[0] for case, outcome in cases.items() if case.startswith(f"{area}: "))
    parts = [f"{outcomes.pop('passed', 0)} pass"]
    if number := outcomes.pop("not offered", 0):
        parts.append(f"{number} not offered")
    if outcomes:
        parts.append(f"**{outcomes.total()} fail**")
    return ", ".join(parts)


def found(results: Mapping[str, Any]) -> str:
    """A row for each area of the suite, and what each backend does not offer, by the fields."""
    names = [name for name in NAMES if name in results]
    rows = [[words, *(_cell(results[name]["cases"], area) for name in names)] for area, words in AREAS.items()]
    text = _rows(["found", *(f"`{name}`" for name in names)], rows)
    for name in names:
        cases = results[name]["cases"]
        missing = sorted({outcome.partition(": ")[2] for outcome in cases.values() if outcome.startswith("not offered")})
        if missing:
            text += f"\n`{name}` does not offer: {', '.join(WORDS[field] for field in missing)}.\n"
    places = sorted({place for each in results.values() for place in each["ran"]})
    return f"{text}\nRun: {'; '.join(places)}.\n"


def put(text: str, name: str, table: str) -> str:
    """The text with this table between its markers. Raises ValueError where they are not there."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"no markers for {name!r}")
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: begin + table + end, text, flags=re.DOTALL)


def merged(files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of several runs: of a case the last one."""
    results: dict[str, Any] = {}
    for each in files:
        for name, found in each.items():
            before = results.get(name, {"cases": {}, "ran": []})
            results[name] = {"cases": before["cases"] | found["cases"], "ran": [*before["ran"], found["ran"]]}
    return results


def main(files: list[str]) -> int:
    text = put(DOCS.read_text(), "declared", declared(declarations()))
    if results := merged(json.loads(Path(file).read_text()) for file in files):
        text = put(text, "found", found(results))
    DOCS.write_text(text)
    bad = [f"{name}: {case}: {outcome}" for name, each in results.items() for case, outcome in each["cases"].items()
           if not outcome.startswith(("passed", "not offered"))]
    print(*bad, sep="\n", end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
