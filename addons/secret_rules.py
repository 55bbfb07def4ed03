"""The secrets rules: from the TOML file to patterns."""

import base64
import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from addons.scan import LOOK, Pattern, group, shortest
from addons.secret_checks import in_base64, is_bare_password, is_basic, is_password, is_random

RULES: Final = Path(__file__).with_name("rules") / "secrets.toml"
#: All files of our rules; the format is explained in the first.
FILES: Final = (RULES, RULES.with_name("issuers.toml"), RULES.with_name("forms.toml"))

#: What stands between a name and its value in the languages and formats of the world: `x_token: "`, `TOKEN", "`,
#: `token := `, `<token>`, `"token" => '`.
_BETWEEN: Final = (
    rb"""[ \t\w.-]{0,24}+["'`\\\])]{0,3}\s{0,3}(?:[:?.|+]{0,3}=>?|:|>|\|\||(?<=["'`]),(?=\s{0,3}\\?["'`]))"""
    rb"""[\s"'`(\\=]{0,6}"""
)
#: A value ends where its alphabet does; this is a little more than the usual alphabets.
_END: Final = rb"(?![\w+/=~({-]|\.\w)"
#: The longest name, what is between, and the value.
_ASSIGNMENT: Final = 512

#: How far before a match a rule may look for what tells the kind of document; behind it, it is LOOK.
_NEAR: Final = 512
#: Judgements that a rule keeps.
_JUDGED: Final = 1024
#: Values that stand for a value, as in documentation and templates, and the hashes of lock files.
_PLACEHOLDER: Final = re.compile(
    rb"(?i)example|placeholder|change_?me|redacted|dummy|your[_-]|x{6}|\*{4}|0{10}|insert_|_here$|\$\{|abcdefghij"
    rb"|test_?key|\[[A-Z][A-Z_ -]+\]|my_?(?:api|secret|token)|^(?:sha\d+|md5)[=:-]"
    rb"|^(?:[a-z_-]{2,12}:)?(?:pass(?:word|wd)?|secret|pwd|token)$"
)


#: What says right before a value that it is a hash.
_HASH: Final = re.compile(rb"(?i)(?:sha-?(?:1|224|256|384|512)|md5|h1|integrity|checksum)[\"']?[-=:]\Z")
#: CocoaPods' list of hashes has names before them.
_LISTED: Final = re.compile(rb"(?:[: ][0-9a-f]{40}|CHECKSUMS:)\r?\n {2}[\w+./-]{0,30}\Z")
_APART: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2}|[^A-Za-z0-9])+")
_MIXED: Final = re.compile(rb"\d[A-Za-z]|[A-Za-z]\d")
#: `PKCS7PrivateKeyTypes`, `symbol2label`: words of code, numbered.
_CAMEL: Final = re.compile(rb"[A-Za-z]*\d{0,5}(?:[A-Z][a-z]+){2,}\d{0,5}|[a-z_]{1,14}[24][a-z_]{1,14}")
_DOTTED: Final = re.compile(rb"[A-Za-z_]\w{0,24}(?:\.[A-Za-z_]\w{0,24})+")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the file and the pattern made of it."""

    id: str
    pattern: Pattern
    home: tuple[str, ...] = ()
    weak: bool = False

    def named_by(self, names: tuple[str, ...]) -> bool:
        """True if a name is this rule's id or its group, the part before a dash: `aws`, `github`."""
        return any(self.id == name or self.id.startswith(name + "-") for name in names)


@dataclass(frozen=True, slots=True)
class _Accept:
    """The last word on a match: a value must look random, pass its check, and not stand for another.

    What stands before a match is judged here too: in the expression it would be tried at every byte.
    """

    entropy: float = 0.0
    digits: int = 0
    check: Callable[[bytes], bool] = bool
    unless_after: re.Pattern[bytes] | None = None
    begins_word: bool = False
    near: re.Pattern[bytes] | None = None
    _judged: dict[int, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, match: re.Match[bytes]) -> bool:
        value = match[group(match)]
        # A flood repeats itself.  What is kept is no secret: a hash under a key of this process.
        if (known := self._judged.get(key := hash(value))) is None:
            if len(self._judged) >= _JUDGED:
                self._judged.clear()
            known = self._judged[key] = self._is_secret(value)
        return known and self._stands_alone(match)

    def _is_secret(self, value: bytes) -> bool:
        return (
            len(value) - len(value.translate(None, b"0123456789")) >= self.digits
            and self.check(value)
            and entropy(value, self.entropy) >= self.entropy
            and (b".." not in value or value.startswith(b"$"))     # cut off; hashes have dots as well
            and not is_placeholder(value)
        )

    def _stands_alone(self, match: re.Match[bytes]) -> bool:
        text, start = match.string, match.start()
        value = match.start(group(match))
        if in_base64(text, value, match[group(match)]):
            return False
        if _HASH.search(text[max(0, value - 12) : value]) or _LISTED.search(text[max(0, start - LOOK) : start]):
            return False
        if self.begins_word and not begins_word(text[max(0, start - 1) : start], text[start : start + 1]):
            return False
        if self.near and not self.near.search(text, max(0, start - _NEAR), match.end() + LOOK):
            return False
        return not (self.unless_after and self.unless_after.search(text[max(0, start - LOOK) : start]))


def begins_word(before: bytes, first: bytes) -> bool:
    """True for `datadog_key` and in `myDatadogKey`; "meraki" does not begin a word in "cameraKit"."""
    return not before.isalpha() or (before.islower() and first.isupper())


def is_placeholder(value: bytes) -> bool:
    """True for what stands for a value, as in documentation, templates and lock files."""
    return bool(_PLACEHOLDER.search(value) or _documented().search(value))


@cache
def _documented() -> re.Pattern[bytes]:
    """Values that documents have published as examples."""
    values = tomllib.loads(RULES.read_text("utf-8"))["documented"]
    return re.compile(b"|".join(re.escape(value.encode()) for value in values))


def entropy(value: bytes, wanted: float = 0.0) -> float:
    """Return the Shannon entropy in bits a byte; 0 where it is plain that it is less than `wanted`."""
    size = len(value)
    if wanted and len(set(value)) < 2**wanted:
        return 0.0
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def is_jwt(value: bytes) -> bool:
    """True if the first part is a JOSE header (RFC 7515, 4.1): a JSON object that names an algorithm."""
    head = value.partition(b".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except ValueError:
        return False
    return isinstance(header, dict) and "alg" in header


def is_varied(value: bytes) -> bool:
    """True if letters and digits mix as in a random string, and not as in words, paths and `names.with.dots`."""
    longest = max(_APART.split(value), key=len)
    named = _DOTTED.fullmatch(value) or _CAMEL.fullmatch(longest)
    return len(longest) >= 8 and bool(_MIXED.search(longest)) and not named


_CHECKS: Final[dict[str, Callable[[bytes], bool]]] = {
    "": bool, "jwt": is_jwt, "varied": is_varied, "basic": is_basic, "random": is_random, "password": is_password,
    "bare-password": is_bare_password,
}  # fmt: skip
#: What a match may not begin with, at its beginning: Hyperscan ignores it unless it is said in another way.
_NOT_BEFORE: Final = re.compile(rb"\A\(\?<!\[((?:[^\]\\]|\\.)+)\]\)")


def _before(match: re.Match[bytes]) -> bytes:
    """What stands before a match, as Hyperscan understands it: `(?<![a-z])` becomes `(?:^|[^a-z])`."""
    members = match[1]
    return b"(?:^|[" + (members[1:] if members.startswith(b"^") else b"^" + members) + b"])"


def _rule(table: dict[str, Any], regex: bytes, keywords: list[str], longest: int, begins_word: bool = False) -> Rule:
    after, near = table.get("unless_after"), table.get("near")
    accept = _Accept(
        entropy=table.get("entropy", 0.0),
        digits=table.get("digits", 0),
        check=_CHECKS[table.get("check", "")],
        unless_after=re.compile(b"(?:" + after.encode() + rb")\Z") if after else None,
        begins_word=begins_word,
        near=re.compile(near.encode()) if near else None,
    )
    words = tuple(word.encode() for word in keywords)
    # Hyperscan knows no possessive repeats either.
    plain = _NOT_BEFORE.sub(_before, regex).replace(b"}+", b"}")
    trigger = table.get("trigger", "").encode() or shortest(plain)
    pattern = Pattern(table["id"], regex, words, table.get("before", 0), longest, accept, trigger)
    return Rule(table["id"], pattern, tuple(table.get("home", ())), table.get("weak", False))


def _token(table: dict[str, Any]) -> Rule:
    return _rule(table, table["regex"].encode(), table["keywords"], table.get("longest", 256))


def _assignment(table: dict[str, Any]) -> Rule:
    names = b"|".join(re.escape(name.encode()) for name in table["names"])
    regex = b"(?i:" + names + b")" + _BETWEEN + b"(" + table["value"].encode() + b")" + _END
    return _rule(table, regex, table["names"], _ASSIGNMENT, begins_word=True)


@cache
def load() -> tuple[Rule, ...]:
    """Return our rules in the order of the files: when two match the same value, the first names it."""
    made: list[Rule] = []
    for path in FILES:
        tables = tomllib.loads(path.read_text("utf-8"))
        made += [*map(_token, tables.get("token", ())), *map(_assignment, tables.get("assignment", ()))]
    return tuple(sorted(made, key=lambda rule: rule.weak))
