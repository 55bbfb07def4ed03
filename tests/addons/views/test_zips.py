"""Whatever a zip archive holds is seen, or it is said that it cannot be."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import pytest

from addons.views import Tree, budget
from tests.addons.conftest import SIZES
from tests.addons.views.collect import read, read_chunks

FILES = {"a.txt": b"one", "dir/b.txt": b"two " * 9000, "empty": b"", "ä.txt": b"three"}


class Pipe(io.RawIOBase):
    """A file that cannot seek: zipfile writes data descriptors then."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def packed(files=FILES, method=zipfile.ZIP_DEFLATED, stream=False, zip64=False):
    out = Pipe() if stream else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            with archive.open(name, "w", force_zip64=zip64) as entry:
                entry.write(content)
    return bytes(out.data if stream else out.getvalue())


def seen(heard):
    return {path.partition("zip:")[2]: text for path, text in heard.texts.items() if "zip:" in path}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_entries(method, stream, zip64, size):
    heard = read(packed(method=method, stream=stream, zip64=zip64), size)
    assert not heard.refused
    assert seen(heard) == {name: text for name, text in FILES.items() if text}
    assert heard.texts["body > names"].decode().split() == list(FILES)


@pytest.mark.parametrize("size", SIZES)
def test_nested_and_prefixed(size):
    inner = packed({"in.txt": b"deep"})
    heard = read(packed({"a.zip": inner, "b.zip": inner}, zipfile.ZIP_STORED), size)
    assert not heard.refused
    assert seen(heard)["a.zip > zip:in.txt"] == seen(heard)["b.zip > zip:in.txt"] == b"deep"


def test_a_stored_entry_of_unknown_size_may_hold_what_looks_like_its_end():
    content = b"x" * 50 + b"PK\7\x08" + bytes(20) + b"PK\3\4" + bytes(99)
    for size in SIZES:
        assert seen(read(packed({"a": content}, zipfile.ZIP_STORED, stream=True), size))["a"] == content


def test_a_descriptor_may_lack_its_signature():
    content = b"stored" * 9
    data = packed({"a": content, "b": b"x"}, zipfile.ZIP_STORED, stream=True)
    at = data.index(b"PK\7\x08")
    for size in SIZES:
        heard = read(data[:at] + data[at + 4 :], size)
        assert seen(heard)["a"] == content


def local(data, name, change):
    """Change the local header of an entry."""
    at = data.index(b"PK\3\4", data.index(name.encode()) - 30)
    head = bytearray(data[at : at + 30])
    change(head)
    return data[:at] + bytes(head) + data[at + 30 :]


def flag(bit):
    def change(head):
        head[6] |= bit
    return change


def method(number):
    return lambda head: struct.pack_into("<H", head, 8, number)


def longer(head):
    struct.pack_into("<I", head, 18, struct.unpack_from("<I", head, 18)[0] + 20)


GOOD = packed()
CENTRAL = GOOD.index(b"PK\1\2")
HIDDEN = zlib.compress(b"secret", wbits=-15)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("data", "reason", "rest"), [
    pytest.param(local(GOOD, "a.txt", flag(1)), "encrypted", True, id="encrypted"),
    pytest.param(local(GOOD, "a.txt", method(99)), "encrypted", True, id="encrypted by AES"),
    pytest.param(local(GOOD, "a.txt", method(9)), "method 9", True, id="deflate64"),
    pytest.param(GOOD[:20], "cut short", False, id="cut in a header"),
    pytest.param(GOOD[:CENTRAL], "without its directory", True, id="no directory"),
    pytest.param(GOOD[:300], "cut short", False, id="cut in an entry"),
    pytest.param(GOOD.replace(b"a.txt", b"c.txt", 1), "names what is not there", True, id="another name in the directory"),
    pytest.param(local(GOOD, "a.txt", longer), "names what is not there", False, id="another size in the directory"),
    pytest.param(GOOD[:CENTRAL] + GOOD[CENTRAL:].replace(struct.pack("<I", GOOD.index(b"PK\3\4", 9)), bytes(4)), "names what is not there", True, id="another offset"),
    pytest.param(GOOD[:-22] + b"PK\5\6" + bytes(18), "not where its end says", True, id="an end that belongs elsewhere"),
    pytest.param(packed({"a": b"aaaa" * 99}).replace(zlib.compress(b"aaaa" * 99, wbits=-15), b"\xff" * len(zlib.compress(b"aaaa" * 99, wbits=-15))), "corrupt", False, id="corrupt data"),
])
def test_unscannable(data, reason, rest, size):
    heard = read(data, size)
    assert [why for _, why in heard.refused if reason in why], heard.refused
    if rest:
        assert seen(heard)["dir/b.txt"] == FILES["dir/b.txt"]


def test_bombs_are_bounded(monkeypatch):
    """Ten million times its size, in layers; and an archive of archives 1 000 deep."""
    monkeypatch.setattr(budget, "FREE", 1 << 20)
    bomb = packed({"zeros": bytes(10_000_000)})
    for _ in range(3):
        bomb = packed({str(i): bomb for i in range(10)})
    deep = b"x"
    for _ in range(1000):
        deep = packed({"a.zip": deep})
    for data, reason in ((bomb, "times its size"), (deep, "deep")):
        heard = read_chunks(data[i : i + 65536] for i in range(0, len(data), 65536))
        assert [why for _, why in heard.refused if reason in why]


class Deaf:
    def opened(self, view):
        return None

    def unscannable(self, view, reason):
        raise AssertionError(reason)


def test_memory_does_not_grow_with_the_archive():
    data = packed({"big": b"".join(i.to_bytes(4) for i in range(500_000))}, zipfile.ZIP_STORED)
    tracemalloc.start()
    tree = Tree(Deaf())
    base = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for at in range(0, len(data), 16384):
        tree.feed(data[at : at + 16384])
    tree.end()
    peak = tracemalloc.get_traced_memory()[1] - base
    tracemalloc.stop()
    assert peak < 500_000
