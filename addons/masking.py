"""Values masked in whole texts: as they are, and where they are written otherwise.

What masks a body as it streams has only offsets in the body.  This has all of a text and searches it again, in the
forms that the readers of `addons.views` undo, with a map from what is meant back to what is written.  It need not find
all that those find: who uses it judges the result again.
"""

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable
from typing import Final

from addons.views.escapes import meant

#: Takes each character's place, one for one.
MASK: Final = b"*"
#: What is left as it is, so that a text keeps its form: lines, quotation marks, tags, cells, gaps between texts.
KEPT: Final = frozenset(b"\r\n\"<>\0")
#: What may stand before a number that is no part of a string (RFC 8259, 2), and after it.
BEFORE: Final = b" \t\r\n:,[>"
AFTER: Final = b" \t\r\n,]}<"
#: Two characters that are one, of which the second would else be kept.
_SLASHED: Final = re.compile(rb"\\[^\r\n]")
_NUMBER: Final = re.compile(rb"\d+")
#: Escapes in escapes, at most.
DEPTH: Final = 4
#: Tags of XML; those that end a line of text or a cell.
_TAG: Final = re.compile(rb"(<[/A-Za-z?][^<>]*>)")
_BREAK: Final = re.compile(rb"</(?:\w+:)?(?:p|h|row|c|si|tr|td|li|div)\b|<(?:\w+:)?(?:br|tab|cr|line-break)\b")
_UNIT: Final = (
    rb"\\u[dD][89abAB]HH\\u[dD][c-fC-F]HH|\\(?:u\{H{1,6}\}|uHHHH|xHH|[0-7]{1,3}|[^\r])|%(?:uHHHH|HH)"
    rb"|&(?:#[0-9]{1,7};?|#[xX]H{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};)|\]\]><!\[CDATA\["
).replace(b"H", b"[0-9A-Fa-f]")
#: One escape at a time, so that no more is masked than a value.
_ESCAPE: Final = re.compile(_UNIT)
_QUOTED: Final = re.compile(rb"(=(?:[0-9A-Fa-f]{2}|\r?\n))")
#: Base64 in both alphabets, with line breaks.
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-](?:[A-Za-z0-9+/_\r\n-]){18,}={0,2}")
_BORDER: Final = re.compile(rb"[^A-Za-z0-9+/_=\r\n-]")
#: Bytes searched for runs without yielding.
STEP: Final = 64 * 1024
_WORDS: Final = re.compile(rb"[a-z_\r\n-]+|[A-Z]?[a-z_-]+|[0-9a-f]+")

_IS_ZERO: Final = b"\xff" + bytes(255)

type Span = tuple[int, int]
#: Runs until it yields, so that others have their turn; at last returns a text, or where values are in one.
type Work = Generator[None, None, bytes]
type Spans = Callable[[bytes], Generator[None, None, list[Span]]]
#: Parts of a text: what stands for itself, what is written otherwise, what stands for itself ...; and what is meant.
type Split = tuple[list[bytes], list[bytes]]


def filled(value: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return the mask of a value, of the same length.

    `before` and `after` are the bytes around it where a number by itself has to stay one, as in JSON: 1, then zeros.
    """
    if before and before in BEFORE and after in AFTER and _NUMBER.fullmatch(value):
        return b"1" + b"0" * (len(value) - 1)
    return bytes(byte if byte in KEPT else MASK[0] for byte in _SLASHED.sub(b"**", value))


def is_structured(head: bytes) -> bool:
    """Does a text that begins so have numbers that must stay such?  JSON and XML have."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b"<")


def masked_spans(text: bytes, spans: Iterable[Span]) -> bytes:
    """Return a text in which these are masked."""
    out, structured = bytearray(text), is_structured(text[:64])
    for start, end in spans:
        before = text[start - 1 : start] or b" " if structured else b""
        out[start:end] = filled(text[start:end], before, text[end : end + 1] or b" ")
    return bytes(out)


def in_text(text: bytes, spans: Spans, deep: Callable[[bytes], Work] | None = None) -> Work:
    """Mask a text that is held as a whole; `deep` masks what is inside runs of base64, which may change their length.
    """
    if wide := _wide(text):
        return masked_wide(text, wide, spans)
    return _narrow(text, spans, deep)


def _narrow(text: bytes, spans: Spans, deep: Callable[[bytes], Work] | None) -> Work:
    found: list[Span] = []
    yield from _written(text, spans, DEPTH, found)
    text = masked_spans(text, _united(found + _cut(text, found)))
    if deep is None:
        return text
    out, at = list[bytes](), 0
    for start, stop in _windows(text):
        for run in _RUN.finditer(text, start, stop):
            if _WORDS.fullmatch(run[0]):
                continue
            new = yield from _run(run[0], deep)
            out += text[at : run.start()], new
            at = run.end()
        yield
    return b"".join([*out, text[at:]])


def _windows(text: bytes) -> Iterable[Span]:
    """Pieces of a text that end where no run goes on."""
    start = 0
    while start < len(text):
        border = _BORDER.search(text, start + STEP)
        stop = border.start() if border else len(text)
        yield start, stop
        start = stop


def _written(text: bytes, spans: Spans, depth: int, found: list[Span]) -> Generator[None, None, None]:
    """Add where values are in a text, in all the ways that it can be read."""
    found += yield from spans(text)
    if not depth:
        return
    for split in _SPLITS:
        parts, values = split(text)
        yield
        if len(parts) == 1:
            continue
        inner: list[Span] = []
        yield from _written(_joined(parts, values), spans, depth - 1, inner)
        if inner:
            mapped = _Map(parts, values)
            found += (raw for span in inner for raw in mapped.raw(*span))


def _cut(text: bytes, found: list[Span]) -> list[Span]:
    """Escapes of which a part is to be masked: without the rest they would be an error."""
    spans = _united(found)
    starts, ends, cut = [start for start, _ in spans], [end for _, end in spans], list[Span]()
    for match in _ESCAPE.finditer(text) if spans else ():
        i = bisect_right(ends, match.start())
        if i < len(starts) and starts[i] < match.end():
            cut.append(match.span())
    return cut


def _united(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch as one."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], end)
        else:
            out.append((start, end))
    return out


class _Map:
    """From places in what is meant to those in what is written."""

    def __init__(self, parts: list[bytes], values: list[bytes]) -> None:
        self._pieces: list[tuple[int, int, int]] = []       # place of what is written, its length, and of what is meant
        self._meant: list[int] = []
        raw = meant = 0
        for i, part in enumerate(parts):
            value = values[i // 2] if i % 2 else part
            if value:
                self._pieces.append((raw, len(part), len(value) if i % 2 else -1))
                self._meant.append(meant)
            raw, meant = raw + len(part), meant + len(value)

    def raw(self, start: int, end: int) -> Iterable[Span]:
        """Yield the places that have any of it: of what is written otherwise all, of the rest just that."""
        for i in range(max(0, bisect_right(self._meant, start) - 1), len(self._meant)):
            at, (raw, length, otherwise) = self._meant[i], self._pieces[i]
            if at >= end:
                return
            if otherwise >= 0:
                if at + otherwise > start:
                    yield raw, raw + length
            elif (first := max(start, at)) < (last := min(end, at + length)):
                yield raw + first - at, raw + last - at


def _joined(parts: list[bytes], values: list[bytes]) -> bytes:
    out = list(parts)
    out[1::2] = values
    return b"".join(out)


def _escapes(form: re.Pattern[bytes]) -> Callable[[bytes], Split]:
    def split(text: bytes) -> Split:
        parts = form.split(text)
        return parts, [b" " if part == b"+" else meant(part) for part in parts[1::2]]

    return split


def _tags(text: bytes) -> Split:
    if b"</" not in text:
        return [text], []
    parts = _TAG.split(text)
    return parts, [b"\n" if _BREAK.match(tag) else b"" for tag in parts[1::2]]


def _quoted(text: bytes) -> Split:
    parts = _QUOTED.split(text)
    return parts, [bytes.fromhex(part[1:].decode()) if part[1:].isalnum() else b"" for part in parts[1::2]]


_SPLITS: Final = (
    _escapes(re.compile(b"(" + _UNIT + b")")), _escapes(re.compile(b"(" + _UNIT + rb"|\+)")), _tags, _quoted,
)  # fmt: skip


# -- other alphabets


def _run(run: bytes, deep: Callable[[bytes], Work]) -> Work:
    """Mask what a run of base64 holds, wherever in the run it begins."""
    letters = run.translate(None, b"\r\n=")
    url = b"-" in letters or b"_" in letters
    for skip in range(4):
        plain = letters[skip:].translate(bytes.maketrans(b"-_", b"+/"))
        try:
            data = base64.b64decode(plain[: len(plain) - (len(plain) % 4 == 1)] + b"=" * (-len(plain) % 4))
        except binascii.Error:
            continue
        new = yield from deep(data)
        if new == data:
            continue
        coded = base64.b64encode(new)
        coded = coded.translate(bytes.maketrans(b"+/", b"-_")) if url else coded
        if len(new) != len(data):
            return letters[:skip] + _wrapped(coded if run.endswith(b"=") or not url else coded.rstrip(b"="), run)
        coded = coded.rstrip(b"=")
        return _laid(letters[:skip] + coded + letters[skip + len(coded) :], run)
    return run


def _laid(letters: bytes, like: bytes) -> bytes:
    """Put as many letters as the other has in their place, between its breaks."""
    parts, at = re.split(rb"([\r\n=]+)", like), 0
    for i in range(0, len(parts), 2):
        size = len(parts[i])
        parts[i], at = letters[at : at + size], at + size
    return b"".join(parts)


def _wrapped(coded: bytes, like: bytes) -> bytes:
    """Break lines where the other has its first break, and as it does at its end."""
    first = re.search(rb"\r?\n", like)
    if first is None or not first.start():
        return coded
    lines = [coded[at : at + first.start()] for at in range(0, len(coded), first.start())]
    tail = re.search(rb"[\r\n]*=?=?\Z", like)
    return first[0].join(lines) + (tail[0].rstrip(b"=") if tail else b"")


def _wide(text: bytes) -> tuple[int, int] | None:
    """Where the low bytes of UTF-16 begin, and its high ones; None if it is no such text."""
    sample = text[:4096]
    if len(sample) < 4:
        return None
    for low in (0, 1):
        high = sample[1 - low :: 2]
        if high.count(0) * 2 > len(high) and sample[low::2].count(0) * 4 < len(high):
            return low, 1 - low
    return None


def masked_wide(text: bytes, wide: tuple[int, int], spans: Spans) -> Work:
    """Mask UTF-16, of which what is not Latin-1 is taken for a question mark."""
    yield
    low, high = wide
    narrow = _latin1(text[low::2], text[high::2])
    found: list[Span] = []
    yield from _written(narrow, spans, DEPTH, found)
    new, out = masked_spans(narrow, found), bytearray(text)
    for i in (i for start, end in found for i in range(start, end)):
        if narrow[i] != new[i]:
            out[2 * i + low], out[2 * i + high] = new[i], 0
    return bytes(out)


def _latin1(low: bytes, high: bytes) -> bytes:
    """Return the low bytes, a question mark where the high one is not 0; as numbers, since byte by byte takes long."""
    size = min(len(low), len(high))
    kept = int.from_bytes(high[:size].translate(_IS_ZERO))
    every = int.from_bytes(b"\xff" * size)
    return (int.from_bytes(low[:size]) & kept | int.from_bytes(b"?" * size) & (every ^ kept)).to_bytes(size)
