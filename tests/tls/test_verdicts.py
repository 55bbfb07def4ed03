"""What the studies of interception looked for, through a real worker: whose certificate counts, for how long, and what a
refused origin can bring about."""

import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.authority import Authority
from tests.proxy.conftest import running
from tests.tls.conftest import POLICY
from tests.tls.server import Manner

GET = b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n"
SPKI = Encoding.DER, PublicFormat.SubjectPublicKeyInfo


@pytest.fixture
def own(proxy):
    return Authority.load(proxy.ca.parent)


@pytest.fixture
def leaves(proxy, own, authority, tmp_path):
    stranger = Authority.create(tmp_path / "stranger")
    return {"good": authority.issue(["origin.test"]), "another root": stranger.issue(["origin.test"]),
            "another name": authority.issue(["other.test"]), "our own root": own.issue(["origin.test"]),
            "bait": stranger.issue(["origin.test", "bait.test", "*.bank.test"])}


def ask(proxy, peer, leaf):
    """The status, and what the peer got to read."""
    peer.behave(Manner())
    peer.leaf = leaf
    return proxy.ask(peer.port, GET), peer.first()


def seen(proxy, port):
    """The certificate that a client is shown."""
    with proxy.tls(port) as sock:
        return x509.load_der_x509_certificate(sock.getpeercert(binary_form=True))


@pytest.mark.parametrize("bad", ["another root", "another name", "our own root"])
def test_no_verdict_is_kept_beyond_its_certificate(proxy, peer, leaves, bad):
    """The certificate is swapped under one address, there and back (Killed by Proxy, 2016)."""
    for kind, status in (("good", 200), (bad, 502), ("good", 200), (bad, 502)):
        answer, server = ask(proxy, peer, leaves[kind])
        assert (answer.status, answer.ended) == (status, True)
        assert (server.data == b"") == (status == 502)
        assert status == 200 or b"ertificate" in answer.body


def test_a_refused_origin_chooses_no_names(proxy, peer, leaves):
    peer.leaf = leaves["bait"]
    peer.behave(Manner())
    names = seen(proxy, peer.port).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["origin.test"]


def test_a_good_one_does(proxy, peer, authority):
    peer.leaf = authority.issue(["origin.test", "more.test"])
    peer.behave(Manner())
    names = seen(proxy, peer.port).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["origin.test", "more.test"]


def test_what_clients_are_shown(proxy, peer, own, leaves):
    """A key that is not the root's, a life no longer than the origin's, serials that do not repeat."""
    peer.leaf = leaves["good"]
    peer.behave(Manner())
    first = seen(proxy, peer.port)
    assert first.public_key().public_bytes(*SPKI) != own.certificate.public_key().public_bytes(*SPKI)
    assert first.not_valid_after_utc <= leaves["good"].certificate.not_valid_after_utc
    peer.leaf = leaves["another name"]
    assert seen(proxy, peer.port).serial_number != first.serial_number


def test_a_key_nobody_but_us_can_read(proxy, own):
    folder = proxy.ca.parent
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir() if b"PRIVATE" in path.read_bytes() and path.stat().st_mode & 0o077] == []


def test_a_root_of_its_own(proxy, own, folder, peer):
    with running(folder / "second", POLICY.format(roots=peer.roots)) as second:
        other = Authority.load(second.ca.parent).certificate
    assert other.public_key() != own.certificate.public_key()
    assert other.serial_number != own.certificate.serial_number


def test_an_error_is_told_within_tls(proxy, peer, leaves):
    """To the client that verifies us: neither a bare close nor a name that hides the message."""
    peer.leaf = leaves["another root"]
    peer.behave(Manner())
    context = ssl.create_default_context(cafile=str(proxy.ca))
    sock: socket.socket = proxy.tunnel(peer.port)
    with context.wrap_socket(sock, server_hostname="origin.test") as tls:
        tls.sendall(GET.replace(b"\r\n\r\n", b"\r\naccept: text/html\r\n\r\n"))
        page = b""
        while b"</html>" not in page:
            page += tls.recv(4096)
    assert page.startswith(b"HTTP/1.1 502 ")
    assert b"ertificate" in page
    assert b"lockgate" in page
