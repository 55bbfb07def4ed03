"""An index knows its values by their hashes, and nobody without the salt can ask it."""

from pathlib import Path

import pytest

from addons.exactindex import Index, IndexBuilder, canonical, new_salt, read_salt


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        pytest.param("DE89 3704-0044", b"de8937040044", id="number with separators"),
        pytest.param("Zoë  Müller-Lüdenscheidt", b"zoemullerludenscheidt", id="name"),
        pytest.param("1234 5", b"", id="too few digits"),
        pytest.param("A 123", b"", id="too few letters"),
        pytest.param("12-34-56", b"123456", id="just enough digits"),
        pytest.param("a@b.c", b"", id="short"),
        pytest.param("x" * 129, b"", id="too long"),
        pytest.param("ab " * 17, b"", id="too many words"),
        pytest.param(" \u200b - ", b"", id="nothing"),
    ],
)
def test_canonical(value: str, plain: bytes) -> None:
    assert canonical(value) == plain


def made(path: Path, salt: bytes, **more: bool) -> Path:
    builder = IndexBuilder(["name", "iban"], salt)
    builder.add(["John Smith", "DE89370400440532013000"])
    builder.add(["Bo", ""])
    builder.write(path, **more)
    return path


def test_no_value_is_in_it(tmp_path: Path) -> None:
    data = made(tmp_path / "x", new_salt()).read_bytes().lower()
    assert b"john" not in data
    assert b"370400" not in data
    index = Index(tmp_path / "x")
    assert index.find(b"johnsmith")[1] == (0,)
    assert index.find(b"de89370400440532013000")[1] == (1,)
    assert index.find(b"johnsmitt")[1] == ()


def test_rows(tmp_path: Path) -> None:
    builder = IndexBuilder(["name", "iban"], b"s" * 32)
    builder.add(["John Smith", "DE89370400440532013000"])
    builder.add(["Anna Bauer", "GB29NWBK60161331926819"])
    builder.write(tmp_path / "x")
    index = Index(tmp_path / "x")
    keys = {v: (i, index.find(v)[0]) for i, v in enumerate((b"johnsmith", b"gb29nwbk60161331926819"))}
    assert not index.belong(*keys.values())
    keys = {v: (i, index.find(v)[0]) for i, v in enumerate((b"annabauer", b"gb29nwbk60161331926819"))}
    assert index.belong(*keys.values())


def test_salt_apart(tmp_path: Path) -> None:
    salt = new_salt()
    made(tmp_path / "x", salt, with_salt=False)
    (tmp_path / "right").write_text(salt.hex() + "\n")
    (tmp_path / "wrong").write_text(new_salt().hex())
    assert salt.hex().encode() not in (tmp_path / "x").read_bytes()
    assert Index(tmp_path / "x", tmp_path / "right").find(b"johnsmith")[1] == (0,)
    with pytest.raises(ValueError, match="not the salt"):
        Index(tmp_path / "x", tmp_path / "wrong")
    with pytest.raises(ValueError, match="--salt-file"):
        Index(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "xyz", "00" * 31, "00" * 33])
def test_bad_salt(tmp_path: Path, text: str) -> None:
    (tmp_path / "salt").write_text(text)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        read_salt(tmp_path / "salt")


@pytest.mark.parametrize("columns", [[], ["a", "a"], ["a+b"], [f"c{i}" for i in range(9)]])
def test_bad_columns(columns: list[str]) -> None:
    with pytest.raises(ValueError, match="column"):
        IndexBuilder(columns, b"s" * 32)
