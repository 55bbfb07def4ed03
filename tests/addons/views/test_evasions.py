"""Ways round: what a server, a browser or an unpacker makes of these bytes is found in a view, or called unscannable."""

import base64
import gzip
import io
import json
import random
import struct
import zipfile
import zlib

import pytest

from tests.addons.views.collect import read

SECRET = b"ghp_aB3dE5gH7jK9mN1pQ3sT5vX7zA9cD1fG3iJ5"
TEXT = b"token: " + SECRET + b" and more"
FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=A"
PERCENT = b"".join(b"%%%02X" % byte for byte in SECRET)
JSON = b'{"t":"' + b"".join(b"\\u%04x" % byte for byte in SECRET) + b'"}'
WIDE = "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in SECRET.decode()).encode()


def zipped(data=TEXT, method=zipfile.ZIP_DEFLATED, **fields):
    """An archive; `fields` are overwritten in its local header, by offset."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.txt", data)
    raw = bytearray(out.getvalue())
    for at, value in fields.items():
        struct.pack_into("<H", raw, int(at[1:]), value)
    return bytes(raw)


def part(content, headers=b"", boundary=b"A", eol=b"\r\n"):
    return eol.join([b"--" + boundary, b'Content-Disposition: form-data; name="f"', *([headers] if headers else []), b"",
                     content, b""])


def form(*parts, boundary=b"A"):
    return b"".join(parts) + b"--" + boundary + b"--\r\n"


def document(name, xml):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, xml)
    return out.getvalue()


def between(text, what):
    return what.join(text[at : at + 1] for at in range(len(text)))


RUNS = "<d><p>" + "".join(f"<r><t>{c}</t></r>" for c in SECRET.decode()) + "</p></d>"
PACKED = gzip.compress(TEXT)
#: Name: the body, what it is declared to be, the path under which the secret is found.
FOUND = {
    "form that begins as a picture": (b"GIF8=1&t=" + PERCENT, FORM, "body > unescaped"),
    "form that begins as a font": (b"OTTO=1&t=" + PERCENT, FORM, "body > unescaped"),
    "JSON with a picture's letters": (b'{"a": "xWEBP", "t":' + JSON + b"}", "application/json", "body > unescaped"),
    "form that begins as RTF": (b"{\\rtf1=1&t=" + PERCENT, FORM, "body > unescaped"),
    "form with a false mark": (b"\xff\xfe=1&t=" + PERCENT, FORM, "body > unescaped"),
    "declared as our own": (JSON, "text/x-llm", "body > unescaped"),
    "EBCDIC": (TEXT.decode().encode("cp037"), "text/plain; charset=ibm037", "body > cp037"),
    "two charsets": (TEXT.decode().encode("cp500"), "text/plain; charset=utf-8; charset=cp500", "body > cp500"),
    "XML in EBCDIC": (b"\x4c\x6f\xa7\x94\x93" + TEXT.decode().encode("cp037"), "", "body > cp037"),
    "UTF-16 of the other order": (("你" * 300 + SECRET.decode()).encode("utf-16-be"), "text/plain; charset=utf-16",
                                  "body > wide"),
    "full width": (WIDE, "", "body > shown"),
    "full width in JSON": (json.dumps(WIDE.decode()).encode(), "", "body > unescaped > shown"),
    "mathematical digits": ("".join(chr(0x1D7CE + int(c)) if c.isdigit() else c for c in SECRET.decode()).encode(), "",
                            "body > shown"),
    "Arabic digits": ("".join(chr(0x660 + int(c)) if c.isdigit() else c for c in SECRET.decode()).encode(), "",
                      "body > shown"),
    "zero width": (between(SECRET, "\u200b".encode()), "", "body > shown"),
    "soft hyphens": (between(SECRET, "\u00ad".encode()), "", "body > shown"),
    "zero width as entities": (between(SECRET, b"&#8203;"), "", "body > unescaped > shown"),
    "tags": (b"<p>" + SECRET[:6] + b'<b class="x">' + SECRET[6:9] + b"</b><i>" + SECRET[9:] + b"</i>", "", "body > shown"),
    "comments": (b"<p>" + SECRET[:6] + b"<!-- - -->" + SECRET[6:] + b"</p>", "", "body > shown"),
    "a buffer in JSON": (json.dumps({"type": "Buffer", "data": list(SECRET)}).encode(), "", "body > bytes"),
    "the same, indented": (json.dumps({"data": list(SECRET)}, indent=8).encode(), "", "body > bytes"),
    "an archive as a list": (json.dumps(list(zipped())).encode(), "", "body > bytes > zip:a.txt"),
    "signed bytes": (json.dumps([-17, -69, -65, *SECRET]).encode(), "", "body > bytes"),
    "hex with colons": (SECRET.hex(":").encode(), "", "body > hex"),
    "hex with spaces": (SECRET.hex(" ").encode(), "", "body > hex"),
    "hex as in C": (b", ".join(b"0x%02x" % byte for byte in SECRET), "", "body > hex"),
    "zlib": (zlib.compress(TEXT * 3), "", "body > zlib"),
    "zlib in base64": (b'{"a":"' + base64.b64encode(zlib.compress(TEXT * 3)) + b'"}', "", "body > base64 > zlib"),
    "archive behind a text": (b"words " * 200 + zipped(), "", "body > zip:a.txt"),
    "archive behind data, in base64": (base64.b64encode(b"junk" + zipped()), "", "body > base64 > zip:a.txt"),
    "transfer encoding that nobody minds": (form(part(JSON, b"Content-Transfer-Encoding: base64")), MULTIPART,
                                            "body > multipart[1] > unescaped"),
    "the same, for base64": (form(part(b'{"a":"' + base64.b64encode(TEXT) + b'"}', b"Content-Transfer-Encoding: base64")),
                             MULTIPART, "body > multipart[1] > base64"),
    "part behind the last boundary": (form(part(b"x")) + form(part(PACKED)), MULTIPART, "body > multipart[2] > gzip"),
    "a document's part elsewhere": (document("custom/x.xml", RUNS), "", "body > zip:custom/x.xml > text"),
    "a document's part in capitals": (document("Word/Document.XML", RUNS), "", "body > zip:Word/Document.XML > text"),
    "gRPC of another format": (b"\0" + len(PACKED).to_bytes(4) + PACKED, "application/grpc+mine", "body > grpc[1] > gzip"),
    "two content types": (b"pre\r\n" + form(part(PACKED)), "text/plain, " + MULTIPART, "body > multipart[1] > gzip"),
    "two content types of a part": (
        form(part(TEXT.decode().encode("cp037"), b"Content-Type: text/plain\r\nContent-Type: a/b; charset=cp037")),
        MULTIPART, "body > multipart[1] > cp037"),
}
#: The same, of what two readers read in two ways.
REFUSED = {
    "boundary with a space": (form(part(PACKED, boundary=b"A B")), "multipart/form-data; boundary=A B"),
    "boundary with a comma": (form(part(b"x", boundary=b"A,B"), part(PACKED)), "multipart/form-data; boundary=A,B"),
    "boundary with a backslash": (form(part(PACKED)), 'multipart/form-data; boundary="A\\B"'),
    "boundary in another's name": (form(part(b"x", boundary=b"B"), part(PACKED)),
                                   "multipart/form-data; xboundary=A; boundary=B"),
    "boundary without a semicolon": (form(part(b"x", boundary=b"B"), part(PACKED)), "multipart/form-data boundary=A"),
    "bare carriage returns": (part(b"x") + b"\r" + form(part(PACKED, eol=b"\r")), MULTIPART),
    "unknown transfer encoding": (form(part(b"begin 644 a", b"Content-Transfer-Encoding: x-uuencode")), MULTIPART),
    "method of the directory alone": (zipped(_8=0), ""),
    "version of the directory alone": (b"\x89PNG\r\n\x1a\n" + bytes(900) + zipped(_4=200), "image/png"),
}


@pytest.mark.parametrize("size", [1 << 20, 7])
@pytest.mark.parametrize("name", FOUND)
def test_it_is_found(name, size):
    body, declared, path = FOUND[name]
    heard = read(body, size, declared)
    assert path in [where for where, text in heard.views if SECRET in text]


@pytest.mark.parametrize("size", [1 << 20, 7])
@pytest.mark.parametrize("name", REFUSED)
def test_it_is_unscannable(name, size):
    body, declared = REFUSED[name]
    assert read(body, size, declared).refused


@pytest.mark.parametrize(("name", "body"), [
    ("dates", b"2024-01-02 03:04:05,123 INFO a\n" * 99), ("addresses", b"aa:bb:cc:dd:ee:ff 10.0.0.1\n" * 99),
    ("floats", json.dumps([0.25] * 99).encode()), ("emoji", "well \u263a\ufe0f, good \U0001f44d\u200d!\n".encode() * 99),
    ("punctuation", "机密\uff0c文件\u3002\uff08一\uff09\uff1a二\uff01\n".encode() * 99), ("table", b"<tr><td>4111</td><td>1111</td></tr>\n" * 99),
    ("French", "«\u00a0Oui\u00a0» \u2013 c\u2019est l\u2019été\u00a0!\n".encode() * 99)])
def test_what_is_ordinary_is_left_alone(name, body):
    assert [path for path, _ in read(body).views] == ["body"]


PIECES = [b"1", b"23", b"400", b",", b", ", b":", b"0x", b"ab", b"-", b".", b" ", b"a", b"<b>", b"</b>", b"<", b">",
          b"<!--", b"-->", "\u200b".encode(), b"\xe2", b"\xef\xbc\x94", "\u00a0".encode(), b"1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
          b"12," * 900, b" " * 3000, b"41:" * 40, b"x\xc2\xad" * 20, b"7" * 5000]


@pytest.mark.parametrize("seed", range(12))
def test_lists_and_invisible_characters_are_the_same_however_they_are_cut(seed):
    source = random.Random(seed)
    body = b"".join(source.choices(PIECES, [9] * 22 + [1] * 6, k=400))
    whole = sorted((path, bytes(text)) for path, text in read(body).views)
    for size in (1, 2, 7, 64, 1000):
        assert sorted((path, bytes(text)) for path, text in read(body, size).views) == whole
