"""Ordinary files as programs really write them are never said to be unscannable, as they are or in something else."""

import base64
import gzip
import json
import zipfile

import pytest

from bench.ordinary_made import made, pdf, prose, wrapped, zipped
from tests.addons.conftest import SIZES
from tests.addons.views.collect import read
from tests.addons.views.test_zips import flag, local, packed

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")    # of the reader of PDF
MADE = dict(made())
#: What would take long in single bytes says no more in them.
SMALL = 20_000


@pytest.mark.parametrize("name", MADE)
def test_made(name):
    data = MADE[name]
    for size in SIZES if len(data) < SMALL else (1000, 1 << 20):
        assert not read(data, size, name=name).refused
    text = base64.b64encode(data).decode()
    for around in ({"content": text}, {"content": text[: len(text) // 2]}):
        assert not read(json.dumps(around).encode()).refused


SECRET = "the 4111 1111 1111 1111 of it"


@pytest.mark.parametrize("times", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("form", ["json", "percent", "entities"])
def test_no_escape_is_too_deep(form, times):
    """And none hides anything: behind the third, all that are left are undone at once."""
    text = {"json": "\\u0034111 1111", "percent": "%34111 1111", "entities": "&#52;111 1111"}[form]
    for _ in range(times):
        text = {"json": text.replace("\\", "\\\\"), "percent": text.replace("%", "%25"), "entities": text.replace("&", "&amp;")}[form]
    for size in SIZES:
        heard = read(b"x" * 999 + text.encode(), size)
        assert not heard.refused
        assert b"4111 1111" in list(heard.texts.values())[-1]


def test_chains_of_signs_may_be_long():
    for text in (b"\\" * 9000, b"%" + b"25" * 9000, b"&" + b"amp;" * 9000, wrapped("x", 11).encode()[:90_000]):
        for size in (64, 1000, 1 << 20):
            assert not read(text, size).refused


#: What is damaged, encrypted or cut where it stands for itself, so that somebody may still open it.
WHOLE = packed({"a.txt": prose(900).encode()})
NOT = {
    "a cut archive": (WHOLE[:-30], "cut short"),
    "an archive without its middle": (WHOLE[:100] + WHOLE[120:], ""),
    "an encrypted archive": (local(WHOLE, "a.txt", flag(1)), "encrypted"),
    "an encrypted archive behind a program": (b"MZ\x90\0" + bytes(5000) + local(WHOLE, "a.txt", flag(1)), "encrypted"),
    "an encrypted archive in JSON": (json.dumps(base64.b64encode(local(WHOLE, "a.txt", flag(1))).decode()).encode(), "encrypted"),
    "cut gzip": (gzip.compress(prose(900).encode())[:-20], "cut short"),
    "damaged gzip in JSON": (json.dumps(base64.b64encode(gzip.compress(b"x" * 99)[:10] + b"\xee" * 30).decode()).encode(), "corrupt"),
    "an archive behind gzip": (gzip.compress(b"x") + WHOLE[:-30], "cut short"),
    "a document whose text is no XML": (zipped({"[Content_Types].xml": "<a/>", "word/document.xml": "<w:p><w:t>4111</w:p>"}), "no XML"),
    "a document with entities": (zipped({"mimetype": "application/vnd.oasis.opendocument.text",
                                        "content.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"}, zipfile.ZIP_STORED), "entities"),
    "a cut PDF document": (pdf()[:300], "PDF"),
}


@pytest.mark.parametrize("name", NOT)
def test_what_somebody_may_open_is_told(name):
    data, reason = NOT[name]
    for size in (7, 1000, 1 << 20):
        assert [why for _, why in read(data, size).refused if reason in why]
