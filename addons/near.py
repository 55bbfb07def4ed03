"""Numbers that count only where a word near them says what they are.

Theory of operation.  A number of nine digits is anything; "SSN" before it, or `"ssn": ` or "is my SSN" behind it, makes
it one thing.  Words are few and numbers many, so words are what the engine looks for.  Where one is, `Naming` asks at
each place at which a value may begin: which words are around it, which kinds do they name, and is it one of these?
"""

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from addons.scan import LOOK, Pattern

#: Words up to this length stand alone: "sin" is not in "using".  In longer ones languages compound.
SHORT: Final = 5
#: What joins the parts of a name in prose and code: "tax id", "tax_id", "tax-id"; "taxId" has nothing between.
_JOINS: Final = bytes.maketrans(b'_-\t\n\r"', b"      ")
#: Where a value may begin: at a digit, at letters before one, or (BIC) at eight capitals.
_START: Final = rb"(?<![0-9A-Za-z_])(?:(?:[A-Za-z]{1,9}[ ./-]?){0,2}[0-9]|[A-Z]{8})"
#: The longest value, and the longest word with its joins.
LONGEST: Final = 64
WORD: Final = 64
#: What makes an adjective of a country a word: "Polish id", and not "Polish" alone.
NOUNS: Final = (
    "id", "ids", "identi", "national", "tax", "vat", "passport", "personal", "citizen", "social", "health", "medicare",
    "number", "driv", "licen", "company", "business", "resident", "registration", "code",
)  # fmt: skip

_ROW_BEFORE: Final = re.compile(rb"\d[ \t]{1,3}\Z")
_ROW_BEHIND: Final = re.compile(rb"[ \t]{1,3}\d")
_DAY: Final = re.compile(rb"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
#: Words up to this length occur within many others: the engine is told that they stand alone.
MANY: Final = 6
_NO_LETTER: Final = rb"(?:[^A-RT-Za-rt-z]|s[^A-Za-z])"

_HEX: Final = b"0123456789abcdefABCDEF"
#: What must not stand right before a value: money, signs, addresses.
_NEVER_BEFORE: Final = b"+$#@&~^\\"

Check = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Named:
    """A kind that counts near its words: its expression, matched where a value begins, and its check."""

    kind: str
    words: tuple[str, ...]
    adjectives: tuple[str, ...]
    expression: "re.Pattern[bytes]"
    check: Check


def begins(text: bytes, start: int) -> bool:
    """True if a value may begin here: not within a longer number, word, file name or amount of money.

    But it may behind what JSON or a URL writes for a quote or a new line.
    """
    if not start:
        return True
    before, second = text[start - 1 : start], text[max(0, start - 2) : start - 1]
    if before.isalnum() or before == b"_":
        if second == b"\\":
            return before in b"nrt"
        return text[max(0, start - 3) : start - 2] == b"%" and second in _HEX and before in _HEX
    if before in b".-":
        return not (second.isalnum() or (second in (b"_", b".", b"-", b")") and bool(second)))
    if before in b"/:" and second:
        return not second.isdigit()
    return before not in _NEVER_BEFORE


def stands(text: bytes, start: int, end: int) -> bool:
    """False of groups of digits in a row of more of them, as in a table, and of a day written as 20260314."""
    if b" " in text[start:end]:
        return not (_ROW_BEFORE.search(text[max(0, start - 4) : start]) or _ROW_BEHIND.match(text[end : end + 4]))
    return end - start != 8 or not _DAY.fullmatch(text[start:end])


def spellings(word: str) -> set[bytes]:
    """Return how a word is written in lower case: "tax id", "tax_id", "tax-id", "taxid"; beyond ASCII in both cases."""
    parts = [cased.replace("-", " ").encode().lower().split(b" ") for cased in _cased(word)]
    return {join.join(each) for each in parts for join in (b" ", b"_", b"-", b"")}


def triggers(words: Iterable[str]) -> tuple[bytes, ...]:
    """Return expressions for the engine that end at each of the words, or one byte behind it.

    Plain strings are what it finds fastest, and compiles at once.
    """
    made = {_bounded(text, word) for word in words for text in spellings(word)}
    made |= {_camel(word) for word in words if len(word) <= MANY and _begins_alone(word)}
    return tuple(sorted(made))


def _cased(word: str) -> set[str]:
    """The engines fold the case of ASCII alone."""
    return {word} if word.isascii() else {word, word.upper(), word.capitalize()}


def _bounded(text: bytes, word: str) -> bytes:
    alone = len(text) <= MANY and _begins_alone(word)
    made = b"(?i:%b)" % re.escape(text)
    return (rb"(?:\b|_)" if alone else b"") + made + (_NO_LETTER if len(text) <= MANY and _ends_alone(word) else b"")


def _begins_alone(word: str) -> bool:
    return len(word.split(" ")[0]) <= SHORT and word[0].isascii() and word[0].isalpha()


def _ends_alone(word: str) -> bool:
    return len(word.split(" ")[-1]) < SHORT and word[-1].isascii() and word[-1].isalpha()


def _camel(word: str) -> bytes:
    """A short word within a name: `userSsn`, `taxId`."""
    text = word.replace(" ", "").replace("-", "").encode()
    return rb"[a-z]%b(?i:%b)" % (text[:1].upper(), re.escape(text[1:])) + (_NO_LETTER if _ends_alone(word) else b"")


def _with_nouns(adjective: str) -> bytes:
    nouns = b"|".join(noun.encode() for noun in NOUNS)
    text = b"(?i:%b[ _]?(?:%b))" % (adjective.encode().replace(b" ", b"[ _]?"), nouns)
    return (rb"\b" if _begins_alone(adjective) else b"") + text


class Naming:
    """Kinds and the words that name them; `pattern` finds them all in one go."""

    def __init__(self, kinds: Sequence[Named]) -> None:
        self._kinds = tuple(kinds)
        words: dict[str, list[int]] = {}
        for number, each in enumerate(kinds):
            for word in each.words:
                words.setdefault(word, []).append(number)
        adjectives = {adjective for each in kinds for adjective in each.adjectives}
        self._triggers = triggers(words) + tuple(sorted(map(_with_nouns, adjectives)))
        for number, each in enumerate(kinds):
            for word in (f"{adjective} {noun}" for adjective in each.adjectives for noun in NOUNS):
                words.setdefault(word, []).append(number)
        spelled: dict[bytes, tuple[bool, bool, set[int]]] = {}
        for word, named in words.items():
            for text in spellings(word):
                spelled.setdefault(text, (_begins_alone(word), _ends_alone(word), set()))[2].update(named)
        self._spelled, self._named = tuple(spelled), tuple(spelled.values())
        ahocorasick: Any = importlib.import_module("ahocorasick_rs")
        self._automaton = ahocorasick.BytesAhoCorasick(list(self._spelled) or [b"\0never"])

    def pattern(self, enough: int = 0) -> Pattern:
        """Return the pattern; its hits have the names of kinds."""
        return Pattern(
            "named", _START, keywords=self._spelled, before=LONGEST + LOOK, longest=LONGEST + LOOK + WORD,
            accept=self._judge, trigger=self._triggers, ahead=LOOK + 1,
            enough=enough,
        )  # fmt: skip

    def _judge(self, match: re.Match[bytes]) -> tuple[tuple[str, int], ...]:
        text, start = match.string, match.start()
        if not begins(text, start):
            return ()
        before = self._near(text[max(0, start - LOOK) : start])
        found, behind = [], dict[int, set[int]]()
        for number in sorted(before | self._near(text[start : start + LONGEST + LOOK])):
            each = self._kinds[number]
            if not (value := each.expression.match(text, start)):
                continue
            end = value.end()
            if number not in before:
                if end not in behind:
                    behind[end] = self._near(text[end : end + LOOK])
                if number not in behind[end]:
                    continue
            if stands(text, start, end) and each.check(value[0]):
                found.append((each.kind, end))
        return tuple(found)

    def _near(self, text: bytes) -> set[int]:
        """Return the kinds that words of the text name."""
        named = set[int]()
        text = _RANDOM.sub(_without_chance, text)
        lower = text.lower().translate(_JOINS)
        for number, start, end in self._automaton.find_matches_as_indexes(lower, overlapping=True):
            begins, ends, kinds = self._named[number]
            if (not begins or _is_start(text, start)) and (not ends or _is_end(text, end)):
                named |= kinds
        return named


#: Hashes and other base64 hold any short word by chance, with capitals as in names.
_RANDOM: Final = re.compile(rb"[A-Za-z0-9+/]{16,}")
_CHANCE: Final = re.compile(rb"(?:\d+[A-Za-z+/]+){2,}\d")


def _without_chance(match: re.Match[bytes]) -> bytes:
    return b" " * len(match[0]) if _CHANCE.search(match[0]) else match[0]


def _is_start(text: bytes, at: int) -> bool:
    if not at:
        return True
    before = text[at - 1 : at]
    return not before.isalpha() or (before.islower() and text[at : at + 1].isupper())


def _is_end(text: bytes, stop: int) -> bool:
    """True if no letter follows, but for the s of a plural; "taxIdNumber" goes on too."""
    rest = text[stop : stop + 2]
    if rest[:1] in (b"s", b"S"):
        rest = rest[1:]
    return not rest[:1].isalpha() or (rest[:1].isupper() and text[stop - 1 : stop].islower())
