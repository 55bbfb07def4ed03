"""Ways to write a text otherwise, each with the step of the path under which it is found again."""

import base64
import html
import json
import random
import urllib.parse
from collections.abc import Callable

#: Nothing that has a name.
BINARY = b"\x01\x02" + random.Random(5).randbytes(300)


def _every(form: str) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(form.encode() % byte for byte in data)


def _json(data: bytes) -> bytes:
    return json.dumps({"note": "a\n" + data.decode("latin-1") + "\n", "more": [1, None]}).encode()


def _quoted(data: bytes) -> bytes:
    return b"=\r\n".join(b"".join(b"=%02X" % byte for byte in data[at : at + 24]) for at in range(0, len(data), 24))


def _cdata(data: bytes) -> bytes:
    half = len(data) // 2
    return b"<x><![CDATA[" + data[:half] + b"]]><![CDATA[" + data[half:] + b"]]></x>"


#: By name: the encoder and its step.  `containers` has its own.
TEXTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "json": (_json, "unescaped"),
    "unicode": (_every("\\u%04x"), "unescaped"),
    "hexescape": (_every("\\x%02X"), "unescaped"),
    "octal": (_every("\\%03o"), "unescaped"),
    "percent": (_every("%%%02X"), "unescaped"),
    "form": (lambda data: b"a=1&b=" + urllib.parse.quote_from_bytes(data + b"/", safe="").encode(), "unescaped"),
    "decimal": (_every("&#%d;"), "unescaped"),
    "hexentity": (_every("&#x%x;"), "unescaped"),
    "html": (lambda data: b"<p>" + html.escape('"' + data.decode("latin-1") + '"').encode() + b"</p>", "unescaped"),
    "cdata": (_cdata, "unescaped"),
    "quoted": (_quoted, "quoted-printable"),
    "base64": (lambda data: b'{"file": "' + base64.b64encode(data) + b'"}', "base64"),
    "base64url": (lambda data: b"t=" + base64.urlsafe_b64encode(data).rstrip(b"=") + b"&u=1", "base64"),
    "dataurl": (lambda data: b"url(data:text/plain;base64," + base64.b64encode(data) + b")", "base64"),
    "mime": (base64.encodebytes, "base64"),
    "glued": (lambda data: b"value_" + base64.b64encode(data), "base64"),
    "base32": (base64.b32encode, "base32"),
    "hex": (lambda data: data.hex().encode(), "hex"),
    "0x": (lambda data: b"0x" + data.hex().upper().encode() + b",", "hex"),
    "utf-16-le": (lambda data: data.decode("latin-1").encode("utf-16-le"), "utf-16-le"),
    "utf-16-be": (lambda data: data.decode("latin-1").encode("utf-16-be"), "utf-16-be"),
    "utf-16": (lambda data: b"\xff\xfe" + data.decode("latin-1").encode("utf-16-le"), "utf-16-le"),
    "utf-32-le": (lambda data: data.decode("latin-1").encode("utf-32-le"), "utf-32-le"),
    "utf-32-be": (lambda data: data.decode("latin-1").encode("utf-32-be"), "utf-32-be"),
    "in binary": (lambda data: BINARY + data.decode("latin-1").encode("utf-16-le") + b"\xff\xfe\xfd", "wide"),
}
