"""Canary tokens: values that nobody has a reason to send.  Where one appears, something has leaked or been stolen."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mitmproxy import http

from addons.connection import Connection
from addons.leaks import MOST, Finder, Finds, LeakFilter, asked
from addons.listed import listed
from addons.names import normal, parents
from addons.scan import Pattern, PatternSet
from addons.verdict import Action, Finding, Verdict, alert

#: Characters of a value: fewer would be met by chance; more do not fit what a scanner keeps.
SHORTEST: Final = 8
LONGEST: Final = 512
#: Values of one filter.
MOST_VALUES: Final = 10_000
_NAME: Final = re.compile(r"(?P<value>.+?)(?:\s+#\s*(?P<name>.+))?")
_HOST: Final = re.compile(r"(?=.{4,253}\Z)(?:[\w-]{1,63}\.)+[a-zA-Z][\w-]{1,62}")
_WORD: Final = rb"[0-9A-Za-z_]"


@dataclass
class Canary(LeakFilter):
    """Values whose appearance anywhere is a finding: in the URL, every header, body, WebSocket message or host name.

    `values`, and one a line in each of `lists`: any text of 8 characters and more, in any case; after ` # ` may stand a
    name by which the verdict calls it: `AKIA... # laptop of the lab`.  A host is found in texts, and where one connects
    to it or to a name below it.  `lockgate canary` makes fresh values.  Authorization and Cookie are searched as well.
    """

    values: tuple[str, ...] = ()
    lists: tuple[Path, ...] = ()
    credentials_headers: bool = field(default=True, kw_only=True)
    files: list[Path] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.files = list(self.lists)
        found = [(f"values[{i}]", value) for i, value in enumerate(self.values)]
        found += [(f"{path}:{i}", value) for path in self.lists for i, value in listed(path)]
        if not 1 <= len(found) <= MOST_VALUES:
            raise ValueError(f"values, lists: between 1 and {MOST_VALUES} values, please")
        patterns, self._hosts = list[Pattern](), dict[str, str]()
        for place, line in found:
            try:
                patterns.append(self._pattern(line))
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        self._patterns = PatternSet(patterns)

    def _pattern(self, line: str) -> Pattern:
        match = _NAME.fullmatch(line.strip())
        value = match["value"] if match else ""
        if not SHORTEST <= len(value.encode()) <= LONGEST:
            raise ValueError(f"a value has {SHORTEST} to {LONGEST} characters")
        name = (match["name"] if match else "") or f"{value[:4]}…"
        if _HOST.fullmatch(value):
            self._hosts[normal(value)] = name
        plain = value.encode()
        before = rb"(?<!%b)" % _WORD if re.match(_WORD, plain) else b""
        after = rb"(?!%b)" % _WORD if re.match(_WORD, plain[-1:]) else b""
        exact = rb"(?i)" + _escaped(plain)
        words = tuple({re.sub(rb"[^\x00-\x7f].*", b"", plain).lower()} - {b""})
        return Pattern(name, b"(?i)" + before + _escaped(plain) + after, words, longest=LONGEST + 2, trigger=exact)

    def scanner(self, where: str = "body") -> Finds:
        return Finder(self._patterns, _kind, where)

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        reason = f"canary in the request: {found[-1].rule} in {found[-1].where}"
        return Verdict(self._action, reason, tuple(found[-MOST:]))

    def connection(self, conn: Connection) -> Verdict | None:
        """Someone connects to the host of a canary; an action of alert is one here, too."""
        return self._host(conn.host or conn.address[0])

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        return self._host(asked(flow)) or super().requestheaders(flow)

    def _host(self, host: str) -> Verdict | None:
        name = next((self._hosts[each] for each in parents(host) if each in self._hosts), None)
        if name is None:
            return None
        reason = f"canary: a connection to its host, {name}"
        return alert(reason) if self._action is Action.ALERT else Verdict(self._action, reason)


def _escaped(value: bytes) -> bytes:
    return b"".join(rb"\x%02x" % byte if not chr(byte).isalnum() or byte > 127 else bytes((byte,)) for byte in value)


def _kind(_name: str) -> str:
    return "canary"
