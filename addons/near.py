"""Numbers that count only where a word near them says what they are.

Theory of operation.  A number of nine digits is anything; "SSN" before it, or `"ssn": ` or "is my SSN" behind it, makes
it one thing.  Words are few and numbers many, so words are what the engine looks for.  Where one is, `Naming` asks at
each place at which a value may begin: which words are around it, which kinds do they name, and is it one of these?
"""

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from addons.scan import LOOK, Pattern
from addons.shapes import DEPTH, kinds_of, shape

#: Words up to this length stand alone: "sin" is not in "using".  In longer ones languages compound.
SHORT: Final = 5
#: What joins the parts of a name in prose and code: "tax id", "tax_id", "tax-id"; "taxId" has nothing between.
_JOINS: Final = b'_-\t\n\r"'
#: What `begins` asks, for expressions: not within a longer number or word ..
NOT_WITHIN: Final = rb"(?:(?<![0-9A-Za-z_])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))(?<![0-9A-Za-z_.)-][.-])"
#: .. and all of it.
BEGINS: Final = NOT_WITHIN + rb"(?<![0-9][/:])(?<![+$#@&~^\\])"
#: Texts as words are compared: in lower case, with spaces for joins.
_PLAIN: Final = bytes(b" "[0] if c in _JOINS else c for c in bytes(range(256)).lower())
#: Where a value may begin: at a digit, at letters before one, or (BIC) at eight capitals.
_START: Final = BEGINS + rb"(?<![0-9A-Za-z_])(?=(?:[A-Za-z]{1,9}+[ ./-]?+){0,2}+[0-9]|[A-Z]{8})"
#: How far behind that the digit is, or the eight capitals begin.
_LEAD: Final = 20
_DIGIT: Final = rb"[0-9A-Z](?:(?<=[0-9])|[A-Z]{7})"
#: The longest value, and the longest word with its joins.
LONGEST: Final = 64
WORD: Final = 64
#: Judgements that are remembered.
JUDGED: Final = 1024
#: Shapes of texts whose kinds are remembered.
SHAPES: Final = 4096
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
        spelled: dict[bytes, tuple[bool, bool, int]] = {}
        for word, named in words.items():
            for text in spellings(word):
                begins, ends, known = spelled.get(text, (_begins_alone(word), _ends_alone(word), 0))
                spelled[text] = begins, ends, known | sum(1 << number for number in set(named))
        self._spelled, self._named = tuple(spelled), tuple(spelled.values())
        ahocorasick: Any = importlib.import_module("ahocorasick_rs")
        self._automaton = ahocorasick.BytesAhoCorasick(list(self._spelled) or [b"\0never"])
        self._known: dict[int, tuple[tuple[str, int], ...]] = {}
        bits: dict[re.Pattern[bytes], int] = {}
        for number, each in enumerate(kinds):
            bits[each.expression] = bits.get(each.expression, 0) | 1 << number
        self._shapes = [(re.compile(shape((each[0].pattern,))), each) for each in bits.items()]
        self._shaped: dict[bytes, tuple[tuple[re.Pattern[bytes], int], ...]] = {}

    def pattern(self, enough: int = 0) -> Pattern:
        """Return the pattern; its hits have the names of kinds."""
        start = _START + shape(tuple(each.expression.pattern for each in self._kinds))
        return Pattern(
            "named", start, keywords=self._spelled, before=LONGEST + LOOK, longest=LONGEST + LOOK + WORD,
            accept=self._judge, trigger=self._triggers, ahead=LOOK + 1, enough=enough, sign=_DIGIT, lead=_LEAD,
        )  # fmt: skip

    def _judge(self, match: re.Match[bytes]) -> tuple[tuple[str, int], ...]:
        """Return the kinds of what begins here.  A flood repeats itself: what was said of the same text is remembered,
        under a hash, since it may be a secret."""
        text, start = match.string, match.start()
        low = max(0, start - LOOK)
        key = hash((start - low, text[low : start + LONGEST + LOOK + WORD + LOOK]))
        if (found := self._known.get(key)) is None:
            if len(self._known) >= JUDGED:
                self._known.clear()
            found = self._known[key] = self._found(text, start)
        return tuple((kind, start + size) for kind, size in found)

    def _found(self, text: bytes, start: int) -> tuple[tuple[str, int], ...]:
        """Return kinds with the lengths of their values."""
        values = [(value.end(), kinds) for expression, kinds in self._possible(kinds_of(text[start : start + DEPTH]))
                  if (value := expression.match(text, start))]  # fmt: skip
        if not values or not begins(text, start):
            return ()
        wanted = 0
        for _, kinds in values:
            wanted |= kinds
        before = self._near(text[max(0, start - LOOK) : start], wanted)
        named = before | self._near(text[start : start + LONGEST + LOOK], wanted & ~before)
        found = list[tuple[int, int]]()
        for end, kinds in values:
            if (meant := named & kinds) & ~before:
                meant &= before | self._near(text[end : end + LOOK], meant & ~before)
            if meant and stands(text, start, end):
                found += [(n, end - start) for n in _numbers(meant) if self._kinds[n].check(text[start:end])]
        return tuple((self._kinds[number].kind, size) for number, size in sorted(found))

    def _possible(self, text: bytes) -> tuple[tuple[re.Pattern[bytes], int], ...]:
        """Return the expressions of values that may begin so, each with its kinds as bits, of a text that stands for
        all of its shape."""
        if (known := self._shaped.get(text)) is None:
            if len(self._shaped) >= SHAPES:
                self._shaped.clear()
            known = self._shaped[text] = tuple(each for shape, each in self._shapes if shape.match(text))
        return known

    def _near(self, text: bytes, wanted: int) -> int:
        """Return which of the wanted kinds words of the text name, a bit each."""
        if not wanted or not text:
            return 0
        if _RUN in text.translate(_RUNS):
            text = _RANDOM.sub(_without_chance, text)
        named = 0
        for number, start, end in self._automaton.find_matches_as_indexes(text.translate(_PLAIN), overlapping=True):
            begins, ends, kinds = self._named[number]
            if kinds & wanted and (not begins or _is_start(text, start)) and (not ends or _is_end(text, end)):
                named |= kinds & wanted
                wanted &= ~named
                if not wanted:
                    break
        return named


def _numbers(bits: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, in their order."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


#: Hashes and other base64 hold any short word by chance, with capitals as in names.
_RANDOM: Final = re.compile(rb"[A-Za-z0-9+/]{16,}")
_RUNS: Final = bytes(ord("A") if re.match(rb"[A-Za-z0-9+/]", bytes([c])) else 0 for c in range(256))
_RUN: Final = b"A" * 16
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
