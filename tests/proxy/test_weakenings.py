"""What `tests/weakenings.py` showed to be proved nowhere else."""

import socket
import time
from dataclasses import replace

import pytest
from cryptography import x509

from proxy.mirror import offer
from proxy.paths import Roots
from proxy.rules import Rule
from proxy.upstream import server_name
from proxy.verify import Verifier, openssl_accepts, utc_now
from tests.proxy.conftest import GET, running
from tests.proxy.handshake import authority, origin
from tests.proxy.test_mirror import first_flight, hello

# -- verifying

ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
SILENT = authority("middle", ROOT, key=MIDDLE.key, without=[x509.KeyUsage])
LEAF = origin(MIDDLE)
HOST, OTHER = server_name("a.example"), server_name("b.example")


@pytest.fixture
def verifier():
    return Verifier(Roots(ROOT.pem))


def rules(verifier, name, *pairs):
    return [fault.rule for fault in verifier.second([pair.der for pair in pairs], name)[1]]


def test_the_second_has_an_opinion_of_its_own(verifier):
    """An authority that does not say what its key is for (RFC 5280, 4.2.1.3) is good enough for OpenSSL."""
    assert openssl_accepts(tuple(pair.certificate for pair in (LEAF, SILENT, ROOT)), HOST, utc_now())
    assert rules(verifier, HOST, LEAF, SILENT, ROOT) == [Rule.PROFILE]


@pytest.mark.parametrize(("name", "middle"), [pytest.param(OTHER, MIDDLE, id="name"), pytest.param(HOST, SILENT, id="chain")])
def test_a_good_verdict_is_for_that_name_and_that_chain(verifier, name, middle):
    assert rules(verifier, HOST, LEAF, MIDDLE, ROOT) == []
    assert rules(verifier, name, LEAF, middle, ROOT) == [Rule.PROFILE]


def test_half_a_wildcard_is_none_to_openssl():
    """RFC 9525, 6.3: a wildcard is a whole label."""
    leaf = origin(ROOT, ["a*.b.example"])
    assert not openssl_accepts((leaf.certificate, ROOT.certificate), server_name("ab.b.example"), utc_now())


# -- what origins are offered

#: Authenticated encryption with forward secrecy by RFC 9325, 4.2; all of TLS 1.3; and two that are no suites (RFC 5746, 3.3; RFC 7507).
SUITES = {0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9, 0x1301, 0x1302, 0x1303, 0x00FF, 0x5600}


@pytest.mark.parametrize("name", ["curl", "openssl-tls12"])
def test_nothing_weak_is_offered_though_the_client_offers_everything(name):
    """Signatures by MD5, SHA-1 and SHA-224 have 1, 2, 3 for their hash; curves below P-256 come before 23."""
    everything = tuple(range(2**16))
    ours = first_flight(offer(replace(hello(name), ciphers=everything, signature_algorithms=everything, groups=everything)))
    assert set(ours.ciphers) <= SUITES
    assert not [scheme for scheme in ours.signature_algorithms if scheme >> 8 in (1, 2, 3)]
    assert min(ours.groups) >= 23


# -- what clients see of a cut

#: Seconds in which the half that came is with the client.
SHOWN = 0.3


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_that_only_an_end_can_end_does_not_look_whole(folder, origin, version):
    """The client has its head, so there is no page: the cut is passed on (RFC 9112, 9.8; RFC 8446, 6.1)."""
    def cut(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        time.sleep(SHOWN)
        sock.shutdown(socket.SHUT_RDWR)     # of TCP, without a word of TLS

    origin.paths["/"] = cut
    with running(folder / "cut", f"version: 1\ntls: {{upstream: {{trusted_ca: {origin.roots}}}}}\n") as proxy:
        answer = proxy.ask(origin, GET.replace(b"1.1", version))
    assert (answer.status, answer.body, answer.ended) == (200, b"half of it", False)
