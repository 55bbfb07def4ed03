"""Every part is a view, however the body is cut, nested or spelled."""

import base64
import quopri

import pytest

from addons.views.fields import parameters
from tests.addons.conftest import SIZES
from tests.addons.views.collect import read

FORM = "multipart/form-data; boundary=XX"


def part(content: bytes, *lines: str, boundary: str = "XX", end: bytes = b"\r\n") -> bytes:
    head = [f"--{boundary}".encode(), *(line.encode() for line in lines), b"", content]
    return end.join(head) + end


BODY = (
    part(b"one", 'Content-Disposition: form-data; name="a"')
    + part(b"", 'Content-Disposition: form-data; name="empty"')
    + part(b"tw\r\no\r\n", 'Content-Disposition: form-data; name="f"; filename="x.txt"', "Content-Type: text/plain")
    + b"--XX--\r\n"
)
FIELD = 'Content-Disposition: form-data; name="a"'
INNER = b"--YY\r\n\r\ndeep\r\n--YY--"

CASES = [
    pytest.param(BODY, FORM, {"multipart[1]": b"one", "multipart[3]": b"tw\r\no\r\n",
                              "multipart[3] > headers": b'Content-Disposition: form-data; name="f"; filename="x.txt"\r\nContent-Type: text/plain'}, id="form"),
    pytest.param(BODY.replace(b"\r\n", b"\n"), FORM, {"multipart[1]": b"one", "multipart[3]": b"tw\no\n"}, id="bare line feeds"),
    pytest.param(BODY, "text/plain", {"multipart[1]": b"one"}, id="declared as something else"),
    pytest.param(BODY, "multipart/mixed", {"multipart[1]": b"one"}, id="no boundary declared"),
    pytest.param(b"before\r\n" + BODY + b"after", FORM, {"preamble": b"before", "multipart[1]": b"one", "epilogue": b"after"}, id="preamble and epilogue"),
    pytest.param(part(b"a\r\n--XXY\r\n--X\r\nb", FIELD) + b"--XX--", FORM, {"multipart[1]": b"a\r\n--XXY\r\n--X\r\nb"}, id="nearly delimiters"),
    pytest.param(part(b"cut", FIELD)[:-2], FORM, {"multipart[1]": b"cut"}, id="no last delimiter"),
    pytest.param(part(b"one", FIELD).replace(b"--XX", b"--XX \t ") + b"--XX--", FORM, {"multipart[1]": b"one"}, id="padding"),
    pytest.param(part(INNER, "Content-Type: multipart/mixed;\r\n boundary=YY") + b"--XX--", FORM, {"multipart[1]": INNER, "multipart[1] > multipart[1]": b"deep"}, id="nested, folded header"),
    pytest.param(part(base64.encodebytes(b"secret" * 20), "Content-Transfer-Encoding: BASE64") + b"--XX--", FORM, {"multipart[1] > base64": b"secret" * 20}, id="base64"),
    pytest.param(part(quopri.encodestring("ä=secret \n \nx".encode() * 9), "Content-Transfer-Encoding: quoted-printable") + b"--XX--", FORM, {"multipart[1] > quoted-printable": "ä=secret \n \nx".encode() * 9}, id="quoted-printable"),
    pytest.param(b"Subject: hello\r\nContent-Type: multipart/alternative; boundary=XX\r\n\r\n" + BODY, "message/rfc822", {"message > headers": b"Subject: hello\r\nContent-Type: multipart/alternative; boundary=XX", "message > multipart[1]": b"one"}, id="e-mail"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "declared", "views"), CASES)
def test_parts(body, declared, views, size):
    heard = read(body, size, declared)
    assert not heard.refused
    assert {f"body > {path}": text for path, text in views.items()}.items() <= heard.texts.items()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "declared", "reason"), [
    pytest.param(b"x" * 99, FORM, "boundary does not come", id="another boundary"),
    pytest.param(b"x" * 999, "multipart/mixed", "without a boundary", id="no boundary at all"),
    pytest.param(BODY, FORM + "; boundary=YY", "two boundaries", id="two boundaries"),
    pytest.param(part(b"x", "no colon") + b"--XX--", FORM, "malformed header", id="a line that is no header"),
    pytest.param(b"--XX\r\n" + b"a: b\r\n" * 11_111, FORM, "do not end", id="headers without end"),
])
def test_unscannable(body, declared, reason, size):
    heard = read(body, size, declared)
    assert [why for _, why in heard.refused if reason in why]
    assert heard.texts["body"] == body


@pytest.mark.parametrize(("value", "expected"), [
    (b'form-data; name="a"; filename="x y.txt"', "x y.txt"),
    (b'a; filename="a\\"b;c.txt"', 'a"b;c.txt'),
    (b"a; filename=plain.txt; x=y", "plain.txt"),
    ("a; filename=\"ä.txt\"".encode(), "ä.txt"),
    (b"a; filename=\"no.txt\"; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
    (b"a; filename*=iso-8859-1'en'%e4.txt", "ä.txt"),
    (b"a; filename*0=\"one\"; filename*1=two.txt", "onetwo.txt"),
    (b"a; filename*0*=utf-8''%61; filename*1=b", "ab"),
    (b"a; filename*=nonsense'x'%41", "A"),
])
def test_file_names(value, expected):
    """RFC 6266, 8187 and 2231, and what browsers write."""
    assert parameters(value)["filename"] == expected


def test_a_million_parts_are_bounded():
    heard = read(b"--XX\r\n\r\n1\r\n" * 1_000_000 + b"--XX--", 1 << 16, FORM)
    assert [why for _, why in heard.refused if "parts" in why]
    assert len(heard.views) <= 20_001
