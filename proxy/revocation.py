"""Has the certificate of an origin been revoked?  What it brings stapled, what its CA's responder says, what is listed.

`Revocation.judge_staple` runs within the handshake, `Revocation.check` between it and the first byte of a request.

| mode | |
|---|---|
| `off` | nothing is asked or honoured |
| `stapled` | what the handshake brings is honoured, also that a certificate demands it (RFC 7633) |
| `check` | and the CA is asked, for PATIENCE seconds at most; a certificate on which it says nothing is accepted |
| `require` | the same, but such a certificate is refused |
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID

from proxy import crl, ocsp
from proxy.crl import RevocationList
from proxy.evidence import Status, Unusable, extension, is_ca, utc_now
from proxy.fetching import Inquiries, Unanswered, fetch
from proxy.rules import Refusal, Rule
from proxy.upstreamproxy import UpstreamProxy

log = logging.getLogger(__name__)

type Mode = Literal["off", "stapled", "check", "require"]
type Path = Sequence[x509.Certificate]

#: Seconds that a connection waits for its CAs, shared by all places that are asked about one certificate.
PATIENCE = 2.0
#: Places that are asked about one certificate; more would leave each too little of the time.
MAX_SOURCES = 3
#: Certificates whose status is remembered, some 300 bytes each; and bytes of lists.  The oldest are forgotten first.
MAX_STATUSES, MAX_LISTS = 10_000, 64 * 1024 * 1024
#: Certificates that live no longer need no revocation, and may not name a place to ask (CABF 4.9.7, 7.1.2.11.2).
SHORT_LIVED = timedelta(days=7)
#: CAs whose silence has been reported; beyond this they are reported again.
MAX_REPORTED = 1000


class Source(NamedTuple):
    """A place to ask: an OCSP responder, or a list and all the names under which the certificate refers to it."""

    url: str
    list_names: frozenset[str] = frozenset()


class Revocation:
    """What is known of certificates, and the way to learn it.  It lives as long as the worker: policies come and go.

    `report` takes a sentence, once for each CA that could not be asked although the certificate was then accepted.
    """

    def __init__(self, report: Callable[[str], object] = log.warning, now: Callable[[], datetime] = utc_now,
                 via: Callable[[], UpstreamProxy | None] = lambda: None) -> None:
        self._report, self._now, self._via = report, now, via
        self._statuses: OrderedDict[bytes, Status] = OrderedDict()
        self._silent: OrderedDict[bytes, Unanswered] = OrderedDict()    # those that name no place to ask
        self._lists: OrderedDict[tuple[str, bytes], RevocationList] = OrderedDict()
        self._inquiries = Inquiries()
        self._reported: set[x509.Name] = set()

    def judge_staple(self, path: Path, staple: bytes, mode: Mode = "check") -> Refusal | None:
        """Judge the OCSP answer in DER that a handshake brought, b"" if none.  Never raises.

        `path` is the verified one, leaf first.  An answer that is not valid counts as none.
        """
        if mode == "off":
            return None
        leaf, why = path[0], "none came"
        if staple and len(path) > 1:
            try:
                self._remember(leaf, status := ocsp.read(staple, leaf, path[1], self._now()))
            except Unusable as error:
                why = str(error)
            else:
                return _revoked(leaf, status) if status.revoked else None
        if _must_staple(leaf):
            return Refusal(Rule.MUST_STAPLE, f"The origin's certificate demands a stapled OCSP answer, but {why}.")
        return None

    async def check(self, path: Path, mode: Mode = "check") -> Refusal | None:
        """Judge a path that has been verified, leaf first and root last; within PATIENCE seconds, mostly at once."""
        if mode == "off":
            return None
        pairs = list(pairwise(path))
        found: list[Status | Unanswered | None] = [self._known(certificate) for certificate, _ in pairs]
        if mode in ("check", "require") and not all(found):
            found = list(await asyncio.gather(*(self._learn(*pair) for pair in pairs)))
        for certificate, status in zip(path, found):
            if isinstance(status, Status) and status.revoked:
                return _revoked(certificate, status)
        for certificate, status in zip(path, found):
            if isinstance(status, Unanswered):
                if mode == "require":
                    return Refusal(Rule.UNCHECKED, f"Whether {_name(certificate)} is revoked is unknown: {status}.")
                self._say(certificate, status)
        return None

    # -- one certificate

    async def _learn(self, certificate: x509.Certificate, issuer: x509.Certificate) -> Status | Unanswered:
        """Return what is known by now, asking one place after another."""
        if known := self._known(certificate):
            return known
        reasons = []
        sources = list(_sources(certificate))[:MAX_SOURCES]
        for source in sources:
            try:
                ask = self._ask_list if source.list_names else self._ask_responder
                status = await ask(source, certificate, issuer, PATIENCE / len(sources))
            except (Unanswered, Unusable) as error:
                reasons.append(str(error))
            else:
                self._remember(certificate, status)
                return status
        if not sources and certificate.not_valid_after_utc - certificate.not_valid_before_utc <= SHORT_LIVED:
            return Status("", certificate.not_valid_after_utc)
        why = Unanswered("; ".join(reasons) or "its CA names no place to ask")
        if not sources:
            _put(self._silent, _fingerprint(certificate), why)
            if len(self._silent) > MAX_STATUSES:
                self._silent.popitem(last=False)
        return why

    async def _ask_responder(self, source: Source, certificate: x509.Certificate, issuer: x509.Certificate,
                             patience: float) -> Status:
        async def question() -> Status:
            request = ocsp.question(certificate, issuer)
            answer = await fetch(source.url, ocsp.MAX_ANSWER, request, "application/ocsp-request", self._via())
            self._remember(certificate, status := ocsp.read(answer, certificate, issuer, self._now()))
            return status

        key = source.url, _fingerprint(certificate)
        return await self._inquiries.ask(source.url, key, question, patience)

    async def _ask_list(self, source: Source, certificate: x509.Certificate, issuer: x509.Certificate,
                        patience: float) -> Status:
        key = source.url, _fingerprint(issuer)

        async def question() -> RevocationList:
            data = await fetch(source.url, crl.MAX_LIST, via=self._via())
            self._keep(key, listed := await asyncio.to_thread(crl.read, data, issuer, self._now()))
            return listed

        listed = self._lists.get(key)
        if listed is None or listed.until <= self._now():
            listed = await self._inquiries.ask(source.url, key, question, patience)
        return listed.status(certificate, source.list_names)

    # -- memory

    def _known(self, certificate: x509.Certificate) -> Status | Unanswered | None:
        key = _fingerprint(certificate)
        status = self._statuses.get(key)
        return status if status and status.until > self._now() else self._silent.get(key)

    def _remember(self, certificate: x509.Certificate, status: Status) -> None:
        """A good answer from before the revocation, stapled again, does not undo what is known."""
        known = self._known(certificate)
        if not status.revoked and isinstance(known, Status) and known.revoked:
            return
        _put(self._statuses, _fingerprint(certificate), status)
        if len(self._statuses) > MAX_STATUSES:
            self._statuses.popitem(last=False)

    def _keep(self, key: tuple[str, bytes], listed: RevocationList) -> None:
        _put(self._lists, key, listed)
        while sum(len(each.raw) for each in self._lists.values()) > MAX_LISTS:
            self._lists.popitem(last=False)

    def _say(self, certificate: x509.Certificate, why: Unanswered) -> None:
        if certificate.issuer in self._reported:
            return
        if len(self._reported) >= MAX_REPORTED:
            self._reported.clear()
        self._reported.add(certificate.issuer)
        self._report(f"{certificate.issuer.rfc4514_string()} does not say whether {_name(certificate)} is revoked; it "
                     f"is accepted, as by `tls.upstream.revocation: check`, and this said once for each CA: {why}")


def _put[K, V](memory: OrderedDict[K, V], key: K, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _name(certificate: x509.Certificate) -> str:
    subject = certificate.subject.rfc4514_string()
    return f"the CA certificate {subject}" if is_ca(certificate) else f"the origin's certificate {subject}".rstrip()


def _revoked(certificate: x509.Certificate, status: Status) -> Refusal:
    return Refusal(Rule.REVOKED, f"The CA says that {_name(certificate)} was {status.revoked}.")


def _must_staple(leaf: x509.Certificate) -> bool:
    feature = extension(leaf, x509.TLSFeature)
    return feature is not None and x509.TLSFeatureType.status_request in feature


def _sources(certificate: x509.Certificate) -> Iterator[Source]:
    """Yield where to ask: for a leaf its responder first, for a CA its list, which serves all of the issuer's CAs."""
    kinds = (_lists, _responders) if is_ca(certificate) else (_responders, _lists)
    for kind in kinds:
        yield from (source for source in kind(certificate) if source.url.lower().startswith("http://"))


def _responders(certificate: x509.Certificate) -> Iterator[Source]:
    for access in extension(certificate, x509.AuthorityInformationAccess) or ():
        if access.access_method == AuthorityInformationAccessOID.OCSP:
            yield Source(str(access.access_location.value))


def _lists(certificate: x509.Certificate) -> Iterator[Source]:
    """Lists of another issuer, or for some reasons of revocation only, would not tell enough."""
    for point in extension(certificate, x509.CRLDistributionPoints) or ():
        if point.full_name and not point.crl_issuer and not point.reasons:
            names = frozenset(str(name.value) for name in point.full_name)
            yield from (Source(str(name.value), names) for name in point.full_name)
