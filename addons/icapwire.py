"""ICAP messages without I/O (RFC 3507): a request is made, an answer is read as it comes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

#: Bytes of an answer's head, and of the HTTP head inside it; servers' own limits are below.
MAX_HEAD: Final = 64 * 1024
#: Bytes of a chunk's line (RFC 9112, 7.1): the size and extensions that nobody uses.
MAX_LINE: Final = 256

Headers = list[tuple[str, str]]

_STATUS: Final = re.compile(rb"ICAP/1\.\d (\d{3})(?: ([^\r\n]*))?")
_PART: Final = re.compile(r"(req-hdr|res-hdr|req-body|res-body|opt-body|null-body)=(\d{1,8})")


class IcapError(ValueError):
    """The server says what it may not, or too much of it."""


def message(method: str, url: str, host: str, parts: list[tuple[str, bytes]], body: str, headers: Headers) -> bytes:
    """Return the head of an ICAP request and the HTTP heads in it: `parts` are (req-hdr, bytes), (res-hdr, bytes);
    `body` is the name of what follows them, `null-body` if nothing does (RFC 3507, 4.4.1)."""
    offsets, at = [], 0
    for name, data in parts:
        offsets.append(f"{name}={at}")
        at += len(data)
    offsets.append(f"{body}={at}")
    fields = [("Host", host), *headers, ("Encapsulated", ", ".join(offsets))]
    lines = [f"{method} {url} ICAP/1.0", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"".join(data for _, data in parts)


def chunks(data: bytes, size: int = 64 * 1024) -> Iterable[bytes]:
    """Yield the data as chunks, without the last (RFC 9112, 7.1)."""
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


#: The end of a body; and that of a preview which is the whole body (RFC 3507, 4.5).
LAST: Final = b"0\r\n\r\n"
LAST_OF_ALL: Final = b"0; ieof\r\n\r\n"


@dataclass
class Answer:
    """What a server says.  `parts` are the HTTP heads in it; `has_body` says that chunks follow."""

    status: int
    reason: str
    headers: dict[str, str]
    parts: dict[str, bytes] = field(default_factory=dict)
    has_body: bool = False
    lengths: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(cls, head: bytes) -> "Answer":
        """Read a head, up to and with its empty line."""
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        if not (match := _STATUS.fullmatch(first)):
            raise IcapError(f"not an answer of ICAP: {first[:80]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise IcapError(f"not a header: {line[:80]!r}")
            headers[name.lower()] = value.strip()
        answer = cls(int(match[1]), (match[2] or b"").decode("latin-1"), headers)
        answer._measure(headers.get("encapsulated", ""))
        return answer

    def _measure(self, encapsulated: str) -> None:
        """How long the parts are: each begins where the header says, and ends where the next begins."""
        found = [_PART.fullmatch(part.strip()) for part in encapsulated.split(",")] if encapsulated else []
        places = [(match[1], int(match[2])) for match in found if match]
        if len(places) != len(found):
            raise IcapError(f"not a value of Encapsulated: {encapsulated[:80]!r}")
        ends = [at for _, at in places]
        if ends != sorted(ends) or any(at > MAX_HEAD for at in ends) or (ends and ends[0] != 0):
            raise IcapError(f"the parts of {encapsulated[:80]!r} are not in order, or too long")
        self.lengths = tuple((name, ends[i + 1] - at) for i, (name, at) in enumerate(places[:-1]))
        self.has_body = bool(places) and places[-1][0].endswith("-body") and places[-1][0] != "null-body"
        if any(name.endswith("-body") for name, _ in self.lengths):
            raise IcapError("a body that is not the last part")

    @property
    def why(self) -> str:
        """What the server found, by the headers that servers use for it (draft-stecher-icap-subid, and practice)."""
        for name in ("x-infection-found", "x-violations-found", "x-virus-id", "x-block-reason", "x-response-info"):
            if value := self.headers.get(name):
                threat = re.search(r"Threat=([^;]+)", value)
                return " ".join((threat[1] if threat else value).split())[:200]
        return ""


def http_head(start: str, fields: Sequence[tuple[bytes, bytes]], length: int = 0) -> bytes:
    """Return an HTTP/1.1 head for a part, without what belongs to a connection (RFC 3507, 4.4.2).

    A `length` is said where the message had chunks or frames instead: some services take it for empty else.
    """
    kept = [name + b": " + value for name, value in fields
            if name.lower() not in (b"connection", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"te",
                                    b"trailer", b"upgrade", b"proxy-authorization")]
    if length and not any(name.lower() == b"content-length" for name, _ in fields):
        kept.append(b"content-length: %d" % length)
    return b"\r\n".join([start.encode("latin-1", "replace"), *kept, b"", b""])
