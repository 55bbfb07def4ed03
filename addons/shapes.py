"""What the matches of many expressions begin with, as one expression that is quickly tried.

To try a hundred expressions in turn takes microseconds, and an adversary has each place in a text tried.  Of each first
byte it is enough to know whether it is a digit, a capital, a letter or another sign: what remains are some thousand
short texts, and the tree of these is tried in the time of one expression.  It matches wherever one of the expressions
does, and at some places more.
"""

import re
from collections.abc import Iterator
from functools import cache
from re import _constants as of  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

#: Bytes that are looked at.
DEPTH: Final = 12
#: What stands for a digit, a capital, a letter (where small ones are meant as well), and any other byte.
_DIGIT, _CAPITAL, _LETTER, _SIGN = b"0Aa."
_KINDS: Final = {
    _DIGIT: b"0123456789", _CAPITAL: bytes(range(65, 91)), _LETTER: bytes(range(97, 123)),
}  # fmt: skip
_WRITTEN: Final = {_DIGIT: b"0-9", _CAPITAL: b"A-Z", _LETTER: b"A-Za-z", _SIGN: rb"\0-/:-@\[-`{-\xff"}
#: A byte for all of its kind.
_SAME: Final = bytes(next((kind for kind, of_it in _KINDS.items() if c in of_it), _SIGN) for c in range(256))
_PLAIN: Final = frozenset(b"".join(_KINDS.values()))
_BYTES: Final = bytes(range(256))
_CATEGORIES: Final = {
    of.CATEGORY_DIGIT: rb"\d", of.CATEGORY_NOT_DIGIT: rb"\D", of.CATEGORY_SPACE: rb"\s", of.CATEGORY_NOT_SPACE: rb"\S",
    of.CATEGORY_WORD: rb"\w", of.CATEGORY_NOT_WORD: rb"\W",
}  # fmt: skip

#: Kinds of the first bytes, and whether a match may end there.
_Start = tuple[bytes, bool]


def kinds_of(text: bytes) -> bytes:
    """Return a text of the same shape that is the same for all texts of it."""
    return text.translate(_SAME)


@cache
def shape(expressions: tuple[bytes, ...], depth: int = DEPTH) -> bytes:
    """Return an expression that matches wherever one of these does, which looks at so many bytes."""
    found = set[_Start]()
    for each in dict.fromkeys(expressions):
        found |= _starts(list(parser.parse(each)), depth, 0)
    return _tree(found)


def _tree(starts: set[_Start]) -> bytes:
    """Return the expression of these starts: where one of them ends, nothing more is asked."""
    if any(not text for text, _ in starts):
        return b""
    behind: dict[int, set[_Start]] = {}
    for text, ended in starts:
        behind.setdefault(text[0], set()).add((text[1:], ended))
    first: dict[bytes, list[int]] = {}
    for kind, rest in behind.items():
        first.setdefault(_tree(rest), []).append(kind)
    made = [_class(kinds) + rest for rest, kinds in first.items()]
    return made[0] if len(made) == 1 else b"(?:" + b"|".join(sorted(made)) + b")"


def _class(kinds: list[int]) -> bytes:
    return b"[" + b"".join(_WRITTEN[kind] for kind in sorted(kinds)) + b"]"


def _starts(items: list[Any], depth: int, flags: int) -> set[_Start]:
    """Return what a sequence may begin with; of what goes on, `depth` bytes."""
    found: set[_Start] = {(b"", True)}
    for operator, argument in items:
        if all(not ended for _, ended in found):
            break
        nexts = _of(operator, argument, depth, flags)
        found = {each for start in found for each in _joined(start, nexts, depth)}
    return found


def _joined(start: _Start, nexts: set[_Start], depth: int) -> Iterator[_Start]:
    text, ended = start
    if not ended:
        yield start
        return
    for more, over in nexts:
        whole = text + more
        yield whole[:depth], over and len(whole) < depth


def _of(operator: Any, argument: Any, depth: int, flags: int) -> set[_Start]:
    if operator is of.SUBPATTERN:
        _, on, off, inner = argument
        return _starts(list(inner), depth, (flags | on) & ~off)
    if operator is of.ATOMIC_GROUP:
        return _starts(list(argument), depth, flags)
    if operator is of.BRANCH:
        return {start for branch in argument[1] for start in _starts(list(branch), depth, flags)}
    if operator in (of.MAX_REPEAT, of.MIN_REPEAT, of.POSSESSIVE_REPEAT):
        least, most, inner = argument
        return _repeated(_starts(list(inner), depth, flags), least, min(most, depth), depth)
    if operator in (of.AT, of.ASSERT, of.ASSERT_NOT):
        return {(b"", True)}
    return {(bytes([kind]), depth > 1) for kind in _kinds(operator, argument, flags)}


def _repeated(once: set[_Start], least: int, most: int, depth: int) -> set[_Start]:
    found: set[_Start] = {(b"", True)}
    every = set[_Start]() if least else set(found)
    for number in range(1, max(most, least) + 1):
        found = {each for start in found for each in _joined(start, once, depth)}
        if number >= least:
            every |= found
        if all(not ended for _, ended in found):
            return every | found
    return every


def _kinds(operator: Any, argument: Any, flags: int) -> set[int]:
    """Return the kinds of bytes that one item matches: tried with each byte."""
    items = argument if operator is of.IN else [(operator, argument)]
    negated = items[0][0] is of.NEGATE
    folded = (lambda text: text + text.swapcase()) if flags & re.IGNORECASE else bytes
    members = folded(b"".join(_members(*item) for item in items[negated:]))
    chosen = set(_BYTES) - set(members) if negated else set(members)
    kinds = {kind for kind, of_it in _KINDS.items() if not chosen.isdisjoint(of_it)}
    if _LETTER in kinds:
        kinds.discard(_CAPITAL)
    return kinds if chosen <= _PLAIN else kinds | {_SIGN}


def _members(operator: Any, argument: Any) -> bytes:
    if operator is of.LITERAL:
        return bytes([argument])
    if operator is of.NOT_LITERAL:
        return bytes(set(_BYTES) - {argument})
    if operator is of.RANGE:
        return bytes(range(argument[0], argument[1] + 1))
    if operator is of.CATEGORY:
        return b"".join(re.findall(_CATEGORIES[argument], _BYTES, re.DOTALL))
    if operator is of.ANY:
        return _BYTES
    raise ValueError(f"no shape is known of {operator}")
