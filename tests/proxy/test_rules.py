"""Rules and OpenSSL's numbers."""

import pytest

from proxy.rules import SENTENCES, Rule, broken, detail, of_openssl, to_openssl
from proxy.upstream import server_name
from tests.proxy.handshake import authority, origin

ROOT = authority("root")
HOST = server_name("a.example")


@pytest.mark.parametrize("rule", Rule)
def test_what_openssl_is_told_means_the_same_or_nothing_in_particular(rule):
    assert of_openssl(to_openssl(rule)) in (rule, Rule.UNTRUSTED, Rule.MALFORMED)


@pytest.mark.parametrize("number", [1, 17, 50, 69, 70, 9999])
def test_what_is_not_about_certificates_cannot_be_excepted(number):
    assert of_openssl(number) == Rule.MALFORMED


@pytest.mark.parametrize(("rule", "names", "words"), [
    pytest.param(Rule.NAME, ["b.example", "192.0.2.1"], "a.example is not among b.example, 192.0.2.1", id="names"),
    pytest.param(Rule.NAME, [f"{n}.example" for n in range(9)], "4.example and 4 more", id="many names"),
    pytest.param(Rule.EXPIRED, ["a.example"], "CN=origin was valid until 20", id="end"),
    pytest.param(Rule.NOT_YET_VALID, ["a.example"], "CN=origin is valid from 20", id="start"),
    pytest.param(Rule.UNTRUSTED, ["a.example"], "CN=origin was issued by CN=root", id="issuer"),
    pytest.param(Rule.WEAK, ["a.example"], "", id="nothing in particular"),
])
def test_details(rule, names, words):
    assert words in detail(rule, origin(ROOT, names).der, HOST)


def test_what_cannot_be_read_has_no_details():
    assert detail(Rule.NAME, b"\x30\x00", HOST) == ""


@pytest.mark.parametrize("rule", SENTENCES)
def test_sentences(rule):
    assert broken(rule, "why").reason == f"{SENTENCES[rule]}: why."
