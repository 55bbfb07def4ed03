"""Charsets: declared, marked, shown by zeros; strings in binary data."""

import pytest

from addons.views.charsets import declared_charsets, marked_charset, shown_charset
from tests.addons.views import found_views


@pytest.mark.parametrize(("declared", "name"), [
    ("text/plain; charset=UTF-16", "utf-16-le"), ('text/html; charset="windows-1251"', "cp1251"),
    ("text/plain;CHARSET=Shift_JIS", "shift_jis"), ("text/plain; charset=utf-8", ""), ("text/plain; charset=base64", ""),
    ("text/plain; charset=nonsense", ""), ("text/plain; charset=unicode_escape", ""), ("text/plain", ""),
    ("text/plain; charset=utf-7", "utf-7"), ("text/plain; charset=\0", ""),
    ("text/plain; charset=ibm037", "cp037"), ("text/plain; charset=utf-8; charset=ibm037", "cp037")])
def test_declared(declared, name):
    assert declared_charsets(declared) == [name] * bool(name)


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_zeros_and_marks_show_a_charset(name):
    text = '<?xml version="1.0"?><note>Grüße, plain text</note>'
    assert shown_charset(text.encode(name)) == name
    assert marked_charset(("\ufeff" + text).encode(name)) == name
    assert shown_charset(text.encode()) == marked_charset(text.encode()) == ""


@pytest.mark.parametrize(("charset", "text"), [("windows-1251", "Пароль: тест"), ("iso-8859-1", "Straße und mehr"),
                                              ("shift_jis", "秘密の文書 text"), ("gb18030", "机密文件"), ("utf-7", "Grüße ÄÖ"),
                                              ("koi8-r", "секретно"), ("utf-16", "机密文件"), ("iso-2022-jp", "秘密")])
def test_words_of_other_languages(charset, text):
    body = text.encode("utf-16-le" if charset == "utf-16" else charset)
    assert text.encode() in [text for _, text in found_views(body, f"text/plain; charset={charset}")]


def test_plain_english_is_not_read_twice():
    assert found_views(b"plain words " * 50, "text/plain; charset=iso-8859-1")[1:] == []


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("odd", [b"", b"\x01"])
@pytest.mark.parametrize("length", [1, 100])
def test_strings_in_binary_data_at_any_place(name, odd, length):
    data = b"\x90\x01\x02\x83" * 50 + odd + ("a document's text. " * length).encode(name) + b"\xff\x81" * 100
    assert any(b"a document's text. " * length in text for path, text in found_views(data) if path == "body > wide")


def test_zeros_are_no_string():
    assert found_views(b"\x7fdata\0" + bytes(100_000) + b"\x01\x80\0end")[1:] == []
