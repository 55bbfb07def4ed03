"""Go's regular expressions (RE2 syntax) as bytes expressions that `re` and Hyperscan share.

Rule packs of gitleaks are written in RE2's syntax (github.com/google/re2/wiki/Syntax).  It differs from `re` where
flags may stand in the middle of a group, in `\\z`, in `[[:alpha:]]` and `\\pL`; and what it repeats has no end, while a
stream can only be judged by matches of bounded length.  So an expression is parsed into a small tree (here), and
written anew (`regexforms.py`).
"""

import re
from dataclasses import dataclass
from typing import Final

#: RE2's own bound on counts.
_MOST: Final = 1000
_CLASSES: Final = {
    "alnum": "A-Za-z0-9", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t ", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t-\r ",
    "upper": "A-Z", "word": r"\w", "xdigit": "A-Fa-f0-9",
}  # fmt: skip
#: Unicode's classes in UTF-8: their ASCII part, and any byte of a longer character.
_UNICODE: Final = {"L": r"A-Za-z\x80-\xff", "Lu": r"A-Z\x80-\xff", "Ll": r"a-z\x80-\xff", "N": r"0-9\x80-\xff",
                   "Nd": "0-9", "P": r"!-#%-*,-/:;?@\[-\]_{}", "S": r"$+<->^`|~\x80-\xff",
                   "Z": r" \x80-\xff"}  # fmt: skip
_CONTROLS: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
#: One digit other than 0 would be a back reference, which RE2 has not.
_OCTAL: Final = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_COUNT: Final = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")


@dataclass(frozen=True, slots=True)
class Byte:
    """One byte; `fold` if in either case."""

    value: int
    fold: bool


@dataclass(frozen=True, slots=True)
class Class:
    """One byte of several, as `re` writes it."""

    text: str
    fold: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A condition of no width, and whether it may hold at the end of the text only."""

    text: str
    end: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Group:
    part: "Node"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`most` is None if there is no end."""

    part: "Node"
    least: int
    most: int | None
    lazy: bool


Node = Byte | Class | Place | Sequence | Choice | Group | Repeat


def parse(text: str, group: int = 0) -> Node:
    """Return the tree of an expression, in which only `group` captures, or all groups if it is 0.

    Raises ValueError, saying what and where, for what RE2 or this does not know.
    """
    try:
        return _Parser(text, group).parse()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _Parser:
    """Recursive descent; `self.flags` are those of the group that is being read."""

    def __init__(self, text: str, group: int) -> None:
        self._text, self._at = text, 0
        self._flags: frozenset[str] = frozenset()
        self._groups, self._wanted = 0, group

    def parse(self) -> Node:
        node = self._choice()
        if self._at < len(self._text):
            raise self._error("a ) too many")
        if self._wanted > self._groups:
            raise self._error(f"there is no group {self._wanted}")
        return node

    def _error(self, what: str) -> ValueError:
        return ValueError(f"{what}, at {self._at} of {self._text[:60]!r}")

    def _take(self, size: int = 1) -> str:
        taken = self._text[self._at : self._at + size]
        if len(taken) < size:
            raise self._error("it ends too early")
        self._at += size
        return taken

    def _sees(self, text: str) -> bool:
        if found := self._text.startswith(text, self._at):
            self._at += len(text)
        return found

    def _choice(self) -> Node:
        before, parts = self._flags, [self._sequence()]
        while self._sees("|"):
            parts.append(self._sequence())
        self._flags = before
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts += self._repeated(self._atom())
        return Sequence(tuple(parts))

    def _repeated(self, atom: list[Node]) -> list[Node]:
        while atom and (count := self._count()):
            lazy = self._sees("?") is not ("U" in self._flags)
            atom = [*atom[:-1], Repeat(atom[-1], *count, lazy)]
        return atom

    def _count(self) -> tuple[int, int | None] | None:
        for sign, count in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._sees(sign):
                return count
        if not (match := _COUNT.match(self._text, self._at)):
            return None
        self._at = match.end()
        least = int(match[1])
        most = (int(match[3]) if match[3] else None) if match[2] else least
        if max(least, most or 0) > _MOST or (most is not None and most < least):
            raise self._error(f"a repeat may be up to {_MOST}")
        return least, most

    def _atom(self) -> list[Node]:
        sign = self._take()
        fold = "i" in self._flags
        match sign:
            case "(":
                return self._group()
            case "[":
                return [Class(self._class(), fold)]
            case ".":
                return [Class("[^\\n]" if "s" not in self._flags else "[\\x00-\\xff]", False)]
            case "^":
                return [Place(r"(?<![^\n])" if "m" in self._flags else r"(?<![\x00-\xff])")]
            case "$":
                return [Place(r"(?![^\n])" if "m" in self._flags else r"(?![\x00-\xff])", True)]
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise self._error(f"nothing to repeat before {sign}")
        return [self._bytes(sign.encode())]

    def _bytes(self, character: bytes) -> Node:
        fold = "i" in self._flags
        bytes_ = tuple(Byte(byte, fold) for byte in character)
        return Sequence(bytes_) if len(bytes_) > 1 else bytes_[0]

    def _group(self) -> list[Node]:
        before, captures = self._flags, True
        if self._sees("?P<") or self._sees("?<"):
            self._until(">")
        elif self._sees("?"):
            captures = False
            if self._switch() == ")":
                return []       # these hold until the group ends that this stands in
        self._groups += captures
        number = self._groups
        inner = self._choice()
        if not self._sees(")"):
            raise self._error("a ( is not closed")
        self._flags = before
        return [Group(inner) if captures and self._wanted in (0, number) else Sequence((inner,))]

    def _switch(self) -> str:
        """Read flags as in `(?i-s:` or `(?i)`; return what ends them."""
        on = True
        while (sign := self._take()) not in ":)":
            if sign == "-" and on:
                on = False
            elif sign in "imsU":
                self._flags = self._flags | {sign} if on else self._flags - {sign}
            else:
                raise self._error(f"(?{sign} is not in RE2's syntax")
        return sign

    def _escape(self) -> list[Node]:
        sign = self._take()
        if sign in "bB":
            return [Place("\\" + sign)]
        if sign == "A":
            return [Place(r"(?<![\x00-\xff])")]
        if sign == "z":
            return [Place(r"(?![\x00-\xff])", True)]
        if sign == "Q":
            literal, _, _ = self._text[self._at :].partition(r"\E")
            self._at = min(len(self._text), self._at + len(literal) + 2)
            return [Byte(byte, "i" in self._flags) for byte in literal.encode()]
        if sign in "dDsSwWpP":
            return [Class(f"[{self._shorthand(sign)}]", False)]
        return [self._bytes(self._character(sign))]

    def _shorthand(self, sign: str) -> str:
        if sign not in "pP":
            return "\\" + sign
        name = self._take()
        if name == "{":
            name = self._until("}")
        if sign == "P" or name not in _UNICODE:
            raise self._error(f"the class \\{sign}{{{name}}} is not known here")
        return _UNICODE[name]

    def _character(self, sign: str) -> bytes:
        """The character that `\\sign` stands for, in UTF-8."""
        if sign in _CONTROLS:
            return bytes([_CONTROLS[sign]])
        if sign == "x":
            return self._number(self._until("}") if self._sees("{") else self._take(2), 16)
        if octal := _OCTAL.match(self._text, self._at - 1):
            self._at = octal.end()
            return self._number(octal[0], 8)
        if sign.isalnum():
            raise self._error(f"\\{sign} is not in RE2's syntax")
        return sign.encode()

    def _number(self, digits: str, base: int) -> bytes:
        try:
            return chr(int(digits, base)).encode()
        except (ValueError, OverflowError):
            raise self._error(f"{digits!r} is not the number of a character") from None

    def _until(self, end: str) -> str:
        """Take what comes before `end`, and `end` too."""
        taken, found, _ = self._text[self._at :].partition(end)
        if not found:
            raise self._error("it ends too early")
        self._at += len(taken) + len(end)
        return taken

    def _class(self) -> str:
        """Read a class behind its bracket."""
        text = "[^" if self._sees("^") else "["
        first = True
        while first or not self._sees("]"):
            text += (member := self._member())
            first = False
            after = self._text[self._at : self._at + 2]
            if len(member) == 4 and len(after) == 2 and after[0] == "-" and after[1] != "]":
                self._take()
                text += "-" + self._member()
        return text + "]"

    def _member(self) -> str:
        if self._sees("[:"):
            name = self._until(":]")
            if name not in _CLASSES:
                raise self._error(f"the class [:{name}:] is not known here")
            return _CLASSES[name]
        sign = self._take()
        if sign == "\\":
            sign = self._take()
            if sign in "dDsSwWpP":
                return self._shorthand(sign)
            value = self._character(sign)
        else:
            value = sign.encode()
        return rf"\x{value[0]:02x}" if len(value) == 1 else r"\x80-\xff"
