"""Revocation through a whole worker on stock settings: a page before a byte of the request has left, and no names."""

import contextlib
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from OpenSSL import SSL

from tests.accepting import accepting
from tests.proxy.conftest import GET, running
from tests.proxy.origin import OK
from tests.proxy.responder import Ca, Responder, gives, named, places, sign, status

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}, revocation: {mode}}}}}
"""
REVOKED = ocsp.OCSPCertStatus.REVOKED
BAIT = x509.SubjectAlternativeName([x509.DNSName("origin.test"), x509.DNSName("*.bank.test")])


class Stapler:
    """An origin that shows what it is told to, stapled answer included; `data` is what it read."""

    def __init__(self):
        self.data, self.port = b"", 0
        self.key = ec.generate_private_key(ec.SECP256R1())

    def show(self, certificate, staple=b""):
        self.data = b""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(certificate)
        context.use_privatekey(self.key)
        context.set_ocsp_server_callback(lambda *_: staple)
        self.context = context

    @contextlib.contextmanager
    def serve(self):
        with accepting(lambda sock: partial(self._attend, sock)) as self.port:
            yield self

    def _attend(self, sock):
        with sock, contextlib.suppress(SSL.Error, OSError):
            tls = SSL.Connection(self.context, sock)
            tls.set_accept_state()
            tls.do_handshake()
            self.data = b""
            while b"\r\n\r\n" not in self.data:
                self.data += tls.recv(4096)
            tls.sendall(OK)
            tls.shutdown()


@pytest.fixture(scope="module")
def responder():
    with Responder().serve() as served:
        yield served


@pytest.fixture(scope="module")
def stapler():
    with Stapler().serve() as served:
        yield served


@pytest.fixture(scope="module")
def ca():
    return Ca()


def started(folder, ca, mode):
    folder.mkdir(exist_ok=True)
    roots = folder / "roots.pem"
    roots.write_bytes(ca.certificate.public_bytes(serialization.Encoding.PEM))
    return running(folder / mode, POLICY.format(roots=roots, mode=mode))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, ca):
    with started(tmp_path_factory.mktemp("revoking"), ca, "check") as worker:
        yield worker


def must_staple(ca, responder, stapler):
    stapler.show(ca.leaf(must_staple=True, key=stapler.key))


def stapled(ca, responder, stapler):
    leaf = ca.leaf(key=stapler.key)
    stapler.show(leaf, ca.answer(leaf, REVOKED))


def asked(ca, responder, stapler):
    leaf = ca.leaf(responders=[responder.url("/ocsp")], key=stapler.key)
    responder.paths["/ocsp"] = gives(ca.answer(leaf, REVOKED))
    stapler.show(leaf)


def listed(ca, responder, stapler):
    leaf = ca.leaf(lists=[responder.url("/list")], key=stapler.key)
    responder.paths["/list"] = gives(ca.revocation_list([leaf.serial_number]))
    stapler.show(leaf)


def good(ca, responder, stapler):
    leaf = ca.leaf(responders=[responder.url("/good")], key=stapler.key)
    responder.paths["/good"] = gives(ca.answer(leaf))
    stapler.show(leaf)


def down(ca, responder, stapler):
    responder.paths["/down"] = status(503)
    stapler.show(ca.leaf(responders=[responder.url("/down")], key=stapler.key))


@pytest.mark.parametrize(("show", "words"), [
    pytest.param(must_staple, b"must-staple", id="demands a stapled answer and has none"),
    pytest.param(stapled, b"revoked", id="a stapled answer"),
    pytest.param(asked, b"revoked", id="the responder"),
    pytest.param(listed, b"revoked", id="the list"),
    pytest.param(good, b"", id="good"),
    pytest.param(down, b"", id="the responder is down"),
])
def test_stock_settings(proxy, ca, responder, stapler, show, words):
    show(ca, responder, stapler)
    answer = proxy.ask(stapler.port, GET)
    assert answer.status == (502 if words else 200)
    assert words in answer.body
    assert (stapler.data == b"") == bool(words)


def test_each_is_asked_for_once(proxy, ca, responder, stapler):
    good(ca, responder, stapler)
    responder.hits.clear()
    for _ in range(3):
        assert proxy.ask(stapler.port, GET).status == 200
    assert responder.hits["/good"] == 1


def test_a_responder_that_is_down_refuses_where_the_policy_says_so(tmp_path, ca, responder, stapler):
    down(ca, responder, stapler)
    with started(tmp_path, ca, "require") as strict:
        answer = strict.ask(stapler.port, GET)
    assert (answer.status, stapler.data) == (502, b"")
    assert b"unchecked" in answer.body


def test_a_revoked_origin_chooses_no_names(proxy, ca, responder, stapler):
    """It was verified by then: its names were about to be taken over."""
    url = responder.url("/bait")
    leaf = sign(ca, named("bait"), stapler.key, BAIT, *places([], [url]))
    responder.paths["/bait"] = gives(ca.revocation_list([leaf.serial_number]))
    stapler.show(leaf)
    with proxy.tls(stapler.port) as sock:
        shown = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True))
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["origin.test"]
