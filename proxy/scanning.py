"""`lockgate scan`: what the data-leak filters would find in files, and in what is inside them."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from addons.cards import Cards
from addons.credentials import Secrets
from addons.leaks import Finds, Found
from addons.views import Listener, Tree, View
from proxy.options import UsageError
from proxy.policy import load
from proxy.registry import build

CHUNK = 256 * 1024


@runtime_checkable
class Scans(Protocol):
    """A data-leak filter."""

    def scanner(self, where: str = "body") -> Finds: ...


def scan(arguments: argparse.Namespace) -> int:
    """What the data-leak filters find in files, folders or standard input.  Exit code 1: something was found.

    Archives, documents and encodings are looked into; what cannot be read is told on standard error, with --json as a
    row with `unscannable`.  Without a policy, all filters with their defaults.

    example:
      lockgate scan src/ --json
      git diff | lockgate scan -
    """
    filters = _filters(arguments.policy)
    found = 0
    for name in _names(arguments.paths):
        try:
            with open(name, "rb") if name != "-" else nullcontext(sys.stdin.buffer) as file:  # noqa: PTH123
                for row in _scan(filters, file, "" if name == "-" else Path(name).name):
                    found += "unscannable" not in row
                    _show({"file": name, **row}, as_json=arguments.json)
        except BrokenPipeError:
            raise
        except OSError as error:
            print(f"{name}: {error.strerror}; not scanned", file=sys.stderr)
    if not arguments.json:
        print(f"{found} found" if found else "nothing found", file=sys.stderr)
    return 1 if found else 0


def _show(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(row))
    elif "unscannable" in row:
        print(f"{row['file']}: unscannable: {row['unscannable']}, in {row['where']}", file=sys.stderr)
    else:
        inside = row["where"].partition(" > ")[2]
        print(f"{row['file']}{' > ' if inside else ''}{inside}: {row['kind']} at {row['offset']}: {row['sample']} "
              f"({row['filter']})")


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


def _scan(filters: dict[str, Scans], file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    ears = Ears(filters)
    tree = Tree(ears, "file", file=name)
    ended = False
    while not ended:
        piece = file.read(CHUNK)
        ended = not piece
        tree.feed(piece) if piece else tree.end()
        if tree.waiting:
            asyncio.run(tree.settle())
        yield from ears.rows(tree.clear)


class Ears:
    """Collects what all filters find in all views; a value in several of them is told once, of the innermost."""

    def __init__(self, filters: dict[str, Scans]) -> None:
        self._messages = {name: Found(each.scanner) for name, each in filters.items()}
        self._unread: list[dict[str, Any]] = []

    def opened(self, view: View) -> Listener:
        ears: list[Callable[[bytes], None]] = [each.opened(view) for each in self._messages.values()]

        def hear(data: bytes) -> None:
            for ear in ears:
                ear(data)

        return hear

    def unscannable(self, view: View, reason: str) -> None:
        self._unread.append({"where": view.path, "unscannable": reason})

    def rows(self, place: int) -> Iterator[dict[str, Any]]:
        """Yield what is certain about the first `place` bytes."""
        for name, message in self._messages.items():
            for f in message.due(place):
                yield {"filter": name, "rule": f.rule, "kind": f.kind, "where": f.where, "offset": f.start,
                       "sample": f.sample}
        yield from self._unread
        self._unread = []
