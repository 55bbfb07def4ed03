"""Groups, suffixes, and files that are two things."""

import pytest

from addons.filekinds import Zipped, fits, groups
from addons.sniff import kind
from tests.addons.conftest import SIZES, cut

ZIP_END = b"PK\5\6" + bytes(16)


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        pytest.param(b"MZ\x90\0\3\0", "x", {"executable"}, id="PE"),
        pytest.param(b"\x7fELF\2\1\1\0", "x", {"executable"}, id="ELF"),
        pytest.param(b"\xcf\xfa\xed\xfe\7\0", "x", {"executable"}, id="Mach-O"),
        pytest.param(b"#!/bin/sh\nrm -rf x\n", "x", {"executable", "source"}, id="script"),
        pytest.param(b"Write-Host 1\n", "a.PS1", {"executable", "source"}, id="script by its name"),
        pytest.param(b"PK\3\4" + bytes(30), "x", {"archive"}, id="zip"),
        pytest.param(b"PK\3\4" + bytes(26) + b"word/document.xml", "x", {"office"}, id="docx"),
        pytest.param(b"PK\3\4" + bytes(26) + b"META-INF/MANIFEST.MF", "x", {"archive", "executable"}, id="jar"),
        pytest.param(b"7z\xbc\xaf\x27\x1c", "x", {"archive"}, id="7z"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "x", {"office"}, id="OLE"),
        pytest.param(b"%PDF-1.7", "x", {"pdf"}, id="PDF"),
        pytest.param(b"SQLite format 3\0", "x", {"database"}, id="SQLite"),
        pytest.param(b"\0\1\0\0Standard Jet DB\0", "x", {"database"}, id="Access"),
        pytest.param(b"\xff\xd8\xff\xe0\0", "x.exe", {"image"}, id="a picture, whatever its name"),
        pytest.param(b"-----BEGIN RSA PRIVATE KEY-----\n", "x", {"key"}, id="key"),
        pytest.param(b"import os\nfrom sys import argv\n\ndef main():\n    pass\n", "x", {"source"}, id="Python"),
        pytest.param(b"#include <stdio.h>\nclass A {\n};\n", "x", {"source"}, id="C++"),
        pytest.param(b"package main;\nimport java.util.List;\npublic class A {\n", "x", {"source"}, id="Java"),
        pytest.param(b"hello", "a.py", {"source"}, id="by its name"),
        pytest.param(b"Dear class of 2020,\nimport duties (as ever) are due.\n", "x", set(), id="prose"),
        pytest.param(b'{"import": "x"}', "x", set(), id="JSON"),
        pytest.param(b"\0\1\2\3", "x.py", set(), id="no text"),
    ],
)
def test_groups(head: bytes, name: str, expected: set[str]) -> None:
    assert groups(kind(head), name, head) == expected


@pytest.mark.parametrize(
    ("suffix", "kind", "expected"),
    [
        (".jpg", "image/jpeg", True),
        (".jpg", "application/zip", False),
        (".jpg", "text/plain", False),
        (".docx", "application/docx", True),
        (".docx", "application/ole", True),  # encrypted
        (".docx", "application/pe", False),
        (".zip", "application/jar", True),
        (".txt", "text/plain", True),
        (".txt", "application/json", True),
        (".txt", "application/pe", False),
        (".csv", "application/zip", False),
        (".txt", "data", True),  # UTF-16
        (".dat", "application/pe", True),
        ("", "application/pe", True),
        (".jpg", "empty", True),
    ],
)
def test_fits(suffix: str, kind: str, expected: bool) -> None:
    assert fits(suffix, kind) is expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"GIF89a" + bytes(3000) + ZIP_END + b"\0\0", True, id="no comment"),
        pytest.param(b"GIF89a" + ZIP_END + b"\5\0hello", True, id="comment"),
        pytest.param(b"GIF89a" + ZIP_END + b"\0\0" + b";", False, id="something behind it"),
        pytest.param(b"GIF89a" + ZIP_END + b"\6\0hello", False, id="wrong length"),
        pytest.param(b"GIF89a" + ZIP_END + b"\0\0" + ZIP_END + b"\0\0", True, id="two ends"),
        pytest.param(b"GIF89a" + bytes(100), False, id="none"),
    ],
)
def test_zipped(data: bytes, expected: bool, size: int) -> None:
    zipped = Zipped()
    assert [zipped.feed(chunk) for chunk in cut(data, size)][-1] is expected
