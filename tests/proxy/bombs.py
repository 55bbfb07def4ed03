"""Bodies that hold far more than they weigh, or that no reader comes to the end of."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from typing import Final

import brotli

type Upload = tuple[dict[str, str], bytes]
ZIP: Final = {"content-type": "application/zip"}


def of_codings(size: int = 256 << 20) -> dict[str, Upload]:
    squeeze = zlib.compressobj(9, wbits=31)
    packed = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20)) + squeeze.flush()
    return {
        "brotli": ({"content-encoding": "br"}, brotli.compress(bytes(size), quality=5)),
        "gzip": ({"content-encoding": "gzip"}, packed),
        "gzip twice": ({"content-encoding": "gzip, gzip"}, gzip.compress(packed)),
        "gzip file": ({"content-type": "application/gzip"}, packed),
    }


def archive(entries: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return out.getvalue()


def of_zips() -> bytes:
    """As 42.zip: archives of archives of much of nothing."""
    made = archive({"0.txt": bytes(64 << 20)})
    for _ in range(4):
        made = archive({f"{number}.zip": made for number in range(16)})
    return made


def overlapping() -> bytes:
    """A directory of a thousand entries that all have the same place (D. Fifield, A better zip bomb, WOOT 2019)."""
    whole = archive({"0.txt": bytes(16 << 20)})
    at = whole.index(b"PK\1\2")
    entry = whole[at : whole.index(b"PK\5\6")]
    directory = b"".join(entry.replace(b"0.txt", b"%05d" % number) for number in range(1000))
    tail = b"PK\5\6\0\0\0\0" + (1000).to_bytes(2, "little") * 2 + len(directory).to_bytes(4, "little")
    return whole[:at] + directory + tail + at.to_bytes(4, "little") + b"\0\0"


def nested(wrap: Callable[[bytes], bytes], times: int = 1000) -> bytes:
    made = b"nothing"
    for _ in range(times):
        made = wrap(made)
    return made


def parts(count: int = 1_000_000) -> bytes:
    return b"--x\r\n\r\na\r\n" * count + b"--x--\r\n"


def entities() -> bytes:
    """A document of a billion laughs."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<?xml version="1.0"?><!DOCTYPE w:document [<!ENTITY l0 "lol">{laughs}]>' \
           '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>' \
           '<w:t>&l9;</w:t></w:r></w:p></w:body></w:document>'
    types = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
    return archive({"[Content_Types].xml": types.encode(), "word/document.xml": text.encode()})


def pdf(content: bytes, pages: int = 1) -> bytes:
    """A document whose pages all show the same packed content."""
    packed = zlib.compress(content, 9)
    kids = b" ".join(b"%d 0 R" % (5 + n) for n in range(pages))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count %d/Kids[%b]>>" % (pages, kids),
               b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(packed), packed),
               b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    objects += [b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 3 0 R/Resources<</Font<</F 4 0 R>>>>>>"] * pages
    out, places = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 %d\n0000000000 65535 f \n%btrailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(places) + 1, table, len(places) + 1, len(out))


def all_of_them() -> dict[str, Upload]:
    form = {"content-type": "multipart/form-data; boundary=x"}
    document = {"content-type": "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}
    paper = {"content-type": "application/pdf"}
    return of_codings() | {
        "zip of zips": (ZIP, of_zips()),
        "overlapping zip": (ZIP, overlapping()),
        "zip, 1000 deep": (ZIP, nested(lambda data: archive({"a.zip": data}, zipfile.ZIP_STORED))),
        "gzip, 1000 deep": ({"content-type": "application/gzip"}, nested(gzip.compress)),
        "a million parts": (form, parts()),
        "XML entities": (document, entities()),
        "PDF of much text": (paper, pdf(b"BT /F 1 Tf " + b"(a b) Tj " * 20_000_000 + b"ET")),
        "PDF of many pages": (paper, pdf(b"BT /F 1 Tf " + b"(a b) Tj " * 200_000 + b"ET", pages=5000)),
    }
