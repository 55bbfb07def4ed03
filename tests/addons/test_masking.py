"""Masks: of one length with what they hide, and of a form that keeps the text around them whole."""

import base64
import gzip

import pytest

from addons import repacking
from addons.masking import filled, in_text

VALUE = b"top-secret-value"


def masked(text):
    def find(data):
        yield
        at = data.find(VALUE)
        return [(at, at + len(VALUE))] if at >= 0 else []

    work = in_text(text, find, lambda data: in_text(data, find))
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


@pytest.mark.parametrize(("value", "before", "after", "expected"), [
    pytest.param(b"abc", b"", b"", b"***", id="letters"),
    pytest.param(b"4111", b":", b",", b"1000", id="a number by itself"),
    pytest.param(b"4111", b'"', b'"', b"****", id="in a string"),
    pytest.param(b'a\\"b', b'"', b'"', b"****", id="an escaped quotation mark"),
    pytest.param(b'a", "b', b'"', b'"', b'*"**"*', id="a quotation mark"),
    pytest.param(b"a\r\nb", b"", b"", b"*\r\n*", id="a line break"),
])
def test_filled(value, before, after, expected):
    assert filled(value, before, after) == expected


@pytest.mark.parametrize(("text", "expected"), [
    pytest.param(b"x top-secret-value y", b"x **************** y", id="as it is"),
    pytest.param(b"x top\\u002dsecret-value y", b"x ********************* y", id="JSON"),
    pytest.param(b"x top%2Dsecret%2Dvalue y", b"x ******************** y", id="percent"),
    pytest.param(b"x top%252Dsecret-value y", b"x ******************** y", id="percent twice"),
    pytest.param(b"x top&#45;secret-value y", b"x ******************** y", id="entity"),
    pytest.param(b"<b>top-</b><i>secret-value</i>", b"<b>****</b><i>************</i>", id="over tags"),
    pytest.param(b"x top-sec=\r\nret-value y", b"x *******=\r\n********* y", id="quoted-printable"),
    pytest.param("x top-secret-value y".encode("utf-16-be"), "x **************** y".encode("utf-16-be"), id="UTF-16"),
    pytest.param(b"nothing", b"nothing", id="clean"),
    pytest.param(b"C:\\users\\x\\U\\777 top-secret-value", b"C:\\users\\x\\U\\777 ****************", id="no escapes"),
    pytest.param("x é top-secret-value Жy".encode("utf-16-le"), "x é **************** Жy".encode("utf-16-le"), id="not Latin-1"),
])
def test_in_text(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize("skip", range(4))
@pytest.mark.parametrize("line", [1000, 76, 21])
@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
def test_in_base64(alphabet, line, skip):
    def written(value):
        letters = alphabet(b"\xff\xfe a text with a " + value + b" and more of it ?\xff")
        return b"xyz"[:skip] + b"\r\n".join(letters[at : at + line] for at in range(0, len(letters), line))

    assert masked(b"key: " + written(VALUE) + b" .") == b"key: " + written(b"*" * len(VALUE)) + b" ."


@pytest.mark.parametrize("work", [
    pytest.param(lambda text: in_text(text, nothing, lambda data: in_text(data, nothing)), id="a text"),
    pytest.param(lambda text: repacking.body(gzip.compress(text), "gzip", nothing), id="one that is unpacked"),
    pytest.param(lambda text: repacking.packed(text, "br"), id="one that is packed"),
])
def test_others_have_their_turn(work):
    """A step is a window of a text at most, or one search of all of it."""
    steps = sum(1 for _ in work(b"some words " * 100_000))
    assert steps > 1_100_000 // (64 * 1024)


def nothing(text):
    yield
    return []
