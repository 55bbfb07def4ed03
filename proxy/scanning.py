"""`lockgate scan`: what the data-leak filters would find in files."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from addons.cards import Cards
from addons.credentials import Secrets
from addons.leaks import Finder
from proxy.options import UsageError
from proxy.policy import load
from proxy.registry import build

CHUNK = 256 * 1024


@runtime_checkable
class Scans(Protocol):
    """A data-leak filter."""

    def scanner(self, where: str = "body") -> Finder: ...


def scan(arguments: argparse.Namespace) -> int:
    """What the data-leak filters find in files, folders or standard input.  Exit code 1: something was found.

    Without a policy, all of them with their defaults.

    example:
      lockgate scan src/ --json
      git diff | lockgate scan -
    """
    filters = _filters(arguments.policy)
    found = 0
    for name, file in _files(arguments.paths):
        for finding in _scan(filters, file):
            found += 1
            row = {"file": name, **finding}
            print(json.dumps(row) if arguments.json else
                  f"{name}: {row['kind']} at {row['offset']}: {row['sample']} ({row['filter']})")
    if not arguments.json:
        print(f"{found} found" if found else "nothing found", file=sys.stderr)
    return 1 if found else 0


def _filters(policy: Path | None) -> dict[str, Scans]:
    if policy is None:
        return {"secrets.Secrets": Secrets(), "cards.Cards": Cards()}
    loaded = build(load(policy), policy.absolute().parent)
    return {item.rule.id: item.filter for item in loaded if isinstance(item.filter, Scans)}


def _files(paths: list[str]) -> Iterator[tuple[str, BinaryIO]]:
    for name in paths:
        if name == "-":
            yield "-", sys.stdin.buffer
            continue
        path = Path(name)
        if not path.exists():
            raise UsageError(f"{name}: no such file or folder")
        for each in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            try:
                with each.open("rb") as file:
                    yield str(each), file
            except OSError as error:
                print(f"{each}: {error.strerror}; not scanned", file=sys.stderr)


def _scan(filters: dict[str, Scans], file: BinaryIO) -> Iterator[dict[str, Any]]:
    finders = {name: each.scanner() for name, each in filters.items()}
    ended = False
    while not ended:
        piece = file.read(CHUNK)
        ended = not piece
        for name, finder in finders.items():
            for f in finder.feed(piece):
                yield {"filter": name, "rule": f.rule, "kind": f.kind, "where": f.where, "offset": f.start,
                       "sample": f.sample}
