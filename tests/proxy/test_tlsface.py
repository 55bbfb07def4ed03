"""What clients see of us: names, ends and keys of leaves; suites and versions that are offered."""

import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mitmproxy import certs, connection
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from addons.connection import Connection
from certs.authority import Authority
from certs.minting import MAX_LEAF_LIFE
from proxy.tlsface import Tls, upstream_roots


@pytest.fixture(scope="module")
def origin_authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("origin") / "ca")


def context(sni="a.example", origin=None, address="192.0.2.1"):
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), sni=sni)
    server = connection.Server(address=(address, 443))
    if origin is not None:
        server.certificate_list = [certs.Cert(origin)]
    return SimpleNamespace(client=client, server=server)


def names(certificate):
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in san}


@pytest.mark.parametrize(("sni", "upstream", "expected"), [
    pytest.param("a.example", None, {"a.example"}, id="origin unknown: what was asked for"),
    pytest.param(None, None, {"192.0.2.1"}, id="no server name: the address"),
    pytest.param("a.example", ["a.example", "*.b.example"], {"a.example", "*.b.example"}, id="as upstream has them"),
    pytest.param("c.example", ["a.example"], {"c.example", "a.example"}, id="and the one asked for"),
    pytest.param("a.example.", None, {"a.example"}, id="trailing dot"),
    pytest.param("bad name", None, {"192.0.2.1"}, id="a name that no certificate can carry"),
])
def test_leaf_names(authority, origin_authority, sni, upstream, expected):
    origin = origin_authority.issue(upstream).certificate if upstream else None
    assert names(Tls(authority, None).leaf(context(sni, origin)).certificate) == expected


@pytest.mark.parametrize("left", [timedelta(hours=2), timedelta(days=300)])
def test_leaf_ends_no_later_than_the_origin(authority, origin_authority, left):
    end = datetime.now(UTC).replace(microsecond=0) + left
    origin = origin_authority.issue(["a.example"], not_after=end).certificate
    leaf = Tls(authority, None).leaf(context("a.example", origin)).certificate
    assert leaf.not_valid_after_utc <= origin.not_valid_after_utc
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= MAX_LEAF_LIFE


def test_leaf_for_an_origin_that_has_expired_and_is_tolerated(authority, origin_authority):
    origin = SimpleNamespace(altnames=[x509.DNSName("a.example")], to_cryptography=lambda: SimpleNamespace(
        not_valid_after_utc=datetime.now(UTC) - timedelta(days=1)))
    asked = context("a.example")
    asked.server.certificate_list = [origin]
    assert Tls(authority, None).leaf(asked).certificate.not_valid_after_utc > datetime.now(UTC)


def test_leaf_key_is_not_the_authority_s(authority):
    leaf = Tls(authority, None).leaf(context())
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert leaf.key.public_key().public_bytes(*form) != authority.certificate.public_key().public_bytes(*form)


def handshake(authority, client_context, origin_version=None):
    """A TLS handshake in memory; returns the client's end."""
    ctx = context("a.example")
    ctx.server.tls_version = origin_version
    data = TlsData(ctx.client, ctx)
    session = SimpleNamespace(hello=SimpleNamespace(versions=(0x0303, 0x0304)),
                              connection=Connection("a.example", ("192.0.2.1", 443), ("127.0.0.1", 1)))
    Tls(authority, SimpleNamespace(generation=1)).tls_start_client(session, data)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(incoming, outgoing, server_hostname="a.example")
    for _ in range(6):
        for step in (client.do_handshake, data.ssl_conn.do_handshake):
            with contextlib.suppress(ssl.SSLWantReadError, SSL.WantReadError):
                step()
            if sent := outgoing.read():
                data.ssl_conn.bio_write(sent)
            with contextlib.suppress(SSL.WantReadError):
                incoming.write(data.ssl_conn.bio_read(65536))
    return client


def client(authority, minimum=ssl.TLSVersion.TLSv1_2, maximum=ssl.TLSVersion.TLSv1_3, ciphers=None):
    made = ssl.create_default_context(cafile=str(authority.pem_path))
    made.minimum_version, made.maximum_version = minimum, maximum
    if ciphers:
        made.set_ciphers(ciphers)
    return made


@pytest.mark.parametrize(("options", "accepted"), [
    pytest.param({}, True, id="today's client"),
    pytest.param({"maximum": ssl.TLSVersion.TLSv1_2}, True, id="TLS 1.2"),
    pytest.param({"maximum": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-ECDSA-AES128-SHA256"}, False, id="CBC"),
    pytest.param({"maximum": ssl.TLSVersion.TLSv1_2, "ciphers": "AES128-GCM-SHA256"}, False, id="no forward secrecy"),
])
def test_suites(authority, options, accepted):
    if accepted:
        suite = handshake(authority, client(authority, **options)).cipher()[0]
        assert "GCM" in suite or "CHACHA20" in suite
    else:
        with pytest.raises((ssl.SSLError, SSL.Error)):
            handshake(authority, client(authority, **options))


@pytest.mark.parametrize(("theirs", "expected"), [("TLSv1.2", "TLSv1.2"), ("TLSv1.3", "TLSv1.3"), (None, "TLSv1.3")])
def test_no_newer_version_than_the_origin_s(authority, theirs, expected):
    assert handshake(authority, client(authority), theirs).version() == expected


@pytest.mark.parametrize("given", [False, True], ids=["the system's bundle", "a bundle of the policy's"])
def test_our_own_root_vouches_for_no_origin(authority, tmp_path, given):
    bundle = tmp_path / "bundle.pem"
    other = Authority.create(tmp_path / "other").certificate
    bundle.write_bytes(authority.certificate.public_bytes(Encoding.PEM) + other.public_bytes(Encoding.PEM))
    roots = upstream_roots(authority.certificate, bundle if given else None, [bundle])
    assert roots.certificates == (other,)


def test_a_bundle_without_certificates_is_said(authority, tmp_path):
    (tmp_path / "empty.pem").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"empty\.pem: no certificate"):
        upstream_roots(authority.certificate, tmp_path / "empty.pem")
