"""What stands behind or inside something else is found; a wrong guess says nothing."""

import os

import pytest

from tests.addons.conftest import SIZES
from tests.addons.views.collect import read
from tests.addons.views.pdfs import pdf
from tests.addons.views.test_zips import packed

ZIP = packed({"a.txt": b"a secret"})
PNG = b"\x89PNG\r\n\x1a\n" + bytes(3000)
MAIL = b"Received: from a\r\n by b\r\nSubject: hello\r\n\r\nthe text of it"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("body", "path", "text"), [
    pytest.param(PNG + ZIP, "zip:a.txt", b"a secret", id="behind a picture"),
    pytest.param(b"MZ\x90\0" + bytes(5000) + ZIP, "zip:a.txt", b"a secret", id="in a program"),
    pytest.param(b"#!/usr/bin/env python3\n" + ZIP, "zip:a.txt", b"a secret", id="behind a script"),
    pytest.param(b"\0junk" * 20 + b"\n" + pdf("one"), "page[1]", b"one", id="a PDF document behind junk"),
    pytest.param(MAIL, "message", b"the text of it", id="an e-mail"),
])
def test_found(body, path, text, size):
    heard = read(body, size)
    assert not heard.refused
    assert heard.texts[f"body > {path}"] == text


@pytest.mark.parametrize("body", [
    pytest.param(PNG + b"PK\3\4" + bytes(50), id="no zip"),
    pytest.param(PNG + ZIP[:40], id="half a zip"),
    pytest.param(PNG + b"PK\5\6" + b"x" * 50, id="no end of a zip"),
    pytest.param(b"%% how to write\n%PDF-1.7\n%% by hand", id="no PDF document"),
    pytest.param(b"Subject: what I think\nDate: today\n", id="no e-mail"),
    pytest.param(os.urandom(100_000), id="random"),
])
def test_wrong_guesses_say_nothing(body):
    for size in (7, 1000, 1 << 20):
        assert not read(body, size).refused
