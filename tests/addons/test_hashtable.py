"""A table has what was put in, and next to nothing else; a damaged file is none."""

import random
import zlib
from pathlib import Path

import pytest

from addons.hashtable import HashTable, Prefilter, TableBuilder, read, write


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 128, 129, 20_000])
def test_table(count: int) -> None:
    dice = random.Random(count)
    there = [dice.randbytes(8) for _ in range(count)]
    builder = TableBuilder()
    for digest in there + there[:5]:
        builder.add(digest)
    table = HashTable(*builder.finish())
    assert len(table) == count
    assert sorted(map(table.find, there)) == list(range(count))
    assert [table.find(dice.randbytes(8)) for _ in range(2000)] == [-1] * 2000


def test_four_bytes_each() -> None:
    dice, builder = random.Random(1), TableBuilder()
    for _ in range(100_000):
        builder.add(dice.randbytes(8))
    bits, directory, rest = builder.finish()
    assert len(rest) == 400_000
    assert len(directory) <= len(rest) // 16
    assert 100_000 / 2 ** (bits + 32) <= 1.5e-8  # false rate


def test_prefilter() -> None:
    checks = [zlib.crc32(b"%d" % i) for i in range(1000)]
    packed = Prefilter.pack(checks, len(checks), b"salt")
    filtered = Prefilter(packed, b"salt")
    assert all(passes(filtered, check) for check in checks)
    assert sum(passes(filtered, zlib.crc32(b"x%d" % i)) for i in range(10_000)) < 1000
    assert sum(passes(Prefilter(packed, b"another"), check) for check in checks) < 600  # noise


def passes(filtered: Prefilter, check: int) -> bool:
    return bool(filtered.table[check >> 3 & filtered.mask] >> (check & 7) & 1)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "x.fp"
    write(path, "values", {"a": 1}, [b"abcd", b""])
    assert path.stat().st_mode & 0o777 == 0o600
    header, sections = read(path, "values")
    assert header["a"] == 1
    assert [bytes(each) for each in sections] == [b"abcd", b""]
    assert [each.name for each in tmp_path.iterdir()] == ["x.fp"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda data: data[:-1], "damaged", id="cut short"),
        pytest.param(lambda data: data + b"x", "damaged", id="longer"),
        pytest.param(lambda data: data.replace(b"abcd", b"abce"), "checksum", id="changed"),
        pytest.param(lambda data: data.replace(b'"a"', b'"b"'), "checksum", id="header changed"),
        pytest.param(lambda data: data.replace(b"prints 1", b"prints 2"), "another version|of another version", id="version"),
        pytest.param(lambda data: b"name;iban\n", "not made by", id="another file"),
        pytest.param(lambda data: b"", "not made by", id="empty"),
        pytest.param(lambda data: data.split(b"\n")[0] + b"\n[1]\n", "second line", id="another header"),
    ],
)
def test_damage(tmp_path: Path, change, says: str) -> None:
    path = tmp_path / "x.fp"
    write(path, "values", {"a": 1}, [b"abcd"])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=says) as caught:
        read(path, "values")
    assert str(path) in str(caught.value)


def test_of_another_kind_or_not_there(tmp_path: Path) -> None:
    write(tmp_path / "x", "values", {}, [])
    with pytest.raises(ValueError, match="of values, not of documents"):
        read(tmp_path / "x", "documents")
    with pytest.raises(ValueError, match="No such file"):
        read(tmp_path / "y", "documents")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="x"):
        write(tmp_path / "x", "values", {}, [])
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
