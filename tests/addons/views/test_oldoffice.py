"""Old documents say what they say; encrypted ones say that they are."""

import struct

import pytest

from tests.addons.conftest import SIZES
from tests.addons.views.collect import read

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
LONG = "Every word of a long text, ".encode("utf-16-le") * 500


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "text"), [
    pytest.param(OLE + "a secret".encode("utf-16-le") + bytes(99), b"a secret", id="UTF-16"),
    pytest.param(OLE + b"\1" + "a secret".encode("utf-16-le"), b"a secret", id="at an odd place, at the end"),
    pytest.param(OLE + "Größe Привет".encode("utf-16-le") + bytes(9), "Größe Привет".encode(), id="other scripts"),
    pytest.param(OLE + LONG + bytes(9), LONG.decode("utf-16-le").encode(), id="long"),
    pytest.param(OLE + "one text".encode("utf-16-le") + bytes(20) + "another".encode("utf-16-le"), b"one text\0another", id="two"),
])
def test_strings(body, text, size):
    heard = read(body, size)
    assert not heard.refused
    assert text in heard.texts["body > strings"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mark", [
    pytest.param("EncryptedPackage".encode("utf-16-le"), id="a package"),
    pytest.param(b"\xec\xa5\xc1\0" + bytes(6) + struct.pack("<H", 0x0100 | 0x12), id="Word"),
    pytest.param(b"\x09\x08\x10\0\0\6\5\0" + bytes(12) + b"\x2f\0\x36\0", id="Excel"),
])
def test_encrypted(mark, size):
    assert [why for _, why in read(OLE + bytes(300) + mark + bytes(300), size).refused if "encrypted" in why]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "text"), [
    (rb"{\rtf1\ansi 4111\b 1111\b0 1111 x}", "411111111111 x"),
    (rb"{\rtf1 a\par b\tab c\'e4\u8364?d\u8364\'80e\\\{\}}", "a\nb\tcä€d€e\\{}"),
    (b"{\\rtf1 a\r\nb\\~c\\_d\\\ne}", "ab c-d\ne"),
])
def test_rtf(body, text, size):
    heard = read(body, size)
    assert not heard.refused
    assert heard.texts["body > text"].decode() == text
