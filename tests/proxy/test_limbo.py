"""x509-limbo's server cases, each through a whole handshake; the file lies beside the repository, not in it.

What we let pass and what we refuse against its opinion is listed, each with the reason, and may only get less.
"""

import json
import lzma
from datetime import datetime
from pathlib import Path

import pytest

from proxy import upstream
from proxy.paths import Roots
from proxy.upstream import Upstream
from proxy.verify import utc_now
from tests.proxy.handshake import Presenter

FILE = Path(__file__).resolve().parents[3] / "shared/security/limbo.json.xz"

#: Cases that should fail, and open.
LET_PASS = {
    "crl::revoked-certificate-with-crl": "it comes with a list in a file; where lists are found: test_revocation.py",
    "crl::crlnumber-missing": "the same",
    "crl::crlnumber-critical": "the same",
    "crl::issuer-missing-crlsign": "the same",
    "rfc5280::aki::cross-signed-root-missing-aki": "an anchor is trusted as it is",
    "rfc5280::aki::leaf-missing-aki": "its issuer was found without; private authorities often leave it out",
    "rfc5280::ski::root-missing-ski": "an anchor is trusted as it is; a public one has none",
    "rfc5280::serial::zero": "RFC 5280, 4.1.2.2: users must be prepared for it; public roots have it",
    "rfc5280::nc::permitted-dns-match-noncritical": "public authorities may; webpki::nc has the same as good",
    "webpki::cn::ipv4-hex-mismatch": "the common name means nothing to us; webpki::san has others that differ as good",
    "webpki::cn::ipv4-leading-zeros-mismatch": "the same",
    "webpki::cn::ipv6-uppercase-mismatch": "the same",
    "webpki::cn::ipv6-uncompressed-mismatch": "the same",
    "webpki::cn::ipv6-non-rfc5952-mismatch": "the same",
    "webpki::cn::punycode-not-in-san": "the same",
    "webpki::cn::utf8-vs-punycode-mismatch": "the same",
    "webpki::cn::not-in-san": "the same",
    "webpki::cn::case-mismatch": "the same",
    "webpki::eku::ee-anyeku": "for any use is for this one (RFC 5280, 4.2.1.12)",
    "webpki::eku::ee-without-eku": "the same; private authorities often leave it out",
    "webpki::eku::root-has-eku": "an anchor is trusted as it is",
    "webpki::san::public-suffix-private-namespace-wildcard-san": "github.io and s3.amazonaws.com have such certificates",
}

#: Cases that should open, and are refused.
REFUSED = {
    "pathlen::validation-ignores-pathlen-in-leaf": "a server's certificate that is a CA's: both verifiers refuse it",
    "rfc5280::ca-as-leaf": "the same",
    "pathlen::self-issued-certs-pathlen": "OpenSSL takes an authority that certifies its own name for a root",
    "rfc5280::nc::permitted-self-issued": "the same",
}

#: Cases decided as their author would, of 133 and 39 that can be driven.
REJECTED, ACCEPTED = 111, 35


def cases():
    if not FILE.exists():
        return
    for case in json.loads(lzma.decompress(FILE.read_bytes()))["testcases"]:
        server = case["validation_kind"] == "SERVER" and case["expected_peer_name"] and case["peer_certificate_key"]
        if server and case["max_chain_depth"] is None:      # not ours to choose
            yield case


CASES = {case["id"]: case for case in cases()}
pytestmark = [pytest.mark.skipif(not CASES, reason="x509-limbo is not here"),
              pytest.mark.filterwarnings("ignore::UserWarning")]


def opens(case):
    moment = case["validation_time"] and datetime.fromisoformat(case["validation_time"])
    try:
        origins = Upstream(Roots("\n".join(case["trusted_certs"]).encode()), clock=lambda: moment or utc_now())
        sent = [pem.encode() for pem in (case["peer_certificate"], *case["untrusted_intermediates"])]
        presenter = Presenter(case["peer_certificate_key"].encode(), sent)
    except ValueError:
        return False                # a root that nobody can read
    connection = origins.connect(case["expected_peer_name"]["value"])
    opened = presenter.meet(connection)
    assert opened == (upstream.path(connection) != () and upstream.refusal(connection) is None)
    return opened


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case):
    should = case["expected_result"] == "SUCCESS"
    assert opens(case) == (should if case["id"] not in LET_PASS | REFUSED else not should)


def test_never_worse():
    good = {case["id"] for case in CASES.values() if case["expected_result"] == "SUCCESS"}
    rejected, accepted = len(CASES.keys() - good - LET_PASS.keys()), len(good - REFUSED.keys())
    print(f"x509-limbo: {rejected} of {len(CASES.keys() - good)} rejected, {accepted} of {len(good)} accepted")
    assert rejected >= REJECTED
    assert accepted >= ACCEPTED
    assert LET_PASS.keys() <= CASES.keys() - good
    assert good >= REFUSED.keys()
