"""Redaction by the real engine: what reaches the origin, or the client, is what was sent, but for the values."""

import email
import gzip
import io
import json
import time
import zipfile
from xml.etree import ElementTree

import brotli
import pytest
import zstandard

from tests.proxy.conftest import chunked, running

KEY = b"AKIA" + b"4QXB7ZKLMRTW2NPD"
STARS = b"*" * len(KEY)
TEXT = b"some words and more, " * 1000
CODERS = {"gzip": (gzip.compress, gzip.decompress), "br": (brotli.compress, brotli.decompress),
          "zstd": (zstandard.compress, lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data))}
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 2, hello: 3}}
filters:
  - {{id: no-secrets, use: secrets.Secrets, with: {{action: redact, responses: true, credentials_headers: true}}}}
  - {{id: no-cards, use: cards.Cards, with: {{action: redact}}}}
  - {{id: whole, use: ./mine.py:Whole, when: ~u /whole, buffer: 100000}}
"""
FILTERS = """
class Whole:
    def request(self, flow):
        assert b"AKIA" not in flow.request.content, "the filter would see it"
"""


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots), FILTERS) as started:
        yield started


def arrived(origin):
    """The head of the newest request, and its body."""
    head, _, body = bytes(origin.record).rpartition(b"POST ")[2].partition(b"\r\n\r\n")
    headers = email.message_from_bytes(head.partition(b"\r\n")[2])
    if headers["transfer-encoding"]:
        out = b""
        while (size := int(body.partition(b"\r\n")[0], 16)):
            rest = body.partition(b"\r\n")[2]
            out, body = out + rest[:size], rest[size + 2 :]
        return headers, out
    assert int(headers["content-length"]) == len(body)
    return headers, body


def sent(proxy, origin, body, headers="", size=1000, path="/"):
    answer = proxy.upload(origin, body, headers=headers, size=size, path=path)
    assert (answer.status, answer.body) == (200, b"ok")
    return arrived(origin)[1]


@pytest.mark.parametrize("size", [1, 1000, 65536])
def test_json(proxy, origin, size):
    text = {"words": TEXT[:3000].decode(), "key": KEY.decode(), "card": 4111111111111111, "list": [1, "é\n"]}
    found = json.loads(sent(proxy, origin, json.dumps(text).encode(), "content-type: application/json\r\n", size))
    assert found == text | {"key": STARS.decode(), "card": 1000000000000000}


def test_json_escaped(proxy, origin):
    body = b'{"key": "\\u0041' + KEY[1:] + b'", "b": "\\u00e9"}'
    found = json.loads(sent(proxy, origin, body, "content-type: application/json\r\n"))
    assert found == {"key": "*" * (len(KEY) + 5), "b": "é"}


@pytest.mark.parametrize("way", ["chunked", "h2", "h2 bytes"])
def test_other_framings(proxy, origin, h2_origin, way):
    body, expected = TEXT[:4000] + b" " + KEY + b" " + TEXT, TEXT[:4000] + b" " + STARS + b" " + TEXT
    if way == "chunked":
        head = b"POST / HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n\r\n"
        assert proxy.ask(origin, head + chunked(body, 700), "POST").status == 200
        assert arrived(origin)[1] == expected
        return
    client = proxy.h2(h2_origin)
    stream = client.request("/", "POST", end=False)
    client.send(stream, body, end=True, frame=1 if way == "h2 bytes" else 4000)
    assert client.wait(stream).status == 200
    assert KEY[:1] + KEY[1:4] not in h2_origin.record
    assert bytes(h2_origin.record).count(b"*") == len(KEY)


@pytest.mark.parametrize("coding", CODERS)
def test_content_encoding(proxy, origin, coding):
    encode, decode = CODERS[coding]
    found = sent(proxy, origin, encode(TEXT + KEY + b" end"), f"content-encoding: {coding}\r\n")
    assert decode(found) == TEXT + STARS + b" end"


def test_multipart(proxy, origin):
    body = (b'--b\r\ncontent-disposition: form-data; name="note"\r\n\r\n' + KEY + b"\r\n"
            b'--b\r\ncontent-disposition: form-data; name="f"; filename="a.zip"\r\ncontent-type: application/zip\r\n\r\n'
            + packed({"in.txt": b"key " + KEY}) + b"\r\n--b--\r\n")
    kind = "content-type: multipart/form-data; boundary=b\r\n"
    found = email.message_from_bytes(kind.encode() + b"\r\n" + sent(proxy, origin, body, kind))
    note, file = found.get_payload()
    assert note.get_payload(decode=True) == STARS
    assert zipfile.ZipFile(io.BytesIO(file.get_payload(decode=True))).read("in.txt") == b"key " + STARS


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def packed(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def docx(*runs):
    texts = b"".join(b"<w:r><w:t>" + run + b"</w:t></w:r>" for run in runs)
    return packed({
        "[Content_Types].xml": b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "word/document.xml": b'<w:document xmlns:w="' + WORD.encode() + b'"><w:body><w:p>' + texts
        + b"</w:p></w:body></w:document>"})


@pytest.mark.parametrize("runs", [(b"the key is ", KEY, b" indeed"), (b"the key is " + KEY[:9], KEY[9:] + b" indeed")],
                         ids=["in one run", "in two"])
def test_docx(proxy, origin, runs):
    found = zipfile.ZipFile(io.BytesIO(sent(proxy, origin, docx(*runs))))
    assert found.testzip() is None
    assert found.namelist() == ["[Content_Types].xml", "word/document.xml"]
    texts = ElementTree.fromstring(found.read("word/document.xml")).iter(  # noqa: S314
        f"{{{WORD}}}t")
    assert "".join(text.text for text in texts) == "the key is " + STARS.decode() + " indeed"


SHEET = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
TYPES = b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'


@pytest.mark.parametrize(("name", "others", "text"), [
    pytest.param("xl/sharedStrings.xml", ("xl/workbook.xml", "xl/worksheets/sheet1.xml"),
                 b'<sst xmlns="' + SHEET + b'"><si><t>the key is %s</t></si></sst>', id="xlsx, shared"),
    pytest.param("xl/worksheets/sheet1.xml", ("xl/workbook.xml",),
                 b'<worksheet xmlns="' + SHEET + b'"><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>the key is %s'
                 b"</t></is></c></row></sheetData></worksheet>", id="xlsx, inline"),
    pytest.param("ppt/slides/slide1.xml", ("ppt/presentation.xml",),
                 b'<p:sld xmlns:p="p" xmlns:a="a"><a:p><a:r><a:t>the key is %s</a:t></a:r></a:p></p:sld>', id="pptx"),
])
def test_other_documents(proxy, origin, name, others, text):
    made = {"[Content_Types].xml": TYPES, **dict.fromkeys(others, b"<a/>"), name: text % KEY}
    found = zipfile.ZipFile(io.BytesIO(sent(proxy, origin, packed(made))))
    assert found.testzip() is None
    assert {each: found.read(each) for each in found.namelist()} == made | {name: text % STARS}


def test_what_a_later_filter_collects_is_masked(proxy, origin):
    assert sent(proxy, origin, TEXT + KEY + b" end", path="/whole") == TEXT + STARS + b" end"
    body = gzip.compress(TEXT + KEY + b" end")
    found = sent(proxy, origin, body, "content-encoding: gzip\r\n", path="/whole")
    assert gzip.decompress(found) == TEXT + STARS + b" end"


@pytest.mark.parametrize("header", ["digest: sha-256=x", "content-md5: x", "x-amz-content-sha256: e3b0c442"])
def test_signed(proxy, origin, header):
    answer = proxy.upload(origin, TEXT + KEY, headers=f"{header}\r\naccept: application/json\r\n")
    assert answer.status == 403
    assert "the body is signed" in answer.body.decode()
    assert KEY[:4] not in origin.record


def test_url_and_header(proxy, origin):
    head = (b"GET /a?key=" + KEY + b"&b=1 HTTP/1.1\r\nhost: origin.test\r\nx-key: " + KEY + b"\r\n"
            b"cookie: a=1; key=" + KEY + b"; b=2\r\n\r\n")
    assert proxy.ask(origin, head).status == 200
    assert b"cookie: a=1; key=" + STARS + b"; b=2\r\n" in bytes(origin.record).lower().replace(KEY.lower(), KEY)
    assert b"GET /a?key=" + STARS + b"&b=1 " in origin.record
    assert KEY not in origin.record


@pytest.mark.parametrize(("coding", "length"), [("identity", True), ("gzip", True), ("gzip", False)])
def test_answer(proxy, origin, coding, length):
    plain = b'{"a": "' + TEXT[:6000] + KEY + b'"}'
    body = gzip.compress(plain) if coding == "gzip" else plain
    framing = b"content-length: %d" % len(body) if length else b"connection: close"
    origin.paths["/down"] = (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: %s\r\n%s\r\n\r\n"
                             % (coding.encode(), framing)) + body
    answer = proxy.ask(origin, b"GET /down HTTP/1.1\r\nhost: origin.test\r\n\r\n")
    assert answer.status == 200
    found = gzip.decompress(answer.body) if coding == "gzip" else answer.body
    assert found == plain.replace(KEY, STARS)


def test_event(proxy, origin):
    sent(proxy, origin, b"key " + KEY + b" end")
    until = time.monotonic() + 5
    while time.monotonic() < until:
        told = [each for each in proxy.events() if each.get("lockgate", {}).get("verdict") == "redact"]
        if told:
            break
        time.sleep(0.1)
    assert told[-1]["alert"]["action"] == "allowed"
    assert told[-1]["lockgate"]["findings"][0]["sample"] == "AKIA…"
    assert KEY.decode() not in json.dumps(proxy.events())
