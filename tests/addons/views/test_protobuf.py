"""A value stands alone, whatever length or tag is written before it."""

import gzip
import os

import pytest

from addons.views.protobuf import fields, lengths
from tests.addons.conftest import SIZES
from tests.addons.views.collect import read

CARD = b"4111111111111111" * 3     # of 48 characters: its length is the digit 0


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


DEEP = field(1, 7) + field(2, field(3, field(700, CARD) + field(4, 1 << 60)))
PROTO = "application/x-protobuf"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "declared", "strings"), [
    pytest.param(field(1, CARD), PROTO, [CARD], id="a string"),
    pytest.param(field(1, CARD) + field(2, b"next"), PROTO, [CARD, b"next"], id="two"),
    pytest.param(field(1, "Grüße an alle".encode()), PROTO, ["Grüße an alle".encode()], id="UTF-8"),
    pytest.param(DEEP, PROTO, [CARD], id="messages in a message"),
    pytest.param(b"\x0d1234" + b"\x09" + bytes(8) + field(1, CARD), PROTO, [CARD], id="fixed-size numbers"),
    pytest.param(b"\0\xd9" + bytes([len(CARD)]) + CARD, "", [CARD], id="MessagePack"),
    pytest.param(b"\0\x78" + bytes([len(CARD)]) + CARD, "", [CARD], id="CBOR"),
    pytest.param(b"\0" + bytes([2 * len(CARD)]) + CARD, "", [CARD], id="Avro"),
    pytest.param(bytes(9) + field(4, CARD) + field(5, b"another text of somewhat more length"), "application/octet-stream", [CARD, b"another text of somewhat more length"], id="undeclared protobuf"),
])
def test_strings(body, declared, strings, size):
    heard = read(body, size, declared)
    assert not heard.refused
    assert set(strings) <= set(heard.texts["body > strings"].split(b"\0"))
    assert heard.texts["body"] == body


@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
def test_a_large_field_is_a_view_of_its_own(size):
    body = field(1, field(2, CARD) + field(3, b"x" * 100_000)) + field(4, CARD)
    heard = read(body, size, PROTO)
    assert CARD in heard.texts["body > field > strings"].split(b"\0")
    assert CARD in heard.texts["body > strings"].split(b"\0")


@pytest.mark.parametrize("size", SIZES)
def test_a_file_in_a_field_is_read(size):
    heard = read(field(1, gzip.compress(CARD * 9)), size, PROTO)
    assert heard.texts["body > field > gzip"] == CARD * 9


def test_what_is_no_protobuf_is_no_error():
    for size in SIZES:
        assert not read(b"\xff" * 5000 + os.urandom(5000), size, PROTO).refused


def test_fields_in_fields_without_end_are_bounded():
    nested = b"abcd"
    for _ in range(11):
        nested = field(1, nested)
    assert [why for _, why in read(nested * 5000, 1000, PROTO).refused if "too many small fields" in why]
    assert not read(field(1, field(2, b"Jane Doe") + field(3, 17)) * 5000, 1000, PROTO).refused


@pytest.mark.parametrize(("data", "expected"), [
    (b"", []), (b"\x08\x01", []), (b"\x0a\x01a", [(2, 3)]), (b"\x0a\x05a", None), (b"\x0a", None), (b"\x00\x01", None), (b"\x0f", None),
    (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
])
def test_fields(data, expected):
    assert fields(data) == expected


@pytest.mark.parametrize(("run", "expected"), [
    (b"0" + b"4" * 48, [b"4" * 48]), (b"ab0" + b"4" * 48, [b"4" * 48]), (b"`" + b"4" * 48, [b"4" * 48]),
    (b"!" + b"a" * 33 + b"*!" + b"b" * 33, [b"a" * 33, b"b" * 33]),
])
def test_lengths(run, expected):
    assert set(expected) <= set(lengths(run))


@pytest.mark.parametrize("run", [b"hello world", b"abcd0" + b"4" * 48])
def test_no_length(run):
    assert b"4" * 48 not in list(lengths(run))


def test_lengths_are_bounded():
    assert sum(map(len, lengths(b"!" * 126))) < 20 * 126
