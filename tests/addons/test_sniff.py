"""The first bytes tell what a body is, whatever it is called."""

import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

from addons.sniff import SIGNATURES, kind, mismatch


def zipped(name: str, content: bytes = b"x") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("head", "found"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", "image/png", id="png"),
        pytest.param(b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", id="webp"),
        pytest.param(b"\0\0\0\x20ftypisom", "video/mp4", id="mp4"),
        pytest.param(b"\0\0\0\x20ftypavif", "image/avif", id="avif"),
        pytest.param(b"%PDF-1.7", "application/pdf", id="pdf"),
        pytest.param(gzip.compress(b"x"), "application/gzip", id="gzip"),
        pytest.param(tarred(), "application/tar", id="tar"),
        pytest.param(zipped("a.txt"), "application/zip", id="zip"),
        pytest.param(zipped("word/document.xml"), "application/docx", id="docx"),
        pytest.param(zipped("[Content_Types].xml"), "application/ooxml", id="office"),
        pytest.param(zipped("mimetype", b"application/epub+zip"), "application/epub", id="epub"),
        pytest.param(b'  {"a": 1}', "application/json", id="json object"),
        pytest.param(b"\xef\xbb\xbf[1, 2]", "application/json", id="json array with BOM"),
        pytest.param(b"<!DOCTYPE html><html>", "text/html", id="html"),
        pytest.param(b'<?xml version="1.0"?>\n<svg xmlns="x">', "image/svg", id="svg"),
        pytest.param(b'<?xml version="1.0"?><feed>', "text/xml", id="xml"),
        pytest.param(b"a=1&b=two%20", "application/form", id="form"),
        pytest.param(b"--abc123\r\nContent-Disposition: form-data", "multipart/form-data", id="multipart"),
        pytest.param(b"Hello, world.\n", "text/plain", id="text"),
        pytest.param(b"\0\1\2\3nothing", "data", id="unknown"),
        pytest.param(b"BMW and other cars", "text/plain", id="text that begins like a bitmap"),
        pytest.param(b"BZh9 is how bzip2 begins\0", "data", id="no bzip2"),
        pytest.param(b"\x1f\x9d\xff" + bytes(20), "data", id="no compress"),
        pytest.param(b"\x60\xea\xff" + bytes(20), "data", id="no ARJ"),
        pytest.param(b"\x1f\x8b\x08\xff" + bytes(20), "data", id="no gzip"),
        pytest.param(b"\x5d\0\0\1\1" + bytes(20), "data", id="no LZMA"),
        pytest.param(lzma.compress(b"x", lzma.FORMAT_ALONE), "application/lzma", id="LZMA"),
        pytest.param(b"Salted__ is what openssl writes first", "text/plain", id="a text about openssl"),
        pytest.param(b"xar! they cried, and ran to the boat", "text/plain", id="a cry"),
        pytest.param(b"--------\r\n\r\nunder a line", "text/plain", id="a text under a line"),
        pytest.param(b"MZ\x90\0", "application/pe", id="Windows program"),
    ],
)
def test_kind(head: bytes, found: str) -> None:
    assert kind(head) == found


def test_no_signature_hides_another() -> None:
    """Each signature on its own is told as itself."""
    for name, offset, magic in SIGNATURES:
        assert kind(bytes(offset) + magic + b"\0") == name


@pytest.mark.parametrize(
    ("declared", "sniffed", "wrong"),
    [
        ("image/png", "image/png", False),
        ("image/jpeg", "image/png", False),
        ("image/png", "application/zip", True),
        ("text/plain", "application/pe", True),
        ("application/octet-stream", "application/pe", False),
        ("", "application/pe", False),
        ("application/json; charset=utf-8", "application/json", False),
        ("application/javascript", "text/plain", False),
        ("image/png", "text/html", True),
        ("image/svg+xml", "image/svg", False),
        ("application/pdf", "application/pdf", False),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/zip", False),
        ("text/html", "data", False),
        ("application/x-tar", "application/gzip", False),
    ],
)
def test_mismatch(declared: str, sniffed: str, wrong: bool) -> None:
    assert mismatch(declared, sniffed) is wrong
