"""`lockgate fingerprint` and `lockgate canary`: what the filters for known data go by."""

import argparse
import asyncio
import csv
import io
import json
import os
import secrets
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from addons.documents import SHINGLE, DocumentsBuilder
from addons.exactindex import IndexBuilder, new_salt, read_salt
from addons.fold import Words, shingles
from addons.views.tree import Listener, Tree, View
from proxy.options import UsageError, refused, tell

#: Bytes read at once.
CHUNK: Final = 64 * 1024
#: Bytes of one field of a table: a quote that is not closed makes one of all the rest.
MAX_FIELD: Final = 1 << 20
#: Seconds between two words on how far it is.
PROGRESS: Final = 2.0
#: Kinds of views that are a document's text.
_MARKUP: Final = ("text/html", "text/xml")
#: Words of markup to one of text, at most, as office programs write it.
MARKUP_TO_TEXT: Final = 20
_TEXTS: Final = ("text/", "application/json", "application/form", "multipart/")


def fingerprint(arguments: argparse.Namespace) -> int:
    """Fingerprints of values or documents, for the filters exactdata.ExactData and documents.Documents.

    `values` reads a CSV file with a header line (or - for standard input) and keeps a keyed hash of each value of the
    columns, and of each two of a row; no value itself.  `documents` reads all files below a folder.  The file that is
    made replaces an older one at once; only its owner may read it.  Who has it and its salt can try out values.

    example:
      lockgate fingerprint values customers.csv --column name,iban --out customers.edm
      lockgate fingerprint documents secret/ --ignore templates/ --out secret.fp
    """
    if arguments.out is None:
        raise UsageError("--out FILE: where to, please")
    with refused():
        made = _values(arguments) if arguments.what == "values" else _documents(arguments)
    made["file"] = str(arguments.out)
    print(json.dumps(made) if arguments.json else f"{arguments.out}: {made['text']}")
    return 1 if made["count"] == 0 else 0


# -- values


def _values(arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.column:
        raise UsageError("--column NAME[,NAME...]: which columns, please")
    salt = _salt(arguments.salt_file) if arguments.salt_file else new_salt()
    columns = [name.strip() for name in arguments.column.split(",")]
    builder = IndexBuilder(columns, salt, pairs=not arguments.alone)
    with (nullcontext(sys.stdin.buffer) if arguments.source == "-" else Path(arguments.source).open("rb")) as raw:
        progress = _Progress("rows", _size(raw), raw.tell if raw.seekable() else int)
        file = io.TextIOWrapper(raw, "utf-8-sig", "replace", newline="")
        for row in progress.over(_rows(file, columns, arguments.delimiter)):
            builder.add(row)
    size = builder.write(arguments.out, with_salt=not arguments.salt_file)
    for column in builder.columns:
        if column.skipped:
            tell(f"{column.name}: {column.skipped} left out: under 5 letters or 6 digits, over 128, or over 16 words")
    count = sum(column.values for column in builder.columns)
    text = ", ".join(f"{column.values} of {column.name}" for column in builder.columns)
    return {"count": count, "bytes": size, "text": f"{text}; {size} bytes",
            "columns": {c.name: {"values": c.values, "skipped": c.skipped} for c in builder.columns}}  # fmt: skip


def _rows(file: io.TextIOWrapper, columns: list[str], delimiter: str | None) -> Iterator[list[str]]:
    """Yield the columns' values of each row.  A short row has less of them; a wrong one is a ValueError."""
    csv.field_size_limit(MAX_FIELD)
    header = file.readline()
    sign = delimiter or max(",;\t|", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=sign), [])]
    if missing := [name for name in columns if name not in names]:
        raise ValueError(f"no column {missing[0]!r}; the first line has {', '.join(map(repr, names[:20]))}")
    places = [names.index(name) for name in columns]
    reader = csv.reader(file, delimiter=sign)
    try:
        for row in reader:
            yield [row[at] if at < len(row) else "" for at in places]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num + 1}: {error}") from None


def _salt(path: Path) -> bytes:
    """Read a salt, or make one in a file that only its owner may read."""
    if not path.exists():
        salt = new_salt()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(salt.hex() + "\n")
        tell(f"a new salt is in {path}: keep it apart from the index, the filter needs both")
    return read_salt(path)


def _size(raw: Any) -> int:
    return os.fstat(raw.fileno()).st_size if raw.seekable() else 0


class _Progress:
    """Says on a terminal how far it is."""

    def __init__(self, what: str, size: int, at: Callable[[], int]) -> None:
        self._what, self._size, self._at = what, size, at

    def over[T](self, each: Iterator[T]) -> Iterator[T]:
        shown = sys.stderr.isatty()
        due, count = time.monotonic() + PROGRESS, 0
        for count, item in enumerate(each, 1):
            if shown and not count & 1023 and time.monotonic() > due:
                due = time.monotonic() + PROGRESS
                share = f", {100 * self._at() // self._size} %" if self._size else ""
                print(f"\r{count} {self._what}{share} ", end="", file=sys.stderr, flush=True)
            yield item
        if shown:
            print(f"\r{count} {self._what}, writing ", file=sys.stderr)


# -- documents


def _documents(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.common < 2:
        raise UsageError("--common N: at least 2; what stands in every document protects none")
    builder = DocumentsBuilder(new_salt(), arguments.common)
    source = Path(arguments.source)
    files = _files(source)
    progress, short = _Progress("files", 0, int), 0
    for path in progress.over(iter(files)):
        name = str(path.relative_to(source) if source.is_dir() else path.name)
        if not builder.add(name, text_of(path)):
            short += 1
            tell(f"{path}: left out: under 40 words of text, or none that can be read")
    for folder in arguments.ignore:
        for path in _files(Path(folder)):
            builder.ignore(text_of(path))
    size, lost = builder.write(arguments.out)
    for name in lost:
        tell(f"{name}: left out: all of it stands in other documents, too")
    count = len(files) - short - len(lost)
    return {"count": count, "bytes": size, "text": f"{count} of {len(files)} documents; {size} bytes"}


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def text_of(path: Path) -> list[bytes]:
    """Return the shingles of all text in a file, of whatever format the views can read."""
    hear = _Texts(path)
    tree = Tree(hear, "file", file=path.name)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            tree.feed(piece)
            if tree.waiting:
                asyncio.run(tree.settle())
    tree.end()
    while tree.waiting:
        asyncio.run(tree.settle())
    return hear.shingles()


class _Texts:
    """Gathers the words of each view."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._views: list[tuple[View, list[bytes]]] = []
        self._told: set[str] = set()

    def opened(self, view: View) -> Listener | None:
        if not view.kind.startswith(_TEXTS):
            return None
        found: list[bytes] = []
        words = Words(SHINGLE - 1)
        self._views.append((view, found))

        def listen(data: bytes) -> None:
            for block in words.feed(data):
                found.extend(shingles(block.words, SHINGLE))

        return listen

    def unscannable(self, view: View, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            tell(f"{self._path}: {view.path}: not read: {reason}")

    def shingles(self) -> list[bytes]:
        """Return those of all views, without markup whose text is a view, and without a text that is one once more."""
        inside, kept, all_kept = Counter[View](), dict[View, set[bytes]](), list[bytes]()
        for view, found in self._views:
            inside.update(dict.fromkeys(_around(view), len(found)))
        for view, found in self._views:     # what is inside a view comes after it
            outer = [kept[other] for other in _around(view) if other in kept]
            again = sum(any(each in theirs for theirs in outer) for each in set(found))
            is_markup = view.kind in _MARKUP and inside[view] > len(found) // MARKUP_TO_TEXT
            if not is_markup and again <= len(found) // 2:
                kept[view] = set(found)
                all_kept += found
        return all_kept


def _around(view: View) -> Iterator[View]:
    """Yield the views that a view is in."""
    around = view.parent
    while around is not None:
        yield around
        around = around.parent


# -- canaries

_FIRST: Final = ("anna", "david", "elena", "james", "maria", "martin", "nina", "peter", "sarah", "tom")
_LAST: Final = ("bauer", "costa", "fischer", "jensen", "keller", "moreau", "novak", "rossi", "smith", "weber")


def canary(arguments: argparse.Namespace) -> int:
    """A fresh canary token, for the filter canary.Canary: put it where nobody has a reason to take it from.

    Kinds: aws (a key pair as AWS has them, of no account), token, and below --domain, which is yours: email, host, url.
    The value is printed with a policy rule that knows it.

    example:
      lockgate canary new --kind aws
      lockgate canary new --kind email --domain example.com --json
    """
    assert arguments.action == "new"
    value, shown = _CANARIES[arguments.kind](arguments.domain)
    note = f"{arguments.kind}, {time.strftime('%Y-%m-%d')}"
    rule = f"- {{id: canary, use: canary.Canary, with: {{values: [{json.dumps(f'{value} # {note}')}]}}}}"
    if arguments.json:
        print(json.dumps({"kind": arguments.kind, "value": value, "text": shown, "policy": rule}))
    else:
        print(f"{shown}\n\n# policy, under `filters:`\n{rule}")
    return 0


def _some(letters: str, count: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(count))


def _aws(_domain: str) -> tuple[str, str]:
    key = "AKIA" + _some(string.ascii_uppercase + "234567", 16)
    secret = _some(string.ascii_letters + string.digits + "+/", 40)
    return key, f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}"


def _token(_domain: str) -> tuple[str, str]:
    value = _some(string.ascii_letters + string.digits, 40)
    return value, value


def _email(domain: str) -> tuple[str, str]:
    value = f"{secrets.choice(_FIRST)}.{secrets.choice(_LAST)}{secrets.randbelow(9000) + 1000}@{domain}"
    return value, value


def _host(domain: str) -> tuple[str, str]:
    value = f"{secrets.choice(('db', 'vault', 'backup', 'git', 'files'))}-{secrets.token_hex(5)}.{domain}"
    return value, value


def _url(domain: str) -> tuple[str, str]:
    host, _ = _host(domain)
    return host, f"https://{host}/{secrets.token_urlsafe(9)}"


_CANARIES: Final[dict[str, Callable[[str], tuple[str, str]]]] = {
    "aws": _aws, "token": _token, "email": _email, "host": _host, "url": _url,
}  # fmt: skip
