"""Signatures and dates, as lists and answers share them."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

from proxy.evidence import KEEP, SKEW, Unusable, check_signature, usable_until
from tests.proxy.responder import DAY, HOUR, NOW

RSA, EC, ED = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
SHA1, SHA256, SHA512 = hashes.SHA1(), hashes.SHA256(), hashes.SHA512()  # noqa: S303
MESSAGE = b"what was signed" * 1000


@pytest.mark.parametrize(("key", "signature", "algorithm", "scheme"), [
    pytest.param(RSA, RSA.sign(MESSAGE, padding.PKCS1v15(), SHA256), SHA256, None, id="RSA"),
    pytest.param(RSA, RSA.sign(MESSAGE, PSS, SHA256), SHA256, PSS, id="RSA-PSS"),
    pytest.param(EC, EC.sign(MESSAGE, ec.ECDSA(SHA512)), SHA512, None, id="ECDSA"),
    pytest.param(EC, EC.sign(MESSAGE, ec.ECDSA(SHA512)), SHA512, ec.ECDSA(SHA512), id="ECDSA as cryptography says it"),
    pytest.param(ED, ED.sign(MESSAGE), None, None, id="Ed25519"),
    pytest.param(k := ed448.Ed448PrivateKey.generate(), k.sign(MESSAGE), None, None, id="Ed448"),
])
def test_signatures(key, signature, algorithm, scheme):
    check_signature(key.public_key(), signature, memoryview(MESSAGE), algorithm, scheme)
    with pytest.raises(Unusable, match="wrong"):
        check_signature(key.public_key(), signature, MESSAGE + b"!", algorithm, scheme)


@pytest.mark.parametrize(("key", "signature", "algorithm", "reason"), [
    pytest.param(RSA, RSA.sign(MESSAGE, padding.PKCS1v15(), SHA1), SHA1, "hash", id="RSA with SHA-1"),
    pytest.param(EC, EC.sign(MESSAGE, ec.ECDSA(SHA1)), SHA1, "hash", id="ECDSA with SHA-1"),
    pytest.param(EC, EC.sign(MESSAGE, ec.ECDSA(SHA256)), None, "hash", id="no hash named"),
    pytest.param(k := dsa.generate_private_key(2048), k.sign(MESSAGE, SHA256), SHA256, "kind of key", id="DSA"),
])
def test_signatures_that_prove_nothing(key, signature, algorithm, reason):
    with pytest.raises(Unusable, match=reason):
        check_signature(key.public_key(), signature, MESSAGE, algorithm)


@pytest.mark.parametrize(("made", "end", "until"), [
    pytest.param(NOW - HOUR, NOW + HOUR, NOW + HOUR, id="until its end"),
    pytest.param(NOW - HOUR, NOW + 365 * DAY, NOW + KEEP, id="a day at most"),
    pytest.param(NOW + SKEW, NOW + HOUR, NOW + HOUR, id="a clock ahead"),
])
def test_dates(made, end, until):
    assert usable_until(made, end, NOW) == until


@pytest.mark.parametrize(("made", "end"), [(NOW - DAY, NOW), (NOW + 2 * SKEW, NOW + DAY)], ids=["over", "to come"])
def test_dates_that_do_not_count(made, end):
    with pytest.raises(Unusable):
        usable_until(made, end, NOW)
