"""What a scan engine needs of an expression: its text for `re` and for Hyperscan, its length, the literals in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from addons.goregex import Byte, Choice, Class, Group, Node, Place, Repeat, Sequence, parse

#: How far repeats without an end, and very long ones, may go: the first is taken that makes the whole short enough.
_CAPS: Final = (1500, 1000, 600, 400, 250, 150, 100, 60, 40, 20)
#: Shorter literals are in every text: they are no help in finding matches.
_LITERAL: Final = 3
#: A bound that the author has set is kept up to here.
_KEPT: Final = 100
#: More literals than these are no help either.
_MOST_LITERALS: Final = 60


@dataclass(frozen=True, slots=True)
class Forms:
    """`regex` for `re`, of at most `longest` bytes; `trigger` for Hyperscan; `keywords`, one of which each match has at
    most `before` bytes after its start, or none."""

    regex: bytes
    trigger: bytes
    longest: int
    keywords: tuple[bytes, ...]
    before: int


def forms(text: str, longest: int, before: int, group: int = 0, *, empty: bool = False) -> Forms:
    """Return the forms of an expression in RE2's syntax, whose matches are bounded by `longest` bytes.

    Raises ValueError where it is not in that syntax, cannot be shorter, or (unless that is wanted) is `empty`: matches
    the empty text.
    """
    tree = _later(parse(text, group))
    for cap in _CAPS:
        bounded = _bounded(tree, cap)
        if (width := _width(bounded)[1]) <= longest:
            break
    else:
        raise ValueError(f"it matches more than {longest} bytes")
    if _width(tree)[0] == 0 and not empty:
        raise ValueError("it matches the empty text")
    found = _literals(bounded, before)
    words, offset = found or (frozenset(), 0)
    regex, trigger = _write(bounded).encode(), _write(_shortest(tree)).encode()
    return Forms(regex, trigger, max(width, 1), tuple(sorted(words)), offset)


def _width(node: Node) -> tuple[int, int]:
    """The least and the most bytes that it matches."""
    match node:
        case Byte() | Class():
            return 1, 1
        case Place():
            return 0, 0
        case Group(part):
            return _width(part)
        case Sequence(parts):
            widths = [_width(part) for part in parts]
            return sum(low for low, _ in widths), sum(high for _, high in widths)
        case Choice(parts):
            widths = [_width(part) for part in parts]
            return min(low for low, _ in widths), max(high for _, high in widths)
        case Repeat(part, least, most):
            low, high = _width(part)
            return low * least, high * (max(least, _CAPS[0]) if most is None else most)


def _bounded(node: Node, cap: int) -> Node:
    match node:
        case Group(part):
            return Group(_bounded(part, cap))
        case Sequence(parts) | Choice(parts):
            return replace(node, parts=tuple(_bounded(part, cap) for part in parts))
        case Repeat(part, least, most):
            end = least + cap if most is None else min(most, max(least, cap, _KEPT))
            return replace(node, part=_bounded(part, cap), most=end)
    return node


def _later(node: Node) -> Node:
    """Leave out what may be missing at the beginning, where a value is in a group: a match may as well begin later."""
    if not isinstance(node, Sequence) or not any(map(_captures, node.parts)):
        return node
    parts = list(node.parts)
    while parts and isinstance(parts[0], Repeat) and not parts[0].least and not _captures(parts[0]):
        parts.pop(0)
    return Sequence(tuple(parts))


def _captures(node: Node) -> bool:
    match node:
        case Group():
            return True
        case Sequence(parts) | Choice(parts):
            return any(map(_captures, parts))
        case Repeat(part):
            return _captures(part)
    return False


def _shortest(node: Node) -> Node:
    """Leave out what may be missing at the end, so that there is one report where the shortest match ends."""
    match node:
        case Group(part):
            return Sequence((_shortest(part),))
        case Choice(parts):
            return Choice(tuple(map(_shortest, parts)))
        case Repeat(part, least, _, lazy) if least:
            before = (Repeat(part, least - 1, least - 1, lazy),) if least > 1 else ()
            return Sequence((*before, _shortest(part)))
        case Sequence(parts):
            rest = list(parts)
            while rest and _width(rest[-1])[0] == 0:
                rest.pop()
            return Sequence((*map(_endless, rest[:-1]), *map(_shortest, rest[-1:])))
    return node


def _endless(node: Node) -> Node:
    """Without conditions on the end of the text, of which Hyperscan is not told."""
    match node:
        case Place(_, end) if end:
            return Sequence(())
        case Group(part):
            return Sequence((_endless(part),))
        case Sequence(parts) | Choice(parts):
            return replace(node, parts=tuple(map(_endless, parts)))
        case Repeat(part):
            return replace(node, part=_endless(part))
    return node


def _literals(node: Node, before: int) -> tuple[frozenset[bytes], int] | None:
    """The best choice of lower-case literals of which each match has one, and how far they may be from its start."""
    match node:
        case Byte():
            return _literals(Sequence((node,)), before)
        case Group(part):
            return _literals(part, before)
        case Repeat(part, least) if least:
            return _literals(part, before)
        case Choice(parts):
            each = [_literals(part, before) for part in parts]
            known = [found for found in each if found]
            if len(known) < len(each):
                return None
            words = frozenset[bytes]().union(*(found[0] for found in known))
            return (words, max(found[1] for found in known)) if len(words) <= _MOST_LITERALS else None
        case Sequence():
            return _in_sequence(_flat(node), before)
    return None


def _in_sequence(parts: list[Node], before: int) -> tuple[frozenset[bytes], int] | None:
    offsets = accumulate((_width(part)[1] for part in parts), initial=0)
    best: tuple[frozenset[bytes], int] | None = None
    run, began = b"", 0
    for part, offset in zip([*parts, Place("")], offsets):
        if isinstance(part, Byte):
            began = began if run else offset
            run += bytes([part.value])
            continue
        found = _literals(part, before - offset) if not isinstance(part, Place) else None
        runs = [(frozenset({run.lower()}), began)] if run else []
        inner = [(found[0], found[1] + offset)] if found else []
        best = max([*([best] if best else []), *runs, *inner], key=_worth, default=None)
        run = b""
    if best and best[1] <= before and min(map(len, best[0])) >= _LITERAL:
        return best
    return None


def _worth(found: tuple[frozenset[bytes], int]) -> tuple[int, int]:
    words, offset = found
    return min(8, min(map(len, words))), -offset


def _flat(node: Node) -> list[Node]:
    if isinstance(node, Sequence):
        return [inner for part in node.parts for inner in _flat(part)]
    return [node]


def _write(node: Node, fold: bool = False) -> str:
    """The text for `re`; `fold` if it will stand where case is ignored."""
    modes = frozenset(_modes(node))
    if modes == {True} and not fold:
        return f"(?i:{_write(node, True)})"
    match node:
        case Byte(value):
            return _byte(value)
        case Class(text) | Place(text):
            return text
        case Group(part):
            return f"({_write(part, fold)})"
        case Sequence(parts):
            return "".join(_runs(parts, fold))
        case Choice(parts):
            return f"(?:{'|'.join(_write(part, fold) for part in parts)})"
        case Repeat(part, least, most, lazy):
            count = f"{{{least}}}" if most == least else f"{{{least},{'' if most is None else most}}}"
            count = {"{0,1}": "?", "{1}": ""}.get(count, count)
            return _atom(part, fold) + count + ("?" if lazy and most != least else "")


def _runs(parts: Iterable[Node], fold: bool) -> Iterator[str]:
    """The parts, those in a row that ignore case within one group."""
    run: list[Node] = []
    for part in [*parts, Place("")]:
        modes = frozenset(_modes(part))
        if not fold and (modes == {True} or (run and not modes and part != Place(""))):
            run.append(part)
            continue
        if run:
            yield f"(?i:{''.join(_write(each, True) for each in run)})"
            run = []
        yield _write(part, fold)


def _modes(node: Node) -> Iterator[bool]:
    match node:
        case Byte(value, fold) if chr(value).isascii() and chr(value).isalpha():
            yield fold
        case Class(_, fold):
            yield fold
        case Group(part) | Repeat(part):
            yield from _modes(part)
        case Sequence(parts) | Choice(parts):
            for part in parts:
                yield from _modes(part)


def _byte(value: int) -> str:
    char = chr(value)
    if char.isascii() and (char.isalnum() or char in "_-/:\"' <>=@,;%&!~#`"):
        return char
    return rf"\x{value:02x}"


def _atom(node: Node, fold: bool) -> str:
    text = _write(node, fold)
    single = isinstance(node, Byte | Class | Group) and (fold or True not in frozenset(_modes(node)))
    return text if single else f"(?:{text})"
