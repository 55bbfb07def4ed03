"""Keep protected documents from leaving, whole or in part, in whatever format.

Theory of operation.  A document's words, folded (see `fold`), make shingles of SHINGLE consecutive ones; of each WINDOW
consecutive shingles the one with the least hash is kept: winnowing (Schleimer, Wilkerson, Aiken: "Winnowing: local
algorithms for document fingerprinting", SIGMOD 2003).  So every SHINGLE + WINDOW - 1 consecutive words of it have at
least one kept shingle in them.  A text that goes by is not winnowed: each of its shingles is looked up, which is
quicker here and finds no less.  Of each document a text has a bit for each of its shingles, and no more.
"""

import copy
import zlib
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from mitmproxy import http

from addons.fold import Block, Words, starts
from addons.hashtable import HashTable, Prefilter, TableBuilder, hasher, read, write
from addons.leaks import MOST, LeakFilter
from addons.verdict import Finding, Verdict, ViewScanner

KIND: Final = "documents"
#: Words of a shingle: five in a row are seldom the same by chance, and one changed word spoils five shingles only.
SHINGLE: Final = 5
#: Shingles of which one is kept: two in five of all, and none of eight words in a row is missed.
WINDOW: Final = 4
#: Shingles of a document that must be met, whatever share that is: a phrase is no document.
FEWEST: Final = 6
#: Kept shingles without which a document is too short to be known again.
SHORTEST: Final = 2 * FEWEST
#: Documents whose state one text keeps, those met last.
MOST_MET: Final = 64
#: Kept shingles that one changed word may spoil, and one more; and words from one to the next that is not spoilt.
SKIPPED: Final = 5
FARTHEST: Final = 2 * (SHINGLE + WINDOW)
#: Shingles met lately that are remembered.
REMEMBERED: Final = 1 << 12


def winnow(digests: list[bytes]) -> list[int]:
    """Return which are kept: the least of each WINDOW, the last of equal ones."""
    kept: list[int] = []
    for at in range(max(1, len(digests) - WINDOW + 1) if digests else 0):
        window = digests[at : at + WINDOW]
        least = at + len(window) - 1 - window[::-1].index(min(window))
        if not kept or kept[-1] != least:
            kept.append(least)
    return kept


class DocumentsBuilder:
    """`add` documents, `ignore` boilerplate, then `write`."""

    def __init__(self, salt: bytes, common: int) -> None:
        self._salt, self._hash, self._common = salt, hasher(salt), common
        self._documents: dict[str, list[tuple[bytes, int]]] = {}
        self._in: Counter[bytes] = Counter()
        self._ignored: set[bytes] = set()

    def _kept(self, shingles: list[bytes]) -> list[tuple[bytes, int]]:
        digests = [self._hash(each).digest() for each in shingles]
        return [(digests[at], zlib.crc32(shingles[at])) for at in winnow(digests)]

    def add(self, name: str, shingles: list[bytes]) -> int:
        """Take a document; return how many shingles are kept.  None are, if it is too short."""
        kept = self._kept(shingles)
        if len(kept) < SHORTEST:
            return 0
        self._documents[name] = kept
        self._in.update({digest for digest, _ in kept})
        return len(kept)

    def ignore(self, shingles: Iterable[bytes]) -> None:
        """What stands in this text, too, protects nothing."""
        self._ignored.update(self._hash(each).digest() for each in shingles)

    def write(self, path: Path) -> tuple[int, list[str]]:
        """Write the index; return its size in bytes, and the documents of which nothing of their own is left."""
        numbers: dict[bytes, int] = {}
        checks: set[int] = set()
        documents, lost = list[dict[str, Any]](), list[str]()
        for name, kept in self._documents.items():
            own = {digest: check for digest, check in kept if self._own(digest) and digest not in numbers}
            if len(own) < FEWEST:
                lost.append(name)
                continue
            first = len(numbers)
            documents.append({"name": name, "first": first, "count": len(own)})
            checks.update(own.values())
            numbers.update((digest, first + i) for i, digest in enumerate(own))
        builder = TableBuilder()
        for digest in numbers:
            builder.add(digest)
        bits, directory, rest = builder.finish()
        table, order = HashTable(bits, directory, rest), array("I", bytes(4 * (len(rest) // 4)))
        for digest, number in numbers.items():
            order[table.find(digest)] = number
        filtered = Prefilter.pack(checks, len(checks), self._salt)
        header = {"documents": documents, "bits": bits, "salt": self._salt.hex(), "shingle": SHINGLE}
        write(path, KIND, header, [filtered, directory, rest, order.tobytes()])
        return path.stat().st_size, lost

    def _own(self, digest: bytes) -> bool:
        return digest not in self._ignored and self._in[digest] < self._common


class Index:
    """An index as the filter uses it."""

    def __init__(self, path: Path) -> None:
        header, sections = read(path, KIND)
        if header["shingle"] != SHINGLE:
            raise ValueError(f"{path}: made with shingles of another length: make it anew")
        salt = bytes.fromhex(header["salt"])
        self._hash = hasher(salt)
        self.prefilter = Prefilter(bytes(sections[0]), salt)
        self._table = HashTable(header["bits"], sections[1], sections[2])
        self._order = sections[3].cast("I")
        self.names = [str(each["name"]) for each in header["documents"]]
        self.firsts = [int(each["first"]) for each in header["documents"]]
        self.counts = [int(each["count"]) for each in header["documents"]]
        self.find = lru_cache(REMEMBERED)(self._find)

    def _find(self, shingle: bytes) -> tuple[int, int] | None:
        """Return the document that has it, and its number there."""
        at = self._table.find(self._hash(shingle).digest())
        if at < 0:
            return None
        document = bisect_right(self.firsts, self._order[at]) - 1
        return document, self._order[at] - self.firsts[document]


@dataclass
class Documents(LeakFilter):
    """Protected documents, of which `lockgate fingerprint documents` made the `index`, and parts of them.

    A text is one if it has at least the share `overlap` of a document, or `run` consecutive words of it, in the order
    of the document and with no more than a word here and there changed.  Case, punctuation, layout and file format do
    not count.
    """

    index: Path
    overlap: float = 0.25
    run: int = 60
    files: list[Path] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.redacts:
            raise ValueError("action: documents are not redacted, choose block")
        if not 0 < self.overlap <= 1:
            raise ValueError(f"overlap: {self.overlap} is not between 0 and 1")
        if self.run < (fewest := 2 * (SHINGLE + WINDOW)):
            raise ValueError(f"run: fewer than {fewest} words in a row are no document")
        self._index = Index(self.index)
        self._met: OrderedDict[int, _Met] | None = None
        self.files = [self.index]

    def scanner(self, where: str = "body") -> "_Finder":
        return _Finder(self._index, self.overlap, self.run, where, self._met)

    def requestviews(self, flow: http.HTTPFlow) -> ViewScanner | None:
        return super(Documents, self._for_message()).requestviews(flow)

    def responseviews(self, flow: http.HTTPFlow) -> ViewScanner | None:
        return super(Documents, self._for_message()).responseviews(flow)

    def _for_message(self) -> "Documents":
        """Return this filter for one message, whose views (the pages of a PDF) have a document together."""
        own = copy.copy(self)
        own._met = OrderedDict()
        return own

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        reason = f"part of a protected document in the request: {found[-1].rule}, in {found[-1].where}"
        return Verdict(self._action, reason, tuple(found[-MOST:]))


class _Met:
    """What a message has of one document."""

    __slots__ = ("bits", "count", "said")

    def __init__(self, size: int) -> None:
        self.bits = bytearray(size // 8 + 1)
        self.count, self.said = 0, False

    def add(self, number: int) -> None:
        if not self.bits[number >> 3] >> (number & 7) & 1:
            self.bits[number >> 3] |= 1 << (number & 7)
            self.count += 1


class _Finder:
    """Says of each document once that the message has enough of it."""

    def __init__(self, index: Index, overlap: float, run: int, where: str,
                 met: "OrderedDict[int, _Met] | None") -> None:
        self._index, self._overlap, self._run, self._where = index, overlap, run, where
        self._words = Words(SHINGLE - 1)
        self._before = 0  # words
        self._met: OrderedDict[int, _Met] = OrderedDict() if met is None else met
        #: Of each document: the last shingle's number and word, and at which word and byte its run began.
        self._runs: OrderedDict[int, tuple[int, int, int, int]] = OrderedDict()

    def feed(self, data: bytes) -> list[Finding]:
        return [finding for block in self._words.feed(data) for finding in self._block(block)]

    def _block(self, block: Block) -> Iterator[Finding]:
        joined, at = b"".join(block.words), starts(block.words)
        table, mask, crc = self._index.prefilter.table, self._index.prefilter.mask, zlib.crc32
        pairs = enumerate(zip(at, at[SHINGLE:]))
        likely = [i for i, (a, z) in pairs if table[(c := crc(joined[a:z])) >> 3 & mask] >> (c & 7) & 1]
        for i in likely:
            if hit := self._index.find(joined[at[i] : at[i + SHINGLE]]):
                yield from self._hit(block, i, *hit)
        self._before += block.due

    def _hit(self, block: Block, i: int, document: int, number: int) -> Iterator[Finding]:
        (begin, end), word = block.span(i, i + SHINGLE - 1), self._before + i
        met = _recent(self._met, document) or _keep(self._met, document, _Met(self._index.counts[document]))
        met.add(number)
        last, last_word, first_word, first = _recent(self._runs, document) or (-SKIPPED, 0, 0, 0)
        # It goes on where the document does; shingles lie farther apart where a word was changed.
        if not (0 < number - last < SKIPPED and word - last_word <= FARTHEST):
            first_word, first = word, begin
        _keep(self._runs, document, (number, word, first_word, first))
        enough = met.count >= max(FEWEST, self._overlap * self._index.counts[document])
        if not met.said and (enough or word + SHINGLE - first_word >= self._run):
            met.said = True
            name = self._index.names[document]
            yield Finding(name, "document", self._where, first, end, f"{end - first} bytes", document + 1)


def _recent[T](kept: OrderedDict[int, T], document: int) -> T | None:
    if document in kept:
        kept.move_to_end(document)
    return kept.get(document)


def _keep[T](kept: OrderedDict[int, T], document: int, value: T) -> T:
    kept[document] = value
    if len(kept) > MOST_MET:
        kept.popitem(last=False)
    return value
