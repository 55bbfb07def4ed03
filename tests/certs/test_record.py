"""What was before is known until it has been put back."""

from pathlib import Path

import pytest

from certs.authority import Authority
from certs.record import Record

A, B = Path("/a"), Path("/b")


def test_kept(record: Record, authority: Authority):
    record.begin(authority.root, "one", {A: b"\0bytes", B: None}, keep=True)
    assert record.kept(authority.root, "one") == {A: b"\0bytes", B: None}
    assert record.kept(authority.root, "another") == {}
    record.finish(authority.root, "one", {A: b"new"})
    assert record.kept(authority.root, "one") == {A: b"\0bytes", B: None}


@pytest.mark.parametrize(
    ("now", "same"),
    [
        pytest.param({A: b"x", B: None}, True, id="as before"),
        pytest.param({A: b"y", B: None}, False, id="a file differs"),
        pytest.param({A: b"x", B: b""}, False, id="a file has come"),
        pytest.param({A: None, B: None}, False, id="a file has gone"),
        pytest.param({A: b"x"}, False, id="another set of files"),
    ],
)
def test_same(record: Record, authority: Authority, now, same):
    record.begin(authority.root, "one", {A: b"x", B: None})
    assert record.same(authority.root, "one", now) is same
    assert record.kept(authority.root, "one") == {}


def test_an_interrupted_install_knows_better(record: Record, authority: Authority):
    """The second attempt finds a store that the first has half changed."""
    record.begin(authority.root, "one", {A: b"before"}, keep=True)
    record.begin(authority.root, "one", {A: b"between"}, keep=True)
    assert record.kept(authority.root, "one") == {A: b"before"}
    record.finish(authority.root, "one", {})
    record.begin(authority.root, "one", {A: b"later"}, keep=True)
    assert record.kept(authority.root, "one") == {A: b"later"}


def test_forget(record: Record, authority: Authority):
    for store in ("one", "two"):
        record.begin(authority.root, store, {})
    assert [path.stat().st_mode & 0o777 for path in record.folder.iterdir()] == [0o600] * 2
    record.forget(authority.root, "one")
    assert (record.knows(authority.root, "one"), record.knows(authority.root, "two")) == (False, True)
    record.forget(authority.root, "two")
    record.forget(authority.root, "two")
    assert not record.folder.exists()


@pytest.mark.parametrize("text", [pytest.param("{", id="cut off"), pytest.param("[]", id="not an object")])
def test_damaged(record: Record, authority: Authority, text):
    record.begin(authority.root, "one", {})
    next(record.folder.iterdir()).write_text(text)
    with pytest.raises(ValueError, match="remove it"):
        record.knows(authority.root, "one")
