"""Lines of filter lists (EasyList, uBlock Origin, AdGuard, hosts) sorted by who can judge by them.

Theory of operation.  `read` brings every line into one form, with the option names that the `adblock` engine knows, and
says where it goes: to the engine, to our own matcher (`urlmatch`) for what the engine lacks, or nowhere, with the
reason.  A rule is never silently weakened: what cannot be honoured is counted by the name of the option.
"""

import enum
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

#: Characters of a line.  Rules with a thousand domains have 20 000; the expression for options must not meet megabytes.
MAX_LINE: Final = 2**16

#: Characters, and asterisks and separators, of a pattern that our own matcher takes: each costs a comparison.
MAX_PATTERN: Final = 4096
MAX_MARKS: Final = 64


class To(enum.Enum):
    """Where a line goes."""

    ENGINE = "engine"
    OURS = "ours"
    COSMETIC = "cosmetic"       # hides elements of a page: not a matter of requests
    COMMENT = "comment"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Line:
    """A line in our form; `why` says what of an ignored one is not supported."""

    to: To
    text: str = ""
    why: str = ""


COMMENT: Final = Line(To.COMMENT)
COSMETIC: Final = Line(To.COSMETIC)

#: Kinds of requests that rules name, and other names for them (uBlock Origin, AdGuard, Adblock Plus).
TYPES: Final = ("script", "image", "stylesheet", "object", "xmlhttprequest", "subdocument", "ping", "media", "font",
                "websocket", "other", "document")  # fmt: skip
ALIASES: Final = {
    "css": "stylesheet", "frame": "subdocument", "xhr": "xmlhttprequest", "doc": "document", "beacon": "ping",
    "object-subrequest": "object", "mp4": "media", "1p": "first-party", "3p": "third-party", "from": "domain",
    "strict-first-party": "strict1p", "strict-third-party": "strict3p", "background": "image",
}  # fmt: skip
#: Options that only our own matcher honours.
OURS: Final = frozenset({"to", "denyallow", "method", "match-case", "strict1p", "strict3p"})
#: Options that say what to answer in place of the resource, or nothing at all: the rule blocks as it is.
DROPPED: Final = frozenset({"redirect", "rewrite", "empty", "reason", "_"})
#: What other blockers do beside blocking, or with more knowledge than a proxy has: named, not honoured.
ELSEWHERE: Final = frozenset((
    "popup", "popunder", "webrtc", "csp", "permissions", "header", "removeparam", "queryprune", "replace", "urlskip",
    "uritransform", "redirect-rule", "removeheader", "cookie", "hls", "jsonprune", "xmlprune", "stealth", "extension",
    "jsinject", "content", "app", "network", "client", "ctag", "dnstype", "dnsrewrite", "cname", "sitekey",
    "ipaddress", "tag", "genericblock", "inline-script", "inline-font", "referrerpolicy", "urlblock"
))  # fmt: skip
_COSMETIC_OPTIONS: Final = frozenset({"elemhide", "ehide", "generichide", "ghide", "specifichide", "shide"})

_OPTIONS: Final = re.compile(r"\$(~?[\w-]+(?:=[^,]*)?(?:,~?[\w-]+(?:=[^,]*)?)*)$")
_MARK: Final = re.compile(r"#@?[?$%^]*@?#|\$@?\$(?=[a-z\[*])")
_HOSTS: Final = re.compile(r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*(?:%\w+)?)\s+(\S+.*)")
_NAME: Final = re.compile(r"(?:[\w-]{1,63}\.)+[^\W\d_][\w-]{0,62}\.?")
_LOCAL: Final = frozenset({"localhost", "localhost.localdomain", "local", "broadcasthost", "0.0.0.0"})  # noqa: S104
#: Regular expressions that Rust's engine has not: look-around and back-references.
_FANCY: Final = re.compile(r"\(\?[=!<]|\\[1-9]")
#: Escapes that JavaScript allows and Rust does not.
_NEEDLESS: Final = re.compile(r"\\([!=:\"'%,;<>@_` /])")
#: A pattern that ends where a host does, although every URL has a path.
_BARE: Final = re.compile(r"(?:\|?[a-z]+://|\|\|)[^/^*|]+\|")
_ANCHORED: Final = re.compile(r"(?:\|\||\|?[a-z]+://)[^/^*|]*")
_PORT: Final = re.compile(r"\|\|[^/^*:?]+:\d")


def read(line: str, form: str = "auto") -> list[Line]:
    """Return what a line holds: one rule, or as many as a line of a hosts file has names.

    `form` is `adblock`, `hosts`, `domains` (one name a line) or `auto`, which tells hosts lines and rules apart.
    """
    line = line.strip()
    if not line or line[0] == "!" or (line[0] == "[" and line[-1] == "]"):
        return [COMMENT]
    if len(line) > MAX_LINE:
        return [Line(To.IGNORED, why="a line of more than 65536 characters")]
    if line[0] == "#" and (form == "hosts" or not _MARK.match(line)):
        return [COMMENT]
    if form in ("auto", "hosts") and (found := _HOSTS.fullmatch(line)):
        return _names(found[1])
    if form in ("hosts", "domains"):
        return _names(line)
    if ("#" in line or "$$" in line or "$@$" in line) and _MARK.search(line) and not line.startswith(("|", "@@")):
        return [COSMETIC]
    return [_rule(line)]


def _names(text: str) -> list[Line]:
    names = [name for name in text.partition("#")[0].split() if name not in _LOCAL and not name.startswith("ip6-")]
    return [
        Line(To.ENGINE, f"||{name.removeprefix('*.').lower().rstrip('.')}^")
        if _NAME.fullmatch(name.removeprefix("*."))
        else Line(To.IGNORED, why="neither a host name nor a rule")
        for name in names
    ] or [COMMENT]


def text_of(file: Path) -> str:
    """Return the text of a list; ValueError where it is not one, OSError."""
    data = file.read_bytes()
    if b"\0" in data[:4096]:
        raise ValueError("not a text file")
    return data.decode("utf-8-sig", "replace")


def split(rule: str) -> tuple[bool, str, list[str]]:
    """Return whether it is an exception, its pattern, and its options."""
    exception = rule.startswith("@@")
    rule = rule[2:] if exception else rule
    found = _OPTIONS.search(rule) if "$" in rule else None
    if found is None:
        return exception, rule, []
    return exception, rule[: found.start()], found[1].split(",")


def shown(rule: str) -> str:
    """Return a rule in few words, for people."""
    return rule.replace(",".join(TYPES), "all")


def is_regex(pattern: str) -> bool:
    """`/.../` is a regular expression; a path with a slash at each end is one as well, in every list's own reading."""
    return len(pattern) > 2 and pattern[0] == pattern[-1] == "/"


def _rule(line: str) -> Line:
    if "$" not in line and line[0] not in "@/*" and line[-1] != "|" and line.isascii() and not _PORT.match(line):
        return Line(To.ENGINE, line)        # most lines: nothing to translate
    exception, pattern, given = split(line)
    kept: list[str] = []
    ours = _needs_us(pattern)
    for option in given:
        name, told, value = option.partition("=")
        negated, name = name.startswith("~"), name.removeprefix("~").lower()
        name = ALIASES.get(name, name)
        if name in _COSMETIC_OPTIONS:
            return COSMETIC
        if name in DROPPED or not name.strip("_") or (name == "document" and negated):
            continue
        if name == "all":
            kept += TYPES
        elif name in ("popup", "popunder", "webrtc"):       # a proxy sees no window
            if not negated and not any(ALIASES.get(other, other) in (*TYPES, "all") for other in given):
                return Line(To.IGNORED, why=f"${name}")
        elif not _known(name, told, value):
            return Line(To.IGNORED, why=f"${name}")
        else:
            ours = ours or name in OURS or (name == "domain" and ("*" in value or "/" in value))
            ours = ours or (exception and name == "document") or (name == "domain" and is_regex(pattern))
            kept.append("~" * negated + name + told + value)
    if not pattern.strip("*") and not kept:
        return Line(To.IGNORED, why="a rule that covers everything")
    pattern = _as_sent(pattern)
    if is_regex(pattern) and not ours:
        pattern = f"/{_NEEDLESS.sub(r'\1', pattern[1:-1])}/"
    if ours and (len(pattern) > MAX_PATTERN or pattern.count("*") + pattern.count("^") > MAX_MARKS):
        return Line(To.IGNORED, why="a pattern that is too long, or has too many * and ^")
    text = "@@" * exception + pattern + ("$" + ",".join(dict.fromkeys(kept)) if kept else "")
    return Line(To.OURS if ours else To.ENGINE, text)


def _as_sent(pattern: str) -> str:
    """Return a pattern for URLs as they are sent: percent-encoded but for the host, and with a path."""
    if _BARE.fullmatch(pattern):
        return f"{pattern[:-1]}/|"
    if pattern.isascii() or is_regex(pattern):
        return pattern
    host = found[0] if (found := _ANCHORED.match(pattern)) else ""
    return _idna(host) + "".join(char if char.isascii() else quote(char) for char in pattern[len(host) :])


def _idna(anchored: str) -> str:
    start = anchored.rfind("/") + 1 or anchored.rfind("|") + 1
    try:
        return anchored[:start] + anchored[start:].encode("idna").decode("ascii") if anchored[start:] else anchored
    except UnicodeError:
        return anchored


def _known(name: str, told: str, value: str) -> bool:
    if name in ("domain", "to", "denyallow", "method"):
        return bool(value)
    return not told and (name in TYPES or name in OURS
                         or name in ("third-party", "first-party", "important", "badfilter"))  # fmt: skip


def _needs_us(pattern: str) -> bool:
    if is_regex(pattern):
        return bool(_FANCY.search(pattern))
    return bool(_PORT.match(pattern))
