"""Compressed files and tar archives are read; what cannot be read is said."""

import bz2
import gzip
import io
import lzma
import tarfile

import pytest
import zstandard

from addons.sniff import kind
from addons.views import budget
from addons.views.archives import PACKED, UNREAD
from tests.addons.conftest import SIZES
from tests.addons.views.collect import read

TEXT = b"a secret text " * 9000
LONG = "d/" * 90 + "long.txt"


def named(data):
    out = io.BytesIO()
    with gzip.GzipFile("report.txt", "wb", fileobj=out) as file:
        file.write(data)
    return out.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("data", "path"), [
    pytest.param(gzip.compress(TEXT), "gzip", id="gzip"),
    pytest.param(named(TEXT), "gzip:report.txt", id="gzip with a name"),
    pytest.param(gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:]), "gzip", id="gzip members"),
    pytest.param(gzip.compress(TEXT) + bytes(99), "gzip", id="gzip, padded"),
    pytest.param(bz2.compress(TEXT[:50]) + bz2.compress(TEXT[50:]), "bzip2", id="bzip2 streams"),
    pytest.param(lzma.compress(TEXT), "xz", id="xz"),
    pytest.param(lzma.compress(TEXT, lzma.FORMAT_ALONE), "lzma", id="lzma"),
    pytest.param(zstandard.compress(TEXT[:50]) + zstandard.compress(TEXT[50:]), "zstd", id="zstd frames"),
    pytest.param(gzip.compress(bz2.compress(TEXT)), "gzip > bzip2", id="one in the other"),
])
def test_packed(data, path, size):
    heard = read(data, size)
    assert not heard.refused
    assert heard.texts[f"body > {path}"] == TEXT


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("data", "reason"), [
    pytest.param(gzip.compress(TEXT)[:-9], "cut short", id="cut"),
    pytest.param(gzip.compress(TEXT) + b"PK\3\4 and more", "zip archive is cut short", id="half an archive behind"),
    pytest.param(lzma.compress(TEXT)[:-40], "cut short", id="xz cut"),
    pytest.param(bz2.compress(TEXT)[:50] + b"xx" + bz2.compress(TEXT)[52:], "corrupt", id="bzip2 changed"),
    pytest.param(gzip.compress(bytes(4_000_000)), "times its size", id="bomb"),
])
def test_packed_unscannable(data, reason, size, monkeypatch):
    monkeypatch.setattr(budget, "FREE", 1 << 20)
    if len(data) / size < 90_000:
        assert [why for _, why in read(data, size).refused if reason in why]


def tar(form, files, headers=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, pax_headers=headers) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


FILES = {"a.txt": b"one", LONG: TEXT, "ä" * 120: b"two", "empty": b"", "z": bytes(512)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tar(form, size):
    heard = read(tar(form, FILES), size)
    assert not heard.refused
    assert [bytes(text) for path, text in heard.views if "tar:" in path] == [data for data in FILES.values() if data]
    for name in FILES:
        assert name.encode() in heard.texts["body > names"]


@pytest.mark.parametrize("size", SIZES)
def test_a_second_tar_behind_the_first_is_read_too(size):
    heard = read(gzip.compress(tar(tarfile.USTAR_FORMAT, {"a": b"one"}) + tar(tarfile.USTAR_FORMAT, {"b": b"two"})), size)
    assert not heard.refused
    assert heard.texts["body > gzip > tar:b"] == b"two"


GOOD = tar(tarfile.PAX_FORMAT, {"a": b"one", LONG: b"two"})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("data", "reason"), [
    pytest.param(GOOD[:514], "cut short", id="cut"),
    pytest.param(GOOD[:100] + b"9" + GOOD[101:], "corrupt tar header", id="bad checksum"),
    pytest.param(GOOD + b"x" * 512 + GOOD, "data after the end", id="another archive behind something"),
    pytest.param(GOOD.replace(b"path=", b"pa=h="), "", id="unknown key"),
    pytest.param(tar(tarfile.PAX_FORMAT, {"a": b"one"}, {"comment": "of a commit"}), "", id="a comment for all files"),
    pytest.param(tar(tarfile.PAX_FORMAT, {"a": b"one"}, {"size": "0"}), "one size for all", id="a size for all files"),
    pytest.param(GOOD.replace(b" path=", b"0path="), "malformed pax", id="bad pax record"),
])
def test_tar_unscannable(data, reason, size):
    refused = read(data, size).refused
    assert [why for _, why in refused if reason in why] if reason else not refused


@pytest.mark.parametrize(("head", "word"), [
    (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\7\1\0", "RAR"), (b"MSCF\0\0\0\0", "cabinet"), (b"\x60\xea\x29\0\x1e", "ARJ"),
    (b"\x04\x22\x4d\x18", "lz4"), (b"age-encryption.org/v1\n", "age"), (b"Salted__", "openssl"),
])
def test_unread(head, word):
    for size in SIZES:
        assert [why for _, why in read(head + bytes(99), size).refused if word in why]


def test_kinds_exist():
    """What readers are registered for is what sniffing says."""
    assert {kind(head + b"\0" * 20) for head in (b"\x1f\x8b\x08", b"BZh91AY&SY", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x5d\0\0\x80")} == set(PACKED)
    assert all(name.startswith("application/") for name in UNREAD)
