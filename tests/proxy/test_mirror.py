"""Our ClientHello stands for the client's: recorded hellos of real programs, and what OpenSSL really sends for each.

`hellos/` has one first flight a file, in hex, as it came over a loopback socket: Chromium 156, curl 7.88 and s_client
(OpenSSL 3.0), OpenSSL 4.0, Python 3.13, Node 20, Java 17, wget and git (GnuTLS 3.7), with options in the names.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL

from certs.authority import Authority
from proxy.hello import ClientHello, parse
from proxy.mirror import (
    CIPHERS,
    GROUPS,
    OLD_CIPHERS,
    SIGNATURES,
    TLS1,
    TLS1_1,
    TLS1_2,
    TLS1_3,
    TLS13,
    Offer,
    apply,
    offer,
)
from tests.proxy.handshake import shake

HELLOS = {path.stem: bytes.fromhex(path.read_text()) for path in sorted(Path(__file__).with_name("hellos").iterdir())}
EXTENDED_MASTER_SECRET, RENEGOTIATION_INFO, EARLY_DATA = 23, 0xFF01, 42
RENEGOTIATION_SCSV = 0x00FF
#: Of TLS 1.3 only; OpenSSL leaves them out where that is not offered, and groups from 256 on as well.
NEW_SIGNATURES = {0x081A, 0x081B, 0x081C, 0x0904, 0x0905, 0x0906}


def hello(name: str) -> ClientHello:
    found = parse(HELLOS[name])
    assert isinstance(found, ClientHello)
    return found


def first_flight(terms: Offer) -> ClientHello:
    """What OpenSSL sends under these terms."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    apply(terms, context)
    connection = SSL.Connection(context)
    connection.set_tlsext_host_name(b"host.example")
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    found = parse(connection.bio_read(1 << 16))
    assert isinstance(found, ClientHello)
    return found


def strong(codes, table):
    return [code for code in codes if code in table]


def test_twenty_programs_are_recorded():
    assert len(HELLOS) >= 20


@pytest.mark.parametrize("name", HELLOS)
def test_no_weaker_field_by_field(name):
    """Each field has the client's strong values, all of them, in its order, and no weak one; or else ours."""
    theirs, ours = hello(name), first_flight(offer(hello(name)))
    versions = strong(theirs.versions, {TLS1_2, TLS1_3}) or [TLS1_2]
    assert sorted(ours.versions) == sorted(versions)
    for version, table in ((TLS1_2, CIPHERS), (TLS1_3, TLS13)):
        mirrored = strong(theirs.ciphers, table) or list(table)
        assert strong(ours.ciphers, table) == (mirrored if version in versions else [])
    assert set(ours.ciphers) <= {*CIPHERS, *TLS13, RENEGOTIATION_SCSV}
    assert list(ours.groups) == [g for g in strong(theirs.groups, GROUPS) if TLS1_3 in versions or g < 256]
    signatures = strong(theirs.signature_algorithms, SIGNATURES) or list(SIGNATURES)
    assert list(ours.signature_algorithms) == [s for s in signatures if TLS1_3 in versions or s not in NEW_SIGNATURES]
    assert ours.key_shares == theirs.key_shares
    assert ours.alpn == theirs.alpn
    assert {*theirs.extensions} & {EXTENDED_MASTER_SECRET} <= {*ours.extensions}
    assert RENEGOTIATION_INFO in ours.extensions or RENEGOTIATION_SCSV in ours.ciphers or max(versions) == TLS1_3
    assert not ours.resumes
    assert EARLY_DATA not in ours.extensions


@pytest.mark.parametrize(("change", "field", "expected"), [
    pytest.param({"versions": (TLS1, TLS1_1)}, ("min_version", "max_version"), (TLS1_2, TLS1_2), id="only old versions"),
    pytest.param({"versions": (TLS1_2,)}, ("max_version",), (TLS1_2,), id="no newer than the client's"),
    pytest.param({"versions": (TLS1_3,)}, ("min_version",), (TLS1_3,), id="no older than the client's"),
    pytest.param({"versions": (0x0305, TLS1_3)}, ("max_version",), (TLS1_3,), id="a version yet to come"),
    pytest.param({"ciphers": (0x002F, 0x000A)}, ("ciphers", "tls13"),
                 (tuple(CIPHERS.values()), tuple(TLS13.values())), id="weak suites only"),
    pytest.param({"ciphers": (0xC030, 0x002F, 0xC02B, 0x1303)}, ("ciphers", "tls13"),
                 (("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("TLS_CHACHA20_POLY1305_SHA256",)),
                 id="the client's order"),
    pytest.param({"groups": (), "key_shares": ()}, ("groups",), (("*X25519MLKEM768", "*X25519", "P-256", "P-384"),),
                 id="no groups"),
    pytest.param({"groups": (21, 29), "key_shares": (21,)}, ("groups",), (("X25519",),), id="P-224 is left out"),
    pytest.param({"groups": (0x6399, 29), "key_shares": (0x6399,)}, ("groups",), (("*X25519MLKEM768", "X25519"),),
                 id="a post-quantum draft becomes the standard"),
    pytest.param({"groups": (0x11EC, 0x6399, 23)}, ("groups",), (("*X25519MLKEM768", "P-256"),), id="but once"),
    pytest.param({"signature_algorithms": (0x0201, 0x0203)}, ("signatures",), (tuple(SIGNATURES.values()),),
                 id="SHA-1 signatures only"),
    pytest.param({"alpn": ("", "http/1.1")}, ("alpn",), ((b"http/1.1",),), id="an empty protocol"),
])
def test_offer(change, field, expected):
    terms = offer(replace(hello("chromium"), **change))
    assert tuple(getattr(terms, name) for name in field) == expected
    first_flight(terms)


def test_without_a_client():
    """A request that came in the clear, or a probe: our own terms."""
    ours = first_flight(offer(None))
    assert set(ours.versions) == {TLS1_2, TLS1_3}
    assert ours.key_shares == (0x11EC, 29)
    assert ours.alpn == ()
    assert first_flight(offer(None, TLS1)).versions == (TLS1_3, TLS1_2, TLS1_1, TLS1)


@pytest.mark.parametrize("table", [CIPHERS, OLD_CIPHERS, TLS13, GROUPS, SIGNATURES], ids=lambda t: next(iter(t.values())))
def test_every_name_is_openssls(table):
    """A name it does not know would be passed over in silence."""
    lib = SSL._lib
    for code, name in table.items():
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        raw, field = context._context, name.encode()
        if table is GROUPS:
            assert lib.SSL_CTX_set1_curves_list(raw, field), name
        elif table is SIGNATURES:
            assert lib.SSL_CTX_set1_sigalgs_list(raw, field), name
        else:
            (context.set_tls13_ciphersuites if table is TLS13 else context.set_cipher_list)(field + b":@SECLEVEL=0" * (table is not TLS13))
            assert name in SSL.Connection(context).get_cipher_list(), hex(code)


def test_what_openssl_cannot_do_is_an_error_and_leaves_none_behind():
    for field in ("groups", "signatures"):
        with pytest.raises(SSL.Error):
            first_flight(replace(offer(None), **{field: ("nonsense",)}))
    first_flight(offer(None))


# -- with an origin

def handshake(terms: Offer, authority: Authority, groups: bytes = b"", oldest: int = TLS1_2, newest: int = TLS1_3,
              ciphers: bytes = b"") -> SSL.Connection:
    """Meet an origin over memory BIOs; `SSL.Error` if the two do not agree."""
    ours, theirs = SSL.Context(SSL.TLS_CLIENT_METHOD), SSL.Context(SSL.TLS_SERVER_METHOD)
    apply(terms, ours)
    leaf = authority.issue(["host.example"])
    theirs.use_certificate(leaf.certificate)
    theirs.use_privatekey(leaf.key)
    theirs.set_min_proto_version(oldest)
    theirs.set_max_proto_version(newest)
    if ciphers:
        theirs.set_cipher_list(ciphers)
    if groups:
        assert SSL._lib.SSL_CTX_set1_curves_list(theirs._context, groups)
    client, server = SSL.Connection(ours), SSL.Connection(theirs)
    client.set_connect_state()
    server.set_accept_state()
    shake(client, server)
    return client


@pytest.mark.parametrize(("name", "groups", "chosen"), [
    pytest.param("chromium", b"X25519MLKEM768:X25519", "X25519MLKEM768", id="post-quantum where both have it"),
    pytest.param("chromium", b"X25519:P-256", "x25519", id="an origin without it"),
    pytest.param("chromium", b"P-384", "secp384r1", id="a group without a share: the origin asks again"),
    pytest.param("curl", b"X25519MLKEM768:X25519", "x25519", id="a client without it"),
    pytest.param("openssl-x448", b"X25519:X448", "x448", id="an odd client"),
])
def test_groups_meet(authority, name, groups, chosen):
    assert handshake(offer(hello(name)), authority, groups).get_group_name() == chosen


@pytest.mark.parametrize(("name", "floor", "version"), [
    pytest.param("openssl-tls10", TLS1, "TLSv1", id="an old client, let by the policy"),
    pytest.param("curl", TLS1, "TLSv1.1", id="a new client and an old host, let by the policy"),
    pytest.param("curl", TLS1_2, None, id="an old host"),
    pytest.param("chromium", TLS1, None, id="a client that is stricter than the policy"),
])
def test_old_hosts(authority, name, floor, version):
    old = {"oldest": TLS1, "newest": TLS1_1, "ciphers": b"ALL:@SECLEVEL=0"}
    if version:
        met = handshake(offer(hello(name), floor), authority, **old)
        assert met.get_protocol_version_name() == version
    else:
        with pytest.raises(SSL.Error):
            handshake(offer(hello(name), floor), authority, **old)


def test_a_low_floor_changes_nothing_with_a_modern_host(authority):
    met = handshake(offer(hello("curl"), TLS1), authority)
    assert (met.get_protocol_version_name(), met.get_group_name()) == ("TLSv1.3", "x25519")


def test_equal_terms_share_a_context():
    """Chromium shuffles its extensions, and without CBC suites it is the same to us."""
    one, other = hello("chromium"), hello("chromium-aead")
    assert one.extensions != other.extensions
    assert {offer(one): "context"}[offer(other)]
    assert offer(one) != offer(hello("chromium-http1"))
