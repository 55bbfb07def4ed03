"""`lockgate scan`: what the data-leak filters would find in files."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
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
    for name in _names(arguments.paths):
        try:
            with open(name, "rb") if name != "-" else nullcontext(sys.stdin.buffer) as file:  # noqa: PTH123
                for finding in _scan(filters, file):
                    found += 1
                    _show({"file": name, **finding}, as_json=arguments.json)
        except BrokenPipeError:
            raise
        except OSError as error:
            print(f"{name}: {error.strerror}; not scanned", file=sys.stderr)
    if not arguments.json:
        print(f"{found} found" if found else "nothing found", file=sys.stderr)
    return 1 if found else 0


def _show(row: dict[str, Any], *, as_json: bool) -> None:
    text = f"{row['file']}: {row['kind']} at {row['offset']}: {row['sample']} ({row['filter']})"
    print(json.dumps(row) if as_json else text)


def _filters(policy: Path | None) -> dict[str, Scans]:
    if policy is None:
        return {"secrets.Secrets": Secrets(), "cards.Cards": Cards()}
    loaded = build(load(policy), policy.absolute().parent)
    return {item.rule.id: item.filter for item in loaded if isinstance(item.filter, Scans)}


def _names(paths: list[str]) -> Iterator[str]:
    """The files that are meant: of a folder, those below it; pipes and devices only where they are named."""
    for name in paths:
        path = Path(name)
        if name != "-" and not path.exists():
            raise UsageError(f"{name}: no such file or folder")
        yield from sorted(str(each) for each in path.rglob("*") if each.is_file()) if path.is_dir() else [name]


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
