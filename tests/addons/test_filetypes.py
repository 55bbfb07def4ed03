"""Files are judged by what they are, wherever they are."""

import io
import zipfile

import pytest

from addons.filetypes import FileTypes
from addons.verdict import Action, Verdict, ViewScanner
from addons.views import Tree, View
from addons.views.tree import Listener
from tests.addons.conftest import SIZES, cut, request

PE = b"MZ\x90\0\3\0\0\0" + bytes(600)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(600)


class Heard:
    """Asks a view scanner about a message, as the proxy does."""

    def __init__(self, scanner: ViewScanner) -> None:
        self.scanner, self.said = scanner, list[Verdict]()

    def opened(self, view: View) -> Listener | None:
        scan = self.scanner.opened(view)
        return scan and (lambda data: self._note(scan(data)))

    def unscannable(self, view: View, reason: str) -> None:
        self._note(self.scanner.unscannable(view, reason))

    def _note(self, verdict: Verdict | None) -> None:
        if verdict:
            self.said.append(verdict)


def said(rule: FileTypes, body: bytes, size: int = 1 << 16, name: str = "", declared: str = "", way: str = "request"):
    scanner = getattr(rule, f"{way}views")(request())
    if scanner is None:
        return []
    heard = Heard(scanner)
    tree = Tree(heard, declared=declared, file=name)
    for chunk in cut(body, size):
        tree.feed(chunk) if chunk else tree.end()
    return heard.said


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return out.getvalue()


def form(name: str, data: bytes, declared: str = "application/octet-stream") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\nContent-Type: {declared}\r\n\r\n'
    return head.encode() + data + b"\r\n--b--\r\n"


def encrypted(data: bytes) -> bytes:
    """The archive, its first entry said to be encrypted."""
    out = bytearray(data)
    out[6] |= 1
    out[data.index(b"PK\1\2") + 8] |= 1
    return bytes(out)


MULTIPART = "multipart/form-data; boundary=b"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kinds", "body", "declared", "where"),
    [
        pytest.param(("executable",), PE, "", "body", id="the body"),
        pytest.param(("executable",), form("x.txt", PE), MULTIPART, "multipart", id="in a form"),
        pytest.param(("executable",), zipped(a_txt=b"hello", b_bin=PE), "", "zip:b.bin", id="in an archive"),
        pytest.param(("executable",), form("x.txt", zipped(b_bin=PE)), MULTIPART, "zip:b.bin", id="in both"),
        pytest.param(("image/*",), JPEG, "", "body", id="a pattern"),
        pytest.param(("image/jpeg", "pdf"), JPEG, "", "body", id="one of two"),
        pytest.param(("archive",), zipped(a_txt=b"hello"), "", "body", id="archive"),
        pytest.param(("source",), zipped(a_py=b"x = 1\n"), "", "zip:a.py", id="source"),
        pytest.param(("pdf", "image/png"), JPEG, "", None, id="another"),
        pytest.param(("executable",), b"MZ is no program", "", None, id="text"),
    ],
)
def test_kinds(kinds: tuple[str, ...], body: bytes, declared: str, where: str | None, size: int) -> None:
    verdicts = said(FileTypes(kinds), body, size, declared=declared)
    assert [v.action for v in verdicts] == [Action.BLOCK] * (where is not None)
    assert all((where or "") in v.findings[0].where for v in verdicts)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("options", "body", "count"),
    [
        pytest.param({"larger_than": 1000}, b"x" * 1000, 0, id="not larger"),
        pytest.param({"larger_than": 1000}, b"x" * 1001, 1, id="larger"),
        pytest.param({"larger_than": 700, "kinds": ("image",)}, b"x" * 900, 0, id="of another kind"),
        pytest.param({"larger_than": 500, "kinds": ("image",)}, JPEG, 1, id="of this kind"),
        pytest.param({"larger_than": 1000, "kinds": ("image",)}, JPEG, 0, id="a small one"),
    ],
)
def test_sizes(options: dict, body: bytes, count: int, size: int) -> None:
    assert len(said(FileTypes(**options), body, size)) == count


@pytest.mark.parametrize("size", [1, 64, 1 << 20])
@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param(encrypted(zipped(a_txt=b"hello" * 99)), 1, id="zip"),
        pytest.param(zipped(a_txt=b"hello" * 99), 0, id="open zip"),
        pytest.param(
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(3000) + "EncryptedPackage".encode("utf-16-le") + bytes(99), 1, id="Office"
        ),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(3000), 0, id="open Office"),
        pytest.param(b"-----BEGIN PGP MESSAGE-----\n\nxxxx\n", 1, id="PGP"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\n\nxxxx\n", 0, id="key"),
        pytest.param(b"age-encryption.org/v1\n" + bytes(600), 1, id="age"),
        pytest.param(b"Salted__" + bytes(range(256)), 1, id="openssl"),
    ],
)
def test_encrypted(body: bytes, count: int, size: int) -> None:
    assert [v.action for v in said(FileTypes(encrypted="kill"), body, size)] == [Action.KILL] * count
    assert said(FileTypes(("video",)), body, size) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "declared", "body", "count"),
    [
        pytest.param("a.jpg", "image/jpeg", JPEG, 0, id="honest"),
        pytest.param("a.jpg", "image/jpeg", zipped(a_txt=b"x"), 1, id="a zip called picture"),
        pytest.param("a.txt", "text/plain", PE, 1, id="a program called text"),
        pytest.param("a.bin", "image/png", PE, 1, id="a type that lies"),
        pytest.param("a.jpg", "image/jpeg", JPEG + zipped(a_txt=b"x"), 1, id="a picture and a zip"),
        pytest.param("a.gif", "image/gif", b"GIF89a\n%PDF-1.4" + bytes(600), 1, id="a picture and a PDF"),
        pytest.param("a.zip", "application/zip", zipped(a_txt=b"x"), 0, id="a zip"),
        pytest.param("a.csv", "text/csv", b"a,b\n1,2\n", 0, id="text"),
        pytest.param("", "", JPEG, 0, id="nothing is said of it"),
    ],
)
def test_mismatch(name: str, declared: str, body: bytes, count: int, size: int) -> None:
    verdicts = said(FileTypes(mismatch="alert"), body, size, name, declared)
    assert [v.action for v in verdicts] == [Action.ALERT] * count


@pytest.mark.parametrize(
    ("direction", "ways"), [("upload", ["request"]), ("download", ["response"]), ("both", ["request", "response"])]
)
def test_direction(direction: str, ways: list[str]) -> None:
    rule = FileTypes(("executable",), direction=direction)
    assert [way for way in ("request", "response") if said(rule, PE, way=way)] == ways


def test_reasons() -> None:
    rule = FileTypes(("executable",), mismatch="alert", larger_than=10)
    (verdict,) = said(rule, PE, name="a.txt")
    assert verdict.action is Action.BLOCK  # the graver one
    assert verdict.reason == "a file of kind application/pe of more than 10 bytes in the upload: body"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "one of them"),
        ({"kinds": ("exe",)}, "kinds: 'exe'"),
        ({"kinds": ("pdf",), "direction": "in"}, "direction"),
        ({"encrypted": "maybe"}, "encrypted"),
        ({"mismatch": "maybe"}, "mismatch"),
        ({"larger_than": -1}, "larger_than"),
        ({"kinds": ("pdf",), "action": "x"}, "action"),
        ({"kinds": ("pdf",), "action": "redact"}, "action"),
        ({"kinds": ("pdf",), "action": "allow"}, "action"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FileTypes(**options)


def test_bounded() -> None:
    rule = FileTypes(mismatch="block", encrypted="block")
    heard = Heard(rule.requestviews(request()))
    tree = Tree(heard)
    tree.feed(JPEG)
    for _ in range(300):
        tree.feed(b"PK\5\6" + bytes(16) + b"\xff\xff" + bytes(200))
    assert not heard.said
