"""Who may use an explicit proxy that listens for other computers: names and passwords, kept as hashes.

A file of lines `NAME:HASH`, as `lockgate proxy-user NAME` prints them; `HASH` is scrypt's in the PHC string format,
`$scrypt$ln=14,r=8,p=1$SALT$DIGEST`, base64 without padding.  Clients send the password in clear (RFC 7617; RFC 1929):
the hashes only protect the file.
"""

import argparse
import asyncio
import base64
import binascii
import getpass
import hashlib
import hmac
import re
import secrets
import sys
from collections import OrderedDict
from dataclasses import dataclass

from proxy.options import UsageError

#: Cost of our hashes: 2^14 rounds on 16 MB, some 30 ms (RFC 7914, 2).  Others are read up to 2^17: 128 MB.
COST, BLOCK, PARALLEL, MAX_COST = 14, 8, 1, 17
#: Hashes computed at once: who guesses passwords gets no more of the computer than this.
MAX_AT_ONCE = 2
#: Pairs that have proved good and need no second computation; a client sends its own with every connection.
MAX_KNOWN = 256
#: Bytes of a name, and of a password: what SOCKS can carry (RFC 1929, 2).
MAX_TEXT = 255

_NAME = re.compile(r"[!-9;-~]{1,64}")       # printable, without the colon that ends it in HTTP (RFC 7617, 2)
_HASH = re.compile(r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9])\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43})")


@dataclass(frozen=True, slots=True)
class Hash:
    """scrypt's parameters and result; `cost` is the logarithm of N."""

    cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    def fits(self, password: bytes) -> bool:
        found = _scrypt(password, self.salt, self.cost, self.block, self.parallel)
        return hmac.compare_digest(found, self.digest)


def _scrypt(password: bytes, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    memory = 128 * block * (2**cost + parallel + 2)
    return hashlib.scrypt(password, salt=salt, n=2**cost, r=block, p=parallel, maxmem=2 * memory, dklen=32)


#: Compared with where nobody has the name, so that the time does not tell.
_NOBODY = Hash(COST, BLOCK, PARALLEL, bytes(16), bytes(32))


def hashed(password: bytes) -> str:
    """Return a line's second part for a password."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, COST, BLOCK, PARALLEL)
    parts = (base64.b64encode(each).decode().rstrip("=") for each in (salt, digest))
    return f"$scrypt$ln={COST},r={BLOCK},p={PARALLEL}$" + "$".join(parts)


def parse(text: str) -> dict[bytes, Hash]:
    """Read a file of users; blank lines and those that begin with # say nothing.  Raises ValueError for a bad line."""
    users: dict[bytes, Hash] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        match = _HASH.fullmatch(rest)
        if not _NAME.fullmatch(name) or match is None:
            raise ValueError(f"line {number}: not NAME:HASH as `lockgate proxy-user NAME` prints it")
        cost, block, parallel = (int(match[i]) for i in (1, 2, 3))
        if not (10 <= cost <= MAX_COST and 1 <= block <= BLOCK and parallel >= 1):
            raise ValueError(f"line {number}: scrypt with ln={cost},r={block},p={parallel} is too weak or too costly")
        if name.encode() in users:
            raise ValueError(f"line {number}: {name} is there twice")
        salt, digest = (base64.b64decode(match[i] + "=" * (-len(match[i]) % 4)) for i in (4, 5))
        users[name.encode()] = Hash(cost, block, parallel, salt, digest)
    if not users:
        raise ValueError("it names nobody, so nobody could use the proxy")
    return users


class Admission:
    """Knows who may come in.  The computation runs in a thread, and good pairs are remembered by a keyed digest."""

    def __init__(self, users: dict[bytes, Hash]) -> None:
        self._users = users
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def good(self, user: bytes, password: bytes) -> bool:
        """May they use the proxy?"""
        if len(user) > MAX_TEXT or len(password) > MAX_TEXT:
            return False
        mark = hmac.digest(self._key, len(user).to_bytes(2) + user + password, "sha256")
        if mark in self._known:
            return True
        expected = self._users.get(user)
        async with self._slots:
            fits = await asyncio.to_thread((expected or _NOBODY).fits, password)
        if not fits or expected is None:
            return False
        self._known[mark] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True


def basic(value: str) -> tuple[bytes, bytes] | None:
    """The name and the password of a `Proxy-Authorization` field (RFC 7617, 2); None where it has none."""
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(token.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def proxy_user(arguments: argparse.Namespace) -> int:
    """Print the line of the file `capture.proxy_users` for a user; asks for the password, or reads it from a pipe.

    example:
      lockgate proxy-user alice >> proxy-users
    """
    if not _NAME.fullmatch(arguments.proxy_user):
        raise UsageError("a name has 1 to 64 printable ASCII characters, no space and no colon")
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
        if getpass.getpass("once more: ") != password:
            raise UsageError("these are two different passwords")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not 0 < len(password.encode()) <= MAX_TEXT:
        raise UsageError(f"a password has 1 to {MAX_TEXT} bytes")
    print(f"{arguments.proxy_user}:{hashed(password.encode())}")
    return 0
