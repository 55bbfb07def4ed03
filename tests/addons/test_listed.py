"""Lists are lines."""

from pathlib import Path

import pytest

from addons import listed


def test_lines(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("\ufeffone\n\n # comment\r\n two é\r\n".encode())
    assert listed.listed(tmp_path / "x") == [(1, "one"), (4, " two é")]


@pytest.mark.parametrize(("data", "says"), [(b"\xff\xfe", "not UTF-8"), (b"x" * 11, "larger"), (None, "No such file")])
def test_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None, says: str) -> None:
    monkeypatch.setattr(listed, "MAX_LIST", 10)
    if data is not None:
        (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        listed.listed(tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)
