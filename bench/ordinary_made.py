"""Ordinary documents of kinds that are seldom at hand, or that programs write in many ways; nothing is in them.

`made()` yields a name and the content, `sent()` whole messages: a media type, more headers, the body.
"""
# ruff: noqa: E501, SIM905

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

WORDS = ("the lock was opened before the boat came, and the keeper, who had seen nothing of it, went on to write down "
         "what was left of the day: rain, wind from the west, and two barges of sand for the works up the hill. ").split()
DICE = random.Random(11)  # noqa: S311  # the same each time


def prose(size: int) -> str:
    text: list[str] = []
    while size > 0:
        text.append(" ".join(DICE.choices(WORDS, k=12)) + ".\n")
        size -= len(text[-1])
    return "".join(text)


class Pipe(io.RawIOBase):
    """A file that cannot seek: what writes archives into it uses data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += data  # type: ignore[operator]
        return len(data)  # type: ignore[arg-type]


def zipped(files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED, *, stream: bool = False,
           comment: bytes = b"", extra: bytes = b"") -> bytes:
    out: Pipe | io.BytesIO = Pipe() if stream else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:  # type: ignore[arg-type]
        archive.comment = comment
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10))
            info.compress_type, info.extra = method, extra
            archive.writestr(info, content)
    return bytes(out.data) if isinstance(out, Pipe) else out.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def word(text: str) -> dict[str, bytes | str]:
    runs = "".join(f"<w:p><w:r><w:rPr><w:b/></w:rPr><w:t>{line}</w:t></w:r></w:p>" for line in text.splitlines())
    return {
        "[Content_Types].xml": '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": '<?xml version="1.0"?><Relationships/>',
        "word/document.xml": f'<?xml version="1.0"?><w:document xmlns:w="w"><w:body>{runs}</w:body></w:document>',
        "docProps/app.xml": "<?xml version='1.0'?><Properties><Application>Writer</Application></Properties>",
    }


def pdf(text: str = "one", *, revisions: int = 1, trailer: bytes = b"", broken: bool = False) -> bytes:
    stream = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
               b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
               b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    out, places, before = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"), dict[int, int](), 0
    for revision in range(revisions):
        for number, content in enumerate(objects, 1):
            if not revision or number == 4:
                places[number] = len(out)
                out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
        start = len(out)
        out += b"xref\n0 6\n0000000000 65535 f \n"
        out += b"".join(b"%010d 00000 n \n" % (places[n] + 7 * broken) for n in range(1, 6))
        out += b"trailer\n<< /Size 6 /Root 1 0 R%b%b >>\nstartxref\n%d\n%%%%EOF\n" % (
            b" /Prev %d" % before if revision else b"", trailer, start + 3 * broken)
        before = start
    return bytes(out)


def wrapped(text: str, times: int) -> str:
    for _ in range(times):
        text = json.dumps({"message": text, "level": "info"})
    return text


def apk() -> bytes:
    """With its signing block, which stands between entries and directory."""
    data = zipped({"AndroidManifest.xml": DICE.randbytes(3000), "classes.dex": b"dex\n035\0" + DICE.randbytes(9000),
                   "res/values/styles.xml": DICE.randbytes(500)}, extra=b"\x35\xd9\x06\0\x04\0\0\0\0\0")
    at, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    block = struct.pack("<Q", 4072) + DICE.randbytes(4048) + struct.pack("<Q", 4072) + b"APK Sig Block 42"
    tail = bytearray(data[end:])
    struct.pack_into("<I", tail, 16, at + len(block))
    return data[:at] + block + data[at:end] + bytes(tail)


def table() -> bytes:
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("create table entries (id integer primary key, at text, note text)")
        base.executemany("insert into entries (at, note) values (?, ?)", [(f"2024-05-{n % 28 + 1:02}", prose(60)) for n in range(900)])
        base.commit()
        return base.serialize()


def mail() -> bytes:
    attached = base64.encodebytes(zipped(word(prose(3000)))).replace(b"\n", b"\r\n")
    return (b"Received: from a.example by b.example; Mon, 6 May 2024 07:08:09 +0200\r\nFrom: keeper\r\nSubject: report\r\n"
            b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_1"\r\n\r\n--=_1\r\nContent-Type: text/plain; '
            b"charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nthe r=C3=A9port is=\r\n attached\r\n--=_1\r\n"
            b'Content-Type: application/octet-stream; name="r.docx"\r\nContent-Transfer-Encoding: base64\r\n\r\n' + attached
            + b"--=_1--\r\n")


def archive_like(size: int) -> bytes:
    """What looks like the beginning of something and is nothing."""
    return json.dumps([base64.b64encode(magic + DICE.randbytes(size)).decode() for magic in (
        b"BZh", b"\x1f\x9d", b"\x60\xea", b"MZ", b"\x5d\0\0", b"BM", b"\x1f\x8b\x08\xff", b"PK\x07\x08", b"-lh")]).encode()


def pieces() -> Iterator[tuple[str, bytes]]:
    """Out of the middle of files, as resumable uploads and ranges have them."""
    whole = {"zip": zipped({f"{n}.txt": prose(3000) for n in range(30)}), "gz": gzip.compress(prose(90_000).encode()),
             "jpg": JPEG, "pdf": pdf(prose(30)), "tar": tarred({f"{n}.txt": prose(3000).encode() for n in range(30)}),
             "xlsx": zipped(word(prose(9000)), stream=True), "mp4": b"\0\0\0\x20ftypisom" + DICE.randbytes(50_000)}
    for name, data in whole.items():
        yield f"middle.{name}", data[len(data) // 3 : len(data) * 3 // 4]
        yield f"last.{name}", data[len(data) // 3 :]


JPEG = (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xdb\0\x43\0" + bytes(range(64)) + b"\xff\xda\0\x08\1\1\0\0\x3f\0"
        + DICE.randbytes(40_000) + b"\xff\xd9")
PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in (
        (b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(DICE.randbytes(30_100))), (b"IEND", b"")))
SERIALISED = b"\xac\xed\0\5sr\0\x11java.util.HashMap\5\7\xda\xc1\xc3\x16\x60\xd1\3\0\2F\0\nloadFactorI\0\tthresholdxp?@\0\0"


def made() -> Iterator[tuple[str, bytes]]:
    yield from texts()
    yield from archives()
    yield from binaries()
    yield from pieces()


def texts() -> Iterator[tuple[str, bytes]]:
    yield "empty.txt", b""
    yield "one.bin", b"\x1f"
    yield "art.txt", b"/" + b"\\" * 64 + b"\n" + b"\\" * 300 + b"\n" + rb"\/" * 500
    yield "regexes.txt", rb"'^\\\\\\\\(?:\\\\w+\\\\)*$' " * 50
    for times in (3, 6, 7, 8):
        yield f"wrapped{times}.json", wrapped(prose(200) + 'she said "no"', times).encode()
    url = "https://shop.example/a b?x=1&y=ä"
    for _ in range(9):
        url = "https://sso.example/login?next=" + quote(url, safe="")
    yield "url.txt", url.encode()
    yield "entities.html", b"<p>" + b"&amp;" * 40 + b"&" + b"amp;" * 30 + b"lt;</p>"
    yield "numbers.json", json.dumps({"n": [10**400, -(10**60), 1e300, *[DICE.random() for _ in range(900)]]}).encode()
    yield "deep.json", b'{"a":' * 300 + b"1" + b"}" * 300
    yield "lines.jsonl", b"".join(json.dumps({"i": i, "text": prose(80)}).encode() + b"\n" for i in range(300))
    for charset in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7"):
        yield f"{charset}.txt", (prose(2000) + "Grüße aus Köln").encode(charset)
    yield "har.json", json.dumps({"log": {"entries": [{"response": {"content": {
        "encoding": "base64", "text": base64.b64encode(content).decode()[:cut]}}} for content in (
            PNG, JPEG, prose(3000).encode(), zlib.compress(prose(900).encode())) for cut in (None, 901, 2003)]}}).encode()
    yield "lookalikes.json", archive_like(60)
    yield "cut.json", json.dumps([base64.b64encode(gzip.compress(prose(5000).encode())).decode()[:200]]).encode()
    yield "literals.py", b'ZIP = b"PK\\x03\\x04"\nPDF = b"%PDF-1.4"\nhead = open(f).read(4) == "PK\x03\x04"\n' * 9
    yield "about.tex", b"% a file begins with\n%PDF-1.7\n% and ends with %%EOF\n" * 30
    yield "table.csv", b"".join(b"%d;2024-05-%02d;%.2f;%016x;%s\n" % (
        n, n % 28 + 1, DICE.random() * 900, DICE.getrandbits(64), DICE.choice(WORDS).encode()) for n in range(2000))
    yield "app.log", b"".join(b"2024-05-06T07:%02d:09.%06dZ INFO [%032x] GET /v1/items/%d?page=%d 200 %dms\n" % (
        n % 60, DICE.randrange(10**6), DICE.getrandbits(128), DICE.randrange(10**9), n, n) for n in range(2000))
    yield "hashes.lock", b"".join(b'"pkg-%d": {"integrity": "sha512-%s"}\n' % (
        n, base64.b64encode(DICE.randbytes(64))) for n in range(500))
    yield "event.ics", b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:%032x@x.example\r\nDTSTART:20240506T070809Z\r\n" \
        b"SUMMARY:lock\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n" % DICE.getrandbits(128)
    yield "report.eml", mail()
    yield "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><path d="' + b" ".join(
        b"%.3f,%.3f" % (DICE.random() * 99, DICE.random() * 99) for _ in range(3000)) + b'"/></svg>'
    yield "dashes.txt", b"--------\r\n" + prose(500).encode() + b"\r\n--------\r\n\r\nmore: than that\r\n--------\r\n"
    yield "salted.txt", b"Salted__ is what openssl writes first.\n"
    yield "pem.crt", b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(DICE.randbytes(900)) + b"-----END CERTIFICATE-----\n"


def archives() -> Iterator[tuple[str, bytes]]:
    files: dict[str, bytes | str] = {f"d/{n}.txt": prose(800) for n in range(5)} | {"d/e/": b"", "empty": b""}
    yield "deflated.zip", zipped(files)
    yield "stored.zip", zipped(files, zipfile.ZIP_STORED)
    yield "streamed.zip", zipped(files, stream=True)
    yield "streamed-stored.zip", zipped(files, zipfile.ZIP_STORED, stream=True)
    yield "commented.zip", zipped(files, comment=b"PK is the name of a man")
    yield "none.zip", zipped({})
    yield "in-it.zip", zipped({"a.zip": zipped(files), "b.gz": gzip.compress(b"x"), "c.tar": tarred({"x": b"y"})}, stream=True)
    yield "project.zip", zipped({"app/res/values/styles.xml": "<resources>{% if x %}<style name=&/></resources>",
                                 "site/content.xml": "<a>{{ body }}<br></a>", "web/meta.xml": "not XML at all",
                                 "META-INF/manifest.xml": "<!DOCTYPE x [<!ENTITY y 'z'>]><x>&y;</x>"})
    yield "app.apk", apk()
    yield "lib.jar", zipped({"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\r\n\r\n",
                             "a/B.class": b"\xca\xfe\xba\xbe\0\0\0\x34" + DICE.randbytes(3000)}, extra=b"\xfe\xca\0\0")
    yield "book.epub", zipped({"mimetype": "application/epub+zip", "META-INF/container.xml": "<container/>",
                               "OEBPS/content.opf": "<package/>", "OEBPS/1.xhtml": f"<html><p>{prose(900)}</p></html>"})
    yield "report.docx", zipped(word(prose(4000)))
    yield "streamed.docx", zipped(word(prose(4000)), stream=True)
    yield "utf16.docx", zipped(word(prose(400)) | {"customXml/item1.xml": '<?xml version="1.0" encoding="utf-16"?><a>b</a>'.encode("utf-16")})
    yield "spaced.docx", zipped(word(prose(400)) | {"docProps/core.xml": "\n\n<a>b</a>"})
    yield "unzip.exe", b"MZ\x90\0" + DICE.randbytes(20_000) + zipped(files)
    yield "setup.sh", b"#!/bin/sh\ntail -n +9 $0 | tar xz\nexit\n" + gzip.compress(tarred({"x": DICE.randbytes(9000)}))
    yield "members.gz", gzip.compress(b"one\n") + gzip.compress(b"two\n") + bytes(700)
    yield "followed.gz", gzip.compress(prose(900).encode()) + b"\nsignature: none\n"
    for form, number in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        yield f"{form}.tar", tarred({"a" * 90 + "/" + "b" * (9 if form == "ustar" else 90): b"x" * 700, "c": b"y" * 1024}, number)
    plain = tarred({"a": b"x" * 700}, tarfile.USTAR_FORMAT)
    yield "unpadded.tar", plain[:1536]
    yield "half-padded.tar", plain[:2048]
    yield "padded.tar", plain + bytes(777)
    yield "all.tar.gz", gzip.compress(plain)
    yield "all.tar.bz2", bz2.compress(plain) + bz2.compress(b"more")
    yield "all.tar.xz", lzma.compress(plain) + bytes(4) + lzma.compress(b"more")
    yield "old.lzma", lzma.compress(prose(900).encode(), lzma.FORMAT_ALONE)


def binaries() -> Iterator[tuple[str, bytes]]:
    yield "picture.png", PNG
    yield "cut.png", PNG[:9000]
    yield "picture.jpg", JPEG
    yield "cut.jpg", JPEG[:9000]
    yield "photo.txt", JPEG
    yield "text.png", prose(900).encode()
    yield "text.zip", prose(900).encode()
    yield "page.gz", b"<html><body>404 not found</body></html>"
    yield "one.pdf", pdf()
    yield "revised.pdf", pdf(revisions=3)
    yield "broken.pdf", pdf(broken=True)
    yield "followed.pdf", pdf() + bytes(500) + b"\r\n"
    yield "late.pdf", b"\r\n\0junk\n" + pdf()
    yield "page.pdf", b"<html><body>please log in</body></html>"
    yield "map.ser", SERIALISED + b"".join(b"t\0\x05k%04dt\0\x10%b" % (n, prose(20)[:16].encode()) for n in range(300)) + b"x"
    yield "data.pickle", pickle.dumps({"rows": [(n, prose(40), DICE.random()) for n in range(300)]})
    yield "data.npy", b"\x93NUMPY\1\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (900,), }".ljust(127) + b"\n" + \
        struct.pack("<900d", *[DICE.random() for _ in range(900)])
    yield "data.sqlite", table()
    yield "random.bin", DICE.randbytes(200_000)
    yield "zeros.bin", bytes(200_000)
    yield "sparse.bin", b"".join(bytes(DICE.randrange(3000)) + prose(30).encode() for _ in range(300))
    yield "wide.bin", b"".join(DICE.randbytes(DICE.randrange(4000)) + "a name".encode("utf-16-le") for _ in range(100))
    yield "many.bin", b"".join(DICE.randbytes(2000) + m + DICE.randbytes(30) for m in (
        b"PK\3\4", b"\x1f\x8b\x08", b"BZh9", b"PK\1\2", b"PK\5\6", b"%PDF-1.4\n", b"\n%PDF-1.4\n") * 9)
    yield "old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"".join(
        DICE.randbytes(5000) + "a heading".encode("utf-16-le") + bytes(99) for _ in range(60))
