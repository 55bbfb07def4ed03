"""Whatever is changed in a container: it is read or said to be unscannable, by a reason of its reader, and soon.

FUZZ=seconds runs longer than the suite should.
"""

import base64
import bz2
import gzip
import lzma
import os
import random
import time
import zipfile

import pytest
import zstandard

from tests.addons.views import test_archives, test_grpc, test_multipart, test_office, test_oldoffice, test_protobuf
from tests.addons.views.collect import read
from tests.addons.views.pdfs import pdf
from tests.addons.views.test_zips import packed

SECONDS = float(os.environ.get("FUZZ", "0.4"))
TEXT = b"some text, and 4111 1111 1111 1111 in it. " * 40
FILES = {"a.txt": TEXT, "b/c.bin": bytes(range(256)) * 4, "d.zip": packed({"e": TEXT})}
DOCX = test_office.document(
    **{"[Content_Types]_xml": "<a/>", "word__document_xml": test_office.word(f"<w:p>{test_office.run('one')}</w:p>" * 9),
       "xl__worksheets__sheet1_xml": test_office.SHEET, "xl__sharedStrings_xml": test_office.STRINGS, "content_xml": test_office.ODS})

SEEDS = {
    "zip": (packed(FILES), ""),
    "zip, streamed": (packed(FILES, zipfile.ZIP_STORED, stream=True), ""),
    "zip64": (packed(FILES, zipfile.ZIP_STORED, zip64=True), ""),
    "zip, lzma": (packed(FILES, zipfile.ZIP_LZMA), ""),
    "docx": (DOCX, ""),
    "gzip": (gzip.compress(TEXT), ""),
    "bzip2": (bz2.compress(TEXT), ""),
    "xz": (lzma.compress(TEXT), ""),
    "lzma": (lzma.compress(TEXT, lzma.FORMAT_ALONE), ""),
    "zstd": (zstandard.compress(TEXT), ""),
    "tar": (test_archives.GOOD, ""),
    "multipart": (test_multipart.BODY, test_multipart.FORM),
    "mail": (b"Subject: a\r\nContent-Type: multipart/mixed; boundary=XX\r\n\r\n" + test_multipart.BODY, "message/rfc822"),
    "grpc": (test_grpc.message(gzip.compress(TEXT), 1) + test_grpc.TWO, test_grpc.GZIP),
    "grpc as text": (base64.b64encode(test_grpc.TWO), "application/grpc-web-text"),
    "protobuf": (test_protobuf.DEEP * 9, test_protobuf.PROTO),
    "events": (b"event: a\ndata: one\ndata: two\n\n: x\n\n" * 9, "text/event-stream"),
    "ole": (test_oldoffice.OLE + test_oldoffice.LONG[:2000], ""),
    "rtf": (rb"{\rtf1 a\par b\'e4\u8364?d}" * 20, ""),
    "pdf": (pdf("one", "two", field="f", note="n", attached=("a", b"b")), ""),
}
RECORDS = [b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\7\x08", b"\r\n--XX", b"\xff\xff\xff\xff", b"\0\0\0\0", b"<w:t>", b"\\'", b"%PDF-1.4\n", b"data:"]


def damaged(seed: bytes, luck: random.Random) -> bytes:
    """Return it with some bytes changed, cut out, doubled or put in."""
    data = bytearray(seed)
    for _ in range(luck.choice((1, 1, 2, 8))):
        at, size = luck.randrange(len(data) + 1), luck.choice((1, 1, 2, 4, 30, 500))
        kind = luck.randrange(5)
        if kind == 0:
            data[at : at + 1] = bytes([luck.randrange(256)])
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = data[at : at + size]
        elif kind == 3:
            data[at : at + luck.choice((0, 4))] = luck.choice(RECORDS)
        else:
            data[at : at + size] = luck.randbytes(size)
    return bytes(data)


@pytest.mark.parametrize("name", SEEDS)
def test_damage(name):
    seed, declared = SEEDS[name]
    luck, end = random.Random(name), time.monotonic() + SECONDS
    assert not read(seed, 1000, declared).refused
    while time.monotonic() < end:
        data = damaged(seed, luck)
        size = luck.choice((1, 7, 64, 1000, 1 << 20))
        began = time.process_time()
        heard = read(data, size, declared)
        spent = time.process_time() - began
        assert spent < 2, (spent, size, data)
        assert not [why for _, why in heard.refused if "its reader failed" in why], (heard.refused, size, data)


@pytest.mark.parametrize("name", [name for name in SEEDS if name != "pdf"])
def test_the_same_is_heard_at_every_cut(name):
    """Also of damaged ones.  Of data that cannot be unpacked, how much came out before depends on the cut; that it is
    refused does not."""
    seed, declared = SEEDS[name]
    luck, end = random.Random(name), time.monotonic() + SECONDS
    data = seed
    while time.monotonic() < end:
        whole = read(data, 1 << 20, declared)
        for size in (1, 7, 64, 1000):
            parts = read(data, size, declared)
            assert bool(parts.refused) == bool(whole.refused), (size, data)
            assert whole.refused or parts.texts == whole.texts, (size, data)
        data = damaged(seed, luck)
