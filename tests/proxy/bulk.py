"""Large request bodies with a value in their last bytes, made as they are sent.

Each maker takes the size of the text and yields chunks of the body as it is on the wire; after `PLACE` comes what says
the value: nothing of that may arrive.
"""

import base64
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Final

VALUE: Final = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
#: Yielded before the chunk in which the value begins.
PLACE: Final = b""
CHUNK: Final = 64 * 1024
END: Final = b" aws_key = " + VALUE + b"\n"


def text(size: int) -> Iterator[bytes]:
    """Words that find no filter's interest."""
    rng = random.Random(5)
    words = [bytes(rng.choices(b"etaoinshrdlucmfw", k=rng.randint(6, 9))) for _ in range(2000)]
    block = b" ".join(rng.choices(words, k=200_000))[: 16 * CHUNK]
    pieces = [block[at : at + CHUNK] for at in range(0, len(block), CHUNK)]
    for number in range(size // CHUNK):
        yield pieces[number % len(pieces)]


def plain(size: int) -> Iterator[bytes]:
    yield from text(size)
    yield PLACE
    yield END


def gzipped(size: int) -> Iterator[bytes]:
    yield from packed(size, zlib.compressobj(1, wbits=31))


def packed(size: int, squeeze: "zlib._Compress") -> Iterator[bytes]:
    for piece in text(size):
        yield squeeze.compress(piece) or b""
    yield squeeze.flush(zlib.Z_SYNC_FLUSH)
    yield PLACE
    yield squeeze.compress(END) + squeeze.flush()


def multipart(size: int) -> Iterator[bytes]:
    yield b'--xyz\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--xyz\r\n' \
          b'content-disposition: form-data; name="f"; filename="notes.txt"\r\ncontent-type: text/plain\r\n\r\n'
    yield from plain(size)
    yield b"\r\n--xyz--\r\n"


def zipped(size: int) -> Iterator[bytes]:
    """One entry, deflated, of a size that its local header does not know."""
    head = b"\x14\0\x08\0\x08\0\0\0!X"
    yield b"PK\3\4" + head + bytes(12) + b"\x09\0\0\0notes.txt"
    crc = length = out = 0
    for raw in plain(size):
        crc, length = zlib.crc32(raw, crc), length + len(raw)
    for piece in packed(size, zlib.compressobj(1, wbits=-15)):
        out += len(piece)
        yield piece
    small = min(length, 0xFFFFFFFF), min(out, 0xFFFFFFFF)
    sizes = small[1].to_bytes(4, "little") + small[0].to_bytes(4, "little")
    yield b"PK\7\x08" + crc.to_bytes(4, "little") + sizes
    entry = b"PK\1\2\x14\0" + head + crc.to_bytes(4, "little") + sizes + b"\x09\0" + bytes(16) + b"notes.txt"
    start = 39 + out + 16
    yield entry + b"PK\5\6\0\0\0\0\1\0\1\0" + len(entry).to_bytes(4, "little") + min(start, 2**32 - 1).to_bytes(4, "little") + b"\0\0"


def base64_json(size: int) -> Iterator[bytes]:
    yield b'{"name": "notes.txt", "content": "'
    kept = b""
    for piece in text(size):
        whole = len(kept + piece) // 3 * 3
        yield base64.b64encode((kept + piece)[:whole])
        kept = (kept + piece)[whole:]
    yield PLACE
    yield base64.b64encode(kept + END)
    yield b'", "n": 1}'


#: name: (headers, maker)
BODIES: Final[dict[str, tuple[tuple[tuple[str, str], ...], Callable[[int], Iterator[bytes]]]]] = {
    "plain": ((("content-type", "text/plain"),), plain),
    "gzip": ((("content-type", "text/plain"), ("content-encoding", "gzip")), gzipped),
    "multipart": ((("content-type", "multipart/form-data; boundary=xyz"),), multipart),
    "zip": ((("content-type", "application/zip"),), zipped),
    "base64 in JSON": ((("content-type", "application/json"),), base64_json),
}
