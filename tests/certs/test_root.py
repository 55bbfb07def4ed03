"""A root is read from what people have, and shown so that they can compare it."""

from pathlib import Path

import pytest

from certs.authority import Authority
from certs.root import Root, export, show


@pytest.mark.parametrize("form", ["pem", "der"])
def test_export_and_read(authority: Authority, tmp_path: Path, form):
    export(authority.root, tmp_path / "out", form)
    assert Root.read(tmp_path / "out") == authority.root
    assert b"PRIVATE" not in (tmp_path / "out").read_bytes()
    with pytest.raises(FileExistsError):
        export(authority.root, tmp_path / "out", form)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda _: b"", "not a certificate", id="empty"),
        pytest.param(lambda _: b"-----BEGIN CERTIFICATE-----\nAAAA\n", "not a certificate", id="damaged PEM"),
        pytest.param(lambda _: b"\0" * 100_000, "not a certificate", id="another kind of file"),
        pytest.param(lambda a: a.root.pem * 2, "holds 2 certificates", id="a bundle"),
        pytest.param(lambda a: a.root.pem + a.issue(["a.test"]).key_pem, "private key", id="with a key"),
        pytest.param(lambda a: a.issue(["a.test"]).chain_pem, "not a CA", id="a leaf"),
    ],
)
def test_read_refuses(authority: Authority, tmp_path: Path, make, message):
    (tmp_path / "in").write_bytes(make(authority))
    with pytest.raises(ValueError, match=message):
        Root.read(tmp_path / "in")


def test_show(authority: Authority):
    text = show(authority.root)
    assert authority.fingerprint in text
    assert authority.root.subject in text
    assert "days left" in text
    assert authority.fingerprint.replace(":", "").lower() == authority.root.digest
    assert authority.root.name == f"lockgate-{authority.root.digest[:16]}"
