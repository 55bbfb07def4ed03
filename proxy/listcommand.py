"""`lockgate lists`: the lists that a policy names, their age and size, and getting new ones."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.downloading import Refused, update
from proxy.options import UsageError
from proxy.policy import Builder, load
from proxy.registry import BUILT_IN, import_built_in
from proxy.schema import Policy

#: Options of filters that are lists of lists.
OPTION = "lists"


@dataclass(frozen=True)
class Named:
    """A list that a policy names, and the id of the filter that reads it."""

    rule: str
    file: Path
    url: str
    sha256: str


def named(policy: Policy, base: Path) -> Iterator[Named]:
    """Yield the lists of all built-in filters.  Their files need not be there."""
    for rule in policy.filters:
        given = rule.source.get("with")
        if rule.use not in BUILT_IN or given is rule.source or OPTION not in given.value:
            continue
        kinds = {each.name: each.type for each in dataclasses.fields(import_built_in(rule.use))}
        builder = Builder(base)
        found: Any = builder.build(kinds[OPTION], given.get(OPTION)) if OPTION in kinds else ()
        if isinstance(found, tuple):
            yield from (Named(rule.id, each.file, each.url, each.sha256) for each in found)


def lists(arguments: argparse.Namespace) -> int:
    """The filter lists of a policy: age, size and source; `update` gets those that have a `url`.

    Only https is used.  A list that is no text, is much smaller than the one before, or is not the one that `sha256`
    pins is refused, and the old one stays; --force takes one that has shrunk.  The proxy notices new lists by itself.
    Exit code 1 if one could not be had.

    example:
      lockgate lists --policy policy.yaml
      lockgate lists update --policy policy.yaml
    """
    if arguments.policy is None:
        raise UsageError("give --policy FILE: it names the lists")
    known = list(dict.fromkeys(named(load(arguments.policy), arguments.policy.absolute().parent)))
    failed = False
    for each in known:
        outcome = ""
        if arguments.action == "update" and each.url:
            try:
                outcome = update(each.file, each.url, each.sha256, force=arguments.force, progress=_progress(each))
            except (Refused, OSError) as error:
                failed, outcome = True, f"not updated: {error}"
        row = _row(each) | ({"outcome": outcome} if outcome else {})
        print(json.dumps(row) if arguments.json else _line(row), flush=True)
    if not known and not arguments.json:
        print(f"{arguments.policy} names no lists")
    return int(failed)


def _row(each: Named) -> dict[str, Any]:
    try:
        info = each.file.stat()
        age, size = int(time.time() - info.st_mtime), info.st_size
    except OSError:
        age, size = None, None
    return {"filter": each.rule, "file": str(each.file), "url": each.url, "age_seconds": age, "bytes": size}


def _line(row: dict[str, Any]) -> str:
    state = "missing" if row["bytes"] is None else f"{row['bytes']:,} bytes, {_age(row['age_seconds'])} old"
    return f"{row['filter']}: {row['file']}: {row.get('outcome', '') or state}" + (
        f" ({state})" if row.get("outcome") else "") + (f", from {row['url']}" if row["url"] else "")


def _age(seconds: int) -> str:
    return next((f"{seconds // unit} {name}" for unit, name in ((86400, "days"), (3600, "h"), (60, "min"))
                 if seconds >= 2 * unit), f"{seconds} s")


def _progress(each: Named) -> Any:
    """Return what shows how much has come, on a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        share = f" of {total:,}" if total else ""
        print(f"\r{each.file.name}: {done:,}{share} bytes", end="", file=sys.stderr, flush=True)

    return show
