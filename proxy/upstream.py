"""TLS connections to origins, whose handshakes fail unless the origin is verified.

Both verifiers (`verify.py`) speak within OpenSSL's handshake: what either refuses ends it there, with the alert that
fits, before anything of a request can leave.  Afterwards `refusal`, `tolerated` and `path` say how it went.

A resumed session sends no certificate: its path is empty, and whoever resumes it answers for it (`resumption.py`).
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path as File
from typing import Any, cast

from cryptography import x509
from OpenSSL import SSL, crypto

from certs.names import general_name
from proxy import mirror
from proxy.mirror import Offer
from proxy.paths import MAX_CHAIN, Path, Roots
from proxy.rules import ABSOLUTE, Name, Refusal, Rule, broken, detail, of_openssl, to_openssl
from proxy.verify import Verifier, constrain, utc_now

log = logging.getLogger(__name__)

#: Contexts kept, one for each kind of client; the roots are shared, so each has some 30 KB.
MAX_CONTEXTS = 64
#: Once verified, an origin cannot show another certificate (RFC 5746 ties a renegotiation to it, and does not forbid).
_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION

_ffi, _lib = cast(Any, SSL)._ffi, cast(Any, SSL)._lib

type _Identity = tuple[File, int]
type Staple = Callable[[Path, bytes], Refusal | None]


@dataclass(frozen=True, slots=True)
class Exemption:
    """Rules that one host may break; with `fingerprint` only by the leaf with that SHA-256 (hexadecimal).

    Where OpenSSL's findings are excused, pyca/cryptography is not asked: it could not get past the same ones.
    """

    rules: frozenset[Rule] = frozenset()
    fingerprint: str | None = None

    def covers(self, rule: Rule, leaf: bytes) -> bool:
        return rule in self.rules - ABSOLUTE and self.fingerprint in (None, hashlib.sha256(leaf).hexdigest())


@dataclass(slots=True)
class State:
    """What is known of one connection; `leaf` is its certificate as sent."""

    name: Name
    exemption: Exemption
    leaf: bytes = b""
    path: Path = ()
    refusal: Refusal | None = None
    tolerated: dict[Rule, Refusal] = field(default_factory=dict)
    repaired: bool | None = None        # None: not tried yet

    def excuses(self, refusal: Refusal) -> bool:
        """Take a refusal down, as one that is tolerated or as the one that stands; the first that stands is told."""
        if self.exemption.covers(refusal.rule, self.leaf):
            self.tolerated[refusal.rule] = refusal
            return True
        self.refusal = self.refusal or refusal
        return False


class Upstream:
    """Makes connections that verify origins against some roots."""

    def __init__(self, roots: Roots, *, staple: Staple | None = None,
                 clock: Callable[[], datetime] = utc_now) -> None:
        """`staple` is given the verified path and the OCSP response that was stapled, b"" if none was."""
        self._verifier = Verifier(roots, clock)
        self._staple = staple
        self._contexts: OrderedDict[tuple[Offer, _Identity | None], SSL.Context] = OrderedDict()
        self._callback = _ffi.callback("int (*)(int, X509_STORE_CTX *)", self._on_verify)

    def connect(self, host: str, offer: Offer | None = None, exemption: Exemption | None = None,
                identity: File | None = None) -> SSL.Connection:
        """Return a connection in connect state, in memory, to a host name or an IP literal.

        Without an offer it is the one for clients which speak no TLS themselves.  `identity` is a PEM file, our
        certificate with its chain and key, for an origin that asks for one.  ValueError if no certificate can be for
        that name, or the file cannot be used; `SSL.Error` if OpenSSL cannot offer that.
        """
        name = server_name(host)
        connection = SSL.Connection(self._context(offer or mirror.offer(None), identity))
        connection.set_app_data(State(name, exemption or Exemption()))
        if isinstance(name, x509.DNSName):      # RFC 6066, 3: never an address
            connection.set_tlsext_host_name(name.value.encode())
        constrain(_lib.SSL_get0_param(cast(Any, connection)._ssl), name, self._verifier.clock())
        connection.request_ocsp()
        connection.set_connect_state()
        return connection

    def _context(self, offer: Offer, identity: File | None) -> SSL.Context:
        key = offer, _stamp(identity)
        if (context := self._contexts.get(key)) is None:
            context = self._contexts[key] = self._new_context(offer, identity)
            if len(self._contexts) > MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(key)
        return context

    def _new_context(self, offer: Offer, identity: File | None) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        mirror.apply(offer, context)
        context.set_options(_OPTIONS)
        context.set_verify_depth(MAX_CHAIN)
        self._verifier.roots.fill(cast(crypto.X509Store, context.get_cert_store()))
        context.set_app_data(self)      # keeps the callback for as long as a connection may call it
        # pyOpenSSL's own set_verify cannot say what is wrong, and the alert would be `internal error`.
        _lib.SSL_CTX_set_verify(cast(Any, context)._context, SSL.VERIFY_PEER, self._callback)
        context.set_ocsp_client_callback(self._on_staple)
        if identity:
            _identify(context, identity)
        return context

    def _on_verify(self, ok: int, store: Any) -> int:
        """Called for each fault that OpenSSL finds, and for each certificate of its path, the leaf last; then only
        violated name constraints may still come (X509_STORE_CTX_set_verify_cb(3))."""
        state = State(x509.DNSName(""), Exemption())
        try:
            connection = _connection(store)
            state = cast(State, connection.get_app_data())
            good = self._judge(connection, state, bool(ok), store)
        except Exception:       # nothing may get out into C, and a fault of ours lets nobody in
            log.exception("verifying an origin failed")
            good = state.excuses(broken(Rule.MALFORMED, "verifying it failed"))
        if good:
            _lib.X509_STORE_CTX_set_error(store, 0)
        elif ok and state.refusal:
            _lib.X509_STORE_CTX_set_error(store, to_openssl(state.refusal.rule))
        return int(good)

    def _judge(self, connection: SSL.Connection, state: State, ok: bool, store: Any) -> bool:
        if state.repaired:
            return True
        if not ok:
            state.leaf = state.leaf or _presented(connection)[0]
            return self._repair(connection, state) or state.excuses(_fault(state, store))
        if _lib.X509_STORE_CTX_get_error_depth(store):
            return True
        return self._second(connection, state, _openssl_path(store))

    def _second(self, connection: SSL.Connection, state: State, ders: list[bytes]) -> bool:
        """The second verifier's word on the path that OpenSSL takes."""
        state.leaf = ders[0]
        path, faults = self._verifier.second(ders, state.name, profile=not state.tolerated)
        for fault in faults:
            if not state.exemption.covers(fault.rule, state.leaf) and self._repair(connection, state):
                return True
            if not state.excuses(fault):
                return False
        state.path = path
        return True

    def _repair(self, connection: SSL.Connection, state: State) -> bool:
        """Another path, which all accept, makes up for whatever is wrong with OpenSSL's."""
        if state.repaired is None:
            path = self._verifier.repair(_presented(connection), state.name)
            state.repaired = path is not None
            if path is not None:
                state.path = path
                state.tolerated.clear()
        return state.repaired

    def _on_staple(self, connection: SSL.Connection, staple: bytes, _: object) -> bool:
        state = cast(State, connection.get_app_data())
        if self._staple is None or not state.path:      # a resumed session has none, and was looked at when it began
            return True
        try:
            refusal = self._staple(state.path, staple)
        except Exception:
            log.exception("judging a stapled OCSP response failed")
            refusal = broken(Rule.MALFORMED, "its stapled OCSP response could not be judged")
        return refusal is None or state.excuses(refusal)


def _stamp(identity: File | None) -> _Identity | None:
    """The file as it is now: a renewed one is another."""
    try:
        return (identity, identity.stat().st_mtime_ns) if identity else None
    except OSError as error:
        raise ValueError(f"{identity}: {error.strerror}") from None


def _identify(context: SSL.Context, identity: File) -> None:
    context.set_passwd_cb(lambda *_: b"")       # OpenSSL would ask at the terminal
    try:
        context.use_certificate_chain_file(str(identity))
        context.use_privatekey_file(str(identity))
    except SSL.Error:
        raise ValueError(f"{identity}: it must hold a certificate and its key as PEM, without a password") from None
    _lib.SSL_CTX_set_post_handshake_auth(cast(Any, context)._context, 1)    # some ask only once they know the path


def server_name(host: str) -> Name:
    """Return a host name, in its A-labels, or an IP literal as certificates have it; ValueError for anything else."""
    if "*" in host:
        raise ValueError(f"{host!r} is no host name")
    return cast(Name, general_name(host))


def refusal(connection: SSL.Connection) -> Refusal | None:
    """Why the origin is refused, if it is.  A handshake may fail for other reasons as well."""
    state = connection.get_app_data()
    return state.refusal if isinstance(state, State) else None


def refuse(connection: SSL.Connection, refusal: Refusal) -> bool:
    """Say after the handshake that the origin is refused; False: its exemption covers that, which is taken down."""
    return not cast(State, connection.get_app_data()).excuses(refusal)


def tolerated(connection: SSL.Connection) -> tuple[Refusal, ...]:
    """What is wrong with an origin that the policy exempts."""
    state = connection.get_app_data()
    return tuple(state.tolerated.values()) if isinstance(state, State) else ()


def path(connection: SSL.Connection) -> Path:
    """The verified path, the leaf first and a root last; empty before it is known and where a session was resumed."""
    state = connection.get_app_data()
    return state.path if isinstance(state, State) else ()


def _connection(store: Any) -> SSL.Connection:
    ssl = _lib.X509_STORE_CTX_get_ex_data(store, _lib.SSL_get_ex_data_X509_STORE_CTX_idx())
    return cast(SSL.Connection, cast(Any, SSL.Connection)._reverse_mapping[ssl])


def _presented(connection: SSL.Connection) -> list[bytes]:
    chain = connection.get_peer_cert_chain() or ()
    return [crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in chain]


def _openssl_path(store: Any) -> list[bytes]:
    stack = _ffi.gc(_lib.X509_STORE_CTX_get1_chain(store), _lib.sk_X509_free)
    certificates = []
    for index in range(_lib.sk_X509_num(stack)):        # the stack is freed, its references are the new objects'
        certificates.append(cast(Any, crypto.X509)._from_raw_x509_ptr(_lib.sk_X509_value(stack, index)))
    return [crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in certificates]


def _fault(state: State, store: Any) -> Refusal:
    """What OpenSSL has found, in words; the certificate it is about may be unreadable to others."""
    code = _lib.X509_STORE_CTX_get_error(store)
    rule = of_openssl(code)
    raw = _lib.X509_STORE_CTX_get_current_cert(store)
    words = _ffi.string(_lib.X509_verify_cert_error_string(code)).decode()
    if raw == _ffi.NULL:
        return broken(rule, words)
    _lib.X509_up_ref(raw)
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, cast(Any, crypto.X509)._from_raw_x509_ptr(raw))
    return broken(rule, detail(rule, der, state.name) or words)
