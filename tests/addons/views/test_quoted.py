"""Quoted-printable."""

import pytest

from tests.addons.views import found_views


def unquoted(data):
    return [text for path, text in found_views(data) if path == "body > quoted-printable"]


@pytest.mark.parametrize(("written", "meant"), [
    (b"a=3Db", b"a=b"), (b"Gr=C3=BC=C3=9Fe", "Grüße".encode()), (b"one lo=\r\nng word", b"one long word"),
    (b"one lo=\nng =41 word", b"one long A word"), (b"=41=4b=49=41", b"AKIA"), (b"a=3D= \r\nb", b"a=b")])
def test_what_is_meant(written, meant):
    assert unquoted(written) == [meant]


@pytest.mark.parametrize("plain", [b"a=41&b=42", b"x =\n 1", b"a==b", b"id=DEADBEEF", b"key=AB"])
def test_what_only_looks_like_it(plain):
    assert unquoted(plain) == []
