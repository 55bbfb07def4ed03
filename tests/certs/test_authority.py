"""The root is made once and kept private; leaves come from a cache that confuses nobody with anybody else."""

import os
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from certs import authority as module
from certs.authority import Authority, AuthorityError
from certs.minting import root_certificate


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_create_and_load(tmp_path: Path):
    old = os.umask(0)
    try:
        made = Authority.create(tmp_path / "state" / "ca")
    finally:
        os.umask(old)
    read = Authority.load(made.pem_path.parent)
    assert (read.certificate, read.fingerprint) == (made.certificate, made.fingerprint)
    assert made.pem_path == tmp_path / "state" / "ca" / "ca.pem"
    assert [mode(made.pem_path), mode(made.pem_path.with_name("ca-key.pem"))] == [0o644, 0o600]
    assert mode(made.pem_path.parent) == 0o700
    assert b"PRIVATE" not in made.pem_path.read_bytes()


def test_create_does_not_overwrite(tmp_path: Path):
    made = Authority.create(tmp_path / "ca")
    with pytest.raises(AuthorityError, match="exists"):
        Authority.create(tmp_path / "ca")
    assert Authority.load(tmp_path / "ca").fingerprint == made.fingerprint
    assert Authority.load_or_create(tmp_path / "ca").fingerprint == made.fingerprint


def test_a_key_without_certificate_is_what_a_crash_leaves(tmp_path: Path):
    made = Authority.create(tmp_path / "ca")
    made.pem_path.unlink()
    with pytest.raises(AuthorityError, match="`lockgate ca create`"):
        Authority.load(tmp_path / "ca")
    Authority.load_or_create(tmp_path / "ca")


def test_two_processes_make_one_root(tmp_path: Path):
    code = "from certs.authority import *; import sys; print(Authority.load_or_create(Path(sys.argv[1])).fingerprint)"
    command = [sys.executable, "-c", code, str(tmp_path / "ca")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0] * 4


def write(folder: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> None:
    path, encryption = folder / "ca-key.pem", BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)


def readable(folder: Path):
    (folder / "ca-key.pem").chmod(0o640)


def linked(folder: Path):
    (folder / "ca-key.pem").rename(folder / "elsewhere")
    (folder / "ca-key.pem").symlink_to("elsewhere")


def pipe(folder: Path):
    (folder / "ca-key.pem").unlink()
    os.mkfifo(folder / "ca-key.pem")


def others_key(folder: Path):
    write(folder, ec.generate_private_key(ec.SECP256R1()))


def passphrase(folder: Path):
    write(folder, ec.generate_private_key(ec.SECP256R1()), b"x")


def garbage_key(folder: Path):
    (folder / "ca-key.pem").write_text("-----BEGIN")


def garbage_certificate(folder: Path):
    (folder / "ca.pem").write_text("")


def no_key(folder: Path):
    (folder / "ca-key.pem").unlink()


def expired(folder: Path):
    resigned(folder, datetime(2020, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC))


def from_the_future(folder: Path):
    now = datetime.now(UTC)
    resigned(folder, now + timedelta(days=2), now + timedelta(days=3))


def not_a_root(folder: Path):
    now = datetime.now(UTC)
    resigned(folder, now - timedelta(days=1), now + timedelta(days=3), extensions=1)


def resigned(folder: Path, start: datetime, end: datetime, extensions: int = 3):
    """Replace the root by one of another time, with the first of its extensions."""
    key = ec.generate_private_key(ec.SECP256R1())
    old = root_certificate(key)
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), 1, start, end)
    for extension in list(old.extensions)[:extensions]:
        builder = builder.add_extension(extension.value, extension.critical)
    (folder / "ca.pem").write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    write(folder, key)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(readable, "chmod 600", id="key readable by the group"),
        pytest.param(linked, "cannot be read", id="key is a link"),
        pytest.param(pipe, "not a file", id="key is a pipe"),
        pytest.param(others_key, "not the key of", id="key of another root"),
        pytest.param(passphrase, "cannot be read", id="key with a passphrase"),
        pytest.param(garbage_key, "restore or remove", id="damaged key"),
        pytest.param(garbage_certificate, "restore or remove", id="empty certificate"),
        pytest.param(no_key, "ca-key.pem is missing", id="no key"),
        pytest.param(expired, "expired on 2022-01-01.*ca create", id="expired"),
        pytest.param(from_the_future, "clock", id="not yet valid"),
        pytest.param(not_a_root, "not a root", id="not ours"),
    ],
)
def test_load_refuses(tmp_path: Path, damage, message):
    Authority.create(tmp_path)
    damage(tmp_path)
    with pytest.raises(AuthorityError, match=message):
        Authority.load(tmp_path)


def test_folder_of_others(tmp_path: Path):
    tmp_path.chmod(0o777)
    with pytest.raises(AuthorityError, match="chmod 700"):
        Authority.create(tmp_path)


def test_folder_that_cannot_be(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(AuthorityError, match="cannot be used"):
        Authority.load_or_create(tmp_path / "file")


SOON = datetime.now(UTC) + timedelta(days=2)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        pytest.param({"names": ["a.test"]}, {"names": ["A.test."]}, True, id="the same name"),
        pytest.param({"names": ["a.test"]}, {"names": ["a.test", "a.test"]}, True, id="a name twice"),
        pytest.param({"names": ["a.test"]}, {"names": [x509.DNSName("a.test")]}, True, id="as an entry"),
        pytest.param({"names": ["a.test"]}, {"names": ["b.test"]}, False, id="another name"),
        pytest.param({"names": ["a.test"]}, {"names": ["a.test", "b.test"]}, False, id="one name more"),
        pytest.param({"names": ["a.test", "b.test"]}, {"names": ["b.test", "a.test"]}, False, id="another order"),
        pytest.param({"names": ["a.test"]}, {"names": ["a.test"], "not_after": SOON}, False, id="another end"),
        pytest.param({"names": ["a.test"]}, {"names": ["a.test"], "common_name": "b.test"}, False, id="another CN"),
    ],
)
def test_cache_key(authority: Authority, first, second, shared):
    """Two requests share a leaf only if everything in it is the same."""
    assert (authority.issue(**first) is authority.issue(**second)) is shared


def test_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The name that was asked for longest ago goes first."""
    authority = Authority.create(tmp_path / "ca")
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    a, b = (authority.issue([name]) for name in ("a.lru", "b.lru"))
    assert authority.issue(["a.lru"]) is a
    authority.issue(["c.lru"])
    assert authority.issue(["a.lru"]) is a
    assert authority.issue(["b.lru"]) is not b


@pytest.mark.parametrize(
    "names", [pytest.param([], id="none"), pytest.param([f"{n}.test" for n in range(1001)], id="too many")]
)
def test_number_of_names(authority: Authority, names):
    with pytest.raises(ValueError, match="1 to 1000 names"):
        authority.issue(names)


@pytest.mark.parametrize(
    ("issued", "asked", "error"),
    [
        pytest.param("a.test", "a.test", None, id="host name"),
        pytest.param("*.a.test", "b.a.test", None, id="wildcard"),
        pytest.param("*.a.test", "c.b.a.test", "Hostname mismatch", id="wildcard is one label"),
        pytest.param("127.0.0.1", "127.0.0.1", None, id="IPv4"),
        pytest.param("::1", "::1", None, id="IPv6"),
        pytest.param("a" * 63 + ".test", "a" * 63 + ".test", None, id="no commonName"),
        pytest.param("a.test", "b.test", "Hostname mismatch", id="another name"),
    ],
)
def test_handshake(authority: Authority, tmp_path: Path, issued, asked, error):
    """Python's strict verification (RFC 5280 to the letter) accepts the leaf for its own name and no other."""
    leaf = authority.issue([issued])
    (tmp_path / "leaf.pem").write_bytes(leaf.key_pem + leaf.chain_pem)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=authority.pem_path)
    server.load_cert_chain(tmp_path / "leaf.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(server, theirs))
    thread.start()
    with ours:
        if error:
            with pytest.raises(ssl.SSLCertVerificationError, match=error):
                client.wrap_socket(ours, server_hostname=asked)
        else:
            client.wrap_socket(ours, server_hostname=asked).close()
    thread.join()


def serve(context: ssl.SSLContext, end: socket.socket) -> None:
    end.settimeout(5)
    with end:
        try:
            context.wrap_socket(end, server_side=True).close()
        except OSError:
            return
