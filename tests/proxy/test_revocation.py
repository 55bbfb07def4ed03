"""Revoked certificates are refused, however it is known; nobody is asked twice; and silence has its stated answer."""

import asyncio
import time

import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from proxy import fetching, revocation
from proxy.revocation import Revocation
from proxy.rules import Rule
from tests.proxy.responder import (
    DAY,
    GOOD,
    HOUR,
    NOW,
    REVOKED,
    Ca,
    Responder,
    Site,
    addresses,
    gives,
    named,
    raw,
    responder,
    rule,
    status,
)

__all__ = ["responder"]
#: In the tests, for places that do not answer.
PATIENCE = 0.4


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_WORD", PATIENCE)
    monkeypatch.setattr(revocation, "PATIENCE", PATIENCE)


def check(site, mode="check", known=None):
    return rule(asyncio.run((known or Revocation()).check(site.path, mode)))


# -- asked

@pytest.mark.parametrize(("asks", "hits"), [
    ("ocsp", {"/ocsp": 1}), ("crl", {"/crl": 1}), ("ocsp crl", {"/ocsp": 1}),
])
@pytest.mark.parametrize(("state", "expected"), [(GOOD, None), (REVOKED, Rule.REVOKED)], ids=["good", "revoked"])
def test_asked_once(responder, asks, hits, state, expected):
    site, known = Site(responder, asks=asks).say(state), Revocation()
    for mode in ("check", "require", "check"):
        assert check(site, mode, known) == expected
    assert responder.hits == hits


@pytest.mark.parametrize("mode", ["off", "stapled"])
def test_modes_that_do_not_ask(responder, mode):
    assert check(Site(responder, asks="ocsp crl").say(REVOKED), mode) is None
    assert not responder.hits


def test_a_list_serves_all_certificates_of_its_ca(responder):
    site, known = Site(responder, asks="crl").say(REVOKED), Revocation()
    assert check(site, known=known) == Rule.REVOKED
    for _ in range(5):
        site.path = [site.ca.leaf(lists=[responder.url("/crl")]), site.ca.certificate]
        assert check(site, known=known) is None
    assert responder.hits == {"/crl": 1}


def test_a_revoked_ca(responder):
    root = Ca("root")
    sub = Ca("sub CA", root, lists=[responder.url("/root.crl")], responders=[responder.url("/root")])
    leaf = sub.leaf(responders=[responder.url("/ocsp")])
    responder.paths |= {"/ocsp": gives(sub.answer(leaf)),
                        "/root.crl": gives(root.revocation_list([sub.certificate.serial_number]))}
    refusal = asyncio.run(Revocation().check([leaf, sub.certificate, root.certificate]))
    assert rule(refusal) == Rule.REVOKED
    assert "CN=sub CA" in refusal.reason
    assert responder.hits == {"/ocsp": 1, "/root.crl": 1}, "a list tells about all CAs at once"


def test_a_list_is_its_own_ca_s_only(responder):
    """Two CAs name one address: what the first has signed says nothing about the second's certificates."""
    first, second, known = Site(responder, asks="crl").say(GOOD), Site(responder, asks="crl"), Revocation()
    assert check(first, "require", known) is None
    assert check(second, "require", known) == Rule.UNCHECKED


@pytest.mark.parametrize(("point", "expected"), [
    pytest.param({}, Rule.REVOKED, id="a list"),
    pytest.param({"reasons": frozenset((x509.ReasonFlags.key_compromise,))}, Rule.UNCHECKED, id="for some reasons"),
    pytest.param({"crl_issuer": [x509.DirectoryName(named("x"))]}, Rule.UNCHECKED, id="of another issuer"),
    pytest.param({"before": ["ldap://a/", "ldap://b/", "https://c/"]}, Rule.REVOKED, id="after others that we cannot ask"),
])
def test_which_lists_are_read(responder, point, expected):
    ca = Ca()
    urls = addresses([*point.get("before", ()), responder.url("/crl")])
    where = x509.DistributionPoint(urls, None, point.get("reasons"), point.get("crl_issuer"))
    leaf = ca.leaf(x509.CRLDistributionPoints([where]))
    responder.paths["/crl"] = gives(ca.revocation_list([leaf.serial_number]))
    assert rule(asyncio.run(Revocation().check([leaf, ca.certificate], "require"))) == expected


def test_connections_at_a_time_share_one_question(responder):
    site, known = Site(responder).say(REVOKED), Revocation()

    async def run():
        return await asyncio.gather(*(known.check(site.path) for _ in range(50)))

    assert {rule(each) for each in asyncio.run(run())} == {Rule.REVOKED}
    assert responder.hits == {"/ocsp": 1}


@pytest.mark.parametrize("asks", ["ocsp", "crl"])
def test_what_has_run_out_is_asked_again(responder, asks):
    clock = [NOW]
    site, known = Site(responder, asks=asks).say(GOOD), Revocation(now=lambda: clock[0])
    assert check(site, known=known) is None
    site.responder.paths |= {
        "/ocsp": gives(site.ca.answer(site.leaf, REVOKED, made=NOW + DAY, end=NOW + 3 * DAY)),
        "/crl": gives(site.ca.revocation_list([site.leaf.serial_number], made=NOW + DAY, end=NOW + 3 * DAY))}
    clock[0] = NOW + DAY - HOUR
    assert check(site, known=known) is None
    clock[0] = NOW + DAY + HOUR
    assert check(site, known=known) == Rule.REVOKED
    assert sum(responder.hits.values()) == 2


def test_what_was_stapled_is_not_asked_for(responder):
    site, known = Site(responder).say(REVOKED), Revocation()
    assert known.judge_staple(site.path, site.ca.answer(site.leaf)) is None
    assert check(site, known=known) is None
    assert not responder.hits


def test_a_good_answer_from_before_does_not_undo_a_revocation(responder):
    site, known = Site(responder).say(REVOKED), Revocation()
    assert check(site, known=known) == Rule.REVOKED
    assert known.judge_staple(site.path, site.ca.answer(site.leaf)) is None
    assert check(site, known=known) == Rule.REVOKED


# -- not answered

def forged(site):
    return Ca().answer(site.leaf, issuer=site.ca.certificate, names_signer=ocsp.OCSPResponderEncoding.NAME)


SILENCES = {
    "hangs": lambda site: site.responder.hang,
    "trickles": lambda site: site.responder.trickle,
    "is broken": lambda site: status(503),
    "answers with a page": lambda site: gives(b"<html>sign in</html>"),
    "answers with 100 MB": lambda site: raw(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1 << 20), 100),
    "redirects in a loop": lambda site: status(302, location="/ocsp"),
    "is somebody else": lambda site: gives(forged(site)),
    "answers for another": lambda site: gives(site.ca.answer(site.ca.leaf())),
    "answers with a list of another CA": lambda site: gives(Ca().revocation_list()),
}


@pytest.mark.parametrize("asks", ["ocsp", "crl"])
@pytest.mark.parametrize("act", SILENCES.values(), ids=SILENCES)
def test_silence_is_accepted_and_said_or_refused(responder, act, asks):
    site, said = Site(responder, asks=asks), []
    responder.paths |= {"/ocsp": act(site), "/crl": act(site)}
    known, started = Revocation(said.append), time.monotonic()
    assert check(site, known=known) is None
    assert check(site, "require", known) == Rule.UNCHECKED
    assert check(site, known=known) is None
    assert time.monotonic() - started < 2 * PATIENCE, "one connection at most waits"
    assert len(said) == 1
    assert "CN=revoking CA" in said[0]
    assert sum(responder.hits.values()) <= 3, "the redirects"


def test_nobody_there():
    nobody = Responder()
    nobody.port = 1
    site = Site(nobody)
    assert check(site) is None
    assert check(site, "require") == Rule.UNCHECKED


def test_the_list_is_read_where_the_responder_is_silent(responder):
    site = Site(responder, asks="ocsp crl").say(REVOKED)
    responder.paths["/ocsp"] = gives(b"")
    assert check(site) == Rule.REVOKED


@pytest.mark.parametrize(("life", "expected"), [(7 * DAY, None), (8 * DAY, Rule.UNCHECKED)], ids=["short", "long"])
def test_a_certificate_with_nobody_to_ask(responder, life, expected):
    site = Site(responder, asks="", life=life)
    assert check(site) is None
    assert check(site, "require") == expected


@pytest.mark.parametrize("url", ["ldap://127.0.0.1/crl", "https://127.0.0.1/", "file:///etc/passwd", "http://[::1"])
def test_addresses_that_are_no_place_to_ask(url):
    ca = Ca()
    path = [ca.leaf(lists=[url], responders=[url]), ca.certificate]
    assert rule(asyncio.run(Revocation().check(path, "require"))) == Rule.UNCHECKED


# -- bounds

def test_what_is_kept_is_bounded(responder, monkeypatch):
    monkeypatch.setattr(revocation, "MAX_STATUSES", 5)
    monkeypatch.setattr(revocation, "MAX_LISTS", 2000)
    monkeypatch.setattr(revocation, "MAX_REPORTED", 5)
    known = Revocation(lambda _: None)

    async def run():
        for number in range(20):
            ca = Ca(f"CA {number}")
            responder.paths[path := f"/{number}"] = gives(ca.revocation_list())
            await known.check([ca.leaf(lists=[responder.url(path)]), ca.certificate])
            await known.check([ca.leaf(), ca.certificate])

    asyncio.run(run())
    assert len(known._statuses) == 5
    assert sum(len(each.raw) for each in known._lists.values()) <= 2000
    assert len(known._reported) <= 5


def test_a_warm_memory_answers_at_once(responder):
    """The goal is 50 ms for 99 of 100; this is a look into a table."""
    site, known = Site(responder).say(GOOD), Revocation()

    async def run():
        await known.check(site.path)
        taken = []
        for _ in range(1000):
            started = time.perf_counter()
            await known.check(site.path)
            taken.append(time.perf_counter() - started)
        return sorted(taken)[989]

    assert asyncio.run(run()) < 0.005


def test_a_large_list_does_not_hold_up_the_others(responder):
    site = Site(responder, asks="crl")
    serials = [*range(1 << 140, (1 << 140) + 100_000), site.leaf.serial_number]
    responder.paths["/crl"] = gives(site.ca.revocation_list(serials))

    async def run():
        path = [site.ca.leaf(lists=[responder.url("/crl")]), site.ca.certificate]
        check, longest = asyncio.create_task(Revocation().check(path, "require")), 0.0
        while not check.done():
            started = time.perf_counter()
            await asyncio.sleep(0.0005)
            longest = max(longest, time.perf_counter() - started)
        assert await check is None
        return longest

    assert asyncio.run(run()) < 0.05, "some 5 ms, and a busy computer"
