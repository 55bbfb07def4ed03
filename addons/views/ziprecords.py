"""The records of zip archives (PKWARE's APPNOTE.TXT, 4.3), and what their extra fields say."""

import struct
from typing import Final

LOCAL: Final = struct.Struct("<4x5HIIIHH")
CENTRAL: Final = struct.Struct("<4x6HIIIHHHHHII")
END: Final = struct.Struct("<4x4HIIH")


def sizes64(extra: bytes, full: int, size: int, offset: int = 0) -> tuple[int, int, int]:
    """Return sizes and offset, with those that did not fit taken from the extra field (APPNOTE 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = [int.from_bytes(extra[i : i + 8], "little") for i in range(at + 4, at + 4 + length - 7, 8)]
            taken = iter(values)
            full, size, offset = (next(taken, old) if old == 0xFFFFFFFF else old for old in (full, size, offset))
            break
        at += 4 + length
    return full, size, offset


def is_utf8(name: bytes) -> bool:
    try:
        return name.decode().isprintable()
    except ValueError:
        return False
