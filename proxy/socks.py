"""SOCKS without I/O: what a client says to a proxy, what a proxy answers, from both ends.

Version 5 (RFC 1928) with names and passwords (RFC 1929); versions 4 and 4a (the memos by Ying-Da Lee, NEC) of clients
only.  A reader takes all bytes that came so far and returns its message, or None as long as that is incomplete; `size`
is how many of the bytes it took: the rest belong to what follows.
"""

import ipaddress
import struct
from enum import IntEnum
from typing import NamedTuple

VERSION4, VERSION5 = 4, 5
#: Methods of authentication (RFC 1928, 3).
NO_AUTHENTICATION, PASSWORD, NONE_ACCEPTABLE = 0, 2, 0xFF
#: Kinds of addresses (RFC 1928, 5), and the bytes of those whose length is fixed.
IPV4, NAME, IPV6 = 1, 3, 4
LENGTHS = {IPV4: 4, IPV6: 16}
#: The one command that we know; others are BIND (2) and UDP ASSOCIATE (3).
CONNECT = 1
#: Version of the dialogue about passwords, and its good end (RFC 1929, 2).
LOGIN, WELCOME = 1, 0
#: Bytes of a text of SOCKS 4, which only a NUL ends: as many as the longest name of version 5 has.
MAX_TEXT = 255
#: Replies of version 4: done, and refused for whatever reason.
GRANTED4, REJECTED4 = 90, 91


class Reply(IntEnum):
    """How a proxy answers a request (RFC 1928, 6)."""

    DONE = 0
    FAILED = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    EXPIRED = 6
    NO_SUCH_COMMAND = 7
    NO_SUCH_ADDRESS_KIND = 8


class Malformed(ValueError):
    """It is no SOCKS, or a SOCKS that asks for what there is not: `reply` is the answer it deserves."""

    def __init__(self, message: str, reply: Reply = Reply.FAILED) -> None:
        super().__init__(message)
        self.reply = reply


class Greeting(NamedTuple):
    """The methods of authentication that a client knows."""

    methods: bytes
    size: int


class Login(NamedTuple):
    """A name and a password, as bytes."""

    user: bytes
    password: bytes
    size: int


class Request(NamedTuple):
    """A wish for a connection.  `host` is an address as text, or a name as the client wrote it, not checked."""

    host: str
    port: int
    size: int


# -- what clients say

def greeting(data: bytes) -> Greeting | None:
    """VER, NMETHODS, METHODS."""
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    return Greeting(data[2 : 2 + data[1]], 2 + data[1])


def login(data: bytes) -> Login | None:
    """VER, ULEN, UNAME, PLEN, PASSWD (RFC 1929, 2).  Raises Malformed for another version."""
    if data and data[0] != LOGIN:
        raise Malformed(f"version {data[0]} of the dialogue about passwords is unknown")
    if len(data) < 2 or len(data) < 3 + data[1]:
        return None
    end = 2 + data[1]
    size = end + 1 + data[end]
    return Login(data[2:end], data[end + 1 : size], size) if len(data) >= size else None


def request(data: bytes) -> Request | None:
    """VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT.  Raises Malformed for what is no CONNECT to an address that we know."""
    if data and data[0] != VERSION5:
        raise Malformed(f"a request of version {data[0]} in a dialogue of version {VERSION5}")
    if len(data) < 5:
        return None
    if data[1] != CONNECT:
        raise Malformed(f"SOCKS command {data[1]} is not served, only CONNECT", Reply.NO_SUCH_COMMAND)
    if (place := _place(data)) is None:
        return None
    host, size = place
    if len(data) < size + 2:
        return None
    return Request(host, int.from_bytes(data[size : size + 2]), size + 2)


def request4(data: bytes) -> Request | None:
    """VN, CD, DSTPORT, DSTIP, USERID, NUL; with 0.0.0.x for an address also a name and NUL (4a)."""
    if len(data) < 9:
        return None
    if data[1] != CONNECT:
        raise Malformed(f"SOCKS command {data[1]} is not served, only CONNECT", Reply.NO_SUCH_COMMAND)
    port, address = struct.unpack_from("!H4s", data, 2)
    if (end := _text4(data, 8)) is None:
        return None
    if address[:3] != b"\0\0\0" or address[3] == 0:
        return Request(str(ipaddress.IPv4Address(address)), port, end + 1)
    start = end + 1
    if (end := _text4(data, start)) is None:
        return None
    return Request(_name(data[start:end]), port, end + 1)


def _text4(data: bytes, start: int) -> int | None:
    """Where the text ends that begins there; None if that is not known yet."""
    end = data.find(b"\0", start)
    if (end if end >= 0 else len(data)) - start > MAX_TEXT:
        raise Malformed(f"a text of more than {MAX_TEXT} bytes")
    return None if end < 0 else end


def _place(data: bytes) -> tuple[str, int] | None:
    """The address of a request or of an answer, from its fourth byte on, and where it ends."""
    kind = data[3]
    if kind == NAME:
        end = 5 + data[4]
        return (_name(data[5:end]), end) if len(data) >= end else None
    if kind not in LENGTHS:
        raise Malformed(f"addresses of kind {kind} are unknown", Reply.NO_SUCH_ADDRESS_KIND)
    end = 4 + LENGTHS[kind]
    return (str(ipaddress.ip_address(data[4:end])), end) if len(data) >= end else None


def _name(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("a host's name is not ASCII") from None


# -- what a proxy answers

def method(chosen: int) -> bytes:
    """The method of authentication that holds, of those offered."""
    return bytes((VERSION5, chosen))


def logged_in(*, welcome: bool) -> bytes:
    """RFC 1929, 2: anything but 0 is a failure, and the connection must be closed."""
    return bytes((LOGIN, WELCOME if welcome else 1))


def answer(reply: Reply) -> bytes:
    """An answer of version 5.  What it is bound to is of no use to the client of a CONNECT: 0.0.0.0:0."""
    return bytes((VERSION5, reply, 0, IPV4)) + bytes(6)


def answer4(reply: Reply) -> bytes:
    """An answer of version 4."""
    return bytes((0, GRANTED4 if reply is Reply.DONE else REJECTED4)) + bytes(6)


# -- from the other end: our words to a proxy, and how to read its answers

def our_greeting(*, password: bool) -> bytes:
    """With a password to give; it is given where the proxy asks for it."""
    methods = bytes((NO_AUTHENTICATION, PASSWORD)) if password else bytes((NO_AUTHENTICATION,))
    return bytes((VERSION5, len(methods))) + methods


def our_login(user: bytes, password: bytes) -> bytes:
    """Raises ValueError for what does not fit: 1 to 255 bytes each."""
    if not (0 < len(user) <= 255 and 0 < len(password) <= 255):
        raise ValueError("SOCKS takes names and passwords of 1 to 255 bytes")
    return bytes((LOGIN, len(user))) + user + bytes((len(password),)) + password


def our_request(host: str, port: int) -> bytes:
    """Ask for a connection to an address, or to a name that the proxy looks up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if not 0 < len(name) <= 255:
            raise ValueError(f"{host[:40]!r}... is too long a name for SOCKS") from None
        return bytes((VERSION5, CONNECT, 0, NAME, len(name))) + name + port.to_bytes(2)
    kind = IPV4 if address.version == 4 else IPV6
    return bytes((VERSION5, CONNECT, 0, kind)) + address.packed + port.to_bytes(2)


def rest(data: bytes) -> int:
    """How many bytes of the answer to our request are still to come, at least; 0: it is complete.

    Asking for just these, nothing is read of what the origin says behind it.  Raises Malformed.
    """
    if len(data) < 5:
        return 5 - len(data)
    if data[0] != VERSION5:
        raise Malformed("its answer is no SOCKS 5")
    length = 1 + data[4] if data[3] == NAME else LENGTHS.get(data[3], 0)
    if not length:
        raise Malformed(f"its answer has an address of kind {data[3]}")
    return 4 + length + 2 - len(data)


def said(reply: int) -> str:
    """What a reply means, for people; completes "the upstream proxy ...": RFC 1928, 6."""
    words = {Reply.FAILED: "failed", Reply.NOT_ALLOWED: "does not allow that connection",
             Reply.NETWORK_UNREACHABLE: "cannot reach that network", Reply.HOST_UNREACHABLE: "cannot reach that host",
             Reply.REFUSED: "was refused by that host", Reply.EXPIRED: "got no answer from that host in time",
             Reply.NO_SUCH_COMMAND: "knows no CONNECT", Reply.NO_SUCH_ADDRESS_KIND: "knows no such addresses"}
    return words[Reply(reply)] if reply in set(words) else f"answered {reply}, which means nothing"
