"""The headers of parts and mails (RFC 5322, 2.2; RFC 2045, 5.1; RFC 2231; RFC 8187), where servers agree on them."""

import re
from typing import Final

from addons.decode import Unscannable

_PARAMETER: Final = re.compile(rb""";\s*([^\s;=:"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))""", re.DOTALL)
#: The only form of a boundary in which all agree.
_BOUNDARY: Final = re.compile(rb"""(?i);\s*(boundary)\s*=\s*(?:"[^"\\\s]+(?: [^"\\\s]+)*"|[^\s;,"\\]+)\s*(?:;|\Z)""")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~\w-]+)[ \t]*:[ \t]*(.*)", re.DOTALL)


def parameters(value: bytes) -> dict[str, str]:
    """Return the parameters of a header's value: names in lower case, RFC 8187's `*` and RFC 2231's pieces resolved.

    Raises `Unscannable` if one is given twice with different values: two readers could take two things from it.
    """
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, str]] = {}
    for match in _PARAMETER.finditer(value):
        name, quoted, token = match.groups()
        text = (re.sub(rb'\\(["\\])', rb"\1", quoted) if quoted is not None else token).decode("utf-8", "replace")
        key, _, rest = name.decode("latin-1").lower().partition("*")
        number, extended = rest.rstrip("*"), rest.endswith("*") or name.endswith(b"*")
        if number.isdecimal():
            pieces.setdefault(key, {})[int(number[:4])] = _extended(text) if extended else text
            continue
        text = _extended(text) if extended else text
        if plain.get(key, text) != text and not extended and key == "boundary":
            raise Unscannable("two boundaries are declared")
        if extended or key not in plain:
            plain[key] = text
    return plain | {key: "".join(parts[i] for i in sorted(parts)) for key, parts in pieces.items() if key not in plain}


def _extended(text: str) -> str:
    charset, quote, rest = text.partition("'")
    rest = rest.partition("'")[2] if quote else text
    raw = re.sub("%([0-9A-Fa-f]{2})", lambda m: chr(int(m[1], 16)), rest).encode("latin-1", "replace")
    try:
        return raw.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):
        return raw.decode("utf-8", "replace")


def headers(block: bytes) -> dict[str, bytes]:
    """Return the headers of a part by lower-case name, unfolded; the first of a name counts, as in most servers, but
    of several content types each is told."""
    found: dict[str, bytes] = {}
    for line in re.sub(rb"\r?\n[ \t]+", b" ", block).splitlines():
        if line and (match := _HEADER.fullmatch(line)):
            name = match[1].decode("latin-1").lower()
            if name == "content-type" and name in found:
                found[name] += b", " + match[2]
            found.setdefault(name, match[2])
        elif line:
            raise Unscannable("a part has a malformed header")
    return found


def boundary(declared: bytes) -> str:
    """Return the boundary that all servers take from this; raise `Unscannable` if they could take others.

    PHP takes what follows the first "boundary", whatever stands before that, up to a comma; it knows no backslash.
    """
    known = parameters(declared).get("boundary", "")
    mentioned = re.search(rb"(?i)boundary", declared)
    if mentioned and ((clear := _BOUNDARY.search(declared)) is None or clear.start(1) != mentioned.start()):
        raise Unscannable("a boundary that servers read in different ways")
    return known
