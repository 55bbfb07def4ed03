"""Bodies are decoded in bounded pieces; what is not whole and sound is unscannable."""

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from addons.decode import FREE, PIECE, Decoder, Unscannable, decoder

DATA = os.urandom(9_000) + b"hello " * 50_000


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def halves(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: compress(data[: len(data) // 2]) + compress(data[len(data) // 2 :])


def aws_chunked(data: bytes) -> bytes:
    chunks = [data[at : at + 7000] for at in range(0, len(data), 7000)]
    return b"".join(b"%x;chunk-signature=%064x\r\n%b\r\n" % (len(each), 5, each) for each in chunks) + (
        b"0;chunk-signature=%064x\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n" % 6)


CODINGS = [
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("X-GZIP", gzip.compress, id="x-gzip"),
    pytest.param("gzip", halves(gzip.compress), id="gzip, two members"),
    pytest.param("deflate", zlib.compress, id="deflate, zlib"),
    pytest.param("deflate", raw_deflate, id="deflate, raw"),
    pytest.param("br", brotli.compress, id="br"),
    pytest.param("zstd", zstandard.compress, id="zstd"),
    pytest.param("zstd", halves(zstandard.compress), id="zstd, two frames"),
    pytest.param("gzip, br", lambda data: brotli.compress(gzip.compress(data)), id="stacked"),
    pytest.param("aws-chunked", aws_chunked, id="aws-chunked"),
    pytest.param("aws-chunked,gzip", lambda data: aws_chunked(gzip.compress(data)), id="aws-chunked, said first"),
    pytest.param("gzip,identity, gzip", lambda data: gzip.compress(gzip.compress(data)), id="twice"),
]


def decode(body: Decoder, *chunks: bytes) -> bytes:
    pieces = [piece for chunk in chunks for piece in body.feed(chunk)] + list(body.end())
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_decodes(coding: str, compress: Callable[[bytes], bytes], size: int) -> None:
    body = compress(DATA)
    assert decode(decoder(coding), *(body[at : at + size] for at in range(0, len(body), size))) == DATA


@pytest.mark.parametrize("coding", ["", "identity", "IDENTITY", " , "])
def test_identity_is_cut_into_pieces(coding: str) -> None:
    assert decode(decoder(coding), DATA, b"x") == DATA + b"x"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, br"])
def test_no_body_is_no_error(coding: str) -> None:
    assert decode(decoder(coding)) == b""


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda body: body[:-2], id="cut short"),
        pytest.param(lambda body: body[:1], id="one byte"),
        pytest.param(lambda body: body + b"trailing", id="trailing garbage"),
        pytest.param(lambda body: body[:-30] + b"\xff" * 30, id="corrupt"),
        pytest.param(lambda _: b"\xfe" + b"not compressed at all", id="not in this coding"),
    ],
)
@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_unsound_bodies(coding: str, compress: Callable[[bytes], bytes], spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Unscannable):
        decode(decoder(coding), spoil(compress(DATA)))


@pytest.mark.parametrize(
    ("coding", "says"),
    [
        ("compress", "unknown content coding 'compress'"),
        ("gzip;q=1", "unknown"),
        ("gzip, gzip, gzip, gzip", "more than 3"),
    ],
)
def test_codings_that_are_refused(coding: str, says: str) -> None:
    with pytest.raises(Unscannable, match=says):
        decoder(coding)


BOMB = bytes(FREE + 8 * 1024 * 1024)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", gzip.compress(BOMB), id="gzip"),
        pytest.param("br", brotli.compress(BOMB, quality=1), id="br"),
        pytest.param("zstd", zstandard.compress(BOMB), id="zstd"),
        pytest.param("gzip, br", brotli.compress(gzip.compress(BOMB)), id="bomb in the inner layer"),
    ],
)
def test_bombs_stop_in_bounded_memory(coding: str, body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Unscannable, match="inflates"):
            for _ in decoder(coding).feed(body):
                pass
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_what_inflates_little_may_be_large() -> None:
    block = os.urandom(1024 * 1024)
    body, compressor, size = decoder("gzip"), zlib.compressobj(1, wbits=31), 0
    for _ in range(FREE // len(block) + 2):
        size += sum(map(len, body.feed(compressor.compress(block))))
    size += sum(map(len, body.feed(compressor.flush())))
    assert size > FREE


@pytest.mark.parametrize("body", [b"hello world\r\n", b"5\r\nabcdefg\r\n0\r\n\r\n", b"5\r\nabc", b"5\r\nabcde\r\n",
                                  b"0\r\n\r\nmore\r\n", b"-1\r\n", b"5" * 2000])
def test_aws_chunks_that_are_none(body: bytes) -> None:
    with pytest.raises(Unscannable):
        decode(decoder("aws-chunked"), body)
