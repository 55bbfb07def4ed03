"""Escapes, one by one."""

import pytest

from tests.addons.views import found_views


def unescaped(data, declared="text/plain"):
    return [text for path, text in found_views(data, declared) if path == "body > unescaped"]


@pytest.mark.parametrize(("written", "meant"), [
    (rb"a\u0041", b"aA"), (rb"a\x41z", b"aAz"), (rb"a\101z", b"aAz"), (rb"a\u{1F600}z", "a😀z".encode()),
    (rb"a\U0001F600z", "a😀z".encode()), (rb"a\ud83d\ude00z", "a😀z".encode()), (rb"a\ud83dz", b"a?z"),
    (rb"a\\u0041", rb"a\u0041"), (rb"https:\/\/a", b"https://a"), (rb"a\nb\tc\"d\'e", b"a\nb\tc\"d'e"), (b"a\\\nb", b"ab"),
    (b"a%41z", b"aAz"), (b"a%u0041z", b"aAz"), (b"%2541", b"%41"), (b"%C3%A9 ", "é ".encode()),
    (b"a&#65;z", b"aAz"), (b"a&#x41;z", b"aAz"), (b"a&#65 z", b"aA z"), (b"&lt;&eacute;&amp;", "<é&".encode()),
    (b"&#99999999;&lt;", b"?9;<"),
    (b"<![CDATA[AK]]><![CDATA[IA]]>", b"<![CDATA[AKIA]]>"),
])
def test_what_is_meant(written, meant):
    assert unescaped(written) == [meant]


@pytest.mark.parametrize("plain", [b"100 % of it & more", rb"C:\Windows\System", b"a&b;c&nosuchname;d", b"a + b", b"%zz %4",
                                   rb"\d+\s\w{3}\u12", b"x]]>y", b"<a href='?a=1&b=2'>"])
def test_what_only_looks_like_it(plain):
    assert unescaped(plain) == []


def test_plus_is_a_space_in_forms_only():
    assert unescaped(b"note=a+b&c=d%2B", "application/x-www-form-urlencoded") == [b"note=a b&c=d+"]
    assert unescaped(b"a+b&c=d%2B") == [b"a+b&c=d+"]


def test_many_spaces():
    assert unescaped(b"a=b" + b"+" * 30_000 + b"c&d=e", "application/x-www-form-urlencoded") == [b"a=b" + b" " * 30_000 + b"c&d=e"]


def test_only_what_is_near_is_copied():
    words = b"word " * 2000
    (text,) = unescaped(words + b"%41" + words + b"%42" + words)
    assert text.count(b"\0") == 1
    assert b"word A" in text
    assert b" Bword" in text
    assert len(text) == 2 + 4 * 1024 + 1


def test_judged_before_much_follows():
    """A long plain text after an escape must not wait for the next one."""
    (text,) = unescaped(b"%41" + b"word " * 10_000 + b"%42")
    assert text.count(b"\0") == 4096
